"""The events of a Singleton: one for each transition of its status, and one only. Pure.

The name of an event is a digest of what has changed, and of the status that it has changed from. So
an operator that dies between event and status tells the same event again, under the same name, and
two operators at once tell one: the API server refuses the second.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from incumbent.manifests import Object
from incumbent.operator.cluster import EVENTS
from incumbent.operator.definition import SINGLETONS
from incumbent.operator.status import condition

__all__ = ["events_of"]

CONTROLLER = "incumbent.dev/operator"
_LONGEST_NOTE = 1024
_GOOD = {"Ready": "True", "Held": "False", "Degraded": "False"}


def events_of(singleton: Object, after: Object, instance: str, now: str) -> list[Object]:
    """Return the events of the way from the status that `singleton` has to `after`.

    Args:
        singleton: as it was read.
        after: the status that will be written.
        instance: who tells it.
        now: a MicroTime, for people.
    """
    before = singleton.get("status") or {}
    return [
        _event(singleton, transition, instance, now) for transition in _transitions(before, after)
    ]


def _transitions(before: Object, after: Object) -> Iterator[tuple[bool, str, str, str]]:
    """Yield whether it is good news, the reason, a note, and what makes it unique."""
    for kind, good in _GOOD.items():
        was, told = condition(before, kind), condition(after, kind)
        if not told or (was.get("status"), was.get("reason")) == (told["status"], told["reason"]):
            continue
        if not was and told["status"] == good and kind != "Ready":
            continue
        note = told["message"] or f"{kind} is {told['status'].lower()} again"
        unique = f"{kind} {was.get('status')} {was.get('lastTransitionTime')} {told['reason']}"
        yield told["status"] == good, told["reason"], note, unique
    for one in after.get("forced") or ():
        if one not in (before.get("forced") or ()):
            yield False, "FieldsSetBack", f"{one['object']}: {one['what']}", f"{one}"
    handover = after.get("lastHandover")
    if handover and handover != before.get("lastHandover"):
        former, to, why = handover["from"], handover["to"], handover["why"]
        good = why != "Silent"
        unique = f"{to} {after.get('identity')} {before.get('identity')} {former}"
        yield good, "HandedOver" if good else "TakenOver", f"from {former} to {to}: {why}", unique


def _event(
    singleton: Object, transition: tuple[bool, str, str, str], instance: str, now: str
) -> Object:
    good, reason, note, unique = transition
    metadata = singleton["metadata"]
    digest = hashlib.sha256(f"{metadata['uid']} {reason} {unique}".encode()).hexdigest()
    return {
        "apiVersion": EVENTS.api_version,
        "kind": EVENTS.kind,
        "metadata": {
            "name": f"{metadata['name']}.{digest[:16]}",
            "namespace": metadata["namespace"],
        },
        "eventTime": now,
        "type": "Normal" if good else "Warning",
        "reason": reason,
        "note": note[:_LONGEST_NOTE],
        "action": "Reconcile",
        "reportingController": CONTROLLER,
        "reportingInstance": instance[:128],
        "regarding": {
            "apiVersion": SINGLETONS.api_version,
            "kind": SINGLETONS.kind,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
    }
