"""Ours in the queues of Curator and kazoo, whose members are real ones on a real server."""

from __future__ import annotations

import asyncio
import secrets
import sys
from pathlib import Path
from typing import Any

import pytest

from incumbent.core.records import Claim
from incumbent.stores import open_store
from tests.partners.member import Member
from tests.partners.passing import START_S, all_pass_on, ended, pass_in_order
from tests.servers import java
from tests.servers.zookeeper import ZooKeeperServer

TTL_S = 2.6
SESSION_S = 4
"""The longest that the server of the run grants; ours lasts for 1.5 TTL."""
RECIPES = ("curator-latch", "curator-mutex", "kazoo-election", "kazoo-lock")
BEATS = 55
"""More than two of our TTLs, and a session of theirs."""
LIMIT_S = 30.0


class Pair:
    """Members of ours and theirs on one lock."""

    def __init__(self, server: ZooKeeperServer, folder: Path, recipe: str) -> None:
        self.server, self.folder, self.recipe = server, folder, recipe
        self.id = f"test-{secrets.token_hex(4)}"

    def path(self, name: str) -> str:
        return f"/{self.id}/locks/{name}"

    @property
    def url(self) -> str:
        where = f"zookeeper://{self.server.address}/{self.id}/incumbent"
        return f"{where}?recipe={self.recipe}&lock={self.path('{name}')}"

    def ours(self, name: str, as_: str = "ours") -> Member:
        command = [sys.executable, "-m", "tests.partners.ours", self.url, name, as_, str(TTL_S)]
        return Member(f"{as_}-{name}", command, self.folder)

    def theirs(self, name: str, as_: str = "theirs", *words: str) -> Member:
        library, kind = self.recipe.split("-")
        where = (self.server.address, self.path(name), as_)
        if library == "curator":
            command = java.command("curator", *where, str(SESSION_S * 1000), kind, *words)
        else:
            module = "tests.partners.python.kazoo_member"
            command = [sys.executable, "-m", module, *where, str(SESSION_S), kind, *words]
        return Member(f"{as_}-{name}", command, self.folder)

    def both(self, name: str) -> tuple[Member, Member]:
        return self.ours(name), self.theirs(name)


@pytest.mark.parametrize("recipe", RECIPES)
def test_each_takes_over_from_the_other(
    zookeeper: ZooKeeperServer, tmp_path: Path, recipe: str
) -> None:
    pair = Pair(zookeeper, tmp_path, recipe)
    passed = all_pass_on(pair.both, beats=BEATS, limit_s=LIMIT_S)
    for dialogue, one in passed.items():
        tokens = [said[0]["token"] for said in (held(one.first), held(one.second))]
        assert tokens == sorted(set(tokens)), f"{dialogue}: {tokens}"


def test_a_latch_behind_ours_hears_of_its_end(zookeeper: ZooKeeperServer, tmp_path: Path) -> None:
    """It sets one watch, on the node before its own, and minds nothing but a deletion."""
    pair = Pair(zookeeper, tmp_path, "curator-latch")
    theirs = pair.theirs("watched")

    async def main() -> None:
        store = open_store(pair.url)
        await store.open()
        try:
            claim = Claim("a_1", "a_1/x.1", TTL_S)
            taken = await store.take("watched", claim, await store.read("watched"))
            await asyncio.to_thread(theirs.start)
            await asyncio.to_thread(theirs.wait_for, "waiting", START_S)
            for _ in range(3):
                await store.renew(taken.lease)
            await store.release(taken, taken.lease, "")
            await asyncio.to_thread(theirs.wait_for, "holding", LIMIT_S)
        finally:
            await store.close()

    with ended(theirs):
        asyncio.run(main())


def held(said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in said if event["event"] == "holding"]


@pytest.mark.parametrize("recipe", ["curator-latch", "kazoo-lock"])
def test_three_stand_in_their_order(
    zookeeper: ZooKeeperServer, tmp_path: Path, recipe: str
) -> None:
    """Theirs, ours, theirs. The last one waits for ours, of which it may watch one event."""
    pair = Pair(zookeeper, tmp_path, recipe)
    members = [
        pair.theirs("three", "first"),
        pair.ours("three", "second"),
        pair.theirs("three", "third"),
    ]
    pass_in_order(members, limit_s=LIMIT_S)
