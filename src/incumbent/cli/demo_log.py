"""What the demo's workers write, and what is concluded from it: a pure function over the log.

The log is one file to which every worker appends whole lines, one `write` each, so that the file
has one order. While a worker believes that it may act it writes `live` every few milliseconds, and
one `job` per job; `begin` seals a term and `end` closes it. A line has the worker's fencing token,
its pid and the boot-time clock, which all processes of a host share.

A term is active from its first line to its last. The verdict uses nothing but these lines: not the
store, not what the demo knows of its own faults (they only name the gaps). The promise is broken by

* an *overlap*: two processes are active at one instant;
* *stale work*: a line after a greater token was seen, by the order in the file or by the clock;
* a *duplicate*: a job that was done twice; a *missing* one: a number was left out;
* a *token* that does not grow from one term to the next.

And with too few takeovers nothing was shown at all: then the verdict is *void*.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

__all__ = ["Fault", "Gap", "Line", "Span", "Verdict", "judge", "parse", "spans", "strip"]

BEGIN, LIVE, JOB, END = "begin", "live", "job", "end"
_KINDS = (BEGIN, LIVE, JOB, END)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the log.

    Attributes:
        what: "begin", "live", "job" or "end".
        at_s: the boot-time clock.
        token: fencing token of the term.
        pid: the process that wrote it.
        replica: its name, for people.
        job: number of the job, for "job".
    """

    what: str
    at_s: float
    token: int
    pid: int
    replica: str
    job: int = 0

    def encode(self) -> bytes:
        """Return what is appended to the file.

        The line break comes first: what a killed process left half-written spoils no other line.
        """
        values = asdict(self)
        if not self.job:
            del values["job"]
        return b"\n" + json.dumps(values, separators=(",", ":")).encode()


def parse(text: str) -> tuple[list[Line], int]:
    """Return the lines in the order of the file, and how many could not be read."""
    lines, unreadable = [], 0
    for row in text.split("\n"):
        if not row:
            continue
        try:
            lines.append(_line(json.loads(row)))
        except (ValueError, KeyError, TypeError):
            unreadable += 1
    return lines, unreadable


def _line(values: dict[str, Any]) -> Line:
    line = Line(
        what=str(values["what"]),
        at_s=float(values["at_s"]),
        token=int(values["token"]),
        pid=int(values["pid"]),
        replica=str(values["replica"]),
        job=int(values.get("job", 0)),
    )
    if line.what not in _KINDS or (line.what == JOB) != (line.job > 0):
        raise ValueError("not a line of this log")
    return line


@dataclass(slots=True)
class Span:
    """One term of one process, as the log shows it."""

    token: int
    pid: int
    replica: str
    first_s: float
    last_s: float
    jobs: int = 0
    lines: int = 0


def spans(lines: Iterable[Line]) -> list[Span]:
    """Return the terms in the order of their first line."""
    found: dict[tuple[int, int], Span] = {}
    for line in lines:
        span = found.get((line.token, line.pid))
        if span is None:
            span = Span(line.token, line.pid, line.replica, line.at_s, line.at_s)
            found[line.token, line.pid] = span
        span.first_s = min(span.first_s, line.at_s)
        span.last_s = max(span.last_s, line.at_s)
        span.jobs += line.what == JOB
        span.lines += 1
    return list(found.values())


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that the demo did to a replica. It names a gap, and decides nothing.

    Attributes:
        kind: "kill", "pause" or "handover".
        at_s: the boot-time clock.
        replica: whom it was done to.
    """

    kind: str
    at_s: float
    replica: str


@dataclass(frozen=True, slots=True)
class Gap:
    """From one term to the next: nobody was active in between.

    Attributes:
        fault: kind of the fault that came last, or "" for none.
        seconds_s: from the last line of the one to the first of the other.
        before, after: the replicas.
    """

    fault: str
    seconds_s: float
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the log proves.

    Attributes:
        outcome: "kept", "broken" or "void".
        why: what broke it, or what is lacking; empty if it was kept.
        lines, unreadable: lines of the log; those that could not be read.
        jobs: different jobs that were done.
        duplicates, missing: numbers of jobs.
        overlaps: pairs of processes that were active at one instant, for people.
        stale: lines that came after a greater token.
        takeovers: how often a term followed another.
        gaps: one per takeover.
        terms, faults: for the timeline.
    """

    outcome: str
    why: tuple[str, ...]
    lines: int
    unreadable: int
    jobs: int
    duplicates: tuple[int, ...]
    missing: tuple[int, ...]
    overlaps: tuple[str, ...]
    stale: int
    takeovers: int
    gaps: tuple[Gap, ...]
    terms: tuple[Span, ...] = field(repr=False, default=())
    faults: tuple[Fault, ...] = field(repr=False, default=())

    @property
    def kept(self) -> bool:
        """Tell whether the promise was kept, and put to the test."""
        return self.outcome == "kept"


def judge(
    lines: Sequence[Line],
    *,
    unreadable: int = 0,
    faults: Sequence[Fault] = (),
    least_takeovers: int = 0,
) -> Verdict:
    """Judge the log."""
    terms = spans(lines)
    jobs = Counter(line.job for line in lines if line.what == JOB)
    duplicates = tuple(sorted(job for job, times in jobs.items() if times > 1))
    missing = tuple(job for job in range(1, max(jobs, default=0) + 1) if job not in jobs)
    overlaps = tuple(_overlaps(terms))
    stale = _stale(lines, terms)
    gaps = tuple(_gaps(terms, faults))
    why = []
    if overlaps:
        why.append(f"two replicas were active at one instant: {'; '.join(overlaps)}")
    if stale:
        why.append(f"{stale} lines of stale work, after a successor's first line")
    if duplicates:
        why.append(f"{len(duplicates)} jobs were done twice")
    if missing:
        why.append(f"{len(missing)} jobs were left out")
    why += [
        f"token {later.token} of {later.replica} is not greater than {earlier.token}"
        for earlier, later in pairwise(terms)
        if later.token <= earlier.token
    ]
    outcome = "broken" if why else "kept"
    if not why and (len(gaps) < least_takeovers or not jobs):
        outcome = "void"
        why.append(
            f"{len(gaps)} of {least_takeovers} takeovers and {len(jobs)} jobs: nothing was shown"
        )
    return Verdict(
        outcome=outcome,
        why=tuple(why),
        lines=len(lines),
        unreadable=unreadable,
        jobs=len(jobs),
        duplicates=duplicates,
        missing=missing,
        overlaps=overlaps,
        stale=stale,
        takeovers=len(gaps),
        gaps=gaps,
        terms=tuple(terms),
        faults=tuple(faults),
    )


def _overlaps(terms: Sequence[Span]) -> Iterable[str]:
    ordered = sorted(terms, key=lambda span: span.first_s)
    for index, one in enumerate(ordered):
        for other in ordered[index + 1 :]:
            if other.first_s > one.last_s:
                break
            if other.pid != one.pid or other.token != one.token:
                both_s = min(one.last_s, other.last_s) - other.first_s
                yield f"{one.replica} ({one.pid}) and {other.replica} ({other.pid}), {both_s:.3f} s"


def _stale(lines: Sequence[Line], terms: Sequence[Span]) -> int:
    """Count the lines that came after a greater token's first, in the file or by the clock."""
    count, greatest = 0, 0
    for line in lines:
        greatest = max(greatest, line.token)
        late = any(span.token > line.token and span.first_s < line.at_s for span in terms)
        count += late or line.token < greatest
    return count


def _gaps(terms: Sequence[Span], faults: Sequence[Fault]) -> Iterable[Gap]:
    for before, after in pairwise(terms):
        last = [fault for fault in faults if before.first_s < fault.at_s <= after.first_s]
        kind = last[-1].kind if last else ""
        yield Gap(kind, after.first_s - before.last_s, before.replica, after.replica)


def strip(
    terms: Iterable[Span], replica: str, start_s: float, end_s: float, columns: int
) -> list[bool]:
    """Return for each column of a timeline whether `replica` was active in the middle of it.

    The middle, because a column in which one handed over to another must not look like an overlap.
    """
    mine = [span for span in terms if span.replica == replica]
    width_s = (end_s - start_s) / columns
    middles = [start_s + (column + 0.5) * width_s for column in range(columns)]
    return [any(span.first_s <= at <= span.last_s for span in mine) for at in middles]
