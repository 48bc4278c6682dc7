"""What it costs to ask "may I still act?" before each effect: `Term.check()`.

Nanoseconds per call, in a process of its own that holds a real term on the embedded store, whose
keeper renews as always. Rounds of 200,000 calls go around between `check()` and things to compare
it with, so that a change of the machine's pace hits all alike. The loop around each call is part of
each number.
"""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.bench import Bench
from benchmarks.processes import python
from benchmarks.report import Report, Target, distribution, percentile

NAME = "check"
TITLE = "one check() of a valid term"

LIMIT_NS = 300.0
_LIMIT_S = 120.0


def run(bench: Bench) -> Report:
    """Measure."""
    report = Report(NAME, TITLE)
    bench.progress("check: timing")
    rounds = bench.many(30, 5)
    command = python("check", f"--store=sqlite://{bench.dir / 'check.db'}", f"--rounds={rounds}")
    with ExitStack() as stack:
        process = bench.program(stack, "check", command)
        took_ns: dict[str, list[float]] = process.wait_for("timed", _LIMIT_S)["took_ns"]
    ours_ns = percentile(took_ns["term.check()"], 0.5)
    for name, values in took_ns.items():
        ratio = ours_ns / percentile(values, 0.5)
        against = f"check() is {ratio:.2f} × this" if name != "term.check()" else ""
        report.rows.append(distribution(name, "", "ns/call", values, against))
    report.targets.append(Target("check(), p50", ours_ns, LIMIT_NS, "ns"))
    report.notes.append("n is the number of rounds of 200,000 calls")
    return report
