"""What the marks tell: who was active from when to when, how many at once, and when nobody.

Imports nothing of incumbent. A process that was elected once is active from its first mark under a
token to its last: it marks as long as it lives, so a pause between two marks is a pause of the
process, which would go on with whatever it was doing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.marks import ACTIVE, MARK_BYTES

__all__ = ["Overlap", "Span", "gaps", "most_at_once", "overlaps", "read", "spans"]


@dataclass(frozen=True, slots=True)
class Mark:
    """One line: a process was at work at this instant of the machine's one clock."""

    state: str
    pod: str
    node: str
    pid: int
    token: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class Span:
    """A process, active under one token from one instant to another."""

    pod: str
    node: str
    pid: int
    token: int
    first_ns: int
    last_ns: int


@dataclass(frozen=True, slots=True)
class Overlap:
    """A time in which the same number of processes, more than one, was active."""

    first_ns: int
    last_ns: int
    active: int


def read(path: Path) -> list[Mark]:
    """Read a file of marks; there is none before the first one."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    marks = []
    for start in range(0, len(content) - MARK_BYTES + 1, MARK_BYTES):
        state, pod, node, pid, token, at_ns = content[start : start + MARK_BYTES].decode().split()
        marks.append(Mark(state, pod, node, int(pid), int(token), int(at_ns)))
    return marks


def spans(marks: Iterable[Mark], state: str = ACTIVE) -> list[Span]:
    """Return who was in a state from when to when, in the order of their beginnings."""
    found: dict[tuple[str, str, int, int], tuple[int, int]] = {}
    for mark in marks:
        if mark.state == state:
            key = (mark.pod, mark.node, mark.pid, mark.token)
            first_ns, last_ns = found.get(key, (mark.at_ns, mark.at_ns))
            found[key] = min(first_ns, mark.at_ns), max(last_ns, mark.at_ns)
    return sorted((Span(*key, *ends) for key, ends in found.items()), key=lambda s: s.first_ns)


def overlaps(found: Sequence[Span]) -> list[Overlap]:
    """Return when more than one was active; an instant in common is enough."""
    edges = sorted(
        [(span.first_ns, 0) for span in found] + [(span.last_ns, 1) for span in found],
    )
    result = []
    active, since_ns = 0, 0
    for at_ns, is_end in edges:
        if active > 1 and (at_ns > since_ns or is_end):
            result.append(Overlap(since_ns, at_ns, active))
        active += -1 if is_end else 1
        since_ns = at_ns
    return result


def most_at_once(found: Sequence[Span]) -> int:
    """Return how many were active at one instant, at most."""
    return max((one.active for one in overlaps(found)), default=min(len(found), 1))


def gaps(found: Sequence[Span], from_ns: int, to_ns: int) -> list[tuple[int, int]]:
    """Return the times between two instants in which nobody was active."""
    result = []
    reached_ns = from_ns
    for span in found:
        if span.first_ns > reached_ns:
            result.append((reached_ns, min(span.first_ns, to_ns)))
        reached_ns = max(reached_ns, span.last_ns)
        if reached_ns >= to_ns:
            return result
    if reached_ns < to_ns:
        result.append((reached_ns, to_ns))
    return result
