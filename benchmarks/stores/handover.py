"""A planned handover in each store: how long is nobody at work, ours and the neighbours'.

Ours: from the end of the old work to the successor's first `check()` that returned, as in
`benchmarks.handover`. A neighbour's: from the instant before its release is called, or before its
tool is told to end, to the return of the other's acquire, or its tool's first line. All pairs hand
over in turns, back and forth, on the same server in the same run.

What could bias it: some neighbours poll, so a pause before each handover is random and longer than
a poll's period; others wait in the server, and who stands first is given the lock by the release
itself, which a lease that is to survive a lost reply cannot do. A line of a tool is read by a
process around it, which costs some 0.1 ms.
"""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.bench import Bench
from benchmarks.handover import Pair, ours
from benchmarks.processes import EventProcess
from benchmarks.report import Report, Target, distribution, percentile
from benchmarks.stores.kinds import Kind, Neighbour, neighbour, started, versions

NAME = "handover-stores"
TITLE = "planned handover in each store, beside the neighbours"

TTL_S = 6.0
"""Nobody's term ends by itself; but a newcomer to an election that is absent waits for a TTL."""
_PAUSE_S = (0.05, 0.3)
_LIMIT_S = 60.0


def run(bench: Bench) -> Report:
    """Measure."""
    report = Report(NAME, TITLE)
    rounds = bench.many(30, 3)
    with started(bench, "handover-stores") as kinds, ExitStack() as stack:
        pairs = {kind.name: _pairs(bench, stack, kind) for kind in kinds}
        for number in range(rounds):
            bench.progress(f"handover-stores: {number} of {rounds}")
            for of_kind in pairs.values():
                for pair in of_kind.values():
                    pair.hand_over()
    for store, of_kind in pairs.items():
        _told(report, store, {who: pair.took_ms for who, pair in of_kind.items()})
    report.notes.append(versions())
    return report


def _pairs(bench: Bench, stack: ExitStack, kind: Kind) -> dict[str, Pair]:
    bench.progress(f"{NAME}: {kind.name} and its neighbours")
    names = (f"{kind.name}-a", f"{kind.name}-b")
    found = {"incumbent": ours(bench, stack, names, kind.url(), f"--ttl={TTL_S}")}
    for one in kind.neighbours():
        found[one.who] = _pair(bench, stack, kind, one)
    return found


def _pair(bench: Bench, stack: ExitStack, kind: Kind, one: Neighbour) -> Pair:
    both: list[EventProcess] = []
    for suffix in ("-a", "-b"):
        process = neighbour(bench, stack, kind, one, suffix)
        process.wait_for("standby" if both else "checked", _LIMIT_S)
        both.append(process)
    return Pair(both[0], both[1], _PAUSE_S, names_holder=False)


def _told(report: Report, store: str, took_ms: dict[str, list[float]]) -> None:
    ours_ms, *others = took_ms.values()
    for who, values in took_ms.items():
        ratio = percentile(ours_ms, 0.5) / percentile(values, 0.5)
        against = "" if values is ours_ms else f"incumbent takes {ratio:.2f} × this"
        report.rows.append(distribution(store, who, "ms", values, against))
    if others:
        limit_ms = min(percentile(values, 0.5) for values in others)
        text = f"{store}, p50 within the best neighbour's"
        report.targets.append(Target(text, percentile(ours_ms, 0.5), limit_ms, "ms"))
