"""Has several replicas do the work, breaks things round by round, and collects what is left behind.

The producer is let on by a share of the items in each round, and the fault happens while that
share is worked on: so no round hits an idle consumer, and the last item is made in the last round.
Which fault, when, for how long and for whom is drawn from the seed; how the machine schedules
processes is not. A round ends when the work goes on, or is *late*, which fails the run.

Faults of a replica: `kill` (SIGKILL), `stop` (SIGSTOP for longer than the lease, then SIGCONT),
`cut` (from all servers), `cut-source`, `cut-store` (from one), `end-connections`. Mostly it is the
one that works. Half of the replicas have no dead-man: after a pause they go on as if nothing had
been, and the fence alone is between them and a second effect. Half have the face for asyncio.
A replica that is started while it is cut off may end by that; by any other error of its own, the
run fails.

Faults of a server: `source-restart`, `database-restart` (SIGKILL, then a start with its data),
`source-pause`. The database has the effects and the election.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from tests.faults.adapter import Servers
from tests.faults.fleet import PROJECT, Late, Process, Watch
from tests.faults.sql import Postgresql
from tests.servers.process import ChildProcess
from tests.work import CUT_OFF
from tests.work.effects import Effects, Last
from tests.work.sources import SOURCES, Item, Source, with_options

__all__ = ["FAULTS", "Plan", "run"]

PRODUCER_S = 90.0
BATCH = 50
MOST_ENDED = 20
LOOK_EVERY_S = 0.02
EACH_SECOND = {"cron": "* * * * * *", "tz": "Europe/Vienna"}
ON_SOURCES = ("source-restart", "source-pause", "cut-source")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done."""

    kind: str
    source: str
    items: int
    rounds: int
    seed: int
    replicas: int = 3
    ttl_s: float = 2.0
    every_ms: int = 500
    store: str = "postgresql"
    """Where the election is: in the database of the effects, or in a file of this host."""
    faults: tuple[str, ...] = ()
    raw: bool = False
    planted: str = ""
    late_s: float = 90.0
    """What the work may take to go on, or to come to its end: a hang is no slowness."""
    poison: int = 0
    """Every so manieth item is one of which no handler can make anything; 0 for none."""

    def made(self, lanes: int) -> list[Item]:
        """Return all items, in the order in which they are made."""
        return [
            Item(f"lane-{n % lanes}", n // lanes, bool(self.poison) and n % self.poison == 3)
            for n in range(self.items)
        ]


@dataclass(slots=True)
class Outcome:
    """What came of it, besides what lies in the folder."""

    failures: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    took_s: float = 0.0


class Fleet:
    """The replicas: one on each seat, a new one in the place of one that ended."""

    def __init__(self, plan: Plan, source: Source, database: Postgresql, folder: Path) -> None:
        self._plan, self._source, self._database = plan, source, database
        self._folder = folder
        self._file = f"sqlite://{folder / 'election.db'}"
        self._started = 0
        self.replicas: dict[int, tuple[str, ChildProcess]] = {}
        self.ended: list[str] = []
        """Those that ended without being killed, by the kernel's timer or by us."""

    def revive(self) -> None:
        """Have a living replica on each seat."""
        for seat in range(self._plan.replicas):
            if seat in self.replicas:
                name, process = self.replicas[seat]
                if process.running:
                    continue
                if process.exit_status != -signal.SIGKILL:
                    self.ended.append(f"{name} ended by itself, with {process.exit_status}")
                    if process.exit_status != CUT_OFF or len(self.ended) > MOST_ENDED:
                        raise Late(f"{self.ended[-1]}\n{process.log_tail()}")
            self._start(seat)

    def _start(self, seat: int) -> None:
        plan = self._plan
        self._started += 1
        name = f"replica-{self._started}"
        flags = ["--raw"] * plan.raw + (["--planted", plan.planted] if plan.planted else [])
        flags += ["--every-ms", str(plan.every_ms)]
        chance = random.Random(f"{plan.seed}/{name}")
        for flag in ("--no-deadman", "--aio"):
            if chance.random() < 0.5:
                flags.append(flag)
        url = self._database.url(0, seat, "cut")
        process = ChildProcess(
            name,
            [sys.executable, "-m", "tests.work.replica", plan.kind, plan.source, name, *flags],
            log_path=self._folder / "output" / f"{name}.txt",
            environment={
                "INCUMBENT_STORE": url if plan.store == "postgresql" else self._file,
                "INCUMBENT_TTL": str(plan.ttl_s),
                "WORK_SOURCE": self._source.where(seat),
                "WORK_EFFECTS": with_options(url, connect_timeout="5"),
                "PYTHONPATH": f"{PROJECT / 'src'}:{PROJECT}",
            },
            working_dir=PROJECT,
        )
        process.spawn()
        self.replicas[seat] = name, process

    def seat_of(self, name: str) -> int | None:
        """Return where this replica sits; None if it is gone."""
        return next((seat for seat, (other, _) in self.replicas.items() if other == name), None)

    def end(self) -> None:
        """Kill all, with what they have started."""
        for _, process in self.replicas.values():
            if process.running:
                below = Process(process.pid).descendants()
                process.kill()
                for child in below:
                    child.signal(signal.SIGKILL)


class Feeder:
    """Makes the items in a thread of its own, as far as it is let."""

    def __init__(self, source: Source, items: list[Item], log: Path) -> None:
        self._source, self._items, self._log = source, items, log
        self._allowed = 0
        self._change = threading.Condition()
        self._ended = False
        self.failures: list[str] = []
        self._thread = threading.Thread(target=self._feed, name="feeder", daemon=True)
        self._thread.start()

    def let(self, count: int) -> None:
        """Let it make so many in all."""
        with self._change:
            self._allowed = count
            self._change.notify()

    def end(self) -> None:
        """Wait until all that it may make are made, and noted."""
        with self._change:
            self._ended = True
            self._change.notify()
        self._thread.join(PRODUCER_S)

    def _feed(self) -> None:
        done = 0
        with self._log.open("w", encoding="utf-8") as log:
            while True:
                with self._change:
                    while done >= self._allowed:
                        if self._ended:
                            return
                        self._change.wait()
                    batch = self._items[done : min(done + BATCH, self._allowed)]
                if not self._put(batch):
                    return
                log.writelines(
                    f"{item.lane} {item.position} {item.name}{' poison' * item.poison}\n"
                    for item in batch
                )
                log.flush()
                done += len(batch)

    def _put(self, batch: list[Item]) -> bool:
        deadline_s = time.monotonic() + PRODUCER_S
        while True:
            try:
                self._source.put(batch)
                return True
            except Exception as error:
                if time.monotonic() > deadline_s:
                    self.failures.append(f"the producer: {error!r}")
                    return False
                time.sleep(0.1)  # sleep: the server is away, and that it is back can only be tried


class Arena:
    """One run: servers, replicas, the producer, and the one who breaks things."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        tell: Callable[[str], None],
        database: Postgresql | None,
    ) -> None:
        self.plan, self.folder, self._tell = plan, folder, tell
        self.chance = random.Random(f"{plan.seed}/{plan.kind}/{plan.source}")
        self.watch = Watch(threading.Event(), LOOK_EVERY_S)
        self._lent = database is not None
        self.database = database or Postgresql(folder)
        self.source = SOURCES[plan.kind][plan.source](folder, self.database, plan.replicas)
        self.fleet = Fleet(plan, self.source, self.database, folder)
        self._effects: Effects | None = None
        self._deck: list[str] = []

    @property
    def effects(self) -> Effects:
        if self._effects is None:
            self._effects = Effects(self.database.url(0))
        return self._effects

    def known(self) -> list[str]:
        """Return the faults that this run can have."""
        chosen = self.plan.faults or tuple(FAULTS)
        served = self.source.server is not None
        return [fault for fault in chosen if served or fault not in ON_SOURCES]

    def play(self) -> Outcome:
        """Do all of it, and leave the logs in the folder."""
        outcome, begun_s = Outcome(), time.monotonic()
        (self.folder / "output").mkdir(parents=True)
        try:
            if not self._lent:
                self.database.start()
            self.effects.create()
            self.source.start()
            self.fleet.revive()
            (self._ticks if self.plan.kind == "periodic" else self._items)(outcome)
        except Late as error:
            outcome.failures.append(str(error))
        finally:
            self.fleet.end()
            with contextlib.suppress(psycopg.Error):
                self._collect()
            outcome.failures += self._passed_by()
            self.fleet.end()
            self.effects.close()
            self.source.stop()
            if not self._lent:
                self.database.stop()
        outcome.ended = self.fleet.ended
        outcome.took_s = time.monotonic() - begun_s
        return outcome

    def _collect(self) -> None:
        written = self.effects.written()
        (self.folder / "committed.log").write_text(written, encoding="utf-8")
        if self.plan.poison:
            dead = "".join(f"{lane} {at} {name}\n" for lane, at, name in self.effects.dead())
            (self.folder / "dead.log").write_text(dead, encoding="utf-8")

    def _passed_by(self) -> list[str]:
        """Name the servers to which nobody went by the way on which he can be cut off."""
        servers = {"database": self.database, "source": self.source.server}
        return [
            f"nobody went to the {name} by the way that can be cut"
            for name, server in servers.items()
            if server is not None
            and not any(server.taken(seat) for seat in range(self.plan.replicas))
        ]

    # -- items ------------------------------------------------------------------------------------

    def _items(self, outcome: Outcome) -> None:
        plan = self.plan
        items = plan.made(self.source.lanes)
        good = sum(not item.poison for item in items)
        self._describe()
        feeder = Feeder(self.source, items, self.folder / "produced.log")
        try:
            # One share more than there are rounds: after each fault something is left to be done.
            shares = plan.rounds + 1
            for number in range(plan.rounds):
                feeder.let(plan.items * (number + 1) // shares)
                count = good / shares * (number + self.chance.uniform(0.05, 0.7))
                self._await_count(int(count) + 1)
                self._round(number, partial(feeder.let, plan.items * (number + 2) // shares))
            feeder.let(plan.items)
        finally:
            feeder.end()
            outcome.failures += feeder.failures
        self._await_count(good)
        if good < plan.items:

            def look() -> bool | None:
                return True if len(self.effects.dead()) >= plan.items - good else None

            self.watch.until("the dead letters", plan.late_s, look)

    def _await_count(self, count: int) -> None:
        """Wait until so many effects are there; it is late when nothing is added any more."""
        seen = -1
        while True:

            def look(seen: int = seen) -> int | None:
                self.fleet.revive()
                last = self.effects.last()
                found = 0 if last is None else last.count
                return found if found >= count or found > seen else None

            seen = self.watch.until(f"an effect beyond {seen} (of {count})", self.plan.late_s, look)
            if seen >= count:
                return

    # -- ticks ------------------------------------------------------------------------------------

    def _ticks(self, outcome: Outcome) -> None:
        plan = self.plan
        first = self._last_after(None)
        for number in range(plan.rounds):
            share_s = plan.items * plan.every_ms / 1000 / plan.rounds
            at_s = (number + self.chance.uniform(0.1, 0.6)) * share_s + first.position / 1000
            self.watch.rest(max(0.0, at_s - time.time()))
            self._round(number)
        until_ms = max(first.position + plan.items * plan.every_ms, round(time.time() * 1000))
        due_ms = until_ms - until_ms % plan.every_ms
        self.watch.rest(max(0.0, due_ms / 1000 - time.time()))

        def look() -> Last | None:
            self.fleet.revive()
            last = self.effects.last()
            return last if last is not None and last.position >= due_ms else None

        try:
            self.watch.until(f"the tick of {due_ms}", plan.late_s, look)
        finally:
            self.fleet.end()
            # They have gone on until now, and what they have begun with is owed as well.
            last = self.effects.last()
            until_ms = max(due_ms, 0 if last is None else last.position)
            schedule = {"every_ms": plan.every_ms} if plan.source == "every" else EACH_SECOND
            self._describe(schedule=schedule, from_ms=first.position, until_ms=until_ms)

    def _describe(self, **schedule: Any) -> None:
        plan = self.plan
        said = {"kind": plan.kind, "source": plan.source, "seed": plan.seed, **schedule}
        said["ordered"] = self.source.ordered
        (self.folder / "run.json").write_text(json.dumps(said), encoding="utf-8")

    # -- a round ----------------------------------------------------------------------------------

    def _round(self, number: int, then: Callable[[], None] | None = None) -> None:
        if not self._deck:
            self._deck = self.known()
            self.chance.shuffle(self._deck)
        fault = self._deck.pop()
        before = self._last_after(None)
        holder = self.fleet.seat_of(before.replica)
        anybody = self.chance.randrange(self.plan.replicas)
        seat = holder if holder is not None and self.chance.random() < 0.8 else anybody
        name = self.fleet.replicas[seat][0]
        with (self.folder / "faults.log").open("a", encoding="utf-8") as log:
            print(time.clock_gettime_ns(time.CLOCK_BOOTTIME), fault, name, file=log)
        self._tell(f"round {number + 1}: {fault} of {name}, after {before.count} effects")
        with FAULTS[fault](self, seat):
            pass
        self.fleet.revive()
        if then is not None:
            then()
        self._last_after(before.sequence)

    def _last_after(self, sequence: int | None) -> Last:
        """Return the latest effect, once there is one after `sequence`."""

        def look() -> Last | None:
            self.fleet.revive()
            last = self.effects.last()
            return last if last is not None and last.sequence > (sequence or 0) else None

        return self.watch.until(f"an effect after {sequence}", self.plan.late_s, look)

    def servers(self, fault: str) -> list[Servers]:
        """Return those from which a replica is cut off."""
        found: list[Servers] = [] if fault == "cut-source" else [self.database]
        if self.source.server is not None and fault != "cut-store":
            found.append(self.source.server)
        return found


# -- the faults -----------------------------------------------------------------------------------


@contextmanager
def _kill(arena: Arena, seat: int) -> Iterator[None]:
    arena.fleet.replicas[seat][1].kill()
    yield


@contextmanager
def _stop(arena: Arena, seat: int) -> Iterator[None]:
    """SIGSTOP, for longer than the lease; then SIGCONT, if the kernel has left anybody."""
    process = arena.fleet.replicas[seat][1]
    if process.running:
        victim = Process(process.pid)
        victim.signal(signal.SIGSTOP)
        arena.watch.rest(arena.chance.uniform(1.1, 2.2) * arena.plan.ttl_s)
        victim.signal(signal.SIGCONT)
    yield


def _cut(fault: str) -> Callable[[Arena, int], contextlib.AbstractContextManager[None]]:
    @contextmanager
    def cut(arena: Arena, seat: int) -> Iterator[None]:
        """No byte passes for longer than the lease, or for a part of it; no connection ends."""
        servers = arena.servers(fault)
        for server in servers:
            server.cut(0, seat, "cut")
        arena.watch.rest(arena.chance.uniform(0.3, 2.2) * arena.plan.ttl_s)
        for server in servers:
            server.heal(0, seat)
        yield

    return cut


@contextmanager
def _end_connections(arena: Arena, seat: int) -> Iterator[None]:
    """All connections of one replica end, several times."""
    for _ in range(arena.chance.randint(1, 8)):
        for server in arena.servers("cut"):
            server.end_connections(0, seat)
        arena.watch.rest(arena.chance.uniform(0.001, 0.2) * arena.plan.ttl_s)
    yield


def _restart(what: str) -> Callable[[Arena, int], contextlib.AbstractContextManager[None]]:
    @contextmanager
    def restart(arena: Arena, seat: int) -> Iterator[None]:
        """The server dies, stays away for a while, and comes back with its data."""
        server = arena.database if what == "database" else arena.source.server
        assert server is not None
        server.crash()
        arena.watch.rest(arena.chance.uniform(0.0, 1.5) * arena.plan.ttl_s)
        server.restart()
        yield

    return restart


@contextmanager
def _source_pause(arena: Arena, seat: int) -> Iterator[None]:
    server = arena.source.server
    assert server is not None
    server.pause(arena.chance)
    arena.watch.rest(arena.chance.uniform(0.3, 1.5) * arena.plan.ttl_s)
    server.resume()
    yield


FAULTS: dict[str, Callable[[Arena, int], contextlib.AbstractContextManager[None]]] = {
    "kill": _kill,
    "stop": _stop,
    "cut": _cut("cut"),
    "cut-store": _cut("cut-store"),
    "cut-source": _cut("cut-source"),
    "end-connections": _end_connections,
    "source-restart": _restart("source"),
    "source-pause": _source_pause,
    "database-restart": _restart("database"),
}


def run(
    plan: Plan,
    folder: Path,
    tell: Callable[[str], None] = lambda text: None,
    database: Postgresql | None = None,
) -> Outcome:
    """Carry out a plan; `checker` judges what is left in the folder.

    Args:
        plan: what to do.
        folder: for the logs.
        tell: is told what happens.
        database: one that runs, and whose content does not matter; None for one of its own.
    """
    return Arena(plan, folder, tell, database).play()
