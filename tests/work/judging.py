"""Whether each tick was run once, judged from the lines that the runs have written, and no more.

Nothing of incumbent is imported here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

__all__ = ["Line", "Verdict", "judge", "lines"]


@dataclass(frozen=True)
class Line:
    """What one run has written.

    Attributes:
        tick: the id of its tick, an instant in UTC.
        attempt: which attempt.
        token: of its term.
        where: in which process, or on which host.
    """

    tick: str
    attempt: int
    token: int
    where: str


@dataclass(frozen=True)
class Verdict:
    """What was counted, and what must not be."""

    ticks: int
    missed: tuple[str, ...]
    twice: tuple[str, ...]
    swapped: tuple[str, ...]
    by: dict[str, int]

    @property
    def good(self) -> bool:
        """Tell whether nothing is wrong."""
        return bool(self.ticks) and not (self.missed or self.twice or self.swapped)

    def __str__(self) -> str:
        places = ", ".join(f"{where}: {count}" for where, count in self.by.items())
        faults = "; ".join(
            f"{what}: {', '.join(found)}"
            for what, found in (
                ("missed", self.missed),
                ("twice", self.twice),
                ("of an earlier term after a later one", self.swapped),
            )
            if found
        )
        text = f"{self.ticks} ticks ({places}), {len(self.missed)} missed, {len(self.twice)} twice"
        return f"{'GOOD' if self.good else 'BAD'}: {text}{'; ' + faults if faults else ''}"


def lines(path: Path) -> list[Line]:
    """Read what runs have written: a tick, an attempt, a token and a place in each line."""
    found = []
    for text in path.read_text().splitlines() if path.exists() else ():
        tick, attempt, token, where = text.split()
        found.append(Line(tick, int(attempt), int(token), where))
    return found


def judge(found: Sequence[Line], every: timedelta) -> Verdict:
    """Judge the runs of a task that is due `every` so often, from the first tick to the last."""
    count = Counter(line.tick for line in found)
    instants = [datetime.fromisoformat(tick) for tick in count]
    missed = []
    if instants:
        due, last = min(instants), max(instants)
        while due < last:
            if due not in instants:
                missed.append(due.isoformat())
            due += every
    swapped = [line.tick for line, highest in _highest(found) if line.token < highest]
    return Verdict(
        ticks=len(count),
        missed=tuple(missed),
        twice=tuple(tick for tick, runs in count.items() if runs > 1),
        swapped=tuple(swapped),
        by=dict(Counter(line.where for line in found)),
    )


def _highest(found: Sequence[Line]) -> Iterable[tuple[Line, int]]:
    highest = 0
    for line in found:
        highest = max(highest, line.token)
        yield line, highest
