"""How late the runs of a thousand periodic tasks begin, in one process.

Spread over a minute, and all at one instant. The delay is from the instant at which a run is due to
its first instruction: before that, the orders are looked at, and the claim is written and
confirmed. Against it stand bare timers of asyncio in a process like it, which claim nothing.

At one instant, a thousand claims are eight writes to the store, since they go in groups; the look
at the orders is shared. What is left is the work of a thousand runs in one thread.
"""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.bench import Bench
from benchmarks.processes import python
from benchmarks.report import Report, Target, distribution, percentile

NAME = "periodic"
TITLE = "start delay of 1,000 periodic tasks in one process"

COUNT = 1000
PERIOD_S = 60.0
LIMIT_MS = 20.0
_LIMIT_S = 4 * PERIOD_S


def run(bench: Bench) -> Report:
    """Measure."""
    report = Report(NAME, TITLE)
    period_s = PERIOD_S / bench.many(1, 3)
    found: dict[tuple[str, str], list[float]] = {}
    for who, store in (("sqlite", f"sqlite://{bench.dir / 'periodic.db'}"), ("bare timers", "")):
        bench.progress(f"periodic: {COUNT} tasks over {period_s:g} s, {who}")
        with ExitStack() as stack:
            words = [f"--count={COUNT}", f"--period={period_s}"]
            words += [f"--store={store}"] if store else []
            process = bench.program(stack, f"periodic-{bool(store)}", python("schedules", *words))
            for kind in ("spread", "aligned"):
                event = process.wait_for(kind, _LIMIT_S)
                found[kind, who] = list(event["delays_ms"])
    for (kind, who), delays in found.items():
        text = f"p99 {percentile(delays, 0.99):.1f}"
        if who != "bare timers":
            raw = percentile(found[kind, "bare timers"], 0.5)
            text += f"; p50 is {percentile(delays, 0.5) / max(raw, 0.001):.0f} × bare"
        report.rows.append(distribution(f"start delay, {kind}", who, "ms", delays, text))
    measured = percentile(found["spread", "sqlite"], 0.99)
    report.targets.append(
        Target(
            f"start delay, {COUNT} tasks spread over {period_s:g} s, p99", measured, LIMIT_MS, "ms"
        )
    )
    return report
