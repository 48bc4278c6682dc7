"""Beside redis-py's `Lock`, on one key: who holds, who waits, who is next, and what breaks it."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis as Client

from incumbent.errors import StaleToken
from incumbent.fencing import Fence
from tests.partners.member import Member
from tests.partners.passing import all_pass_on, ended
from tests.servers.faketime import Clock
from tests.servers.process import ServerError
from tests.servers.redis import Redis

TTL_S = 3.0
BEATS = 65
LIMIT_S = 60.0
LAPSE = """
local value = redis.call('GET', KEYS[1])
if value and value:sub(1, 10) == 'incumbent:' then redis.call('DEL', KEYS[1]) end
"""
NO_TOKEN = 0
"""What a member of theirs has: whatever it presents is no greater."""


def ours(server: Redis, key: str, folder: Path, name: str = "incumbent") -> Member:
    url = server.url(f"recipe=redis-py&lock={key}")
    words = ["-m", "tests.partners.ours", url, "jobs", name, str(TTL_S)]
    return Member(name, [sys.executable, *words], folder)


def theirs(server: Redis, key: str, folder: Path, how: str = "extends") -> Member:
    words = ["-m", "tests.partners.python.redis_lock", server.url(), key, str(TTL_S), how]
    return Member("redis-py", [sys.executable, *words], folder)


def test_each_takes_over_from_the_other(redis_server: Redis, tmp_path: Path) -> None:
    def makes(name: str) -> tuple[Member, Member]:
        key = f"lock-{name}-{secrets.token_hex(4)}"
        folder = tmp_path / name
        return ours(redis_server, key, folder), theirs(redis_server, key, folder)

    all_pass_on(makes, beats=BEATS, limit_s=LIMIT_S)


def write(client: Client, resource: str, token: int) -> None:
    """Write to a resource that compares tokens, as a holder of this one would."""
    with client.pipeline() as pipeline:
        Fence(resource, token, lambda: None).redis(pipeline)
        pipeline.rpush(f"{resource}:writes", token)
        pipeline.execute()


def test_its_lock_lapses_while_it_works_and_the_fence_refuses_it(
    redis_server: Redis, tmp_path: Path
) -> None:
    key = f"lock-{secrets.token_hex(4)}"
    stale = theirs(redis_server, key, tmp_path, "lapses")
    next_one = ours(redis_server, key, tmp_path)
    with ended(stale, next_one), contextlib.closing(redis_server.client()) as client:
        stale.start()
        stale.wait_for("holding", LIMIT_S)
        next_one.start()
        token = next_one.wait_for("holding", LIMIT_S)["token"]
        worked = len(stale.all("beat"))
        stale.wait_for("beat", LIMIT_S, count=worked + 3)
        assert not stale.all("stopped"), "two work at once: that is what it can break"
        write(client, key, token)
        with pytest.raises(StaleToken):
            write(client, key, NO_TOKEN)
        assert client.lrange(f"{key}:writes", 0, -1) == [str(token).encode()]


@pytest.mark.parametrize("how", ["DEL", "the clock is set forward"])
def test_whoever_ends_our_key_lets_it_in_and_the_fence_refuses_our_old_term(
    tmp_path: Path, how: str
) -> None:
    clock = Clock(tmp_path / "clock")
    with Redis(tmp_path / "redis", clock=clock) as server:
        ahead_s = itertools.count(10 * int(TTL_S), 10 * int(TTL_S))

        def lapse(client: Client, key: str) -> None:
            if how == "DEL":
                client.eval(LAPSE, 1, key)
            else:
                clock.set_ahead(next(ahead_s))

        _let_in(server, lapse, tmp_path)


def _let_in(redis_server: Redis, lapse: Callable[[Client, str], None], tmp_path: Path) -> None:
    key = f"lock-{secrets.token_hex(4)}"
    holder = ours(redis_server, key, tmp_path)
    intruder = theirs(redis_server, key, tmp_path)
    with ended(holder, intruder), contextlib.closing(redis_server.client()) as client:
        holder.start()
        holder.wait_for("holding", LIMIT_S)
        intruder.start()
        intruder.wait_for("waiting", LIMIT_S)
        for _ in range(100):  # A holder that lost it takes it again, if it is the first to come.
            lapse(client, key)
            with contextlib.suppress(ServerError):
                intruder.wait_for("holding", 0.5)
                break
        held = holder.all("holding")
        holder.wait_for("stopped", LIMIT_S, count=len(held))
        old = held[-1]["token"]
        intruder.wait_for("beat", LIMIT_S, count=10)
        assert len(holder.all("holding")) == len(held), "it does not take it from them"
        intruder.leave(LIMIT_S)
        new = holder.wait_for("holding", LIMIT_S, count=len(held) + 1)["token"]
        assert new > old
        write(client, key, new)
        with pytest.raises(StaleToken):
            write(client, key, old)
