"""A crash in each store: from the last renewal to the successor, beside the bound of the store.

From the send of the last confirmed renewal of a holder that is then killed (SIGKILL), at a random
instant of its renewal period, to the first `check()` of the standby's term. The bound is what the
store says of itself (`Capabilities.failover_bound_s`), with the slowest of some lone raw requests
of the same run for a round trip; it allows for clocks that differ by ρ, which those of one host do
not. Where the kernel proves the death, that stands beside it: from the instant before SIGKILL.

What could bias it: the stores take turns in being killed and wait at the same time, so their
takeovers may meet on few cores. A round whose holder died with a renewal under way has no last
renewal that anybody could name, and is left out.
"""

from __future__ import annotations

import random
import signal
import time
from contextlib import ExitStack

from benchmarks.bench import Bench
from benchmarks.failover import Took, last_sent
from benchmarks.processes import EventProcess
from benchmarks.report import Report, Row, Target, distribution, percentile
from benchmarks.stores.kinds import Kind, started
from incumbent.core.timing import Timing
from incumbent.stores import open_store
from incumbent.stores.api import Capabilities

NAME = "crash"
TITLE = "crash of the holder in each store, beside the bound that the store derives"

TTL_S = 3.0
_LONE = 2
_APART_S = 0.4
_LIMIT_S = 60.0


def run(bench: Bench) -> Report:
    """Measure."""
    report = Report(NAME, TITLE)
    rounds = bench.many(10, 2)
    timing = Timing.plan(TTL_S)
    with started(bench, "crash") as kinds, ExitStack() as stack:
        raw = {kind.name: kind.raw(bench, stack, _LONE, _APART_S) for kind in kinds}
        trips_ms: dict[str, list[float]] = {kind.name: [] for kind in kinds}
        took = {kind.name: Took() for kind in kinds}

        def start(number: int) -> dict[str, EventProcess]:
            options = (f"--ttl={TTL_S}", "--stamps")
            return {
                kind.name: bench.ours(stack, f"{kind.name}-{number}", kind.url(), *options)
                for kind in kinds
            }

        holders = start(0)
        for holder in holders.values():
            holder.wait_for("checked", _LIMIT_S)
        for number in range(1, rounds + 1):
            bench.progress(f"crash: {number} of {rounds}")
            standbys = start(number)
            for standby in standbys.values():
                standby.wait_for("standby", _LIMIT_S, where=lambda e: "held by" in e["text"])
            for holder in holders.values():
                holder.wait_for("renewed", _LIMIT_S, mark=holder.mark())
            killed_ns = {}
            for name in random.sample(sorted(holders), len(holders)):
                time.sleep(random.uniform(0.0, 2 * timing.renew_every_s / len(holders)))
                killed_ns[name] = holders[name].kill_now()
            marks = {name: process.mark() for name, process in raw.items()}
            for process in raw.values():
                process.signal(signal.SIGUSR1)
            for name, standby in standbys.items():
                at_work_ns = int(standby.wait_for("checked", _LIMIT_S)["boottime_ns"])
                took[name].add(last_sent(holders[name]), killed_ns[name], at_work_ns)
            for name, process in raw.items():
                trips_ms[name] += process.wait_for("batch", _LIMIT_S, mark=marks[name])["trip_ms"]
            holders = standbys
    for kind in kinds:
        _told(report, kind, took[kind.name], trips_ms[kind.name], timing)
    report.notes.append(f"TTL {TTL_S:g} s; the bound is in the store's capabilities")
    return report


def _told(report: Report, kind: Kind, took: Took, trips_ms: list[float], timing: Timing) -> None:
    can = open_store(kind.url()).capabilities
    bound_ms = 1e3 * can.failover_bound_s(timing.ttl_s, max(trips_ms) / 1e3, timing.rho)
    ratio = f"{percentile(took.renewal_ms, 0.5) / (TTL_S * 1e3):.2f} × TTL"
    report.rows += [
        distribution(f"{kind.name}, from renewal", "incumbent", "ms", took.renewal_ms, ratio),
        distribution(f"{kind.name}, from death", "incumbent", "ms", took.death_ms),
        Row(f"{kind.name}, bound", "derived", "ms", 1, bound_ms, against=_formula(can)),
    ]
    if took.left_out:
        report.notes.append(f"{kind.name}: {took.left_out} rounds without a last renewal left out")
    text = f"{kind.name}, from the last renewal, the slowest, within the bound"
    report.targets.append(Target(text, max(took.renewal_ms), bound_ms, "ms"))


def _formula(can: Capabilities) -> str:
    looks = f" + {can.unseen_ttls:.2f} TTL" if can.unseen_ttls else ""
    return f"TTL / (1 − ρ){looks} + {can.takeover_trips} round trips"
