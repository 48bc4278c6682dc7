"""What a row says: the tables' columns, and the snapshot that is made of them.

    incumbent_election  one row per election
    incumbent_session   one row per process that holds something; `beat` is what a renewal moves
    incumbent_counter   one row per election that ever was: the number of its last change, its TTL

The row of a counter outlives that of its election. So an election whose row somebody deleted is
told from one that never was, and its tokens go on growing. The row named "" holds the format.

An election that is barred has the format `BARRED`, which no candidate of any version takes for its
own; `holder` has the text then, `term` the nonce, and `token` stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from incumbent.core.records import (
    FORMAT,
    Bar,
    Claim,
    Held,
    Holding,
    Snapshot,
    StepDownRequest,
    barred,
)

__all__ = ["BARRED", "COLUMNS", "GONE", "VOID", "held", "snapshot"]

VOID = -1
"""The beat of a session that is over."""
BARRED = -1
"""The format of an election that is barred."""
GONE = "gone"
"""The version of a session that an election names and that is not there."""

COLUMNS = (
    "e.name, e.format, e.serial, e.holder, e.term, e.token, e.session, e.ttl_s, e.successor, "
    "e.request_term, e.request_to, s.beat"
)


def snapshot(found: Sequence[Any]) -> Snapshot:
    """Return what the election's name, its counter and TTL, and its `COLUMNS` say.

    All columns of a row that is not there are NULL.
    """
    name, row = str(found[0]), found[3:]
    if row[0] is None:
        known = int(found[1] or 0)
        if not known:
            return Snapshot(name, Holding.ABSENT, None, 0, lease_version=0)
        ttl_s = float(found[2])
        return Snapshot(name, Holding.ABSENT, None, known + 1, ttl_s=ttl_s, lease_version=known)
    form, serial, token, ttl_s = int(row[1]), int(row[2]), int(row[5]), float(row[7])
    holder, term, session, successor, asked, to = (str(row[i]) for i in (3, 4, 6, 8, 9, 10))
    if form == BARRED and (bar := Bar.of(holder, term)) is not None:
        return barred(name, bar, serial, serial, token)
    if form != FORMAT or not (0 < ttl_s < math.inf):
        why = f"format {form}, and this version of incumbent knows {FORMAT}"
        if form == FORMAT:
            why = f"a time to live of {ttl_s} s"
        return Snapshot(name, Holding.FOREIGN, repr(tuple(row)), serial, why=why)
    beat = None if row[11] is None else int(row[11])
    return Snapshot(
        name=name,
        holding=Holding.HELD if session and beat != VOID else Holding.VACANT,
        version=serial,
        serial=serial,
        holder=holder,
        term=term,
        token=token,
        ttl_s=ttl_s,
        lease_key=session,
        lease_version=(GONE if beat is None else beat) if session else None,
        successor=successor,
        request=StepDownRequest(asked, to) if asked else None,
    )


def held(claim: Claim, found: Snapshot) -> Held:
    """Return the term of `claim`, which `found` carries."""
    if claim.session is None:
        raise AssertionError("held without a session")
    return Held(found.name, claim.term, found.token, claim.session, found)
