"""Judges a run of a workload by its rows and logs alone. It imports nothing of ours.

    python checker.py DIR [--min-takeovers N] [--json]

`DIR/run.json` says what was asked for: `{"kind": …, "source": …, "ordered": true}`, and for
periodic tasks the schedule, `{"every_ms": 500}` or `{"cron": "…", "tz": "…"}`, with the instants
`from_ms` and `until_ms` between which each tick is owed. The other files hold a line for each
thing, with words between blanks:

    produced.log    LANE POSITION ITEM [poison]        what the producer was confirmed, or has done
    committed.log   SEQUENCE LANE POSITION ITEM TOKEN REPLICA      the rows of the effects' table
    dead.log        LANE POSITION ITEM                 what lies in the place for dead letters
    faults.log      AT_NS FAULT VICTIM                 what the nemesis has done

A *lane* is what has an order: a queue, or one partition of a topic. Positions grow in it as the
producer made the items. The sequence is drawn in the transaction of the effect, behind the lock of
the fence: it is the order of the commits. Found are, of items and ticks alike,

- lost: produced, and never committed; a poisoned one: in no place for dead letters;
- twice: committed more than once;
- unknown: committed, and never produced (a tick: never due);
- gaps: committed when the one before it in its lane was not yet;
- out of order: committed when a later one of its lane already was;
- stale: rows of a token after the first row of a greater one;
- misplaced: a poisoned one that was committed, or a good one among the dead letters.

What is due is computed here, by arithmetic or by cronsim, and not taken from the replicas.
A run with fewer takeovers than were asked for proves nothing: it is *void*, and so is one whose
logs are damaged.

Exit status: 0 exact, 1 violated, 2 void.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

EXACT, VIOLATED, VOID = "exact", "VIOLATED", "void"
_EXIT_STATUS = {EXACT: 0, VIOLATED: 1, VOID: 2}
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Made:
    """What is owed: an item, or a tick."""

    lane: str
    position: int
    item: str
    poison: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One committed effect."""

    sequence: int
    lane: str
    position: int
    item: str
    token: int
    replica: str


@dataclass(slots=True)
class Report:
    """What was counted, and what was found, with the words for people."""

    produced: int = 0
    committed: int = 0
    dead: int = 0
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    misplaced: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    takeovers: int = 0
    replicas: int = 0
    faults: dict[str, int] = field(default_factory=dict)

    FINDINGS = ("lost", "twice", "unknown", "gaps", "out_of_order", "stale", "misplaced")

    @property
    def violations(self) -> list[str]:
        """Everything that should never be."""
        return [f"{name}: {text}" for name in self.FINDINGS for text in getattr(self, name)]

    def verdict(self, min_takeovers: int) -> str:
        """Return "exact", "VIOLATED" or "void"."""
        if self.violations:
            return VIOLATED
        empty = not self.produced or not self.committed
        return VOID if self.damaged or empty or self.takeovers < min_takeovers else EXACT

    def counts(self) -> dict[str, Any]:
        """Return the numbers, by name."""
        found = {name: len(getattr(self, name)) for name in self.FINDINGS}
        return {
            "produced": self.produced,
            "committed": self.committed,
            "dead": self.dead,
            **found,
            "damaged": len(self.damaged),
            "takeovers": self.takeovers,
            "replicas": self.replicas,
            "faults": self.faults,
        }


def due(schedule: dict[str, Any], from_ms: int, until_ms: int) -> list[Made]:
    """Return the ticks that are owed from one instant to another, both included."""
    if "every_ms" in schedule:
        every_ms = int(schedule["every_ms"])
        first = -(-from_ms // every_ms)
        instants = [number * every_ms for number in range(first, until_ms // every_ms + 1)]
    else:
        instants = list(_by_cron(schedule["cron"], schedule.get("tz", "UTC"), from_ms, until_ms))
    return [Made("ticks", at_ms, str(at_ms)) for at_ms in instants]


def _by_cron(line: str, zone: str, from_ms: int, until_ms: int) -> Iterator[int]:
    from cronsim import CronSim

    # One millisecond earlier: the first instant counts, and cronsim begins behind it.
    begin = datetime.fromtimestamp((from_ms - 1) / 1000, UTC).astimezone(ZoneInfo(zone))
    for instant in CronSim(line, begin):
        at_ms = round(instant.timestamp() * 1000)
        if at_ms > until_ms:
            return
        if at_ms >= from_ms:
            yield at_ms


def judge(folder: Path) -> Report:
    """Judge a run by the files of its folder."""
    report = Report()
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    if "schedule" in run:
        owed = due(run["schedule"], run["from_ms"], run["until_ms"])
    else:
        owed = [
            Made(lane, int(position), item, bool(rest))
            for lane, position, item, *rest in _lines(folder / "produced.log", (3, 4), report)
        ]
    rows = [
        Row(int(sequence), lane, int(position), item, int(token), replica)
        for sequence, lane, position, item, token, replica in _lines(
            folder / "committed.log", (6,), report
        )
    ]
    dead = {item for _, _, item in _lines(folder / "dead.log", (3,), report)}
    report.faults = dict(Counter(w[1] for w in _lines(folder / "faults.log", (3,), report)))
    _judge(owed, sorted(rows, key=lambda row: row.sequence), dead, run["ordered"], report)
    return report


def _judge(
    owed: list[Made], rows: list[Row], dead: set[str], ordered: bool, report: Report
) -> None:
    good = {made.item: made for made in owed if not made.poison}
    poison = {made.item for made in owed if made.poison}
    times = Counter(row.item for row in rows)
    report.produced, report.committed, report.dead = len(owed), len(rows), len(dead)
    report.replicas = len({row.replica for row in rows})
    report.lost += [str(made) for made in good.values() if made.item not in times]
    report.lost += [f"poisoned, in no place: {item}" for item in sorted(poison - dead)]
    report.twice += [f"{item}: {count} times" for item, count in times.items() if count > 1]
    report.unknown += [str(row) for row in rows if row.item not in good and row.item not in poison]
    report.misplaced += [str(row) for row in rows if row.item in poison]
    report.misplaced += [f"among the dead: {item}" for item in sorted(dead - poison)]
    report.damaged += [
        f"{row} is told to lie elsewhere than it was made"
        for row in rows
        if row.item in good
        and (row.lane, row.position) != (good[row.item].lane, good[row.item].position)
    ]
    _judge_tokens(rows, report)
    if ordered:
        _judge_order(good, rows, report)


def _judge_order(good: dict[str, Made], rows: list[Row], report: Report) -> None:
    """Compare each first commit of an item with the next that its lane owed."""
    lanes: dict[str, list[Made]] = defaultdict(list)
    for made in good.values():
        lanes[made.lane].append(made)
    rank = {
        made.item: number
        for members in lanes.values()
        for number, made in enumerate(sorted(members, key=lambda made: made.position))
    }
    following: dict[str, int] = defaultdict(int)
    seen: set[str] = set()
    for row in rows:
        if row.item not in rank or row.item in seen:
            continue
        seen.add(row.item)
        lane, place = good[row.item].lane, rank[row.item]
        if place > following[lane]:
            report.gaps.append(f"{row} came when {following[lane]} of its lane were committed")
        elif place < following[lane]:
            report.out_of_order.append(f"{row} came after a later one of its lane")
        following[lane] = max(following[lane], place + 1)


def _judge_tokens(rows: Iterable[Row], report: Report) -> None:
    highest, terms = 0, set()
    for row in rows:
        terms.add(row.token)
        if row.token < highest:
            report.stale.append(f"{row} came after token {highest}")
        highest = max(highest, row.token)
    report.takeovers = max(0, len(terms) - 1)


def _lines(path: Path, lengths: tuple[int, ...], report: Report) -> Iterator[list[str]]:
    """Yield the words of each line, and note what is no such line; a file may be missing."""
    if not path.exists():
        return
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        words = line.split()
        if len(words) in lengths:
            yield words
        else:
            report.damaged.append(f"{path.name}:{number}: {line[:80]!r}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Judge a run of a workload by its rows and logs.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--min-takeovers", type=int, default=1, metavar="N")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    report = judge(options.folder)
    verdict = report.verdict(options.min_takeovers)
    if options.json:
        print(json.dumps({"verdict": verdict, **report.counts()}))
        return _EXIT_STATUS[verdict]
    for name in (*report.FINDINGS, "damaged"):
        found = getattr(report, name)
        for text in found[:_SHOWN]:
            print(f"{name}: {text}")
        if len(found) > _SHOWN:
            print(f"{name}: … and {len(found) - _SHOWN} more")
    print("  ".join(f"{name}={value}" for name, value in report.counts().items()))
    print(verdict)
    return _EXIT_STATUS[verdict]


if __name__ == "__main__":
    sys.exit(main())
