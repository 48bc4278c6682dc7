"""A record in words and as JSON, and what changed from one snapshot to the next. Pure.

A record cannot say how old it is: its age is what an observer has seen himself, and he has seen
nothing yet. So nothing here computes an age, and no wall clock that a record may carry is shown.
"""

from __future__ import annotations

from typing import Any

from incumbent.core.records import Holding, Snapshot

__all__ = ["as_json", "change", "note"]


def as_json(snapshot: Snapshot) -> dict[str, Any]:
    """Return the stable keys of one election."""
    held = snapshot.holding is Holding.HELD
    request = snapshot.request
    return {
        "election": snapshot.name,
        "state": snapshot.state,
        "holder": snapshot.holder if held else None,
        "last_holder": None if held else snapshot.holder or None,
        "token": snapshot.token,
        "ttl_s": snapshot.ttl_s or None,
        "term": snapshot.term or None,
        "successor": snapshot.successor or None,
        "request": None if request is None else {"to": request.to or None},
        "why": snapshot.why or None,
    }


def note(snapshot: Snapshot) -> str:
    """Return what else is to be said of a record, for people."""
    match snapshot.holding:
        case Holding.FOREIGN if snapshot.bar is not None:
            return snapshot.why
        case Holding.FOREIGN:
            return f"left alone: {snapshot.why}"
        case Holding.ABSENT:
            return "no record: nobody was ever elected, or it was deleted"
        case Holding.VACANT:
            meant = f"meant for {snapshot.successor!r}" if snapshot.successor else ""
            last = f"last held by {snapshot.holder}" if snapshot.holder else ""
            return "; ".join(filter(None, [meant, last]))
        case Holding.HELD if snapshot.request is not None:
            to = f" for {snapshot.request.to!r}" if snapshot.request.to else ""
            return f"asked to step down{to}"
        case Holding.HELD if not snapshot.term:
            return "written by another program"
    return ""


def change(before: Snapshot | None, now: Snapshot) -> str:
    """Return the stable word for what happened between two snapshots of one election.

    "now" (first sight), "elected", "vacant", "asked", "renewed", "changed" (nothing that matters),
    "absent", "foreign", "barred", or "" if they say the same.
    """
    if before is None:
        return "now"
    if now.holding is not Holding.HELD:
        same = now.holding is before.holding and now.version == before.version
        return "" if same else now.state
    if before.holding is not Holding.HELD or (now.term, now.holder) != (before.term, before.holder):
        return "elected"
    if now.request != before.request:
        return "asked" if now.request is not None else "changed"
    if now.lease_version != before.lease_version:
        return "renewed"
    return "" if now.version == before.version else "changed"
