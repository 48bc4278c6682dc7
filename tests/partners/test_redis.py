"""Beside redis-py's `Lock`, on one key: who holds, who waits, who is next, and what breaks it."""

from __future__ import annotations

import contextlib
import secrets
import sys
from pathlib import Path

import pytest

from tests.partners.member import Member
from tests.partners.passing import ended, passes_on
from tests.servers.redis import Redis

TTL_S = 2.0
LIMIT_S = 60.0


@pytest.fixture
def key() -> str:
    return f"lock-{secrets.token_hex(4)}"


def ours(server: Redis, key: str, folder: Path, name: str = "incumbent") -> Member:
    url = server.url(f"recipe=redis-py&lock={key}")
    words = ["-m", "tests.partners.ours", url, "jobs", name, str(TTL_S)]
    return Member(name, [sys.executable, *words], folder)


def theirs(server: Redis, key: str, folder: Path, how: str = "extends") -> Member:
    words = ["-m", "tests.partners.python.redis_lock", server.url(), key, str(TTL_S), how]
    return Member("redis-py", [sys.executable, *words], folder)


@pytest.mark.parametrize("how", ["release", "crash"])
@pytest.mark.parametrize("first", ["redis-py", "incumbent"])
def test_it_passes_on(redis_server: Redis, key: str, tmp_path: Path, first: str, how: str) -> None:
    members = [theirs(redis_server, key, tmp_path), ours(redis_server, key, tmp_path)]
    one, other = members if first == "redis-py" else reversed(members)
    passed = passes_on(one, other, how, beats=45, limit_s=LIMIT_S)
    print(passed.transcript(one.name, other.name))  # print: the transcript is the record
