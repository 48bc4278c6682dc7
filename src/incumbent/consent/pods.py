"""What a Pod says of itself: what it is here, who wants it away, and what its owner allows.

Labels and annotations are text that anybody may have written. What cannot be understood is not
there.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from incumbent.audit.objects import Object, at, listing, mapping, strings
from incumbent.manifests import marks
from incumbent.manifests.modes import Mode
from incumbent.stores.kubernetes.client import Client
from incumbent.stores.kubernetes.resource import PODS

__all__ = [
    "LAPSES",
    "ONCE",
    "PAUSE",
    "PAUSE_SEEN_EVERY",
    "REPEATED_EVERY",
    "UNTIL",
    "Kind",
    "controller_of",
    "is_live",
    "is_wanted_away",
    "kin",
    "kind_of",
    "moment",
    "others_of",
    "requested_at",
    "shown",
    "until_of",
    "write",
]

LAPSES = timedelta(hours=1)
"""A request that nobody repeats for so long is over."""
REPEATED_EVERY = timedelta(minutes=5)
"""How often it is written down that a request was repeated."""
PAUSE = timedelta(minutes=2)
"""Whoever evicts an active Pod, and lets more than this pass between two tries, has begun anew."""
PAUSE_SEEN_EVERY = timedelta(seconds=30)
"""How often a repetition is written down there: two tries within 90 s are surely of one drain."""
ONCE = "once"
UNTIL = "until "
_SINGLE = tuple(str(mode) for mode in Mode if mode.single)
_RUN_TIME = {
    marks.ROLE,
    marks.LET_GO,
    "app.kubernetes.io/version",
    "helm.sh/chart",
    "pod-template-hash",
    "controller-revision-hash",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
}
"""Labels in which Pods of one application may differ, in a rollout above all."""


class Kind(StrEnum):
    """What a Pod is here."""

    ONLY = "the only replica"
    ACTIVE = "active, with nobody to take over"
    OTHER = ""


def kind_of(pod: Object) -> Kind:
    """Tell what a Pod is, by its labels."""
    labels = strings(at(pod, "metadata", "labels"))
    if marks.matches(labels) or labels.get(marks.MODE) in _SINGLE:
        return Kind.ONLY
    return Kind.ACTIVE if labels.get(marks.ROLE) == "active" else Kind.OTHER


def is_live(pod: Object) -> bool:
    """Tell whether it runs, is ready, and has not been told to end."""
    if at(pod, "metadata", "deletionTimestamp") or at(pod, "status", "phase") != "Running":
        return False
    conditions = map(mapping, listing(at(pod, "status", "conditions")))
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def requested_at(notes: Mapping[str, str], now: datetime) -> datetime | None:
    """Return since when somebody wants a Pod evicted, by its annotations, if it has not lapsed."""
    requested = moment(notes.get(marks.EVICTION_REQUESTED, ""))
    if requested is None or requested - now > LAPSES:
        return None
    repeated = moment(notes.get(marks.EVICTION_REPEATED, "")) or requested
    return requested if now - max(requested, repeated) < LAPSES else None


def controller_of(obj: Object) -> Object | None:
    """Return the reference to what controls an object, if anything does."""
    owners = map(mapping, listing(at(obj, "metadata", "ownerReferences")))
    return next((owner for owner in owners if owner.get("controller") is True), None)


def is_wanted_away(pod: Object, now: datetime) -> bool:
    """Tell whether somebody goes on asking for its eviction: a drain that was given up does not."""
    notes = strings(at(pod, "metadata", "annotations"))
    requested = requested_at(notes, now)
    if requested is None:
        return False
    repeated = moment(notes.get(marks.EVICTION_REPEATED, "")) or requested
    return now - max(requested, repeated) < 2 * REPEATED_EVERY


async def write(
    client: Client, pod: Object, change: Mapping[str, Mapping[str, str | None]]
) -> None:
    """Write labels and annotations into this very Pod, at this very version.

    Raises:
        Conflict: it is at another version, or is another Pod of that name.
        NotFound: it is gone.
        IncumbentError: it could not be written, or nobody knows whether it was.
    """
    metadata = {
        "uid": at(pod, "metadata", "uid"),
        "resourceVersion": at(pod, "metadata", "resourceVersion"),
        **change,
    }
    await client.beside(PODS).patch(str(at(pod, "metadata", "name")), {"metadata": metadata})


def kin(pod: Object) -> dict[str, str]:
    """Return the labels that all Pods of this one's application have."""
    labels = strings(at(pod, "metadata", "labels"))
    return {key: value for key, value in labels.items() if key not in _RUN_TIME}


async def others_of(client: Client, pod: Object, now: datetime) -> list[Object]:
    """Return the Pods of the same application that could take over from this one.

    One that is to go itself is none of them: two that have both been told to hand over would
    otherwise hand over to one another for ever.
    """
    labels = kin(pod)
    if not labels or controller_of(pod) is None:
        return []
    selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    found = await client.beside(PODS).list(selector)
    return [
        other
        for other in found.items
        if at(other, "metadata", "uid") != at(pod, "metadata", "uid")
        and controller_of(other) is not None
        and is_live(other)
        and not is_wanted_away(other, now)
    ]


# -- times ----------------------------------------------------------------------------------------


def until_of(consent: str) -> datetime | None:
    """Return until when a consent "until TIME" counts, or None if it is no such one."""
    return moment(consent.removeprefix(UNTIL)) if consent.startswith(UNTIL) else None


def moment(text: str) -> datetime | None:
    """Return a time of RFC 3339, or None if it is none, or does not name its zone."""
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def shown(when: datetime) -> str:
    """Return a time as RFC 3339 has it, in UTC and whole seconds."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
