"""What is done to a cluster, and when.

The times follow from the control plane's: 8 s until a node counts as gone, 5 s more until its Pods
are evicted, and for `delnode` the 40 s and 20 s that the collector of Pods takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.cluster.api import path_of
from tests.cluster.stage import Stage
from tests.cluster.workloads import AT_MOST, application

__all__ = ["CAUSES", "NODES", "Cause", "Step"]

NODES = ("node1", "node2")
TAINT = {
    "key": "node.kubernetes.io/out-of-service",
    "value": "nodeshutdown",
    "effect": "NoExecute",
}


@dataclass(frozen=True, slots=True)
class Step:
    """Something that is done so many seconds after the cause, to a node."""

    at_s: float
    says: str
    act: Callable[[Stage, str], object]


@dataclass(frozen=True, slots=True)
class Cause:
    """One of the hard cases: the first step begins it, the last one heals it."""

    name: str
    title: str
    steps: tuple[Step, ...]

    @property
    def heal_s(self) -> float:
        return self.steps[-1].at_s


def _node(name: str) -> str:
    return f"/api/v1/nodes/{name}"


def _delete_by_force(stage: Stage, _node: str) -> None:
    pod = path_of({"apiVersion": "v1", "kind": "Pod"}, name=f"{application(AT_MOST)}-0")
    stage.api.request("DELETE", f"{pod}?gracePeriodSeconds=0")


def _untaint(stage: Stage, node: str) -> None:
    stage.heal()
    taints = stage.api.get(_node(node))["spec"].get("taints", [])
    rest = [taint for taint in taints if taint["key"] != TAINT["key"]]
    stage.api.patch(_node(node), {"spec": {"taints": rest}})


def _taint(stage: Stage, node: str) -> None:
    taints = stage.api.get(_node(node))["spec"].get("taints", [])
    stage.api.patch(_node(node), {"spec": {"taints": [*taints, TAINT]}})


def _join_again(stage: Stage, node: str) -> None:
    stage.heal()
    stage.kill_kubelet(node)
    stage.start_kubelet(node)


def _cut_all(stage: Stage, _node: str) -> None:
    for node in NODES:
        stage.cut(node)


_CUT = Step(0, "the node's link is cut", lambda stage, node: stage.cut(node))


def _heal(at_s: float) -> Step:
    return Step(at_s, "the link is whole again", lambda stage, _node: stage.heal())


CAUSES = {
    cause.name: cause
    for cause in (
        Cause("cut", "the node's link is cut", (_CUT, _heal(28))),
        Cause(
            "api",
            "the node is cut off from the API server only",
            (
                Step(
                    0,
                    "the way to the API server is cut, and no other",
                    lambda stage, node: stage.cut_api(node),
                ),
                _heal(28),
            ),
        ),
        Cause(
            "kubelet",
            "the kubelet is killed, its Pods run on",
            (
                Step(0, "the kubelet is killed", lambda stage, node: stage.kill_kubelet(node)),
                Step(28, "the kubelet is back", lambda stage, node: stage.start_kubelet(node)),
            ),
        ),
        Cause(
            "crash",
            "the node loses its power",
            (
                Step(0, "the node has no power", lambda stage, node: stage.crash(node)),
                Step(28, "the node boots", lambda stage, node: stage.boot(node)),
            ),
        ),
        Cause(
            "force",
            "the node is cut off, and the StatefulSet's Pod deleted by force",
            (_CUT, Step(20, "the Pod is deleted by force", _delete_by_force), _heal(32)),
        ),
        Cause(
            "taint",
            "the node is cut off, and declared to be out of service",
            (
                _CUT,
                Step(20, "the node is tainted as out of service", _taint),
                Step(48, "the link is whole again, the taint gone", _untaint),
            ),
        ),
        Cause(
            "delnode",
            "the node is cut off, and its Node object deleted",
            (
                _CUT,
                Step(
                    20,
                    "the Node object is deleted",
                    lambda stage, node: stage.api.request("DELETE", _node(node)),
                ),
                Step(92, "the link is whole again, the kubelet started anew", _join_again),
            ),
        ),
        Cause(
            "all",
            "both nodes are cut off",
            (Step(0, "both links are cut", _cut_all), _heal(24)),
        ),
    )
}
