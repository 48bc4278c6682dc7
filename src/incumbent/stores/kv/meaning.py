"""What the keys of an election and of a session are called, and what lies there means."""

from __future__ import annotations

from incumbent.core.records import (
    Claim,
    Held,
    Holding,
    Snapshot,
    StepDownRequest,
    absent,
    barred,
)
from incumbent.stores.kv import wire
from incumbent.stores.kv.api import Entry, Report

__all__ = [
    "GONE",
    "absent_of",
    "carries",
    "election_key",
    "has_ended",
    "held_of",
    "is_late",
    "is_over",
    "session_key",
    "session_named",
    "snapshot_of",
]

GONE = "gone"
"""The version of a session that a record names and that is not there."""


def election_key(name: str) -> str:
    """Return the key of an election."""
    return f"elections/{name}"


def session_key(key: str) -> str:
    """Return the key of a session."""
    return f"sessions/{key}"


def session_named(entry: Entry) -> str:
    """Return the session that a record names; "" for none, and if the record is none of ours."""
    record = wire.parse_election(entry.value)
    return "" if isinstance(record, str) else str(record["session"])


def carries(entry: Entry, term: str) -> bool:
    """Tell whether the record is held under this term, as far as it says itself."""
    record = wire.parse_election(entry.value)
    return isinstance(record, dict) and record["term"] == term and bool(record["session"])


def is_over(entry: Entry) -> bool:
    """Tell whether a session is void."""
    session = wire.parse_session(entry.value)
    return isinstance(session, dict) and bool(session["void"])


def has_ended(report: Report) -> bool:
    """Tell whether a session is gone or void."""
    return report.entry is None or is_over(report.entry)


def is_late(report: Report, before: Report | None) -> bool:
    """Tell whether it is older than what was reported before; a store that went back has a gap."""
    return before is not None and not report.gap and report.revision < before.revision


def held_of(claim: Claim, snapshot: Snapshot) -> Held:
    """Return what a claim has won, of which this is the record."""
    if claim.session is None:
        raise AssertionError("held without a session")
    return Held(snapshot.name, claim.term, snapshot.token, claim.session, snapshot)


def absent_of(name: str, serial: int, mark: int) -> Snapshot:
    """Return an absence, with its mark (`memory`)."""
    snapshot = absent(name, serial)
    return Snapshot(
        snapshot.name, snapshot.holding, snapshot.version, snapshot.serial, lease_version=mark
    )


def snapshot_of(name: str, entry: Entry, revision: int, session: Entry | None) -> Snapshot:
    """Return what a record and its session say together."""
    record = wire.parse_election(entry.value)
    if isinstance(record, str) and (stands := wire.parse_bar(entry.value)) is not None:
        return barred(name, stands[0], entry.version, entry.revision, stands[1])
    if isinstance(record, str):
        return Snapshot(name, Holding.FOREIGN, entry.version, entry.revision, why=record)
    key = record["session"]
    told = wire.parse_session(session.value) if session is not None else {"void": False}
    if isinstance(told, str):
        why = f"its session {key!r}: {told}"
        return Snapshot(name, Holding.FOREIGN, entry.version, entry.revision, why=why)
    held = bool(key) and not told["void"]
    request = record["request"]
    return Snapshot(
        name=name,
        holding=Holding.HELD if held else Holding.VACANT,
        version=entry.version,
        serial=entry.revision,
        holder=record["holder"],
        term=record["term"],
        token=wire.token_of(record, entry),
        ttl_s=float(record["ttl_s"]),
        lease_key=key,
        lease_version=(GONE if session is None else session.version) if key else None,
        successor=record["successor"],
        request=StepDownRequest(request["term"], request["to"]) if request else None,
    )
