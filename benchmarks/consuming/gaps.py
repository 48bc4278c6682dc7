"""The gap of a handover, and of a crash: from the last effect of a term to the next one's first.

Two processes consume one source while items come at a steady rate. A planned handover is a process
that stops its consumer, as in a rolling update; in a crash it is killed. The election is on this
host, in the embedded store. An effect counts when the handler has had it, and an item when the
broker has confirmed it, both by the boot-time clock that all processes share.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from signal import SIGUSR2

from benchmarks.bench import Bench
from benchmarks.consuming.brokers import Broker
from benchmarks.processes import EventProcess, now_ns, python
from benchmarks.report import Report, distribution
from tests.servers.postgresql import Postgres

__all__ = ["RATE", "gaps"]

RATE = 200
TTL_S = 5.0
_WORK = "gap"
_AT_WORK_S = 0.3
_LIMIT_S = 60.0
_EFFECTS = """\
SELECT token, min(done_ns), max(done_ns) FROM effect WHERE work = 'gap'
GROUP BY token ORDER BY token
"""
_KINDS = ("handover", "crash")


def gaps(bench: Bench, report: Report, broker: Broker, postgres: Postgres) -> None:
    """Measure both."""
    broker.make(_WORK)
    postgres.execute("DELETE FROM effect")
    ended_by: list[str] = []
    with ExitStack() as stack:
        put_ns = stack.enter_context(_producing(broker.another()))
        pair = Pair(bench, stack, broker, postgres)
        for kind, rounds in (("handover", bench.many(20, 2)), ("crash", bench.many(6, 1))):
            for number in range(rounds):
                bench.progress(f"consumers: {broker.name}, {kind} {number} of {rounds}")
                pair.end(kind)
                ended_by.append(kind)
        pair.stop()
    terms = postgres.execute(_EFFECTS)
    if len(terms) != len(ended_by) + 1:
        raise RuntimeError(f"{broker.name}: {len(ended_by)} handovers, and {len(terms)} terms")
    for kind in _KINDS:
        gaps_ns = [
            (last_ns, first_ns)
            for how, ((_, _, last_ns), (_, first_ns, _)) in zip(
                ended_by, pairwise(terms), strict=True
            )
            if how == kind
        ]
        took_ms = [(after - before) / 1e6 for before, after in gaps_ns]
        came = [bisect_right(put_ns, b) - bisect_right(put_ns, a) for a, b in gaps_ns]
        what = f"gap of a {kind}, {broker.name}"
        report.rows.append(distribution(what, "incumbent", "ms", took_ms))
        report.rows.append(
            distribution(f"{what}: items of {RATE}/s in it", "incumbent", "items", came)
        )


class Pair:
    """Two consumers of one election."""

    def __init__(self, bench: Bench, stack: ExitStack, broker: Broker, postgres: Postgres) -> None:
        self._bench, self._stack, self._broker = bench, stack, broker
        self._count = 0
        store = f"sqlite://{bench.dir / f'gap-{broker.name}.db'}"
        self._words = [
            f"--source={broker.source(_WORK)}",
            f"--effects={postgres.url()}",
            f"--store={store}",
            f"--ttl={TTL_S}",
        ]
        self._holder = self._new()
        self._holder.wait_for("began", _LIMIT_S)
        self._other = self._new()
        self._other.wait_for("standby", _LIMIT_S)

    def _new(self) -> EventProcess:
        self._count += 1
        name = f"consumer-{self._broker.name}-{self._count}"
        words = [*self._words, f"--identity={name}"]
        return self._bench.program(self._stack, name, python("consumer", *words))

    def end(self, kind: str) -> None:
        """End the holder's term, and wait until the other one is at work, and there is another."""
        time.sleep(_AT_WORK_S)
        mark, holders_mark = self._other.mark(), self._holder.mark()
        if kind == "crash":
            self._holder.kill_now()
        else:
            self._holder.signal(SIGUSR2)
        self._other.wait_for("began", _LIMIT_S, mark=mark)
        if kind == "crash":
            self._holder = self._new()
            holders_mark = 0
        else:
            self._holder.signal(SIGUSR2)
        self._holder.wait_for("standby", _LIMIT_S, mark=holders_mark)
        self._holder, self._other = self._other, self._holder

    def stop(self) -> None:
        """Stop both."""
        for process in (self._other, self._holder):
            process.kill()


@contextmanager
def _producing(broker: Broker) -> Iterator[list[int]]:
    """Have items come, in a thread; what is given are the instants at which they were there."""
    put_ns: list[int] = []
    stop = threading.Event()
    failed: list[BaseException] = []

    def produce() -> None:
        begun_ns = now_ns()
        try:
            while not stop.is_set():
                due_ns = begun_ns + len(put_ns) * 1_000_000_000 // RATE
                if (left_ns := due_ns - now_ns()) > 0 and stop.wait(left_ns / 1e9):
                    break
                broker.put(_WORK, len(put_ns), 1)
                put_ns.append(now_ns())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    try:
        yield put_ns
    finally:
        stop.set()
        with suppress(RuntimeError):
            thread.join(_LIMIT_S)
    if failed:
        raise failed[0]
