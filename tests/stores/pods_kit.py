"""Pods on the shared API server, as their kubelet would report them, and stores inside of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from incumbent.core.records import Claim, Held
from incumbent.stores import open_store
from incumbent.stores.kubernetes import KubernetesStore
from incumbent.stores.kubernetes.label import ACTIVE_IN, ROLE
from tests.servers.kubernetes import ADMIN, ApiServer

__all__ = ["MERGE", "Pods", "claim", "taken"]

MERGE = "application/merge-patch+json"


def claim(identity: str, attempt: int = 1, ttl_s: float = 15.0) -> Claim:
    return Claim(identity, f"{identity}/r.{attempt}", ttl_s)


class Pods:
    """The Pods of one namespace."""

    def __init__(self, server: ApiServer, namespace: str) -> None:
        self.server, self.namespace = server, namespace
        self.path = f"/api/v1/namespaces/{namespace}/pods"
        self.uids: dict[str, str] = {}

    def make(self, name: str, labels: dict[str, str] | None = None, **spec: Any) -> str:
        """Make a Pod with one container, and return its UID."""
        container = {"name": "main", "image": "none", **spec.pop("container", {})}
        made = self.server.request(
            "POST",
            self.path,
            {
                "metadata": {"name": name, "labels": labels or {}},
                "spec": {
                    "automountServiceAccountToken": False,
                    "containers": [container],
                    **spec,
                },
            },
        )
        self.uids[name] = str(made["metadata"]["uid"])
        return self.uids[name]

    def identity(self, name: str, random: str = "abc") -> str:
        """Return the identity of a candidate in a Pod."""
        return f"{name}_{self.uids[name]}_{random}"

    def candidacy(self, name: str, random: str = "abc") -> str:
        """Return what its terms begin with."""
        return f"{self.identity(name, random)}/r"

    def change(self, name: str, change: dict[str, Any], part: str = "") -> None:
        self.server.request("PATCH", f"{self.path}/{name}{part}", change, content_type=MERGE)

    def report(self, name: str, **container: Any) -> None:
        """Write the status of the container, as a kubelet does."""
        status = {
            "name": "main",
            "image": "none",
            "imageID": "none",
            "ready": False,
            "restartCount": 0,
            **container,
        }
        self.change(name, {"status": {"containerStatuses": [status]}}, "/status")

    def active(self) -> list[str]:
        """Return which Pods carry the label."""
        path = f"{self.path}?labelSelector={ROLE}%3Dactive"
        return sorted(
            each["metadata"]["name"] for each in self.server.request("GET", path)["items"]
        )

    def label(self, name: str, place: str) -> None:
        """Label a Pod as the active one of an election, by hand."""
        marks = {"labels": {ROLE: "active"}, "annotations": {ACTIVE_IN: place}}
        self.change(name, {"metadata": marks})

    def store(
        self, pod: str, options: str, user: str = ADMIN, address: str = ""
    ) -> KubernetesStore:
        """Return a store as a process in this Pod opens it."""
        url = f"https://{address}" if address else None
        config = self.server.kubeconfig(user, url=url)
        with self.inside(pod):
            made = open_store(f"kubernetes://{self.namespace}?kubeconfig={config}&{options}")
        assert isinstance(made, KubernetesStore)
        return made

    @contextlib.contextmanager
    def inside(self, pod: str) -> Iterator[None]:
        """Tell what the downward API tells in a Pod."""
        told = {
            "KUBERNETES_SERVICE_HOST": "10.96.0.1",
            "POD_NAME": pod,
            "POD_UID": self.uids[pod],
            "POD_NAMESPACE": self.namespace,
            "POD_IP": "10.1.2.3",
        }
        with patch.dict("os.environ", told):
            yield


async def taken(store: KubernetesStore, name: str, identity: str) -> Held:
    """Take what the store says now."""
    return await store.take(name, claim(identity), await store.read(name))
