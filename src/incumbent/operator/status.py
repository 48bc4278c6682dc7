"""The status of a Singleton: what is so, of which generation, and since when. Pure.

Conditions, each with a reason in one word and a message that says what to do:

    Ready        somebody is active: of an election, one of its Pods holds it; of an only replica,
                 it is ready
    Progressing  something is under way: steps that have just been done, a rollout
    Held         the workload is held back until what is left of another one, or of another
                 Singleton of its name, is gone
    Degraded     it needs somebody: the spec cannot be meant, the API server refuses it, a name is
                 taken, others set our fields, or an only replica is two

A condition keeps its time for as long as its status stays; so what is written is the same if
nothing has changed, and then it is not written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from incumbent.manifests import Object
from incumbent.manifests.model import Application
from incumbent.operator.desired import Wanted
from incumbent.operator.observed import Observed, deleting
from incumbent.operator.plan import Plan
from incumbent.operator.tenure import UNKNOWN, Tenure, pod_of

__all__ = ["Forced", "Round", "condition", "status_of"]

_MOST_FORCED = 8


@dataclass(frozen=True, slots=True)
class Forced:
    """A field that somebody else had set, and that was set back."""

    obj: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What came of looking after a Singleton once.

    Attributes:
        app: what it means; None if it cannot be meant.
        wanted: what there shall be; None likewise.
        observed: what there is, read last.
        planned: what was to be done then.
        tenure: who holds its election, if it is a Lease.
        forced: what was set back.
        refused: why a step was refused, or the spec, as reason and message.
        acted: whether anything was done.
    """

    app: Application | None = None
    wanted: Wanted | None = None
    observed: Observed | None = None
    planned: Plan = field(default_factory=Plan)
    tenure: Tenure | None = None
    forced: Sequence[Forced] = ()
    refused: tuple[str, str] | None = None
    acted: bool = False


def status_of(singleton: Object, seen: Round, token: int | None, now: str) -> Object:
    """Return the status to write; equal to the present one if there is nothing to write.

    Args:
        singleton: as it was read; its status is the one before.
        seen: the round.
        token: the term of this operator.
        now: a wall clock, for people.
    """
    before: Object = singleton.get("status") or {}
    generation = singleton["metadata"]["generation"]
    after = {**before, "observedGeneration": generation}
    if token is not None:
        after["operatorTerm"] = token
    told: dict[str, tuple[bool, str, str]] = {"Degraded": _degraded(seen)}
    if seen.app is not None and seen.wanted is not None and seen.observed is not None:
        workload = seen.observed.objects.get(seen.wanted.workload)
        after |= _numbers(seen.app, seen.wanted, workload)
        after |= _active(before, seen, now)
        held = seen.planned.held
        told["Held"] = (
            (held is not None, held.reason, held.message)
            if held is not None
            else (False, "NothingInTheWay", "")
        )
        told["Ready"] = _ready(seen, after, workload)
        told["Progressing"] = _progressing(seen, workload)
    if seen.forced:
        after["forced"] = _forced(before.get("forced") or [], seen.forced, now)
    after["conditions"] = _conditions(before.get("conditions") or [], told, generation, now)
    return {name: value for name, value in after.items() if value is not None}


def condition(status: Object, kind: str) -> Object:
    """Return a condition of a status, or an empty one."""
    found = [one for one in status.get("conditions") or () if one["type"] == kind]
    return found[0] if found else {}


# -- what there is --------------------------------------------------------------------------------


def _numbers(app: Application, wanted: Wanted, workload: Object | None) -> Object:
    told = {} if workload is None else workload.get("status") or {}
    return {
        "mode": str(app.mode),
        "workload": "/".join(wanted.workload),
        "replicas": told.get("replicas", 0),
        "readyReplicas": told.get("readyReplicas", 0),
    }


def _pods(seen: Round) -> list[Object]:
    pods = [] if seen.observed is None else seen.observed.running
    return [pod for pod in pods if pod["kind"] == "Pod" and pod["spec"].get("nodeName")]


def _is_ready(pod: Object) -> bool:
    told = (pod.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in told)


def _active(before: Object, seen: Round, now: str) -> Object:
    """Who is active, and how it came to that one."""
    if seen.app is not None and seen.app.mode.elected:
        return {} if seen.tenure is None else _elected(before, seen.tenure, now)
    pods = sorted(_pods(seen), key=lambda pod: (deleting(pod), not _is_ready(pod)))
    if not pods:
        return {"holder": "", "identity": "", "token": None, "since": None}
    name = pods[0]["metadata"]["name"]
    since = (pods[0].get("status") or {}).get("startTime")
    found: Object = {"holder": name, "identity": "", "token": None, "since": since}
    former = _last(before)
    if former not in ("", name):
        handover = {"from": former, "to": name, "at": now, "why": "Replaced"}
        found["lastHandover"] = handover
    return found


def _elected(before: Object, tenure: Tenure, now: str) -> Object:
    found: Object = {
        "holder": pod_of(tenure.identity),
        "identity": tenure.identity,
        "token": tenure.token,
        "since": tenure.since if tenure.identity else None,
    }
    told = str(before.get("identity") or "")
    if tenure.identity and told != tenure.identity:
        former = pod_of(tenure.former) or _last(before)
        why = tenure.why or UNKNOWN
        handover = {"from": former, "to": found["holder"], "at": tenure.since or now, "why": why}
        if former:
            found["lastHandover"] = handover
    return found


def _last(before: Object) -> str:
    """Return who was active last, as far as it is told."""
    told = before.get("holder") or (before.get("lastHandover") or {}).get("to")
    return str(told or "")


# -- what is said of it ---------------------------------------------------------------------------


def _degraded(seen: Round) -> tuple[bool, str, str]:
    if seen.refused is not None:
        return True, *seen.refused
    held = seen.planned.held
    if held is not None and held.reason == "NameTaken":
        return True, held.reason, held.message
    if seen.app is not None and seen.app.mode.single:
        alive = [pod["metadata"]["name"] for pod in _pods(seen) if not deleting(pod)]
        if len(alive) > 1:
            return True, "MoreThanOne", f"{', '.join(alive)} are there at once, and one is meant"
    return False, "AsMeant", ""


def _ready(seen: Round, after: Object, workload: Object | None) -> tuple[bool, str, str]:
    app = seen.app
    if app is None or workload is None:
        return False, "NotThere", "the workload is not there yet"
    if not after["readyReplicas"]:
        return False, "NoReplicaReady", "no replica is ready: look at the events of its Pods"
    holder = after.get("holder")
    if app.leased and not holder:
        return False, "NobodyActive", f"nobody holds the election {app.election}"
    if app.leased and holder not in [pod["metadata"]["name"] for pod in _pods(seen)]:
        # A record says who was elected, and not who lives.
        who = f"{holder} holds the election {app.election} and is no Pod of this Singleton"
        text = f"{who}: a former one, whose TTL is waited for, or somebody else"
        return False, "HeldElsewhere", text
    return True, "Active", f"{after.get('holder') or 'a replica'} is active"


def _progressing(seen: Round, workload: Object | None) -> tuple[bool, str, str]:
    if seen.planned.held is not None:
        return True, seen.planned.held.reason, "see the condition Held"
    if seen.planned.steps:
        steps = ", ".join("/".join(step.key) for step in seen.planned.steps)
        return True, "Applying", f"still to be done: {steps}"
    if workload is None or deleting(workload):
        return True, "Replacing", "the workload is made anew when the former one is gone"
    told = workload.get("status") or {}
    replicas, updated = workload["spec"].get("replicas", 1), told.get("updatedReplicas", 0)
    behind = told.get("observedGeneration", 0) < workload["metadata"].get("generation", 0)
    if behind or updated < replicas:
        return True, "RollingOut", f"{updated} of {replicas} replicas are of the present template"
    return False, "Done", ""


def _forced(before: Iterable[Object], forced: Sequence[Forced], now: str) -> list[Object]:
    """Keep what was set back last; the same once."""
    told = [{"object": one.obj, "what": one.what, "at": now} for one in forced]
    same = {(one["object"], one["what"]) for one in told}
    older = [one for one in before if (one["object"], one["what"]) not in same]
    return [*older, *told][-_MOST_FORCED:]


def _conditions(
    before: Iterable[Object], told: dict[str, tuple[bool, str, str]], generation: int, now: str
) -> list[Object]:
    found: dict[str, Any] = {one["type"]: one for one in before}
    for kind, (so, reason, message) in told.items():
        status = str(so)
        former = found.get(kind, {})
        since = former.get("lastTransitionTime", now) if former.get("status") == status else now
        found[kind] = {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "observedGeneration": generation,
            "lastTransitionTime": since,
        }
    return [found[kind] for kind in sorted(found)]
