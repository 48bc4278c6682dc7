"""One candidate process: production code on a loop of its own, and the ways it can be treated.

The process is what the kernel sees: it can be stopped and continued, killed, suspended with its
host. Its work runs beside its event loop, and is written down by the workers themselves.

The twin of the kernel's timer fires on CLOCK_BOOTTIME, also while the process is stopped. From
then on the process is doomed: it dies within the margin, and no renewal can save it.
"""

from __future__ import annotations

import asyncio
import math
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from incumbent.core.events import Why
from incumbent.core.records import Holding, Snapshot
from incumbent.core.table import State
from incumbent.core.timing import Timing
from incumbent.errors import StoreError
from incumbent.runtime.alarms import Alarms, LoopAlarms
from incumbent.runtime.driver import Driver, HoldBack
from incumbent.runtime.hub import Hub
from incumbent.runtime.term import Term
from incumbent.runtime.watchdog import Watchdog
from incumbent.testing.simulator.alarms import SimAlarms
from incumbent.testing.simulator.judge import Judge, Work
from incumbent.testing.simulator.loop import SimLoop
from incumbent.testing.simulator.network import Link, Network
from incumbent.testing.simulator.world import HostClock, World

__all__ = ["Host", "KernelTimer", "Manners", "Process", "Worker"]


@dataclass(slots=True)
class Host:
    """Where processes run, one after the other."""

    name: str
    clock: HostClock
    timing: Timing
    armed: bool


@dataclass(slots=True)
class Manners:
    """How the work of a process behaves.

    Attributes:
        stops_after_s: from being asked to stop to having stopped; infinity for never.
        lives_s: how long it works before it ends by itself.
        returns_after_s: for how long the candidate stays away when it has withdrawn; infinity for
            ever, and then its process ends with the last of its candidates.
    """

    stops_after_s: float
    lives_s: float = math.inf
    returns_after_s: float = math.inf


class KernelTimer:
    """The twin of `incumbent.runtime.deadman.DeadMan`."""

    def __init__(self, world: World, process: Process, slack_s: float) -> None:
        self.deadline = math.inf
        self.doomed = False
        self._world = world
        self._process = process
        self._slack_s = slack_s

    def arm(self, deadline: float, message: str) -> None:
        """Set the deadline."""
        self.deadline = deadline
        self.plan()

    def disarm(self) -> None:
        """Have no deadline."""
        self.deadline = math.inf

    def plan(self) -> None:
        """Ask for a call at the deadline, as the clock goes now."""
        if self.deadline != math.inf:
            instant = self._process.clock.true_of_boot(self.deadline)
            self._world.at(instant, self._due, self.deadline)

    def _due(self, deadline: float) -> None:
        process = self._process
        if deadline != self.deadline or self.doomed or not process.alive:
            return
        if process.clock.suspended:
            return
        if process.clock.boot() < deadline - 1e-9:
            self.plan()
            return
        self.doomed = True
        process.judge.killed(process)
        self._world.after(self._slack_s, process.die, "killed by the kernel's timer")


class Process:
    """One process with one candidate in each of some elections."""

    def __init__(
        self,
        world: World,
        judge: Judge,
        network: Network,
        host: Host,
        label: str,
        identity: str,
        on_death: Callable[[Process, str], None],
    ) -> None:
        self.label = label
        self.identity = identity
        self.host = host
        self.clock = host.clock
        self.alive = True
        self.paused = False
        self.loop = SimLoop(world, host.clock, self._on_error)
        self._kernel_alarms = SimAlarms(world, host.clock, self.loop)
        by_loop = world.rng.random() < 0.25  # As on a machine without such timers.
        self.alarms: Alarms = self._kernel_alarms
        if by_loop:
            self.alarms = LoopAlarms(self.loop.as_loop, host.clock.boot)
        self.link: Link = network.link(label, self.loop)
        self.workers: dict[str, Worker] = {}
        self.judge = judge
        self.world = world
        slack_s = world.rng.choice((0.0, 0.5, 0.95)) * host.timing.margin_s
        self.timer = KernelTimer(world, self, slack_s)
        self._on_death = on_death
        self._starting: asyncio.Task[None] | None = None
        self._hub: Hub | None = None
        self._incarnation = ""
        self._on_thaw: list[Callable[[], None]] = []
        self.hold_back: HoldBack | None = None

    @property
    def frozen(self) -> bool:
        """Whether it does nothing now."""
        return self.paused or self.clock.suspended

    def run(
        self,
        hub: Callable[[Process], Awaitable[Hub]],
        elections: list[str],
        manners: Manners,
    ) -> None:
        """Begin to be a candidate."""
        self._incarnation = f"{self.world.rng.getrandbits(32):08x}"
        self.world.write(self.label, f"starts as {self.identity}/{self._incarnation}")

        async def start() -> None:
            try:
                self._hub = await hub(self)
            except StoreError as error:
                self.die(f"cannot open its store: {error}")
                return
            for name in elections:
                self._seat(name, Manners(manners.stops_after_s, manners.lives_s))
            for worker in self.workers.values():
                worker.driver.start()

        def begin() -> None:
            self._starting = self.loop.create_task(start())

        self.loop.deliver(begin)

    def _seat(self, name: str, manners: Manners, attempts: int = 0) -> Worker:
        assert self._hub is not None
        worker = self.workers[name] = Worker(self, name, manners)
        worker.driver = Driver(
            self._hub,
            name,
            self.identity,
            self._incarnation,
            self.host.timing,
            worker,
            armed=self.host.armed,
            attempts=attempts,
        )
        worker.driver.hold_back = self.hold_back
        return worker

    def seat_again(self, before: Worker) -> None:
        """Be a candidate again in an election from which a candidate has withdrawn."""
        manners = replace(before.manners, returns_after_s=math.inf)
        self._seat(before.election, manners, before.driver.attempts).driver.start()

    def watchdog(self) -> Watchdog:
        """Return the production watchdog over the twin of the kernel's timer."""
        return Watchdog(self.timer)

    # -- what may happen to it --------------------------------------------------------------------

    def pause(self) -> None:
        """Stop it, as SIGSTOP does."""
        self.world.write(self.label, "is stopped (SIGSTOP)")
        self.paused = True
        self.loop.pause()
        self._cannot_be_blamed()

    def resume(self) -> None:
        """Continue it."""
        if self.alive and self.paused:
            self.world.write(self.label, "goes on (SIGCONT)")
            self.paused = False
            self._go_on()

    def suspend(self) -> None:
        """Suspend its host."""
        if not self.alive or self.frozen:
            return
        self.world.write(self.label, "has its host suspended")
        self.clock.suspend()
        self.loop.pause()
        self._cannot_be_blamed()

    def wake(self) -> None:
        """Wake its host; the kernel's timer comes before everything else."""
        if not self.clock.suspended:
            return
        self.clock.resume()
        if self.alive:
            self.world.write(self.label, "wakes up with its host")
            if self.clock.boot() >= self.timer.deadline:
                self.die("killed by the kernel's timer on waking up")
            else:
                self.timer.plan()
                self._go_on()

    def slew(self, rate: float) -> None:
        """Let the host's clocks go at another rate."""
        self.clock.set_rate(rate)
        if self.alive:
            self.timer.plan()
            self.loop.replan()
            self._kernel_alarms.replan()

    def die(self, cause: str) -> None:
        """End at once, with all its work."""
        if not self.alive:
            return
        self.world.write(self.label, f"DIES: {cause}")
        self.alive = False
        self.loop.drop()
        for subscription in self.link.subscriptions:
            subscription.alive = False
        self._on_death(self, cause)

    def when_thawed(self, call: Callable[[], None]) -> None:
        """Call back when the process goes on: what its other threads do then."""
        self._on_thaw.append(call)

    def _go_on(self) -> None:
        if not self.frozen:
            thawing, self._on_thaw = self._on_thaw, []
            for call in thawing:
                self.world.after(0.0, call)
            self.loop.resume(timers_first=self.world.rng.random() < 0.25)

    def _cannot_be_blamed(self) -> None:
        for worker in self.workers.values():
            if worker.work is not None and not worker.work.armed:
                worker.work.free = True

    def _on_error(self, message: str, error: BaseException | None) -> None:
        detail = "".join(traceback.format_exception(error)) if error is not None else ""
        self.judge.crashed(self.label, f"{message}\n{detail}")

    # -- what it is doing -------------------------------------------------------------------------

    def leads(self, name: str) -> bool:
        """Tell whether its work in an election runs with a valid term."""
        worker = self.workers.get(name)
        work = worker.work if worker is not None else None
        return work is not None and work.acting and work.told is None and work.valid

    @property
    def leading(self) -> bool:
        """Whether it leads in any election."""
        return any(self.leads(name) for name in self.workers)


class Worker:
    """The work in one election, and the listener of its driver."""

    driver: Driver

    def __init__(self, process: Process, election: str, manners: Manners) -> None:
        self.process = process
        self.election = election
        self.manners = manners
        self.work: Work | None = None
        self.closed_at = math.inf

    @property
    def remaining_s(self) -> float:
        """How long its term is trusted as things are."""
        return self.work.term.remaining() if self.work is not None else 0.0

    @property
    def stands_by(self) -> bool:
        """Whether it waits for somebody's end."""
        if self.driver.state is not State.STANDBY or self.driver.watched is None:
            return False
        return self.driver.watched.holding is Holding.HELD

    def begun(self, term: Term) -> None:
        """Start to work."""
        process = self.process
        if not process.alive:
            return
        timing = process.host.timing
        self.work = process.judge.begun(
            process, term, armed=process.host.armed, margin_s=timing.margin_s
        )
        if self.manners.lives_s != math.inf:
            process.loop.call_later(self.manners.lives_s, self.finish, term)

    def stop(self, term: Term, why: Why, cause: str, deadline: float) -> None:
        """Stop, in the way that the work has."""
        process, work = self.process, self.work
        if not process.alive or work is None or work.term is not term:
            return
        process.judge.told(work, why, cause)
        stops_after_s = self.manners.stops_after_s
        if not work.armed and stops_after_s > process.host.timing.grace_s:
            work.free = True
        if stops_after_s == 0.0:
            self.finish(term)
        elif stops_after_s != math.inf:
            process.loop.call_later(stops_after_s, self.finish, term)

    def stuck(self, term: Term, cause: str) -> None:
        """Hear that the work did not stop; an operator will see to it."""
        process = self.process
        process.judge.notes["stuck"] += 1
        if self.work is not None and self.work.term is term:
            self.work.stuck = True
        process.world.write(process.label, f"is stuck in {self.election}")
        after_s = process.world.rng.random() * 2 * process.host.timing.ttl_s
        process.world.after(after_s, process.die, "killed by an operator, being stuck")

    def waiting(self, snapshot: Snapshot, until: float) -> None:
        """Hear that somebody else holds."""

    def note(self, code: str, text: str) -> None:
        """Hear something that people should know."""
        process = self.process
        if not process.alive:
            return
        process.judge.notes[code] += 1
        process.world.write(process.label, f"notes {code}: {text}")
        if code == "bug":
            process.judge.crashed(process.label, text)

    def closed(self) -> None:
        """Hear that the candidate has withdrawn; the process exits when all have."""
        process = self.process
        if self.manners.returns_after_s != math.inf:
            process.loop.call_later(self.manners.returns_after_s, process.seat_again, self)
            return
        self.closed_at = process.world.now
        if all(worker.closed_at != math.inf for worker in process.workers.values()):
            process.world.after(0.0, process.die, "exits after its withdrawal")

    def finish(self, term: Term) -> None:
        """Have all work of the term ended."""
        work = self.work
        if work is not None and work.term is term and work.running and self.process.alive:
            self.process.judge.ended(work)
            self.driver.work_ended(term)
