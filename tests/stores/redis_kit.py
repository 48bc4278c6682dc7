"""What the tests of the Redis store share: a harness, stores that are closed again, events."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from redis import Redis as Client

from incumbent.core.records import Snapshot
from incumbent.stores.api import Store, StoreURL
from incumbent.stores.kv import KeyValueStore
from incumbent.stores.redis import open as open_redis
from tests.servers.redis import Redis

__all__ = [
    "RedisHarness",
    "at",
    "eventually",
    "opened",
    "raw",
    "say",
    "store_of",
    "under",
]


def store_of(url: str) -> KeyValueStore:
    store = open_redis(StoreURL.parse(url))
    assert isinstance(store, KeyValueStore)
    return store


@contextlib.asynccontextmanager
async def opened(url: str, *, create: bool = True) -> AsyncIterator[KeyValueStore]:
    store = store_of(url)
    await store.open(create=create)
    try:
        yield store
    finally:
        await store.close()


@contextmanager
def raw(server: Redis, **options: Any) -> Iterator[Client]:
    """An administrator's connection, closed again."""
    with contextlib.closing(server.client(**options)) as client:
        yield client


def say(client: Client, *words: str | int) -> Any:
    """Send a command as it is written."""
    return client.execute_command(*words)  # type: ignore[no-untyped-call]


async def eventually(what: str, look: Callable[[], Any], limit_s: float = 10.0) -> Any:
    """Return the first answer of `look` that is true."""
    try:
        async with asyncio.timeout(limit_s):
            while True:
                if found := look():
                    return found
                await asyncio.sleep(0.005)  # sleep: what the server did has no event here
    except TimeoutError:
        raise AssertionError(f"not within {limit_s} s: {what}") from None


def at(version: object) -> Callable[[Snapshot], bool]:
    return lambda snapshot: snapshot.version == version


def under(term: str) -> Callable[[Snapshot], bool]:
    return lambda snapshot: snapshot.term == term


class RedisHarness:
    """A hash of its own for each case."""

    ttl_s = 5.0

    def __init__(self, server: Redis) -> None:
        self._server = server
        self.prefix = f"test-{secrets.token_hex(4)}"
        self._admin = server.client()
        self._stores: list[Store] = []

    def name(self) -> str:
        return f"election-{secrets.token_hex(4)}"

    async def store(self, *, create: bool = True) -> Store:
        store = store_of(self._server.url(f"prefix={self.prefix}"))
        self._stores.append(store)
        await store.open(create=create)
        return store

    async def delete(self, name: str) -> bool:
        self._admin.hdel(self.prefix, f"elections/{name}")
        return True

    async def scribble(self, name: str) -> bool:
        self._write(name, {"format": 999})
        return True

    async def disturb(self, name: str) -> bool:
        found = self._admin.hget(self.prefix, f"elections/{name}")
        assert isinstance(found, bytes)
        record = json.loads(found.partition(b" ")[2])
        self._write(name, {**record, "note": secrets.token_hex(4)})
        return True

    def _write(self, name: str, record: object) -> None:
        number = self._admin.hincrby(self.prefix, "serial", 1)
        self._admin.hset(self.prefix, f"elections/{name}", f"{number} {json.dumps(record)}")

    async def close(self) -> None:
        for store in self._stores:
            await store.close()
        self._admin.delete(self.prefix)
        self._admin.close()
