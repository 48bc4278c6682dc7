"""What our row and theirs say together: whose the lock is, and how long to watch it stand still.

    incumbent_lock   one row per lock that one of ours ever took: who, its token, its requests

Our row outlives theirs, so tokens grow whatever becomes of the lock's own row. Theirs is *as we
left it* if it names the mark of our last term, or, where a free lock has no row, if there is none
and our last term is over. Then our row is the truth, and our rules hold: a serial that each write
of ours moves stands still for a TTL.

Otherwise somebody else has been there. Rules for that:

1. **Their rule**: a lock is theirs until the time in its row has passed on the database's clock.
2. **And ours**: a time that has passed proves nothing if its writer's clock was behind. So the row
   must besides stand still, from when we saw that its time is over, for as long as it was given,
   or for `PATIENCE_S` if that is less. Not for all of that time: a lock that was used for an hour
   and given up yesterday has the hour in its row, and a candidate that starts would wait for it.
   A member of theirs takes it at once, so a clock that is behind by more is what they break.
3. **Given up under our eyes**: a row whose time is over because it was set to an earlier one than
   we had seen, or which has vanished where a free lock has no row, is free at once. Nobody else
   shortens a lock but its holder, or one who believes to be that.
4. **Our last term may live** if it did not end by our own row: somebody has taken the lock from
   under it, and it learns of that at its next renewal. Its TTL is waited out as well, or two of
   ours could hold: the one who was robbed, and the one who follows the robber. That TTL, and no
   longer: where theirs has vanished, the lock counts as held, by nobody who could be named. Their
   row may have said days (a member of Spring's leaves `CREATED_DATE` as it was).
5. **A bar of ours counts whatever has become of their row**: no candidate of ours takes it. It is
   shown when it does not keep members of theirs out any more: their row has another owner, or is
   gone, or its time has passed (ShedLock unlocks by the lock's name alone).

A change by others does not move our serial. So what is reported is twice our serial, and one more
if theirs is not as we left it: a holder that is robbed sees a newer serial than its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from incumbent.core.records import (
    FORMAT,
    Bar,
    Claim,
    Held,
    Holding,
    Lease,
    Snapshot,
    StepDownRequest,
    barred,
)
from incumbent.stores.sql.rows import BARRED

__all__ = [
    "COLUMNS",
    "OPENED",
    "OVER",
    "PATIENCE_S",
    "RUNS",
    "Raw",
    "Row",
    "Version",
    "held",
    "raw",
    "snapshot",
]

PATIENCE_S = 5.0
"""By how much a member's clock may be behind the database's without harm."""

OPENED = "but the lock's own row was changed, so members of the other library may have it"
"""What is said of a bar that keeps only candidates of ours out."""

OVER, RUNS = "over", "runs"
"""The version of the lease of a member of theirs: whether its time has passed."""

COLUMNS = (
    "serial",
    "format",
    "held",
    "holder",
    "term",
    "token",
    "ttl_s",
    "successor",
    "request_term",
    "request_to",
    "mark",
)
"""Of our row, without its names."""


class Row(NamedTuple):
    """Their row: the owner, and the times as text; two are the same if all of it is."""

    owner: str | None
    since: str
    until: str


class Version(NamedTuple):
    """What a take compares: our serial, their row, and whether that is as we left it."""

    serial: int
    row: Row | None
    ours: bool


@dataclass(frozen=True, slots=True)
class Raw:
    """Both rows, as they were read at one instant.

    Attributes:
        ours: `COLUMNS` of our row, or None.
        row: theirs, or None.
        span_s: between the two times of their row.
        over: its time has passed on the database's clock.
    """

    ours: tuple[Any, ...] | None
    row: Row | None
    span_s: float
    over: bool

    @property
    def of_ours(self) -> bool:
        """Whether their row is the one that a member of ours left."""
        return self.ours is not None and self.row is not None and self.row.owner == self.ours[10]

    def given_up_since(self, before: Raw) -> bool:
        """Tell whether their holder gave the lock up between `before` and this."""
        if before.row is None or before.over:
            return False
        if self.row is None:
            return not before.of_ours
        same = (self.row.owner, self.row.since) == (before.row.owner, before.row.since)
        # The texts are of one column, and in the order of the times.
        return same and self.over and self.row.until < before.row.until


def raw(found: Sequence[Any]) -> Raw:
    """Take apart what `Statements.read` found."""
    *ours, owner, since, until, span, over = found
    row = None if until is None else Row(None if owner is None else str(owner), since, until)
    return Raw(
        ours=None if ours[0] is None else tuple(ours),
        row=row,
        span_s=float(span or 0.0),
        over=row is not None and int(over) == 1,
    )


def snapshot(name: str, found: Raw, *, keeps: bool, given_up: bool) -> Snapshot:
    """Return what the rows say; see the head of this module.

    Args:
        name: the election.
        found: the rows.
        keeps: a lock that is free has a row.
        given_up: their holder was seen to give up the row that is there, or that was.
    """
    row = found.row
    serial = int(found.ours[0]) if found.ours else 0
    if found.ours is not None and (bar := _bar(name, found, found.ours)) is not None:
        return bar
    if row is not None and row.owner is None:
        return _foreign(name, found, serial, "a row that names no owner")
    if found.ours is None:
        return _theirs(name, found, 0, 0.0, keeps=keeps, given_up=given_up)
    form, lives, ttl_s = int(found.ours[1]), int(found.ours[2]) == 1, float(found.ours[6])
    holder, term, successor, asked, to, mark = (str(found.ours[i]) for i in (3, 4, 7, 8, 9, 10))
    if form != FORMAT:
        why = f"format {form}, and this version of incumbent knows {FORMAT}"
        return _foreign(name, found, serial, why)
    if not (0 <= ttl_s < math.inf):
        return _foreign(name, found, serial, f"a time to live of {ttl_s} s")
    left = row.owner == mark if row is not None else not (keeps or lives)
    if not left or not serial:
        alive_s = ttl_s if lives else 0.0
        return _theirs(name, found, serial, alive_s, keeps=keeps, given_up=given_up)
    return Snapshot(
        name=name,
        holding=Holding.HELD if lives else Holding.VACANT,
        version=Version(serial, None if row is None else Row(mark, "", ""), ours=True),
        # Where a free lock has no row, it may be one of theirs that has gone.
        serial=2 * serial + (row is None),
        holder=holder,
        term=term,
        token=int(found.ours[5]),
        ttl_s=ttl_s,
        lease_key=term if lives else "",
        lease_version=serial,
        successor=successor,
        request=StepDownRequest(asked, to) if asked else None,
    )


def _bar(name: str, found: Raw, ours: tuple[Any, ...]) -> Snapshot | None:
    """Return the bar that our row is, or None if it is none."""
    bar, row = Bar.of(ours[3], ours[4]), found.row
    if int(ours[1]) != BARRED or bar is None:
        return None
    serial, mark = int(ours[0]), str(ours[10])
    kept = row is not None and row.owner == mark and not found.over
    version = Version(serial, Row(mark, "", "") if kept else row, ours=kept)
    seen = barred(name, bar, version, 2 * serial + (not kept), int(ours[5]))
    return seen if kept else replace(seen, why=f"{bar.text}; {OPENED}")


def _foreign(name: str, found: Raw, serial: int, why: str) -> Snapshot:
    version = Version(serial, found.row, ours=False)
    return Snapshot(name, Holding.FOREIGN, version, 2 * serial + 1, why=why)


def _theirs(
    name: str, found: Raw, serial: int, lives_s: float, *, keeps: bool, given_up: bool
) -> Snapshot:
    """Return what a row that is not as we left it says; `lives_s` is of our term that may live."""
    row = found.row
    free = given_up and not lives_s
    if row is None and given_up and not keeps:
        # No absence: that is waited out for as long as what was there before had been given.
        return Snapshot(
            name=name,
            holding=Holding.VACANT if free else Holding.HELD,
            version=Version(serial, None, ours=False),
            serial=2 * serial + 1,
            ttl_s=lives_s,
            lease_version="free",
        )
    if row is None:
        known = 2 * serial + 1 if serial or given_up else 0
        return Snapshot(name, Holding.ABSENT, None, known, ttl_s=lives_s, lease_version=serial)
    version = Version(serial, row, ours=False)
    wait_s = max(min(found.span_s, PATIENCE_S) if found.over else found.span_s, lives_s)
    return Snapshot(
        name=name,
        holding=Holding.VACANT if found.over and free else Holding.HELD,
        version=version,
        serial=2 * serial + 1,
        holder=str(row.owner),
        ttl_s=wait_s if wait_s > 0 else PATIENCE_S,
        lease_version=OVER if found.over else RUNS,
    )


def held(claim: Claim, found: Snapshot) -> Held:
    """Return the term of `claim`, which `found` carries."""
    lease = Lease(claim.term, found.version, found.ttl_s, claim.identity, found.name)
    return Held(found.name, claim.term, found.token, lease, found)
