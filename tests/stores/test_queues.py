"""Queues on real servers: the conformance suite, and what the server may be trusted for."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from incumbent.stores import open_store
from incumbent.stores.api import Store
from incumbent.testing import conformance
from tests.servers.etcd import Etcd, b64
from tests.servers.zookeeper import ZooKeeperServer

TTL_S = 3.0


class Harness:
    """A queue on a server of the run's."""

    ttl_s = TTL_S

    def __init__(self, url: str) -> None:
        self.id = f"test-{secrets.token_hex(6)}"
        self.url = url.replace("ID", self.id)
        self.stores: list[Store] = []

    def name(self) -> str:
        return f"election-{secrets.token_hex(4)}"

    async def store(self, *, create: bool = True) -> Store:
        store = open_store(self.url)
        self.stores.append(store)
        await store.open(create=create)
        return store

    async def scribble(self, name: str) -> bool:
        return False

    async def disturb(self, name: str) -> bool:
        return False

    async def delete(self, name: str) -> bool:
        raise NotImplementedError

    async def close(self) -> None:
        for store in self.stores:
            await store.close()


class OnZooKeeper(Harness):
    def __init__(self, server: ZooKeeperServer, recipe: str) -> None:
        self.ttl_s = 2.2  # The server of the run keeps no session for longer than 4 s.
        super().__init__(f"zookeeper://{server.address}/ID?recipe={recipe}&lock=/ID/locks/{{name}}")
        self.server = server

    async def delete(self, name: str) -> bool:
        def delete() -> None:
            with self.server.by_hand() as client:
                client.delete(f"/{self.id}/locks/{name}", recursive=True)

        await asyncio.to_thread(delete)
        return True


class OnEtcd(Harness):
    def __init__(self, server: Etcd, recipe: str) -> None:
        super().__init__(f"etcd://{server.address}/ID-own?tls=0&recipe={recipe}&lock=ID/{{name}}")
        self.server = server

    async def delete(self, name: str) -> bool:
        lock = f"{self.id}/{name}"
        folder = {"key": b64(f"{lock}/"), "range_end": b64(f"{lock}0")}
        await asyncio.to_thread(self.server.request, "/v3/kv/deleterange", folder)
        return True


@pytest.mark.parametrize("case", conformance.QUEUE_CASES, ids=str)
@pytest.mark.parametrize("recipe", ["curator-latch", "kazoo-lock"])
def test_zookeeper(zookeeper: ZooKeeperServer, recipe: str, case: conformance.Case) -> None:
    conformance.run(case, lambda: OnZooKeeper(zookeeper, recipe))


@pytest.mark.parametrize("case", conformance.QUEUE_CASES, ids=str)
def test_etcd(etcd: Etcd, case: conformance.Case) -> None:
    conformance.run(case, lambda: OnEtcd(etcd, "lock"))
