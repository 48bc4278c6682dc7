"""Breaks things, round by round, and waits each time until somebody else does the work.

One *cell* is one store, one mode and one fault. Its rounds run side by side in *lanes*: independent
elections with three workers each. What is broken, when and how is drawn from the seed; how the
machine schedules the processes is not, so a seed repeats the plan and not the history.

A round: three workers are alive and contend; somebody holds, as a mark made after asking shows;
after a while that differs from round to round the fault happens; a mark with a greater token ends
the wait, or its deadline does. Then the fault is healed, and who was stopped or cut off is free to
do harm. Whether he did is not judged here but from the marks, by `checker`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from incumbent.core.records import Holding, StepDownRequest
from incumbent.errors import StoreError
from incumbent.stores import open_store
from incumbent.stores.api import Store
from tests.faults import checker
from tests.faults.adapter import ON_MEMBERS, ON_NETWORKS, ON_SERVERS, Adapter
from tests.faults.checker import Mark, Report
from tests.faults.fleet import Late, Plan, Process, Stopped, Tail, Watch, Worker, orphans
from tests.faults.freezer import Freezer

__all__ = ["FAULTS", "MODES", "Cell", "Result", "run"]

MODES = ("library", "isolate", "command", "pid1")
SEATS = 3
READY_S = 60.0
LATEST_S = 30.0
"""What a takeover may take beyond three TTLs: a busy machine is no failure, a hang is one."""
HARM_S = 0.3
"""How long to look on after a pause or a cut. Who is alive then is counted as a survivor."""
GONE_S = 10.0
"""How long a killed worker, and all that it started, may take to be gone."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What is done: one line of the final table."""

    store: str
    mode: str
    fault: str
    rounds: int
    seed: int
    parallel: int
    ttl_s: float
    deaf: bool = False

    @property
    def at_once(self) -> bool:
        """Tell whether the fault hits all lanes together."""
        return self.fault in ON_SERVERS

    def lanes(self) -> list[int]:
        """Return the number of rounds of each lane.

        Lanes share the servers, and only one of these at a time can do without its peers.
        """
        lanes = 1 if self.fault in ON_MEMBERS else max(1, min(self.parallel, self.rounds))
        if self.at_once:
            return [-(-self.rounds // lanes)] * lanes
        return [self.rounds // lanes + (lane < self.rounds % lanes) for lane in range(lanes)]


@dataclass(slots=True)
class Result:
    """What came of a cell."""

    cell: Cell
    rounds: int
    report: Report
    survivors: int
    woke_ns: int
    """The longest that somebody who overlapped went on after the end of his pause or cut."""
    failures: list[str] = field(default_factory=list)
    took_s: float = 0.0
    busy: float = 0.0
    """How busy the machine was meanwhile, of 1."""

    @property
    def verdict(self) -> str:
        """Return "ok", "VIOLATED", "void", or "FAILED": somebody stopped taking over."""
        verdict = self.report.verdict(self.rounds)
        return "FAILED" if self.failures and verdict != checker.VIOLATED else verdict


class Asker:
    """Asks holders to step down, as `incumbent step-down` does."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._stores: dict[str, Store] = {}
        self._opening = asyncio.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, name="asker", daemon=True)
        self._thread.start()

    def ask(self, url: str, name: str, token: int) -> bool | None:
        """Ask who holds under `token`; None if it could not be asked."""
        future = asyncio.run_coroutine_threadsafe(self._ask(url, name, token), self._loop)
        try:
            return future.result(LATEST_S)
        except StoreError:
            return None

    async def _ask(self, url: str, name: str, token: int) -> bool | None:
        async with self._opening:
            if url not in self._stores:
                store = open_store(url)
                await store.open()
                self._stores[url] = store
        snapshot = await self._stores[url].read(name)
        if snapshot.holding is not Holding.HELD or snapshot.token not in (None, token):
            return None
        await self._stores[url].ask(name, StepDownRequest(snapshot.term))
        return True

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(LATEST_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LATEST_S)
        self._loop.close()

    async def _close(self) -> None:
        for store in self._stores.values():
            await store.close()


@dataclass(slots=True)
class Run:
    """What the lanes of a cell share."""

    cell: Cell
    adapter: Adapter
    asker: Asker
    marks_dir: Path
    output_dir: Path
    stop: threading.Event
    gate: threading.Barrier


class Lane:
    """One election, and its rounds."""

    def __init__(self, run: Run, number: int, rounds: int) -> None:
        cell = run.cell
        self.run = run
        self.cell = cell
        self.number = number
        self.rounds = rounds
        self.done = 0
        self.survivors = 0
        self.released_ns: dict[int, int] = {}
        self.election = f"{cell.mode}-{cell.fault}-{number}"
        self._plan = f"{cell.seed}/{cell.store}/{cell.mode}/{cell.fault}/{number}"
        self.chance = random.Random()
        self.watch = Watch(run.stop)
        self._tail = Tail(run.marks_dir / f"{self.election}.log")
        self._workers: dict[int, Worker] = {}
        self._started = 0

    def torment(self) -> None:
        """Do all rounds."""
        try:
            self._revive()
            for _ in range(self.rounds):
                self._round()
                self._revive()
                self.done += 1
            self.watch.rest(0.2 * self.cell.ttl_s)
        finally:
            for worker in self._workers.values():
                worker.end()
            self._tail.close()

    def _round(self) -> None:
        # Anew in each round: a worker more or less does not change what comes later.
        self.chance.seed(f"{self._plan}/round-{self.done}")
        self.watch.rest(self.chance.uniform(0.05, 0.45) * self.cell.ttl_s)
        mark, holder = self.holder()
        self.note(f"round {self.done + 1}: {self.cell.fault} of worker {holder.number}")
        try:
            self._break(mark, holder)
        except Late:
            for worker in self._workers.values():
                for process in worker.tree():
                    self.note(f"late; worker {worker.number}: {process}")
            raise
        self.note("healed")

    def _break(self, mark: Mark, holder: Worker) -> None:
        with FAULTS[self.cell.fault](self, mark, holder):
            restart_at_s = time.monotonic() + self.cell.ttl_s
            self.watch.until(
                f"{self.election}: a takeover after {self.cell.fault} of worker {holder.number}",
                3 * self.cell.ttl_s + LATEST_S,
                lambda: self._newer(mark.token, restart_at_s, holder.seat),
            )
            self.note("taken over")

    def note(self, text: str) -> None:
        """Write into the lane's journal, for people who look for the cause of a violation."""
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        with (self.run.output_dir / f"{self.election}.journal").open("a") as journal:
            print(now_ns, text, file=journal)

    def holder(self) -> tuple[Mark, Worker]:
        """Return who has made a mark since this was asked."""
        asked_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)

        def look() -> tuple[Mark, Worker] | None:
            mark = self._tail.last()
            if mark is None or mark.at_ns < asked_ns:
                return None
            worker = next((w for w in self._workers.values() if w.number == mark.worker), None)
            return None if worker is None else (mark, worker)

        return self.watch.until(f"{self.election}: somebody works", READY_S, look)

    def _newer(self, token: int, restart_at_s: float, seat: int) -> bool | None:
        if self.taken_over(token):
            return True
        if time.monotonic() > restart_at_s:
            # Whoever opens the store on a seat that is cut off ends when its connection is healed.
            cut = self.cell.fault in (*ON_NETWORKS, *ON_MEMBERS)
            self._restart_dead({seat} if cut else set())
        return None

    def taken_over(self, token: int) -> bool:
        """Tell whether somebody has worked under a greater token."""
        mark = self._tail.last()
        return mark is not None and mark.token > token

    def _revive(self) -> None:
        """Have a living worker that contends on every seat."""
        self._restart_dead(set())
        for worker in self._workers.values():
            self._await_ready(worker)

    def _restart_dead(self, besides: set[int]) -> None:
        for seat in set(range(SEATS)) - besides:
            worker = self._workers.get(seat)
            if worker is None or not worker.process.running:
                if worker is not None:
                    worker.end()
                self._workers[seat] = self._new_worker(seat)

    def _new_worker(self, seat: int) -> Worker:
        cell = self.cell
        self._started += 1
        chance = random.Random(f"{self._plan}/worker-{self._started}")
        return Worker(
            1000 * self.number + self._started,
            seat,
            Plan(
                cell.mode,
                stubborn=chance.random() < 0.5 and cell.fault != "step-down" and not cell.deaf,
                detached=chance.random() < 0.5 and cell.mode in ("command", "pid1"),
                deaf=cell.deaf,
            ),
            election=self.election,
            url=self.run.adapter.url(self.number, seat, cell.fault),
            ttl_s=cell.ttl_s,
            log=self._tail.path,
            output_dir=self.run.output_dir,
        )

    def _await_ready(self, worker: Worker) -> None:
        def look() -> bool | None:
            if not worker.process.running:
                raise Late(f"{worker.process.name} ended\n{worker.process.log_tail()}")
            return worker.ready or None

        if not worker.ready:
            self.watch.until(f"{worker.process.name} contends", READY_S, look)

    def linger(self) -> None:
        """Go on with the fault for a while, now that somebody else holds."""
        self.watch.rest(self.chance.uniform(0.0, 0.3) * self.cell.ttl_s)

    def release(self, holder: Worker) -> None:
        """Note that whoever was stopped, frozen or cut off is about to be let go."""
        self.released_ns[holder.number] = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.note("letting go")

    def look_on(self, holder: Worker) -> None:
        """Give him the time to do harm, or to be gone."""
        with contextlib.suppress(Late):
            self.watch.until("dead", HARM_S, lambda: None if holder.process.running else True)
            return
        self.survivors += 1


# -- the faults -----------------------------------------------------------------------------------


@contextmanager
def _kill(lane: Lane, mark: Mark, holder: Worker) -> Iterator[None]:
    """SIGKILL for the process that holds, or for a part of its tree without which it cannot."""
    parts = {
        "library": ["wrapper"],
        "isolate": ["wrapper", "guard"],
        "command": ["wrapper", "wrapper", "init", "work"],
        "pid1": ["pid1", "wrapper", "init", "work"],
    }
    name = lane.chance.choice(parts[lane.cell.mode])
    victim = holder.part(name)
    lane.note(f"SIGKILL for {name}: {victim}")
    if victim is not None:
        victim.signal(signal.SIGKILL)
    yield
    what = f"{holder.process.name} ends after SIGKILL for its {name}"
    lane.watch.until(what, GONE_S, lambda: None if holder.process.running else True)


@contextmanager
def _stop(lane: Lane, mark: Mark, holder: Worker) -> Iterator[None]:
    """SIGSTOP for the whole worker, in any order, past the lease; then SIGCONT, in another one."""
    victims = _victims(lane, holder)
    lane.chance.shuffle(victims)
    for victim in victims:
        victim.signal(signal.SIGSTOP)
    try:
        yield
        lane.linger()
    finally:
        lane.chance.shuffle(victims)
        lane.release(holder)
        for victim in victims:
            victim.signal(signal.SIGCONT)
    lane.look_on(holder)


@contextmanager
def _freeze(lane: Lane, mark: Mark, holder: Worker) -> Iterator[None]:
    """The same by the freezer of cgroups, which no signal interrupts."""
    freezer = Freezer(f"{lane.number}-{holder.number}")
    try:
        freezer.freeze(lambda: _victims(lane, holder))
        yield
        lane.linger()
        lane.release(holder)
        freezer.thaw()
        lane.look_on(holder)
    finally:
        freezer.close()


@contextmanager
def _step_down(lane: Lane, mark: Mark, holder: Worker) -> Iterator[None]:
    """Ask the holder to hand over."""
    url, election = lane.run.adapter.url(lane.number), lane.election

    def look() -> bool | None:
        return lane.run.asker.ask(url, election, lane.holder()[0].token)

    lane.watch.until(f"{election}: the holder can be asked", READY_S, look)
    yield


@contextmanager
def _cut(lane: Lane, mark: Mark, holder: Worker) -> Iterator[None]:
    """No byte passes between the holder and the server, or no answer; no connection ends."""
    lane.run.adapter.cut(lane.number, holder.seat, lane.cell.fault)
    try:
        yield
        lane.linger()
    finally:
        lane.release(holder)
        lane.run.adapter.heal(lane.number, holder.seat)
    lane.look_on(holder)


@contextmanager
def _isolate(lane: Lane, mark: Mark, holder: Worker) -> Iterator[None]:
    """The holder's server, the only one that he knows, is cut off from its peers.

    It is the leader of its peers as often as another one. He can speak to it all the while.
    """
    lane.run.adapter.isolate(holder.seat)
    try:
        yield
        lane.linger()
    finally:
        lane.release(holder)
        lane.run.adapter.rejoin()
    lane.look_on(holder)


@contextmanager
def _end_connections(lane: Lane, mark: Mark, holder: Worker) -> Iterator[None]:
    """The connections of the living holder end, again and again for longer than the TTL.

    In half of the rounds now and then, in the others so often that hardly a request gets through.
    He may keep his lease, since he connects again, or lose it. If he kept it he counts as a
    survivor, and is killed in the end, so that each round has its takeover.
    """
    often = lane.chance.random() < 0.5
    lane.note("connections end " + ("all the time" if often else "now and then"))
    until_s = time.monotonic() + 1.3 * lane.cell.ttl_s
    while time.monotonic() < until_s and not lane.taken_over(mark.token):
        lane.run.adapter.end_connections(lane.number, holder.seat)
        lane.watch.rest(
            lane.chance.uniform(0.001, 0.02)
            if often
            else lane.chance.uniform(0.02, 0.3) * lane.cell.ttl_s
        )
    last, worker = lane.holder()
    if last.token == mark.token:
        lane.survivors += 1
        lane.note(f"worker {worker.number} has kept his lease")
        worker.process.kill()
    yield


@contextmanager
def _server_pause(lane: Lane, mark: Mark, holder: Worker) -> Iterator[None]:
    """The server stands still for longer than the TTL. No holder may live through that."""
    adapter = lane.run.adapter
    _together(lane, lambda: adapter.pause(lane.chance))
    lane.watch.rest(1.3 * lane.cell.ttl_s)
    _together(lane, adapter.resume)
    yield


@contextmanager
def _server_restart(lane: Lane, mark: Mark, holder: Worker) -> Iterator[None]:
    """The server dies, stays away for longer than the TTL, and comes back with its data."""
    adapter = lane.run.adapter
    _together(lane, adapter.crash)
    lane.watch.rest(1.3 * lane.cell.ttl_s)
    _together(lane, adapter.restart)
    yield


Fault = Callable[[Lane, Mark, Worker], AbstractContextManager[None]]

FAULTS: dict[str, Fault] = {
    "kill": _kill,
    "stop": _stop,
    "stop-wrapper": _stop,
    "freeze": _freeze,
    "freeze-wrapper": _freeze,
    "step-down": _step_down,
    "cut": _cut,
    "drop-replies": _cut,
    "end-connections": _end_connections,
    "isolate": _isolate,
    "server-pause": _server_pause,
    "server-restart": _server_restart,
}


def _victims(lane: Lane, holder: Worker) -> list[Process]:
    """Return the whole tree, or the candidate's process alone if only that is to be paused."""
    if not lane.cell.fault.endswith("-wrapper"):
        return holder.tree()
    wrapper = holder.part("wrapper")
    return [] if wrapper is None else [wrapper]


def _together(lane: Lane, act: Callable[[], None]) -> None:
    """Do something once, when all lanes are here; return to all of them when it is done."""
    if lane.run.gate.wait(READY_S) == 0:
        act()
    lane.run.gate.wait(READY_S)


# -- a cell ---------------------------------------------------------------------------------------


def run(
    cell: Cell,
    adapter: Adapter,
    folder: Path,
    stop: threading.Event,
    progress: Callable[[int, int], None] = lambda done, total: None,
    known: Callable[[], set[int]] | None = None,
) -> Result:
    """Run a cell on a store whose server runs, and judge it.

    Args:
        cell: what to do.
        adapter: the store.
        folder: for marks and outputs.
        stop: set it to end the run early.
        progress: told now and then how many rounds are done, and how many there are.
        known: the children of this process that are not ours to look after; None if it is no
            subreaper, and so cannot see what workers leave behind.
    """
    started_s, ticks = time.monotonic(), _ticks()
    marks_dir, output_dir = folder / "marks", folder / "output"
    for path in (marks_dir, output_dir):
        path.mkdir(parents=True)
    rounds = cell.lanes()
    gate = threading.Barrier(len(rounds))
    asker = Asker()
    shared = Run(cell, adapter, asker, marks_dir, output_dir, stop, gate)
    lanes = [Lane(shared, number, of_lane) for number, of_lane in enumerate(rounds)]
    failures: list[str] = []

    def torment(lane: Lane) -> None:
        try:
            lane.torment()
        except Stopped:
            failures.append(f"{lane.election}: ended early, after {lane.done} rounds")
        except threading.BrokenBarrierError:
            failures.append(f"{lane.election}: another lane failed, after {lane.done} rounds")
        except Exception as error:
            failures.append(f"{lane.election}, round {lane.done + 1}: {error!r}")
            gate.abort()

    with ThreadPoolExecutor(len(lanes)) as pool:
        futures = [pool.submit(torment, lane) for lane in lanes]
        try:
            while wait(futures, timeout=1.0).not_done:
                progress(sum(lane.done for lane in lanes), sum(rounds))
        except BaseException:
            stop.set()
            gate.abort()
            raise
        finally:
            wait(futures)
            asker.close()
    if known is not None:
        failures += _left_behind(Watch(stop), known())
    report = checker.judge_all(marks_dir)
    survivors = sum(lane.survivors for lane in lanes)
    busy, idle = (now - before for now, before in zip(_ticks(), ticks, strict=True))
    return Result(
        cell,
        sum(rounds),
        report,
        survivors,
        _woke_ns(lanes, report),
        failures,
        took_s=time.monotonic() - started_s,
        busy=busy / (busy + idle),
    )


def _ticks() -> tuple[int, int]:
    """Return for how long all processors together have worked and been idle.

    Of the machine, since what is killed with its PID namespace is in nobody's account.
    """
    line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    user, nice, system, idle, waiting, *others = map(int, line.split()[1:9])
    return user + nice + system + sum(others), idle + waiting


def _woke_ns(lanes: list[Lane], report: Report) -> int:
    released_ns = {
        (lane.election, worker): at_ns
        for lane in lanes
        for worker, at_ns in lane.released_ns.items()
    }
    return max(
        (
            overlap.earlier.last_ns - released_ns[overlap.earlier.election, overlap.earlier.worker]
            for overlap in report.overlaps
            if (overlap.earlier.election, overlap.earlier.worker) in released_ns
        ),
        default=0,
    )


def _left_behind(watch: Watch, known: set[int]) -> list[str]:
    """Wait until nothing is left of any worker; report and kill what stays."""
    try:
        watch.until("gone", GONE_S, lambda: None if orphans(known) else True)
    except (Late, Stopped):
        left = orphans(known)
        for process in left:
            process.signal(signal.SIGKILL)
        return [f"left behind: {process.pid} {process.command()!r}" for process in left]
    return []
