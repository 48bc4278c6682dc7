"""Judges a run by the marks alone. It imports nothing of ours and asks nobody else.

    python checker.py DIR [--min-takeovers N] [--json]

`DIR/ELECTION.log`, or any number of `DIR/ELECTION/*.log`, hold lines of 64 bytes

    token(20) boottime_ns(20) pid(10) worker(10)

A *holding* is what one (worker, pid) did under one token: an interval from its first mark to its
last. All clocks are one: CLOCK_BOOTTIME of one machine, so intervals compare exactly. Found are

- overlaps: two holdings whose intervals share an instant, with the amount;
- stale work: marks of an older token after the first mark of a newer one, by their time, and by
  their order within a file, which tells of a late write even if its time was read early;
- mistakes of tokens: not strictly greater at each first mark, or used by two holders;
- takeovers and the gap of each: from the last mark before it to the first after it.

A run with fewer takeovers than were asked for proves nothing: it is *void*, and so is one whose log
is damaged elsewhere than at its end, where a killed process may leave half a line.

Exit status: 0 proven, 1 violated, 2 void. O(n log n) for n marks.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_LINE = re.compile(rb"(\d{20}) (\d{20}) (\d{10}) (\d{10})")

OK, VIOLATED, VOID = "ok", "VIOLATED", "void"
_EXIT_STATUS = {OK: 0, VIOLATED: 1, VOID: 2}


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """One line of a log."""

    at_ns: int
    token: int
    pid: int
    worker: int


@dataclass(slots=True)
class Holding:
    """Everything that one holder did under one token."""

    election: str
    token: int
    pid: int
    worker: int
    marks_ns: list[int] = field(default_factory=list)

    @property
    def first_ns(self) -> int:
        return self.marks_ns[0]

    @property
    def last_ns(self) -> int:
        return self.marks_ns[-1]

    def __str__(self) -> str:
        return (
            f"{self.election}: token {self.token} of worker {self.worker} (pid {self.pid}, "
            f"{len(self.marks_ns)} marks, {self.first_ns}..{self.last_ns} ns)"
        )


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two holdings at one instant; the amount may be 0 if they only touch."""

    earlier: Holding
    later: Holding
    amount_ns: int

    def __str__(self) -> str:
        return f"OVERLAP of {self.amount_ns} ns: {self.earlier} | {self.later}"


@dataclass(frozen=True, slots=True)
class Stale:
    """Marks of an older token after the first one of a newer token."""

    holding: str
    marks: int
    latest_ns: int

    def __str__(self) -> str:
        return f"STALE WORK: {self.marks} marks, up to {self.latest_ns} ns late: {self.holding}"


@dataclass(slots=True)
class Report:
    """What was found, in one election or in many."""

    marks: int = 0
    holdings: int = 0
    takeovers: int = 0
    overlaps: list[Overlap] = field(default_factory=list)
    stale: list[Stale] = field(default_factory=list)
    token_mistakes: list[str] = field(default_factory=list)
    gaps_ns: list[int] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    truncated: int = 0

    def add(self, other: Report) -> None:
        """Take in the report on another election."""
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def violations(self) -> list[str]:
        """Everything that should never be, for people."""
        return [*map(str, self.overlaps), *map(str, self.stale), *self.token_mistakes]

    @property
    def overlap_ns(self) -> int:
        """The greatest overlap."""
        return max((overlap.amount_ns for overlap in self.overlaps), default=0)

    @property
    def stale_marks(self) -> int:
        """How many marks were stale."""
        return sum(stale.marks for stale in self.stale)

    def gap_ns(self, share: float) -> int:
        """Return a quantile of the gaps (nearest rank); 0 if there are none."""
        if not self.gaps_ns:
            return 0
        rank = max(1, -(-int(share * 1000) * len(self.gaps_ns) // 1000))
        return sorted(self.gaps_ns)[rank - 1]

    def verdict(self, min_takeovers: int) -> str:
        """Return "ok", "VIOLATED" or "void"."""
        if self.violations:
            return VIOLATED
        return VOID if self.damaged or self.takeovers < min_takeovers else OK


def parse(data: bytes, name: str, report: Report) -> Iterator[Mark]:
    """Yield the marks of a file, and note what is none."""
    *lines, rest = data.split(b"\n")
    report.truncated += bool(rest)
    for number, line in enumerate(lines, start=1):
        found = _LINE.fullmatch(line)
        if found is None:
            report.damaged.append(f"DAMAGED: {name}:{number}: {line[:80]!r}")
            continue
        token, at_ns, pid, worker = map(int, found.groups())
        yield Mark(at_ns, token, pid, worker)


def judge(election: str, files: Iterable[Path]) -> Report:
    """Judge one election by its files."""
    report = Report()
    holdings: dict[tuple[int, int, int], Holding] = {}
    for path in files:
        marks = list(parse(path.read_bytes(), path.name, report))
        report.marks += len(marks)
        report.stale += _late_writes(election, marks)
        for mark in marks:
            key = (mark.token, mark.worker, mark.pid)
            if key not in holdings:
                holdings[key] = Holding(election, mark.token, mark.pid, mark.worker)
            holdings[key].marks_ns.append(mark.at_ns)
    for holding in holdings.values():
        holding.marks_ns.sort()
    ordered = sorted(holdings.values(), key=lambda holding: holding.first_ns)
    report.holdings = len(ordered)
    report.token_mistakes = _token_mistakes(ordered)
    report.stale += _stale(ordered)
    _walk(ordered, report)
    return report


def _walk(ordered: list[Holding], report: Report) -> None:
    """Compare each holding with the one before it that lasted longest."""
    latest: Holding | None = None
    for holding in ordered:
        if latest is not None:
            report.takeovers += 1
            gap_ns = holding.first_ns - latest.last_ns
            if gap_ns > 0:
                report.gaps_ns.append(gap_ns)
            else:
                amount_ns = min(latest.last_ns, holding.last_ns) - holding.first_ns
                report.overlaps.append(Overlap(latest, holding, amount_ns))
        if latest is None or holding.last_ns > latest.last_ns:
            latest = holding


def _stale(ordered: list[Holding]) -> list[Stale]:
    """Find marks whose time is after the first of a newer token."""
    found = []
    newer_first_ns: int | None = None
    for holding in sorted(ordered, key=lambda holding: holding.token, reverse=True):
        if newer_first_ns is not None and holding.last_ns > newer_first_ns:
            late = [at_ns for at_ns in holding.marks_ns if at_ns > newer_first_ns]
            found.append(Stale(str(holding), len(late), late[-1] - newer_first_ns))
        if newer_first_ns is None or holding.first_ns < newer_first_ns:
            newer_first_ns = holding.first_ns
    return found


def _late_writes(election: str, marks: list[Mark]) -> list[Stale]:
    """Find marks that stand behind one of a newer token, though their time was read before it.

    Those whose time is later, too, are found by their time.
    """
    found = []
    first_of_highest: Mark | None = None
    for mark in marks:
        if first_of_highest is None or mark.token > first_of_highest.token:
            first_of_highest = mark
        elif mark.token < first_of_highest.token and mark.at_ns <= first_of_highest.at_ns:
            text = (
                f"{election}: token {mark.token} of worker {mark.worker} (pid {mark.pid}), written "
                f"at {mark.at_ns} ns or later, stands behind token {first_of_highest.token}"
            )
            found.append(Stale(text, 1, 0))
    return found


def _token_mistakes(ordered: list[Holding]) -> list[str]:
    mistakes = []
    highest: Holding | None = None
    for holding in ordered:
        if highest is not None and holding.token == highest.token:
            mistakes.append(f"TOKEN used twice: {highest} | {holding}")
        elif highest is not None and holding.token < highest.token:
            mistakes.append(f"TOKEN went back: {highest} | {holding}")
        if highest is None or holding.token > highest.token:
            highest = holding
    return mistakes


def elections(folder: Path) -> dict[str, list[Path]]:
    """Return the logs of each election in a folder."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.log")):
        found.setdefault(path.relative_to(folder).with_suffix("").parts[0], []).append(path)
    return found


def judge_all(folder: Path) -> Report:
    """Judge every election of a folder, and add the reports up."""
    total = Report()
    for election, files in elections(folder).items():
        total.add(judge(election, files))
    return total


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Judge a run by its marks.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--min-takeovers", type=int, default=1, metavar="N")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    report = judge_all(options.folder)
    verdict = report.verdict(options.min_takeovers)
    summary = {
        "verdict": verdict,
        "marks": report.marks,
        "takeovers": report.takeovers,
        "overlaps": len(report.overlaps),
        "overlap_ns": report.overlap_ns,
        "stale_marks": report.stale_marks,
        "token_mistakes": len(report.token_mistakes),
        "damaged": len(report.damaged),
        "truncated": report.truncated,
        **{f"gap_p{share}_ns": report.gap_ns(share / 100) for share in (50, 95, 100)},
    }
    if options.json:
        print(json.dumps(summary))
    else:
        for line in (*report.violations, *report.damaged):
            print(line)
        print("  ".join(f"{name}={value}" for name, value in summary.items()))
    return _EXIT_STATUS[verdict]


if __name__ == "__main__":
    sys.exit(main())
