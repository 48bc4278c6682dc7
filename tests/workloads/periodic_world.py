"""Hosts that lead one after the other over one store, in virtual time, each with its own clock.

What runs is the production code of periodic tasks and of checkpoints. Twins are the store's network
(late replies, lost answers), the terms, and the clocks of the hosts, which differ, and may step.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from incumbent.core.fence import Trust
from incumbent.errors import LeadershipLost, OutcomeUnknown
from incumbent.runtime.checkpoints import Archive
from incumbent.runtime.settings import Settings
from incumbent.runtime.term import Term
from incumbent.stores.api import Store
from incumbent.stores.memory import MemoryStore
from incumbent.workloads.env import Caller, Clock, Env, Workload
from incumbent.workloads.periodic import Choices, Periodic, Spec
from incumbent.workloads.periodic.document import Document
from incumbent.workloads.periodic.orders import PART, Orders
from incumbent.workloads.schedule import Schedule, id_of
from incumbent.workloads.tasks import _call

__all__ = ["EPOCH_S", "NAME", "Event", "Host", "World"]

T = TypeVar("T")

NAME = "nightly"
EPOCH_S = 1_772_323_200
"""What a right clock shows at virtual time 0: the first of March 2026, 0:00 UTC."""


@dataclass(frozen=True)
class Event:
    """One thing that the user's function has seen.

    Attributes:
        at_s: the virtual time.
        what: "begin", "end", or "cut"; "unclaimed" for a beginning of which nothing is noted.
        tick: the id of the tick.
        attempt: which attempt.
        token: of the term.
        host: where.
    """

    at_s: float
    what: str
    tick: str
    attempt: int
    token: int
    host: str


class HostClock(Clock):
    """A host's clocks: the wall clock is off by what the host says."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def wall(self) -> float:
        return EPOCH_S + self._host.world.now_s + self._host.offset_s

    def now(self) -> float:
        return self._host.world.now_s


class _Network(Archive):
    """The way from one term to the store. It goes on delivering what a dead host has sent.

    A request that nobody waits for any more arrives, or does not.
    """

    def __init__(self, world: World) -> None:
        super().__init__(Settings.resolve(NAME, store=world.store, ttl_s=10))
        self._world = world
        self.cut = False

    async def _ask(self, request: Callable[[Store], Awaitable[T]]) -> T:
        """The request arrives after a while, and its answer after another, or never."""
        world = self._world
        there_s, back_s = world.latency(), world.latency()
        lost = world.random.random() < world.lost

        async def carried() -> T:
            await asyncio.sleep(there_s)  # sleep: in virtual time
            result = await request(world.store)
            await asyncio.sleep(back_s)  # sleep: in virtual time
            return result

        sent: asyncio.Task[T] = world.spawn(carried())
        try:
            done = await asyncio.shield(sent)
        except asyncio.CancelledError:
            if world.random.random() < 0.5:
                sent.cancel()
            raise
        if lost or self.cut:
            raise OutcomeUnknown("the answer was lost")
        return done


class Host:
    """A replica. It leads when the world says so.

    Attributes:
        offset_s: by how much its wall clock is ahead.
    """

    def __init__(self, world: World, name: str, offset_s: float = 0.0) -> None:
        self.world = world
        self.name = name
        self.offset_s = offset_s
        self.term: Term | None = None
        self._run: asyncio.Task[Any] | None = None
        self._network: _Network | None = None
        self._trust = Trust()

    async def elect(self) -> None:
        """Begin a term with the next token."""
        world = self.world
        world.token += 1
        self._trust = Trust()
        self._trust.confirm(world.now_s, 1e9)
        self.term = Term(
            name=NAME,
            identity=self.name,
            token=world.token,
            term=f"{self.name}.{world.token}",
            trust=self._trust,
            clock=lambda: world.now_s,
        )
        self._network = _Network(world)
        env = Env(self.term, world.caller, self._network, HostClock(self))
        self._run = asyncio.ensure_future(world.workload(self).run(env))

    async def step_down(self) -> None:
        """End the term by plan: the work has ended when this returns."""
        assert self.term is not None
        assert self._run is not None
        self.term.end("asked to step down")
        self._run.cancel()
        with suppress(asyncio.CancelledError, LeadershipLost):
            await self._run
        self._trust.void()

    async def die(self) -> None:
        """End at once, in the middle of whatever it does; what it has sent arrives all the same."""
        assert self.term is not None
        assert self._run is not None
        assert self._network is not None
        self._network.cut = True
        self.term.void("killed")
        self._run.cancel()
        with suppress(asyncio.CancelledError, LeadershipLost):
            await self._run

    async def failure(self) -> BaseException | None:
        """Wait for the work to end by itself, and return what it raised."""
        assert self._run is not None
        await asyncio.wait([self._run])
        return self._run.exception()


class World:
    """The store, true time, and the log of what the user's function did.

    Attributes:
        log: what happened, in order.
        lasts_s: how long the function takes; called with the tick.
        fails: whether it raises then.
    """

    def __init__(
        self,
        schedule: Schedule,
        choices: Choices | None = None,
        *,
        seed: int = 0,
        latency_s: float = 0.001,
        lost: float = 0.0,
    ) -> None:
        self.schedule = schedule
        self.choices = choices or Choices()
        self.random = random.Random(seed)
        self.store = MemoryStore()
        self.token = 0
        self.lost = lost
        self.log: list[Event] = []
        self.lasts_s: Callable[[Any], float] = lambda _: 0.0
        self.fails: Callable[[Any], BaseException | None] = lambda _: None
        self._latency_s = latency_s
        self._sent: set[asyncio.Task[Any]] = set()

    @property
    def now_s(self) -> float:
        """Virtual time."""
        return asyncio.get_running_loop().time()

    def latency(self) -> float:
        """Return how long the next message takes."""
        return self.random.uniform(0, 2 * self._latency_s)

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """Have it done, whoever waits for it."""
        task: asyncio.Task[Any] = asyncio.ensure_future(work)
        self._sent.add(task)
        task.add_done_callback(self._delivered)
        return task

    def _delivered(self, task: asyncio.Task[Any]) -> None:
        self._sent.discard(task)
        if not task.cancelled():
            task.exception()  # Whoever asked may have gone.

    async def until(self, at_s: float) -> None:
        """Let time pass until then."""
        await asyncio.sleep(max(0.0, at_s - self.now_s))  # sleep: in virtual time

    caller: Caller = staticmethod(_call)

    def workload(self, host: Host) -> Workload:
        """Return what runs on `host` when it is elected."""
        periodic = Periodic()
        for spec in self.specs(host):
            periodic.add(spec)
        return periodic

    def specs(self, host: Host) -> list[Spec]:
        """Return the tasks as `host` has them."""

        async def work(tick: Any) -> None:
            await self._work(host, tick)

        return [Spec("main", self.schedule, work, self.choices, awaited=True)]

    async def _work(self, host: Host, tick: Any) -> None:
        def note(what: str) -> None:
            self.log.append(Event(self.now_s, what, tick.id, tick.attempt, tick.token, host.name))

        note("begin")
        run = self.noted().run
        if run is None or (run.id, run.attempt, run.token) != (tick.id, tick.attempt, tick.token):
            note("unclaimed")
        try:
            await asyncio.sleep(self.lasts_s(tick))  # sleep: in virtual time
        except asyncio.CancelledError:
            note("cut")
            raise
        error = self.fails(tick)
        if error is not None:
            raise error
        note("end")

    # -- what a test looks at ---------------------------------------------------------------------

    def begun(self) -> list[str]:
        """Return the ids of the ticks that were begun, in order."""
        return [event.tick for event in self.log if event.what == "begin"]

    def noted(self) -> Document:
        """Return what is noted of the task."""
        found = self.store.shelf.checkpoints.get((NAME, "job.main"))
        return Document.decode(found.value if found else b"", "the test")

    def outcomes(self) -> list[tuple[str, str]]:
        """Return the history: each tick and what became of it."""
        return [(row.id, row.outcome) for row in self.noted().rows]

    async def order(self, change: Callable[[Orders], Orders]) -> None:
        """Order something, as an operator does."""
        now = await self.store.checkpoint(NAME, PART)
        await self.store.advance(now, change(Orders.of(now)).encode(), 0)

    @staticmethod
    def tick(at_s: float) -> str:
        """Return the id of the tick at a virtual time."""
        return id_of(round((EPOCH_S + at_s) * 1000))
