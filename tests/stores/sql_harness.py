"""What the tests of stores in SQL databases share, and their harness for the conformance suite."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from incumbent.core.records import Claim, Held, Lease, Snapshot
from incumbent.errors import StoreError
from incumbent.stores import open_store
from incumbent.stores.api import Store
from tests.servers.unprivileged import PASSWORD

NAME = "jobs"
TTL_S = 5.0


class SqlHarness:
    """Elections with names of their own in a database that is shared.

    Args:
        url: where the stores go.
        execute: does something behind their backs.
    """

    ttl_s = 3.0

    def __init__(self, url: str, execute: Callable[[str], object]) -> None:
        self._url = url
        self._execute = execute
        self._stores: list[Store] = []

    def name(self) -> str:
        return f"election-{secrets.token_hex(4)}"

    async def store(self, *, create: bool = True) -> Store:
        store = open_store(self._url)
        self._stores.append(store)
        await store.open(create=create)
        return store

    async def delete(self, name: str) -> bool:
        self._execute(f"DELETE FROM incumbent_election WHERE name = '{name}'")
        return True

    async def scribble(self, name: str) -> bool:
        self._execute(f"UPDATE incumbent_election SET format = 999 WHERE name = '{name}'")
        return True

    async def disturb(self, name: str) -> bool:
        self._execute(f"UPDATE incumbent_election SET serial = serial + 1 WHERE name = '{name}'")
        return True

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


def a_name() -> str:
    return f"jobs-{secrets.token_hex(4)}"


@asynccontextmanager
async def opened(url: str, *, create: bool = True) -> AsyncIterator[Store]:
    store = open_store(url)
    try:
        await store.open(create=create)
        yield store
    finally:
        await store.close()


async def failing(url: str, kind: type[StoreError], text: str) -> None:
    """Have the opening of a store fail, in words that have no secrets."""
    store = open_store(url)
    try:
        with pytest.raises(kind, match=text) as raised:
            await store.open()
        assert PASSWORD not in str(raised.value)
        assert type(raised.value) is kind
    finally:
        await store.close()


async def claimed(store: Store, identity: str = "a_1") -> Claim:
    session = await store.open_session(identity, TTL_S)
    return Claim(identity, f"{identity}/{secrets.token_hex(3)}.1", TTL_S, session)


async def taken(store: Store, name: str, *, over: Snapshot | None = None) -> Held:
    seen = await store.read(name) if over is None else over
    return await store.take(name, await claimed(store), seen)


def renewed(before: Snapshot) -> Callable[[Snapshot], bool]:
    """Return what tells whether a snapshot is of the same term, after a renewal."""
    return lambda now: now.term == before.term and now.lease_version != before.lease_version


def at_beat(lease: Lease) -> Callable[[Snapshot], bool]:
    return lambda now: now.lease_version == lease.version
