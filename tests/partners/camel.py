"""Locks of an Apache Camel cluster that members of theirs share with ours.

There are no kubelets: the Pod of each member is an object, and is deleted when its process is
killed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from incumbent.stores.kubernetes.resource import CONFIG_MAPS, LEASES, Resource
from tests.partners.kubernetes import Place
from tests.partners.member import Member
from tests.servers import java
from tests.servers.pods import delete_pod, make_pod
from tests.servers.speaker import Event

__all__ = ["MAP", "CamelPlace", "InPod"]

MAP = "leaders"
"""The ConfigMap of theirs, and how their Leases begin."""


class InPod(Member):
    """A member whose Pod is there from its start, and gone once it was killed."""

    def __init__(
        self, place: CamelPlace, pod: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> None:
        super().__init__(pod, command, place.folder, environment)
        self._at = (place.server, place.namespace, pod)
        make_pod(*self._at)

    def crash(self, timeout_s: float) -> list[Event]:
        said = super().crash(timeout_s)
        delete_pod(*self._at)
        return said

    def kill(self) -> None:
        super().kill()
        delete_pod(*self._at)


class CamelPlace(Place):
    """`theirs_s` is the lease duration of theirs."""

    @property
    def resource(self) -> Resource:
        return LEASES if self.recipe == "camel-lease" else CONFIG_MAPS

    @property
    def url(self) -> str:
        config = self.server.kubeconfig(namespace=self.namespace)
        options = f"recipe={self.recipe}&takeover_s={self.theirs_s}"
        return f"kubernetes://{self.namespace}?kubeconfig={config}&{options}"

    def ours(self, lock: str, name: str) -> Member:
        words = ["-m", "tests.partners.ours", self.url, lock, f"{name}_1", str(self.ttl_s)]
        return InPod(self, name, [sys.executable, *words], {})

    def theirs(self, lock: str, name: str) -> Member:
        words = [
            str(self.server.port),
            str(self.server.ca_file),
            str(self.folder / "token"),
            self.namespace,
            lock,
            name,
            str(1000 * self.theirs_s),
            self.resource.kind,
        ]
        return InPod(self, name, java.command("camel", *words), {})
