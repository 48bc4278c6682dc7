"""The lock of redis-py as a store: the suite for all stores, and its own rules."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from incumbent.core.records import Claim, Held, Holding, Snapshot
from incumbent.errors import ConfigError, Refused
from incumbent.stores import open_store
from incumbent.stores.api import Store
from incumbent.stores.beside import LockStore, wire
from incumbent.stores.redis.recipe import BESIDE, OUR_VALUE
from incumbent.testing import conformance
from incumbent.testing.conformance.kit import Candidate, Watch
from tests.servers.redis import Redis
from tests.stores.redis_kit import raw

TTL_S = 5.0


class Harness:
    """Locks with a beginning of their own for each case."""

    ttl_s = TTL_S

    def __init__(self, server: Redis) -> None:
        self._server = server
        self._beginning = f"test-{secrets.token_hex(4)}:"
        self._admin = server.client()
        self._stores: list[Store] = []

    def name(self) -> str:
        return f"election-{secrets.token_hex(4)}"

    def lock(self, name: str) -> str:
        return self._beginning + name

    async def store(self, *, create: bool = True) -> Store:
        options = f"recipe=redis-py&lock={self._beginning}{{name}}"
        store = open_store(self._server.url(options))
        self._stores.append(store)
        await store.open(create=create)
        return store

    async def delete(self, name: str) -> bool:
        self._admin.hdel(BESIDE + self.lock(name), "record")
        self._admin.delete(self.lock(name))
        self._admin.publish(f"{BESIDE}0:{self.lock(name)}", "")
        return True

    async def scribble(self, name: str) -> bool:
        self._write(name, {"format": 999})
        return True

    async def disturb(self, name: str) -> bool:
        found = self._admin.hget(BESIDE + self.lock(name), "record")
        assert isinstance(found, bytes)
        self._write(name, {**json.loads(found), "note": secrets.token_hex(4)})
        return True

    def _write(self, name: str, record: wire.Object) -> None:
        side = BESIDE + self.lock(name)
        self._admin.hincrby(side, "serial", 1)
        self._admin.hset(side, "record", wire.encode(record))

    async def close(self) -> None:
        for store in self._stores:
            await store.close()
        for key in self._admin.scan_iter(f"*{self._beginning}*"):
            self._admin.delete(key)
        self._admin.close()


@pytest.mark.parametrize("case", conformance.CASES, ids=str)
def test_conformance(case: conformance.Case, redis_server: Redis) -> None:
    conformance.run(case, lambda: Harness(redis_server))
