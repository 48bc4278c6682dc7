"""What is left that nothing keeps apart from what shall be, and what is said of it. Pure.

Theory
------
An election keeps all its candidates apart, whoever has made them. A workload keeps its own Pods
apart, and knows of no others, not even of those that its predecessor of the same name has made. A
Deployment that is deleted in the background is gone at once; its ReplicaSet makes Pods until the
garbage collector comes by, and the Pods work until they have ended. What was orphaned works for
ever. So where there is no election it counts who keeps a Pod, up to the workload, by uid. Its name
and its marks are the same each time.

Rules
-----
1. Of another is what says that something else keeps it single, and a workload of the other kind.
2. Without an election, so is whatever is not kept by the workload that is there and that stays. A
   chain that cannot be followed ends nowhere: its ReplicaSet is gone, or nobody's.
3. Without an election, a workload that stands still is not set going while a Pod of its own is
   left: a ReplicaSet makes the next one beside one that is ending. Of its own, one that has failed
   or is done is nothing that the workload itself would wait for, and nobody would delete it.
4. A ReplicaSet that nobody keeps, and that shall have no Pods, makes none. Any other one counts,
   also at 0: the controller of a workload that was deleted may be about to set it going.
5. No phase is believed of the Pods of others: some are set while a container still runs.

Its limit: a controller of the cluster that lags behind may make a Pod of a ReplicaSet that is gone
after this has looked for the last time. The garbage collector deletes that Pod, and until then a
Deployment is two. A StatefulSet is not, for the two would have one name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from incumbent.manifests import Object
from incumbent.operator.desired import Wanted
from incumbent.operator.kinds import WORKLOADS, key_of
from incumbent.operator.observed import Observed, controller_of, deleting, kept_by_of

__all__ = ["Held", "remains", "waiting"]

_SHOWN = 5
_OVER = ("Failed", "Succeeded")


@dataclass(frozen=True, slots=True)
class Held:
    """Why the workload is not made, or not set going.

    Attributes:
        reason: in one word.
        message: what is waited for, and what could be done.
    """

    reason: str
    message: str


def remains(wanted: Wanted, observed: Observed) -> list[Object]:
    """Return what has to be gone before the workload is made, or set going."""
    present = observed.objects.get(wanted.workload)
    if present is not None and deleting(present):
        present = None
    sets = {o["metadata"]["uid"]: o for o in observed.running if o["kind"] == "ReplicaSet"}
    return [
        obj
        for obj in _singletons(wanted, observed)
        if _says_otherwise(obj, wanted) or (wanted.single and not _is_kept(obj, present, sets))
    ]


def _singletons(wanted: Wanted, observed: Observed) -> Iterator[Object]:
    """Everything that is active, or makes something active."""
    yield from observed.running
    for kind in WORKLOADS:
        if (obj := observed.objects.get((kind, wanted.workload[1]))) is not None:
            yield obj


def _says_otherwise(obj: Object, wanted: Wanted) -> bool:
    """Rule 1."""
    another = obj["kind"] in WORKLOADS and key_of(obj) != wanted.workload
    return another or kept_by_of(obj) != wanted.kept_by


def _is_kept(obj: Object, present: Object | None, sets: Mapping[str, Object]) -> bool:
    """Rules 2 to 4, of what rule 1 says nothing about."""
    if obj["kind"] in WORKLOADS:
        return not deleting(obj)
    if obj["kind"] == "ReplicaSet" and not controller_of(obj):
        return bool(obj["spec"].get("replicas", 1) == 0)
    if present is None or _root(obj, sets) != present["metadata"]["uid"]:
        return False
    stands_still = present["spec"].get("replicas", 1) == 0
    return not (stands_still and _may_go_on(obj))


def _root(obj: Object, sets: Mapping[str, Object]) -> str:
    """Return the uid at the end of the chain of who keeps it."""
    uid = str(controller_of(obj).get("uid", ""))
    above = sets.get(uid)
    return uid if above is None else str(controller_of(above).get("uid", ""))


def _may_go_on(obj: Object) -> bool:
    """Tell of what is kept by a workload that stands still whether it is, or makes, a Pod yet."""
    if obj["kind"] == "ReplicaSet":
        return bool(obj["spec"].get("replicas", 1) > 0)
    return deleting(obj) or (obj.get("status") or {}).get("phase") not in _OVER


def waiting(left: list[Object]) -> Held:
    """Return what is said while these are waited for."""
    pods = [obj for obj in left if obj["kind"] == "Pod"]
    apart = "waiting until these are gone, for nothing else keeps them and the new ones apart"
    told = [f"{apart}: {_named(pods or left)}"]
    strays = [obj for obj in left if obj["kind"] not in WORKLOADS and _is_stray(obj)]
    if strays:
        told.append(f"No workload keeps {_named(strays)}, so nothing ends that but you: delete it")
    if pods:
        told.append(
            "On a node that is lost this lasts until it is back, or until somebody who knows it to "
            "be off deletes the Pod by force"
        )
    return Held("WaitingForOldPods", ". ".join(told))


def _is_stray(obj: Object) -> bool:
    return not controller_of(obj) and not deleting(obj)


def _named(objects: list[Object]) -> str:
    shown = ", ".join(map(_shown, objects[:_SHOWN]))
    return shown if len(objects) <= _SHOWN else f"{shown}, and {len(objects) - _SHOWN} more"


def _shown(obj: Object) -> str:
    kind, name = key_of(obj)
    node = obj["spec"].get("nodeName") if kind == "Pod" else None
    return f"{kind} {name} on {node}" if node else f"{kind} {name}"
