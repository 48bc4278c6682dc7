"""What is done next, of what there shall be and what there is. Pure: no request, and no clock.

Theory
------
A workload keeps its own Pods single, as well as its mode can, and an election keeps its candidates.
Between two workloads, or two elections, stands nobody: a Deployment becomes a StatefulSet, or an
election moves to another Lease, and for a moment the old Pod and the new one are both active. No
rolling update helps, for it is right that the two know nothing of one another. The same is so of a
workload that somebody has deleted and the one that is made anew in its place, unless they elect.

So what keeps Pods single is written on them (`marks.KEPT_BY`), and where that is to change:

    1. the old workload is deleted in the foreground: it stays, and makes nothing, until its
       ReplicaSets and Pods are gone;
    2. until nothing is left that was kept single by something else, the new one is not made, and
       one that is there is not set going;
    3. then it is made, with 0 replicas, and then set going.

The old is gone when its *objects* are: a Pod's object goes when its kubelet has said that the
containers have ended. On a node that is lost that is never, and then the change waits; the status
says for which Pod. Who removes such a Pod by force says that it is dead, and it is taken at its
word, as everywhere on the platform.

Between the two elected modes with one election nothing has to be waited for, but their workload is
made anew as well. A rollout from one to the other could wait for itself for ever: standbys keep
every further replica off their node, also one that would replace them, if each node has one.

Rules
-----
1. Where a name is taken by somebody else, also by a former Singleton of the same name, nothing is
   done at all.
2. What is of no use any more is deleted before anything is made: an autoscaler of yesterday would
   scale the singleton of today.
3. Nothing is made, and nothing set going, while something is left that the new one would not be
   kept apart from: `remains` says what. What is going, goes on: nobody is served by an outage
   beside it.
4. What we have created is first claimed, and then applied: see `steps.Claim`.
5. Of the replicas of what is autoscaled we own the first number only. Once somebody else has
   set one, we do not say any.
6. An operator of a greater term has been here: nothing is done at all.
7. What is being deleted is left alone.

A plan is a round. What it makes, the next round sees, and goes on from there; so an operator that
dies behind any step leaves a state from which the next one goes on in the same way.

A creation and its setting going are never of one round, and what lies between them is a read. That
is what keeps two operators apart of which nobody was elected, or one is deposed: each makes its
workload first and looks around then, so of two that begin at once at least one sees the other's,
and waits.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

from incumbent.manifests import Object
from incumbent.manifests.marks import MODE, OPERATOR_TERM
from incumbent.operator.definition import SINGLETONS
from incumbent.operator.desired import Wanted, newborn
from incumbent.operator.kinds import KEPT, WORKLOADS, key_of
from incumbent.operator.observed import (
    Observed,
    annotation,
    applied_by_us,
    claimable,
    controller_of,
    deleting,
    differs,
    kept_by_of,
    owned,
)
from incumbent.operator.remains import Held, remains, waiting
from incumbent.operator.steps import Apply, Claim, Create, Delete, Step

__all__ = ["Held", "Plan", "plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done in this round, in this order, and what has to wait."""

    steps: tuple[Step, ...] = ()
    held: Held | None = None


def plan(wanted: Wanted, observed: Observed, token: int | None) -> Plan:
    """Return the next round.

    Args:
        wanted: what there shall be.
        observed: what there is.
        token: the fencing token of this operator's term; None if it was not elected.
    """
    if (held := _taken(wanted, observed) or _deposed(wanted, observed, token)) is not None:
        return Plan(held=held)
    left = remains(wanted, observed)
    gone = tuple(_deletions(wanted, observed))
    held = waiting(left) if left else None
    if gone:
        return Plan(gone, held)
    made = (_step(obj, wanted, observed, token, held) for obj in wanted.objects.values())
    return Plan(tuple(step for step in made if step is not None), held)


# -- what is in the way ---------------------------------------------------------------------------


def _taken(wanted: Wanted, observed: Observed) -> Held | None:
    """Rule 1. Both kinds of workload, whichever is wanted: the other one would be a second.

    Of a former Singleton everything counts: its autoscaler would scale the workload of this one.
    """
    names = {*wanted.objects, *((kind, wanted.workload[1]) for kind in WORKLOADS)}
    former = []
    for key, obj in sorted(observed.objects.items(), key=lambda item: item[0]):
        if key[0] in KEPT or owned(obj, observed.owner):
            continue
        told = " ".join(key)
        if _is_of_a_former(obj, wanted):
            former.append(told)
        elif key in names:
            return Held(
                "NameTaken",
                f"{told} is there, and this Singleton has not made it: delete it, or "
                "call the Singleton otherwise. Nothing is done until then",
            )
    if not former:
        return None
    return Held(
        "WaitingForCollection",
        "waiting until the garbage collector has taken away what a former Singleton of this name "
        f"has made: {', '.join(former)}",
    )


def _is_of_a_former(obj: Object, wanted: Wanted) -> bool:
    """Tell of what is not ours whether it goes by itself: its Singleton was deleted, and remade."""
    by = controller_of(obj)
    return (by.get("kind"), by.get("name")) == (SINGLETONS.kind, wanted.workload[1])


def _deposed(wanted: Wanted, observed: Observed, token: int | None) -> Held | None:
    """Rule 6."""
    for kind in WORKLOADS:
        obj = observed.objects.get((kind, wanted.workload[1]))
        told = annotation(obj, OPERATOR_TERM) if obj is not None else ""
        if token is not None and told.isdecimal() and int(told) > token:
            return Held(
                "Deposed",
                f"an operator of term {told} looks after {kind} {wanted.workload[1]} by now, "
                f"and this one's is {token}. If it goes on, there are two installations",
            )
    return None


# -- what is of no use ----------------------------------------------------------------------------


def _deletions(wanted: Wanted, observed: Observed) -> Iterator[Delete]:
    """Rule 2, and the first step where what keeps Pods single is to change."""
    for key, obj in observed.objects.items():
        if key[0] in KEPT or deleting(obj) or not owned(obj, observed.owner):
            continue
        is_workload = key[0] in WORKLOADS and key[1] == wanted.workload[1]
        if key not in wanted.objects:
            yield Delete(obj, is_workload, "it is not wanted any more")
        elif is_workload and kept_by_of(obj) != wanted.kept_by:
            yield Delete(obj, True, f"its Pods are kept single by {kept_by_of(obj) or 'nothing'}")
        elif is_workload and _mode_of(obj) != _mode_of(wanted.objects[key]):
            yield Delete(obj, True, f"it is {_mode_of(obj)}")
        elif _is_immovable(wanted.objects[key], obj):
            yield Delete(obj, False, "a field has changed that cannot be")


def _mode_of(workload: Object) -> str:
    labels = workload["spec"]["template"]["metadata"].get("labels") or {}
    return str(labels.get(MODE, "another mode"))


def _is_immovable(wanted: Object, found: Object) -> bool:
    """A Service cannot become headless, nor have an address afterwards."""
    if wanted["kind"] != "Service":
        return False
    is_headless, was_headless = (obj["spec"].get("clusterIP") == "None" for obj in (wanted, found))
    return bool(is_headless != was_headless)


# -- what is made, and kept -----------------------------------------------------------------------


def _step(
    obj: Object, wanted: Wanted, observed: Observed, token: int | None, held: Held | None
) -> Step | None:
    key = key_of(obj)
    found = observed.objects.get(key)
    waits = held is not None and key in (wanted.workload, wanted.autoscaler)
    if found is None:
        return None if waits else Create(newborn(obj, wanted))
    if key[0] in KEPT or deleting(found) or waits:
        return None
    if (entries := claimable(found)) is not None:
        return Claim(found, entries)
    made = _numbered(obj, wanted, found) if key == wanted.workload else copy.deepcopy(obj)
    if key == wanted.workload and token is not None:
        made["metadata"]["annotations"][OPERATOR_TERM] = str(token)
    if not differs(made, found):
        return None
    for name in ("uid", "resourceVersion"):
        made["metadata"][name] = found["metadata"][name]
    return Apply(made)


def _numbered(obj: Object, wanted: Wanted, found: Object) -> Object:
    """Rule 5: return the workload with the number of replicas that is ours to say."""
    made = copy.deepcopy(obj)
    if wanted.scaled and applied_by_us(found, "spec", "replicas"):
        made["spec"]["replicas"] = found["spec"].get("replicas") or wanted.count
    return made
