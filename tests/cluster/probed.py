"""The probes of `incumbent manifests` on real kubelets: who is restarted, and who is not.

    python -m tests.cluster.probed

An application of active and standby runs as it is generated, but that its wrappers are asked more
often. The standby's wrapper is stopped: its container has to be restarted, the active one's must
not be. Then the active one's node loses the API server: the other takes over, and nobody is
restarted.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from incumbent.manifests.model import Application
from incumbent.manifests.modes import Mode
from incumbent.manifests.objects import objects_of
from tests.cluster.cluster import Cluster, running
from tests.cluster.site import PYTHON
from tests.servers.kubernetes import ApiError

NAME = "reports"
_TTL_S = 6
_PERIOD_S = 2
_CUT_S = 20.0
_PODS = "/api/v1/namespaces/default/pods"
_LEASE = f"/apis/coordination.k8s.io/v1/namespaces/default/leases/{NAME}"


@dataclass(frozen=True, slots=True)
class Replica:
    """What the API server says of one Pod."""

    node: str
    ready: bool
    restarts: int


def _deploy(cluster: Cluster) -> None:
    app = Application(
        name=NAME,
        image=cluster.site.image,
        mode=Mode.ACTIVE_STANDBY,
        command=(PYTHON, "-c", "import time; time.sleep(1e6)"),
        env=cluster.site.environment,
        pull_policy="Never",
        ttl_s=_TTL_S,
        writable=(),
    )
    for thing in objects_of(app):
        if thing["kind"] == "Deployment":
            (container,) = thing["spec"]["template"]["spec"]["containers"]
            hasty = {"periodSeconds": _PERIOD_S, "timeoutSeconds": _PERIOD_S}
            container["livenessProbe"] |= hasty
        cluster.api.create(thing)


def _replicas(cluster: Cluster) -> dict[str, Replica]:
    found = {}
    for pod in cluster.api.items(_PODS):
        status: dict[str, Any] = next(iter(pod["status"].get("containerStatuses", ())), {})
        name = pod["metadata"]["name"]
        node = pod["spec"].get("nodeName", "")
        found[name] = Replica(node, status.get("ready", False), status.get("restartCount", 0))
    return found


def _active(cluster: Cluster) -> str:
    """Return the Pod that holds the Lease; "" for none, or while it cannot be asked."""
    try:
        holder = cluster.api.get(_LEASE).get("spec", {}).get("holderIdentity") or ""
    except (ApiError, OSError):
        return ""
    return str(holder).partition("_")[0]


def _stop_wrapper(pod: str) -> None:
    """Stop every process of a container that is `incumbent run`: the init of it, and its child."""
    stopped = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        ours = b"run" in words and any(word.endswith(b"/incumbent") for word in words)
        if ours and f"POD_NAME={pod}".encode() in environment:
            os.kill(int(folder.name), signal.SIGSTOP)
            stopped += 1
    assert stopped, f"there is no wrapper of {pod}"


def _both_ready(cluster: Cluster) -> bool:
    found = _replicas(cluster).values()
    return len(found) == 2 and all(one.ready for one in found) and _active(cluster) != ""


def _try(cluster: Cluster) -> None:
    _deploy(cluster)
    cluster.await_(lambda: _both_ready(cluster), "both replicas to be ready, and one active")
    active = _active(cluster)
    (standby,) = _replicas(cluster).keys() - {active}
    _stop_wrapper(standby)
    began_s = time.monotonic()
    cluster.await_(lambda: _replicas(cluster)[standby].restarts == 1, "the standby's restart")
    print(f"a stopped wrapper: restarted after {time.monotonic() - began_s:.0f} s", flush=True)
    cluster.await_(lambda: _both_ready(cluster), "both replicas to be ready again")
    before = _replicas(cluster)
    assert (before[active].restarts, _active(cluster)) == (0, active), "the active one was hurt"
    cluster.cut_api(before[active].node)
    cut_s = time.monotonic()
    cluster.await_(lambda: _active(cluster) == standby, "the other to take over")
    print(f"no API server: taken over after {time.monotonic() - cut_s:.0f} s", flush=True)
    left_s = _CUT_S - (time.monotonic() - cut_s)
    time.sleep(max(0.0, left_s))  # sleep: that nothing is restarted has no event
    cluster.heal()
    cluster.await_ready(before[active].node)
    cluster.await_(lambda: _both_ready(cluster), "both replicas to be ready after the cut")
    assert _replicas(cluster) == before, f"{_replicas(cluster)} and before {before}"
    print("no API server: nobody restarted", flush=True)


def main() -> int:
    """Try it on a cluster of its own."""
    with running() as cluster:
        _try(cluster)
    return 0


if __name__ == "__main__":
    sys.exit(main())
