"""Acquire and release, uncontended: ours, the raw requests that it needs, and the neighbours'.

From just before acquire is called to just after release has returned, in processes that have done
so before. `stays` is a candidate that remains one, so that nothing but a take and a release lies
between two of its terms: the target holds that against two raw requests. `hold()` is what users
write, and what the neighbours' locks stand beside; it makes a candidate each time, which looks at
the record before it takes it and withdraws after: one request more.

What could bias it: the neighbours do less. No lock of theirs has a fencing token in what was
measured, and theirs may be deleted by whoever thinks it has waited long enough. A command-line tool
is a process each time, which is its use. A batch of each goes around in turns; the first time of a
batch is left out for everybody, since it may have to connect.
"""

from __future__ import annotations

import signal
from contextlib import ExitStack
from dataclasses import dataclass, field

from benchmarks.bench import Bench
from benchmarks.processes import EventProcess, python
from benchmarks.report import Report, Target, distribution, percentile
from benchmarks.stores.kinds import Kind, neighbour, started, versions

NAME = "acquire"
TITLE = "acquire and release without a rival, beside the raw requests and the neighbours"

TIMES_RAW = 1.2
BATCH = 25
DEAR_BATCH = 3
_LIMIT_S = 120.0


@dataclass(slots=True)
class Contestant:
    """One way of doing it, in a process of its own."""

    who: str
    process: EventProcess
    took_ms: list[float] = field(default_factory=list)

    def go_round(self) -> None:
        """Do a batch."""
        mark = self.process.mark()
        self.process.signal(signal.SIGUSR1)
        batch = self.process.wait_for("batch", _LIMIT_S, mark=mark)
        self.took_ms += batch["took_ms"]


RAW, STAYS, HOLD = "raw", "incumbent, stays", "incumbent, hold()"


def run(bench: Bench) -> Report:
    """Measure."""
    report = Report(NAME, TITLE)
    rounds = bench.many(8, 1)
    with started(bench, "acquire") as kinds, ExitStack() as stack:
        fields = {kind.name: _contestants(bench, stack, kind) for kind in kinds}
        for number in range(rounds):
            bench.progress(f"acquire: {number} of {rounds}")
            for contestants in fields.values():
                for contestant in contestants:
                    contestant.go_round()
    for kind in kinds:
        _told(report, kind, fields[kind.name])
    report.notes.append(versions())
    return report


def _contestants(bench: Bench, stack: ExitStack, kind: Kind) -> list[Contestant]:
    found = [Contestant(RAW, kind.raw(bench, stack, BATCH))]
    for who, way in ((STAYS, "stay"), (HOLD, "hold")):
        command = python("rounds", f"--store={kind.url()}", f"--way={way}", f"--batch={BATCH}")
        found.append(Contestant(who, bench.program(stack, f"{kind.name}-{way}", command)))
    for one in kind.neighbours():
        batch = f"--batch={DEAR_BATCH if one.dear else BATCH}"
        found.append(Contestant(one.who, neighbour(bench, stack, kind, one, "", batch)))
    for contestant in found:
        contestant.process.wait_for("ready", _LIMIT_S)
    return found


def _told(report: Report, kind: Kind, contestants: list[Contestant]) -> None:
    raw_ms, stays_ms = (contestant.took_ms for contestant in contestants[:2])
    best = min((percentile(one.took_ms, 0.5) for one in contestants[3:]), default=None)
    for one in contestants:
        p50, p95 = (percentile(one.took_ms, q) / percentile(raw_ms, q) for q in (0.5, 0.95))
        against = kind.needs if one.who == RAW else f"{p50:.2f} × raw (p95: {p95:.2f})"
        if one.who == HOLD and best is not None:
            against += f", {percentile(one.took_ms, 0.5) / best:.2f} × the best neighbour"
        report.rows.append(distribution(kind.name, one.who, "ms", one.took_ms, against))
    for share in (0.5, 0.95):
        text = f"{kind.name}, stays, p{share * 100:.0f} within {TIMES_RAW:g} × raw"
        limit_ms = TIMES_RAW * percentile(raw_ms, share)
        report.targets.append(Target(text, percentile(stays_ms, share), limit_ms, "ms"))
