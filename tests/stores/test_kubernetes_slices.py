"""Lock and address in one EndpointSlice: the store on a real server, and what each write says."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from incumbent.core.records import Bar, Claim, Holding, StepDownRequest
from incumbent.errors import ConfigError, Refused, StoreUnusable
from incumbent.stores import open_store
from incumbent.stores.api import Store
from incumbent.stores.kubernetes.resource import ENDPOINT_SLICES
from incumbent.stores.kubernetes.slices import MANAGED_BY, MANAGER, RECORD_KEY, SERVICE
from incumbent.testing import conformance
from tests.servers.kubernetes import ApiServer
from tests.stores.test_conformance import KubernetesHarness

A, B = "10.1.2.3", "10.1.2.4"
_MERGE = "application/merge-patch+json"


class Harness(KubernetesHarness):
    options = f"&recipe=slice&address={A}&port=80"

    def _path(self, name: str) -> str:
        return f"{ENDPOINT_SLICES.path(self._namespace)}/{name}"


@pytest.mark.parametrize("case", conformance.CASES, ids=str)
def test_it_is_a_store(case: conformance.Case, api_server: ApiServer, namespace: str) -> None:
    conformance.run(case, lambda: Harness(api_server, namespace))


class Slice:
    """One election in a namespace, seen as what others see."""

    def __init__(self, server: ApiServer, namespace: str) -> None:
        self.server, self.namespace = server, namespace
        self.path = f"{ENDPOINT_SLICES.path(namespace)}/wiki"

    def object(self) -> dict[str, Any]:
        return self.server.request("GET", self.path)

    def patch(self, change: dict[str, Any]) -> None:
        self.server.request("PATCH", self.path, change, content_type=_MERGE)

    @property
    def addresses(self) -> list[str]:
        return [each["addresses"][0] for each in self.object().get("endpoints") or ()]

    def run(self, work: Callable[[Store, Store], Awaitable[None]]) -> None:
        async def main() -> None:
            config = self.server.kubeconfig()
            where = f"kubernetes://{self.namespace}?kubeconfig={config}&recipe=slice"
            stores = [open_store(f"{where}&address={each}&port=http:80") for each in (A, B)]
            try:
                for store in stores:
                    await store.open()
                await work(*stores)
            finally:
                for store in stores:
                    await store.close()

        asyncio.run(main())


@pytest.fixture
def slice_(api_server: ApiServer, namespace: str) -> Slice:
    return Slice(api_server, namespace)


def claim(who: str, attempt: int = 1) -> Claim:
    return Claim(who, f"{who}/{attempt}", 15.0)


def test_the_address_comes_and_goes_with_the_lock(slice_: Slice) -> None:
    async def work(a: Store, b: Store) -> None:
        held = await a.take("wiki", claim("a_1"), await a.read("wiki"))
        made = slice_.object()
        assert slice_.addresses == [A]
        assert made["metadata"]["labels"] == {SERVICE: "wiki", MANAGED_BY: MANAGER}
        assert made["addressType"] == "IPv4"
        assert made["ports"] == [{"name": "http", "port": 80, "protocol": "TCP"}]

        lease = await a.renew(held.lease)
        assert slice_.addresses == [A]
        after = await b.take("wiki", claim("b_2"), await b.read("wiki"))
        assert slice_.addresses == [B], "the taking write replaced the list"
        with pytest.raises(Refused):
            await a.renew(lease)
        await a.release(held, lease, "")
        assert slice_.addresses == [B], "a late release empties nobody else's"
        await b.release(after, after.lease, "")
        assert slice_.addresses == []

    slice_.run(work)


def test_a_renewal_says_it_again_and_a_request_does_not(slice_: Slice) -> None:
    async def work(a: Store, b: Store) -> None:
        held = await a.take("wiki", claim("a_1"), await a.read("wiki"))
        slice_.patch({"endpoints": [{"addresses": ["10.9.9.9"]}, {"addresses": ["10.9.9.8"]}]})
        await a.renew(held.lease)
        assert slice_.addresses == [A]
        await b.ask("wiki", StepDownRequest(held.term, "b"))
        assert slice_.addresses == [A], "who asks does not hold"
        barred = await b.bar(await b.read("wiki"), Bar("moved", "n1"))
        assert slice_.addresses == []
        await b.unbar(barred)
        assert slice_.addresses == []
        assert (await b.read("wiki")).holding is Holding.VACANT

    slice_.run(work)


def test_a_slice_of_another_manager_is_left_alone(slice_: Slice) -> None:
    async def work(a: Store, b: Store) -> None:
        held = await a.take("wiki", claim("a_1"), await a.read("wiki"))
        theirs = {"metadata": {"labels": {MANAGED_BY: "endpointslice-controller.k8s.io"}}}
        slice_.patch(theirs)
        found = await b.read("wiki")
        assert found.holding is Holding.FOREIGN
        assert "endpointslice-controller" in found.why
        with pytest.raises(Refused):
            await b.take("wiki", claim("b_2"), found)
        slice_.patch({"metadata": {"annotations": {RECORD_KEY: None}}})
        assert (await b.read("wiki")).holding is Holding.FOREIGN
        assert [each.name for each in await b.elections()] == []
        assert held.token

    slice_.run(work)


def test_a_record_that_was_taken_away_is_an_absence(slice_: Slice) -> None:
    async def work(a: Store, b: Store) -> None:
        held = await a.take("wiki", claim("a_1"), await a.read("wiki"))
        slice_.patch({"metadata": {"annotations": {RECORD_KEY: None}}})
        found = await b.read("wiki")
        assert found.holding is Holding.ABSENT
        assert found.version is not None
        after = await b.take("wiki", claim("b_2"), found)
        assert slice_.addresses == [B]
        assert (after.token or 0) > (held.token or 0)

    slice_.run(work)


def test_who_has_no_address_may_look_and_not_take(slice_: Slice) -> None:
    async def main() -> None:
        config = slice_.server.kubeconfig()
        store = open_store(f"kubernetes://{slice_.namespace}?kubeconfig={config}&recipe=slice")
        try:
            await store.open()
            found = await store.read("wiki")
            with pytest.raises(StoreUnusable, match="POD_IP"):
                await store.take("wiki", claim("a_1"), found)
        finally:
            await store.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("address=here", "no IP address"),
        ("address=127.0.0.1", "no address at which others"),
        ("port=http", "is not like 8080"),
        ("port=0", "is not like 8080"),
        ("port=80,81", "need a name each"),
        ("service=x", "does not know the option 'service'"),
    ],
)
def test_what_the_url_cannot_say(options: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        open_store(f"kubernetes://shop?recipe=slice&{options}")


@pytest.mark.parametrize("name", ["a.b", "1st", "x" * 64])
def test_what_no_service_is_called(name: str, slice_: Slice) -> None:
    async def work(a: Store, _: Store) -> None:
        with pytest.raises(ConfigError, match="is a Service of its name"):
            await a.read(name)

    slice_.run(work)


MANIFEST = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: wiki
  labels: {kubernetes.io/service-name: wiki, endpointslice.kubernetes.io/managed-by: incumbent.dev}
addressType: IPv4
ports: [{name: http, port: 80, protocol: TCP}]
"""


def test_a_manifest_that_is_applied_again_takes_nothing_away(
    slice_: Slice, kubectl: Path, tmp_path: Path
) -> None:
    file = tmp_path / "slice.yaml"
    file.write_text(MANIFEST)
    config = slice_.server.kubeconfig(namespace=slice_.namespace)

    def apply(*words: str) -> None:
        command = [str(kubectl), "--kubeconfig", str(config), "apply", "-f", str(file), *words]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    async def work(a: Store, _: Store) -> None:
        await asyncio.to_thread(apply)
        found = await a.read("wiki")
        assert found.holding is Holding.ABSENT
        held = await a.take("wiki", claim("a_1"), found)
        await asyncio.to_thread(apply)
        assert slice_.addresses == [A]
        assert (await a.read("wiki")).term == held.term

    slice_.run(work)
