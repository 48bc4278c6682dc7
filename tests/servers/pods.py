"""Pods on an API server without kubelets: objects, whose status is written by whoever needs it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from tests.servers.kubernetes import ApiError, ApiServer

__all__ = ["delete_pod", "make_pod", "set_ready"]

_MERGE = "application/merge-patch+json"


def _path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


def make_pod(
    server: ApiServer,
    namespace: str,
    name: str,
    *,
    labels: Mapping[str, str] | None = None,
    ready: bool = True,
) -> None:
    """Create a Pod that is Running, and Ready if so told."""
    pod = {
        "metadata": {"name": name, "labels": dict(labels or {})},
        "spec": {"containers": [{"name": "member", "image": "member"}]},
    }
    server.request("POST", _path(namespace), pod)
    set_ready(server, namespace, name, ready)


def set_ready(server: ApiServer, namespace: str, name: str, ready: bool) -> None:
    """Say of a Pod what its kubelet would say."""
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    status = {"phase": "Running", "conditions": [condition]}
    path = f"{_path(namespace)}/{name}/status"
    server.request("PATCH", path, {"status": status}, content_type=_MERGE)


def delete_pod(server: ApiServer, namespace: str, name: str) -> None:
    """Delete a Pod at once, if it is there: nobody is on its node to confirm that it has ended."""
    with contextlib.suppress(ApiError):
        server.request("DELETE", f"{_path(namespace)}/{name}?gracePeriodSeconds=0")
