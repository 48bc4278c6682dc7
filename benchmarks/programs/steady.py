"""One process of several that are candidates in the same many elections, in steady state.

Events: `all` when each election is held by us, or was seen in somebody's hands; `sample` at each
USR1: CPU time and write calls so far, how many are held, how many terms were lost on the way and
why the last one was.
"""

from __future__ import annotations

import argparse
import signal
import threading
import time
from pathlib import Path

from benchmarks.programs.many import memory_kib
from benchmarks.programs.stamps import now_ns, tell
from incumbent.core.events import Why
from incumbent.core.records import Holding, Snapshot
from incumbent.runtime.candidacy import Candidacy
from incumbent.runtime.settings import Settings
from incumbent.runtime.term import Term
from incumbent.stores import open_store


class Tally:
    """Where each election is."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.held: set[str] = set()
        self.standby: set[str] = set()
        self.lost = 0
        self.cause = ""
        self.settled = threading.Event()
        self.settled_ns = 0

    def changed(self) -> None:
        if len(self.held) + len(self.standby) >= self._count and not self.settled.is_set():
            self.settled_ns = now_ns()
            self.settled.set()


class Candidate(Candidacy):
    """Holds or stands by, and counts."""

    def __init__(self, settings: Settings, tally: Tally) -> None:
        super().__init__(settings)
        self._tally = tally

    def on_elected(self, term: Term) -> None:
        self._tally.held.add(term.name)
        self._tally.standby.discard(term.name)
        self._tally.changed()

    def on_waiting(self, snapshot: Snapshot | None, until: float) -> None:
        if snapshot is not None and snapshot.holding is Holding.HELD:
            self._tally.standby.add(snapshot.name)
            self._tally.changed()

    def on_stop(self, term: Term, why: Why, cause: str, deadline: float) -> None:
        self._tally.held.discard(term.name)
        self._tally.lost += 1
        self._tally.cause = cause
        self.work_ended(term)


def written() -> tuple[int, int]:
    """Return how often this process has called write, and how many bytes that were."""
    text = Path("/proc/self/io").read_text(encoding="ascii")
    pairs = dict(line.split(": ") for line in text.splitlines())
    return int(pairs["syscw"]), int(pairs["wchar"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--ttl", type=float, required=True)
    parser.add_argument("--limit", type=float, required=True)
    options = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    store, tally = open_store(options.store), Tally(options.count)
    candidates = []
    for number in range(options.count):
        settings = Settings.resolve(f"steady-{number:05d}", store=store, ttl_s=options.ttl)
        candidates.append(Candidate(settings, tally))
        candidates[-1].start()
    if not tally.settled.wait(options.limit):
        tell("stalled", held=len(tally.held), standby=len(tally.standby), lost=tally.lost)
    tell("all", tally.settled_ns, held=len(tally.held), standby=len(tally.standby))
    while True:
        signal.sigwait({signal.SIGUSR1})
        calls, wrote_bytes = written()
        tell(
            "sample",
            cpu_ns=time.process_time_ns(),
            write_calls=calls,
            written_bytes=wrote_bytes,
            memory_kib=memory_kib(),
            held=len(tally.held),
            standby=len(tally.standby),
            lost=tally.lost,
            cause=tally.cause,
        )


if __name__ == "__main__":
    main()
