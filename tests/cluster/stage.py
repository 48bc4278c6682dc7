"""What a round needs of a cluster, be it a real one or one that is played by local processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from tests.cluster.api import Api
from tests.cluster.site import Site
from tests.servers.kubernetes import ApiError
from tests.servers.process import ServerError

__all__ = ["Stage", "await_", "ready_nodes"]

_LIMIT_S = 120.0
_POLL_S = 0.2


def ready_nodes(api: Api) -> set[str]:
    """Return the nodes on which a Pod may be put: Ready, and no taint is left of a time before."""
    return {
        node["metadata"]["name"]
        for node in api.items("/api/v1/nodes")
        for condition in node["status"].get("conditions", ())
        if condition["type"] == "Ready" and condition["status"] == "True"
        if not node["spec"].get("taints")
    }


class Stage(Protocol):
    """Two nodes, and what can befall them."""

    site: Site
    api: Api

    @property
    def ledger_file(self) -> Path: ...

    @property
    def kubeconfig(self) -> Path:
        """That of the administrator, for programs outside."""
        ...

    def cut(self, node: str) -> None:
        """Let nothing pass to or from a node."""
        ...

    def heal(self) -> None:
        """Let everything pass again, between all."""
        ...

    def cut_api(self, node: str) -> None:
        """Let nothing pass between a node, or its Pods, and the API server."""
        ...

    def kill_kubelet(self, node: str) -> None: ...

    def start_kubelet(self, node: str) -> None: ...

    def crash(self, node: str) -> None:
        """Take the power away."""
        ...

    def boot(self, node: str) -> None:
        """Give it back."""
        ...

    def address_of(self, name: str) -> str:
        """Ask the cluster's DNS; "" where there is none."""
        ...

    def write_late(self, application: str, token: int) -> int:
        """Ask the ledger to write under a token, and return the HTTP status that it answers."""
        ...

    def check(self) -> None:
        """Raise if what must run has ended."""
        ...


def await_(
    stage: Stage,
    happened: Callable[[], Any],
    what: str,
    limit_s: float = _LIMIT_S,
    poll_s: float = _POLL_S,
) -> None:
    """Wait until something is so; an API server that cannot be asked is asked again."""
    deadline_s = time.monotonic() + limit_s
    while True:
        try:
            if happened():
                return
        except (OSError, ApiError):
            pass
        stage.check()
        if time.monotonic() > deadline_s:
            raise ServerError(f"waited {limit_s:.0f} s for {what}")
        time.sleep(poll_s)  # sleep: files and the API are asked, and do not call
