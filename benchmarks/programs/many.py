"""One process that holds many elections, by the layer below the faces: no thread each.

Events: `one` when the first election is held, `all` when all are (with the instant at which the
others were started), `sample` for each USR1: memory, CPU time, elections held, terms lost so far,
and the renewals since the last sample.

With `--prepare` the Leases are made beforehand, vacant, so that nobody waits out an absence.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import threading
import time
from pathlib import Path
from typing import Any, cast

from benchmarks.programs.stamps import now_ns, tell
from incumbent.core.events import Why
from incumbent.core.records import Claim, Lease
from incumbent.runtime.candidacy import Candidacy
from incumbent.runtime.settings import Settings
from incumbent.runtime.term import Term
from incumbent.stores import open_store
from incumbent.stores.api import Store

_CREATING = 16


class Counted:
    """A store whose renewals are counted and timed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.took_ms: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def renew(self, lease: Lease) -> Lease:
        sent_ns = now_ns()
        renewed = await self._store.renew(lease)
        self.took_ms.append((now_ns() - sent_ns) / 1e6)
        return renewed


class Tally:
    """How many are held."""

    def __init__(self) -> None:
        self.held = 0
        self.lost = 0
        self.notes: list[str] = []
        self._wanted = 0
        self.reached = threading.Event()
        self.reached_ns = 0

    def want(self, count: int) -> None:
        self.reached.clear()
        self._wanted = count

    def elected(self) -> None:
        self.held += 1
        if self.held >= self._wanted:
            self.reached_ns = now_ns()
            self.reached.set()


class Candidate(Candidacy):
    """Holds, and counts."""

    def __init__(self, settings: Settings, tally: Tally) -> None:
        super().__init__(settings)
        self._tally = tally

    def on_elected(self, term: Term) -> None:
        self._tally.elected()

    def on_stop(self, term: Term, why: Why, cause: str, deadline: float) -> None:
        self._tally.held -= 1
        self._tally.lost += 1
        self._tally.notes.append(f"stopped: {cause}"[:200])
        self.work_ended(term)

    def on_note(self, code: str, text: str) -> None:
        self._tally.notes.append(f"{code}: {text}"[:200])


async def prepare(url: str, names: list[str]) -> None:
    """Create vacant Leases."""
    from incumbent.stores.api import StoreURL
    from incumbent.stores.kubernetes import config, wire
    from incumbent.stores.kubernetes.client import Client

    client = Client(config.load(kubeconfig="", context=""), StoreURL.parse(url).host)
    slots = asyncio.Semaphore(_CREATING)

    async def create(name: str) -> None:
        claim = Claim("nobody_0/nobody.1", "nobody_0", 15.0, None)
        held = wire.LEASE.created(name, client.namespace, claim, time.time())
        async with slots:
            await client.create(wire.LEASE.released(held, "", time.time()))

    await asyncio.gather(*map(create, names))
    await client.close()


def memory_kib() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--ttl", type=float, default=15.0)
    parser.add_argument("--limit", type=float, default=300.0)
    parser.add_argument("--prepare", action="store_true")
    options = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
    names = [f"many-{number:05d}" for number in range(options.count + 1)]
    if options.prepare:
        asyncio.run(prepare(options.store, names))
    store, tally = Counted(open_store(options.store)), Tally()
    candidates = [
        Candidate(Settings.resolve(name, store=cast("Store", store), ttl_s=options.ttl), tally)
        for name in names[:1]
    ]
    tally.want(1)
    candidates[0].start()
    tally.reached.wait(options.limit)
    tell("one", memory_kib=memory_kib())
    tally.want(len(names))
    started_ns = now_ns()
    for name in names[1:]:
        settings = Settings.resolve(name, store=cast("Store", store), ttl_s=options.ttl)
        candidates.append(Candidate(settings, tally))
        candidates[-1].start()
    if not tally.reached.wait(options.limit):
        tell("stalled", held=tally.held, lost=tally.lost, notes=tally.notes[-5:])
    tell("all", tally.reached_ns, started_ns=started_ns, held=tally.held)
    while signal.sigwait({signal.SIGUSR1, signal.SIGTERM}) == signal.SIGUSR1:
        took_ms, store.took_ms = store.took_ms, []
        tell(
            "sample",
            memory_kib=memory_kib(),
            cpu_ns=time.process_time_ns(),
            held=tally.held,
            lost=tally.lost,
            notes=tally.notes[-5:],
            renewals=len(took_ms),
            took_ms=sorted(took_ms)[:: max(1, len(took_ms) // 200)],
            threads=threading.active_count(),
        )


if __name__ == "__main__":
    main()
