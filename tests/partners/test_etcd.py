"""Ours in the queues of etcd's own library: `etcdctl lock` and `etcdctl elect`, real commands."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

import pytest

from tests.partners.member import Member
from tests.partners.passing import all_pass_on, pass_in_order
from tests.servers import build
from tests.servers.etcd import Etcd, b64

TTL_S = 3
BEATS = 61
LIMIT_S = 30.0
KINDS = {"lock": "lock", "election": "elect"}


class Pair:
    """Members of ours and theirs on one lock."""

    def __init__(self, server: Etcd, folder: Path, recipe: str) -> None:
        self.server, self.folder, self.recipe = server, folder, recipe
        self.id = f"test-{secrets.token_hex(4)}"

    def lock(self, name: str) -> str:
        return f"{self.id}/{name}"

    def ours(self, name: str, as_: str = "ours") -> Member:
        url = f"etcd://{self.server.address}/{self.id}-incumbent?tls=0&recipe={self.recipe}"
        url += f"&lock={self.lock('{name}')}"
        command = [sys.executable, "-m", "tests.partners.ours", url, name, as_, str(TTL_S)]
        return Member(f"{as_}-{name}", command, self.folder)

    def theirs(self, name: str, as_: str = "theirs") -> Member:
        etcdctl = str(build.ensure("etcdctl"))
        words = [etcdctl, self.server.address, self.lock(name), KINDS[self.recipe]]
        command = [sys.executable, "-m", "tests.partners.python.etcdctl", *words]
        kind = Elector if self.recipe == "election" else Member
        member = kind(f"{as_}-{name}", command, self.folder)
        if isinstance(member, Elector):
            member.server, member.lock = self.server, self.lock(name)
        return member

    def both(self, name: str) -> tuple[Member, Member]:
        return self.ours(name), self.theirs(name)


class Elector(Member):
    """`etcdctl elect`, whose lease lasts for 60 s, which nobody can change.

    A crash is followed by the revocation of its lease, which is what etcd does when it is over.
    """

    server: Etcd
    lock: str

    def crash(self, timeout_s: float) -> list[dict[str, object]]:
        said = super().crash(timeout_s)
        revoke_first(self.server, self.lock)
        return said


def first_of(server: Etcd, lock: str) -> dict[str, str]:
    both = {"key": b64(f"{lock}/"), "range_end": b64(f"{lock}0")}
    order = {"sort_order": "ASCEND", "sort_target": "CREATE", "limit": "1"}
    kv: dict[str, str] = server.request("/v3/kv/range", {**both, **order})["kvs"][0]
    return kv


def revoke_first(server: Etcd, lock: str) -> None:
    server.request("/v3/lease/revoke", {"ID": first_of(server, lock)["lease"]})


@pytest.mark.parametrize("recipe", KINDS)
def test_each_takes_over_from_the_other(etcd: Etcd, tmp_path: Path, recipe: str) -> None:
    all_pass_on(Pair(etcd, tmp_path, recipe).both, beats=BEATS, limit_s=LIMIT_S)


@pytest.mark.parametrize("recipe", KINDS)
def test_three_stand_in_their_order(etcd: Etcd, tmp_path: Path, recipe: str) -> None:
    pair = Pair(etcd, tmp_path, recipe)
    members = [
        pair.theirs("three", "first"),
        pair.ours("three", "second"),
        pair.theirs("three", "third"),
    ]
    held = pass_in_order(members, limit_s=LIMIT_S)
    if recipe == "lock":
        assert held[-1]["answered"] > held[-1]["token"], "ETCD_LOCK_REV is no token"
