"""What tests of Camel's modes share: claims, the Pods of candidates, a store on a real server."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from incumbent.core.records import Claim, Snapshot
from incumbent.errors import Refused
from incumbent.stores.api import StoreURL
from incumbent.stores.kubernetes import KubernetesStore
from incumbent.stores.kubernetes import open as open_kubernetes
from tests.servers.kubernetes import ApiServer
from tests.servers.pods import make_pod

__all__ = ["CLAIM", "NOON_S", "OTHER", "conformance_namespace", "opened", "refused"]

CLAIM = Claim("pod-0_1f0a", "pod-0_1f0a/9c.1", 5.0)
OTHER = Claim("pod-1_77", "pod-1_77/1.1", 7.0)
NOON_S = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC).timestamp()
_CANDIDATES = ("alpha", "beta", "gamma", *(f"c{number}" for number in range(10)))


def conformance_namespace(server: ApiServer, name: str) -> str:
    """Make one namespace for all cases of conformance: they need the Pods of all candidates."""
    server.create_namespace(name)
    for pod in _CANDIDATES:
        make_pod(server, name, pod)
    return name


@contextlib.asynccontextmanager
async def opened(server: ApiServer, namespace: str, options: str) -> AsyncIterator[KubernetesStore]:
    """Open a store, with these options in its URL."""
    url = f"kubernetes://{namespace}?kubeconfig={server.kubeconfig()}&{options}"
    store = open_kubernetes(StoreURL.parse(url))
    assert isinstance(store, KubernetesStore)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def refused(store: KubernetesStore, claim: Claim, over: Snapshot) -> Snapshot:
    with pytest.raises(Refused) as info:
        await store.take("jobs", claim, over)
    return info.value.snapshot
