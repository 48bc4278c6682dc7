"""The conformance suite, on the reference store and on a real API server."""

from __future__ import annotations

import itertools
import json
import secrets

import pytest

from incumbent.core.events import Seen
from incumbent.stores.api import Store, StoreURL
from incumbent.stores.kubernetes import open as open_kubernetes
from incumbent.stores.memory import MemoryStore, Shelf
from incumbent.testing import conformance
from tests.servers.kubernetes import ApiServer


class MemoryHarness:
    ttl_s = 5.0

    def __init__(self) -> None:
        self._shelf = Shelf()
        self._numbers = itertools.count(1)

    def name(self) -> str:
        return f"election-{next(self._numbers)}"

    async def store(self, *, create: bool = True) -> Store:
        store = MemoryStore(self._shelf)
        await store.open(create=create)
        return store

    async def delete(self, name: str) -> bool:
        self._shelf.serial += 1
        del self._shelf.records[name]
        await self._tell(name)
        return True

    async def scribble(self, name: str) -> bool:
        return False

    async def disturb(self, name: str) -> bool:
        self._shelf.serial += 1
        self._shelf.records[name].serial = self._shelf.serial
        await self._tell(name)
        return True

    async def close(self) -> None:
        pass

    async def _tell(self, name: str) -> None:
        snapshot = await MemoryStore(self._shelf).read(name)
        for sink in self._shelf.sinks.get(name, ()):
            sink(Seen(snapshot))


class KubernetesHarness:
    ttl_s = 5.0
    options = ""

    def __init__(self, server: ApiServer, namespace: str) -> None:
        self._server = server
        self._namespace = namespace
        self._kubeconfig = server.kubeconfig()
        self._stores: list[Store] = []

    def name(self) -> str:
        return f"election-{secrets.token_hex(4)}"

    async def store(self, *, create: bool = True) -> Store:
        url = f"kubernetes://{self._namespace}?kubeconfig={self._kubeconfig}{self.options}"
        store = open_kubernetes(StoreURL.parse(url))
        self._stores.append(store)
        await store.open(create=create)
        return store

    async def delete(self, name: str) -> bool:
        self._server.request("DELETE", self._path(name))
        return True

    async def scribble(self, name: str) -> bool:
        self._patch(name, {"metadata": {"annotations": {"incumbent.dev/format": "999"}}})
        return True

    async def disturb(self, name: str) -> bool:
        self._patch(name, {"metadata": {"labels": {"touched": secrets.token_hex(4)}}})
        return True

    async def close(self) -> None:
        for store in self._stores:
            await store.close()

    def _path(self, name: str) -> str:
        return self._server.lease_path(self._namespace, name)

    def _patch(self, name: str, patch: object) -> None:
        self._server.request(
            "PATCH",
            self._path(name),
            json.loads(json.dumps(patch)),
            content_type="application/merge-patch+json",
        )


@conformance.parametrize(MemoryHarness)
def test_memory(conform: conformance.Bound) -> None:
    conform()


@pytest.mark.parametrize("case", conformance.CASES, ids=str)
def test_kubernetes(case: conformance.Case, api_server: ApiServer, namespace: str) -> None:
    conformance.run(case, lambda: KubernetesHarness(api_server, namespace))
