"""Is a lease renewed in time while the user's own code keeps its process busy?

The lateness of each renewal: of ours, the instant of its send against the send of the last
confirmed one plus the renewal period; of the Python client, the instant at which it begins its next
round against the end of the last one plus its retry period. While the user's code waits, blocks
outside of the interpreter's lock, computes in Python, or holds the lock in C for 50 ms at a time
(`programs/load.py`); by both of our faces, the user's code of the asynchronous one being a
coroutine that blocks its event loop for half a second at a time.

TTL 3 s; for the Python client 3, 2, 1. One after another, since a busy process takes a core. What
could bias it: the stamp of a renewal needs the interpreter's lock itself, so what is late by the
lock is late in the stamp, as it is in fact.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from itertools import pairwise

from benchmarks.bench import Bench
from benchmarks.failover import TIMING, TTL_S
from benchmarks.processes import EventProcess
from benchmarks.programs.load import LOADS
from benchmarks.report import Report, distribution
from incumbent.core.timing import Timing

NAME = "load"
TITLE = "lateness of renewals while the user's code keeps its process busy"

_LIMIT_S = 60.0
_TEXTS = {
    "none": "waits",
    "blocked": "blocks",
    "busy": "computes in Python",
    "gil": "holds the lock in C",
}


def run(bench: Bench) -> Report:
    """Measure."""
    report = Report(NAME, TITLE)
    window_s = float(bench.many(20, 5))
    timing = Timing.plan(TTL_S, whole_seconds=True)
    for load in LOADS:
        for who in ("incumbent, thread", "incumbent, asyncio", "Python client"):
            bench.progress(f"load: {who}, {_TEXTS[load]}")
            with ExitStack() as stack:
                late_ms, lost = _measure(bench, stack, who, load, window_s, timing)
            report.rows.append(distribution(f"user's code {_TEXTS[load]}", who, "ms", late_ms))
            if lost:
                report.notes.append(f"{who}, {_TEXTS[load]}: {lost} terms lost")
    report.notes.append(
        f"renewal period: incumbent {timing.renew_every_s:.3f} s of a TTL of {TTL_S} s, Python "
        f"client {TIMING[2]} s"
    )
    return report


def _measure(
    bench: Bench, stack: ExitStack, who: str, load: str, window_s: float, timing: Timing
) -> tuple[list[float], int]:
    namespace, kubeconfig = bench.namespace(), bench.server.kubeconfig()
    name = f"load-{who.replace(', ', '-').replace(' ', '-').lower()}-{load}"
    if who == "Python client":
        client = bench.python_client(
            stack, name, namespace, TIMING, f"--load={load}", kubeconfig=kubeconfig
        )
        client.wait_for("started", _LIMIT_S)
        time.sleep(window_s)
        return _client_late_ms(client), len(client.since(kind="stopped"))
    face = "aio" if who.endswith("asyncio") else "sync"
    ours = bench.ours(
        stack,
        name,
        f"kubernetes://{namespace}",
        f"--ttl={TTL_S}",
        f"--face={face}",
        f"--load={load}",
        "--stamps",
        kubeconfig=kubeconfig,
    )
    ours.wait_for("checked", _LIMIT_S)
    time.sleep(window_s)
    sent_ns = [int(event["sent_ns"]) for event in ours.since(kind="renewed")]
    late_ms = [
        (after - before) / 1e6 - timing.renew_every_s * 1e3 for before, after in pairwise(sent_ns)
    ]
    return late_ms, len(ours.since(kind="checked")) - 1


def _client_late_ms(client: EventProcess) -> list[float]:
    late_ms, ended_ns = [], None
    for event in client.since():
        if event["event"] == "renewed":
            ended_ns = event["boottime_ns"]
        elif event["event"] == "looking" and ended_ns is not None:
            late_ms.append((event["boottime_ns"] - ended_ns) / 1e6 - TIMING[2] * 1e3)
            ended_ns = None
    return late_ms
