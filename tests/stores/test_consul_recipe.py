"""The lock of `consul lock` as a store: the suite for all stores, and its own rules."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any

import pytest

from incumbent.core.records import Claim, Held, Holding
from incumbent.errors import ConfigError, Refused, StoreUnusable
from incumbent.stores import open_store
from incumbent.stores.api import Store
from incumbent.stores.beside import wire
from incumbent.stores.consul.recipe import GREATEST_TTL_S, LOCK_FLAGS
from incumbent.testing import conformance
from incumbent.testing.conformance.kit import Candidate, Watch
from tests.servers.consul import Consul

TTL_S = 5.0


class Harness:
    """A prefix of its own for each case."""

    ttl_s = TTL_S

    def __init__(self, server: Consul) -> None:
        self.server = server
        self.prefix = f"test-{secrets.token_hex(4)}"
        self._stores: list[Store] = []

    def name(self) -> str:
        return f"election-{secrets.token_hex(4)}"

    def key(self, name: str, what: str) -> str:
        return f"{self.prefix}/{name}/{what}"

    async def store(self, *, create: bool = True) -> Store:
        store = open_store(self.server.url(f"?recipe=lock&lock={self.prefix}/{{name}}"))
        self._stores.append(store)
        await store.open(create=create)
        return store

    async def delete(self, name: str) -> bool:
        for what in (".incumbent/record", ".lock"):
            await asyncio.to_thread(self.server.delete, self.key(name, what))
        return True

    async def scribble(self, name: str) -> bool:
        await asyncio.to_thread(self.server.put, self.key(name, ".incumbent/record"), b"{}")
        return True

    async def disturb(self, name: str) -> bool:
        key = self.key(name, ".incumbent/record")
        found = await asyncio.to_thread(self.server.get, key)
        assert found
        record = {**json.loads(found["Value"]), "note": secrets.token_hex(4)}
        await asyncio.to_thread(self.server.put, key, wire.encode(record))
        return True

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


@pytest.mark.parametrize("case", conformance.CASES, ids=str)
def test_conformance(case: conformance.Case, consul: Consul) -> None:
    conformance.run(case, lambda: Harness(consul))
