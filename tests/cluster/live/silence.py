"""What is no evidence: the kubelet, the runtime or the Pod object goes, and the process lives on.

Standbys take evidence here. In each case the marks tell when the old one was at work for the last
time and when the next one was for the first, and the API what the kubelet had said by then. The
same causes as elsewhere (cuts, taints, a node that is deleted) are played with evidence by
`python -m tests.cluster --evidence --mode active-standby --cause …`.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass

from tests.cluster.api import path_of
from tests.cluster.cluster import Cluster
from tests.cluster.live.kit import App, await_, first_process, ours, seconds
from tests.cluster.observer import now_ns
from tests.cluster.reader import Span, most_at_once
from tests.cluster.stage import ready_nodes
from tests.servers.kubernetes import ApiError

__all__ = ["show"]

TTL_S = 6
RENEWED_S = TTL_S / 3
"""So long ago may the last renewal have been."""
WATCHED_S = TTL_S + 4.0


@dataclass(frozen=True)
class Case:
    """Something that says nothing about the holder's life.

    Attributes:
        name: what is done.
        act: does it, to a node on which this one is active.
        heal: undoes it.
        lives: whether the holder is expected to go on undisturbed.
    """

    name: str
    act: Callable[[Cluster, App, Span], object]
    heal: Callable[[Cluster, str], object]
    lives: bool


def _nothing(cluster: Cluster, node: str) -> None:
    cluster.await_ready(node)


def _restart_kubelet(cluster: Cluster, _: App, at: Span) -> None:
    cluster.kill_kubelet(at.node)
    cluster.start_kubelet(at.node)


def _restart_runtime(cluster: Cluster, _: App, at: Span) -> None:
    cluster.nodes[at.node].kill_runtime()
    cluster.nodes[at.node].start_runtime()


def _restart_both(cluster: Cluster, app: App, at: Span) -> None:
    cluster.kill_kubelet(at.node)
    _restart_runtime(cluster, app, at)
    cluster.start_kubelet(at.node)


def _kill_shims(cluster: Cluster, _: App, at: Span) -> None:
    cluster.nodes[at.node].kill_shims()


def _runtime_loses_shims(cluster: Cluster, app: App, at: Span) -> None:
    """Nobody is there to clean up when they end: containers run on, without a parent."""
    cluster.nodes[at.node].kill_runtime()
    cluster.nodes[at.node].kill_shims()
    cluster.nodes[at.node].start_runtime()


class _Forgotten:
    """containerd forgets a Pod whose processes live on, and the kubelet finds no container."""

    def __init__(self) -> None:
        self._pid = 0

    def act(self, cluster: Cluster, _: App, at: Span) -> None:
        self._pid = first_process(at.pod)
        cluster.kill_kubelet(at.node)
        cluster.nodes[at.node].forget_pod(at.pod)
        cluster.start_kubelet(at.node)

    def heal(self, cluster: Cluster, node: str) -> None:
        """End what nobody knows of any more: the first process of a container takes all along."""
        os.kill(self._pid, signal.SIGKILL)
        cluster.await_ready(node)


def _force(cluster: Cluster, app: App, at: Span) -> None:
    cluster.cut_api(at.node)
    for pod in app.pods():
        if pod["metadata"]["uid"] == at.pod:
            path = path_of({"apiVersion": "v1", "kind": "Pod"}, name=pod["metadata"]["name"])
            cluster.api.request("DELETE", f"{path}?gracePeriodSeconds=0")


def _heal(cluster: Cluster, node: str) -> None:
    cluster.heal()
    await_(cluster, lambda: node in ready_nodes(cluster.api), f"{node} to be Ready again")


_FORGOTTEN = _Forgotten()
CASES = (
    Case("the kubelet is killed, and started", _restart_kubelet, _nothing, lives=True),
    Case("containerd is killed, and started", _restart_runtime, _nothing, lives=True),
    Case("both are killed, and started", _restart_both, _nothing, lives=True),
    Case("the containers' shims are killed", _kill_shims, _nothing, lives=False),
    Case("shims are killed while containerd is away", _runtime_loses_shims, _nothing, lives=False),
    Case("containerd has lost the Pod", _FORGOTTEN.act, _FORGOTTEN.heal, lives=True),
    Case("no way to the API server, Pod deleted by force", _force, _heal, lives=False),
)


def show(cluster: Cluster, rounds: int | None = None) -> bool:
    """Play each case so many times, once if not told; tell whether all came as they must."""
    print("| what | old at work until | next at work from | the kubelet said | at once |")
    print("| --- | --- | --- | --- | --- |")
    good = True
    app = ours(cluster, "silent", store="kubernetes://?evidence=1", ttl_s=TTL_S)
    app.make()
    try:
        for case in CASES:
            for _ in range(rounds or 1):
                good = _play(cluster, app, case) and good
    finally:
        app.remove()
    return good


def _play(cluster: Cluster, app: App, case: Case) -> bool:
    before = app.await_whole()
    said = _Said(app, before.pod)
    began_ns = now_ns()
    case.act(cluster, app, before)
    _watch(cluster, WATCHED_S)
    said.stop()
    found = app.spans()
    old = next(span for span in found if span.token == before.token)
    later = [span for span in found if span.token > before.token]
    most = most_at_once([span for span in found if span.token >= before.token])
    next_s = seconds(later[0].first_ns, began_ns) if later else None
    old_s = seconds(old.last_ns, began_ns)
    came = "-" if next_s is None else f"{next_s:.2f} s"
    print(f"| {case.name} | {old_s:.2f} s | {came} | {said.text} | {most} |", flush=True)
    case.heal(cluster, before.node)
    for span in found:
        if span.token >= before.token and (later or not case.lives):
            app.delete_pod(span.pod)
            break
    if case.lives:
        return most == 1 and not later
    early = next_s is not None and next_s < TTL_S - RENEWED_S
    return most == 1 and bool(later) and not early


def _watch(cluster: Cluster, limit_s: float) -> None:
    """Let time pass; nobody else is to take over in it."""
    until_ns = now_ns() + int(limit_s * 1e9)
    await_(cluster, lambda: now_ns() >= until_ns, "time to pass")


class _Said:
    """What the API has had in the status of one Pod's container."""

    def __init__(self, app: App, uid: str) -> None:
        self._app, self._uid = app, uid
        self._heard: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    @property
    def text(self) -> str:
        return ", then ".join(self._heard) or "nothing"

    def _listen(self) -> None:
        while not self._over.wait(0.1):
            try:
                pods = self._app.pods()
            except (OSError, ApiError):
                continue
            mine = [pod for pod in pods if pod["metadata"]["uid"] == self._uid]
            heard = self._of(mine[0]) if mine else "no such Pod"
            if heard and [heard] != self._heard[-1:]:
                self._heard.append(heard)

    def _of(self, pod: dict[str, object]) -> str:
        status = pod["status"]
        assert isinstance(status, dict)
        for container in status.get("containerStatuses", ()):
            for where in ("state", "lastState"):
                ended = container.get(where, {}).get("terminated")
                if ended:
                    named = "incumbent.dev/candidate" in ended.get("message", "")
                    whose = "with its line" if named else "without its line"
                    return f"{ended.get('reason')} {ended.get('exitCode')} {whose}"
            return str(next(iter(container["state"]), ""))
        return ""
