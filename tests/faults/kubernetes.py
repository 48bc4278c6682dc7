"""Kubernetes for the fault suite: an API server and its etcd.

What is paused is drawn: the API server, its etcd, or both.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from tests.faults.adapter import Servers
from tests.servers.kubernetes import ApiServer
from tests.servers.process import ServerProcess

__all__ = ["Kubernetes", "KubernetesConfigMap", "KubernetesEndpointSlice", "KubernetesSession"]


class Kubernetes(Servers):
    """See `adapter.Adapter`."""

    scheme = "kubernetes"

    def __init__(self, base_dir: Path) -> None:
        self._server = ApiServer(base_dir)
        super().__init__(
            self._server,
            [self._server.apiserver, self._server.etcd],
            [(self._server.host, self._server.port)],
        )

    def stop(self) -> None:
        super().stop()
        self._server.etcd.remove_data()

    def _url(self, lane: int, addresses: Sequence[str]) -> str:
        kubeconfig = self._server.kubeconfig(url=f"https://{addresses[0]}")
        return f"kubernetes://default?kubeconfig={kubeconfig}"

    def _victims(self, chance: random.Random) -> Sequence[ServerProcess]:
        both = self._processes
        return chance.choice([both, both[:1], both[1:]])


class KubernetesSession(Kubernetes):
    """The same, with one Lease a process that is renewed."""

    def _url(self, lane: int, addresses: Sequence[str]) -> str:
        return f"{super()._url(lane, addresses)}&session=1"


class KubernetesConfigMap(Kubernetes):
    """The same, with a ConfigMap for each election."""

    def _url(self, lane: int, addresses: Sequence[str]) -> str:
        return f"{super()._url(lane, addresses)}&recipe=configmap"


class KubernetesEndpointSlice(Kubernetes):
    """The same, with an EndpointSlice for each election, in which the holder's address stands."""

    def _url(self, lane: int, addresses: Sequence[str]) -> str:
        url = super()._url(lane, addresses)
        return f"{url}&recipe=slice&address=10.0.0.{lane + 1}&port=80"
