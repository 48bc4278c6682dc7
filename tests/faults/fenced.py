"""A candidate whose work is fenced, for `losses`; and the data that the fence protects.

    python -m tests.faults.fenced ELECTION LOG WORKER LEDGER [--once] [--apart]

It marks for as long as `term.check()` lets it, which is what it believes. Besides, a thread of each
term writes into a ledger, a list of tokens in a database of its own: under the fence and without
asking any clock, also after the term is over. Such are the writes that are in flight when a term
ends. Each refusal is a line on standard error, `refused TOKEN`.

With `--once` it holds once, does nothing, and ends. `--apart` is a planted mistake: each term names
its fence differently, so that nothing is compared.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Protocol

import psycopg
from redis import Redis as RedisClient
from redis.exceptions import WatchError

import incumbent
from incumbent.errors import StaleToken
from incumbent.fencing import Fence
from incumbent.fencing.sql import TABLE
from tests.faults.mark import EVERY_S, mark, open_log
from tests.faults.worker import say

__all__ = ["InPostgres", "Ledger", "open_ledger"]

WRITE_EVERY_S = 0.01


class Ledger(Protocol):
    """What is protected: a list of tokens for each resource, in the order of their writes."""

    def write(self, fence: Fence, resource: str) -> None:
        """Add the token of a term; raises StaleToken if the fence refuses it."""
        ...

    def tokens(self, resource: str) -> list[int]:
        """Return what was written, in order."""
        ...

    def close(self) -> None:
        """Give back the connection."""
        ...


class InPostgres:
    """Rows of a table. Their numbers are drawn behind the lock of the fence: in order, that is."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url)

    @staticmethod
    def create(url: str) -> None:
        """Make the tables."""
        with psycopg.connect(url) as connection:
            connection.execute(TABLE)
            connection.execute(
                "CREATE TABLE entry (id bigserial PRIMARY KEY, resource text, token bigint)"
            )

    def write(self, fence: Fence, resource: str) -> None:
        with self._connection.transaction():
            fence.sql(self._connection)
            self._connection.execute(
                "INSERT INTO entry (resource, token) VALUES (%s, %s)", (resource, fence.token)
            )

    def tokens(self, resource: str) -> list[int]:
        with self._connection.transaction():
            found = self._connection.execute(
                "SELECT token FROM entry WHERE resource = %s ORDER BY id", (resource,)
            )
            return [int(token) for (token,) in found.fetchall()]

    def close(self) -> None:
        self._connection.close()


class InRedis:
    """Lists."""

    def __init__(self, url: str) -> None:
        self._client = RedisClient.from_url(url)

    def write(self, fence: Fence, resource: str) -> None:
        while True:
            with self._client.pipeline(transaction=True) as pipeline:
                fence.redis(pipeline)
                pipeline.rpush(f"entries:{resource}", fence.token)
                try:
                    pipeline.execute()
                    return
                except WatchError:  # Another one has written in between: so the token is read anew.
                    continue

    def tokens(self, resource: str) -> list[int]:
        found = self._client.lrange(f"entries:{resource}", 0, -1)
        assert isinstance(found, list)
        return [int(token) for token in found]

    def close(self) -> None:
        self._client.close()


def open_ledger(url: str) -> Ledger:
    """Return the ledger behind a URL."""
    return InRedis(url) if url.startswith("redis:") else InPostgres(url)


def _write(url: str, resource: str, token: int, apart: bool) -> None:
    """Write until this process is killed."""
    ledger, never = open_ledger(url), threading.Event()
    fence = Fence(f"{resource} of {token}" if apart else resource, token, lambda: None)
    while not never.wait(WRITE_EVERY_S):
        try:
            ledger.write(fence, resource)
        except StaleToken:
            sys.stderr.write(f"refused {token}\n")


def main(arguments: list[str]) -> None:
    name, path, number, ledger, *flags = arguments
    log, worker = open_log(path), int(number)

    def work(term: incumbent.Term) -> None:
        token = term.token or 0
        writing = (ledger, name, token, "--apart" in flags)
        threading.Thread(target=_write, args=writing, daemon=True).start()
        while not term.lost.wait(EVERY_S):
            term.check()
            mark(log, token, os.getpid(), worker)

    election = incumbent.Election(name, observer=say)
    if "--once" in flags:
        with election.hold():
            return
    # Without the dead-man: the writes are to outlive the term.
    election.lead(work, deadman=False)


if __name__ == "__main__":
    main(sys.argv[1:])
