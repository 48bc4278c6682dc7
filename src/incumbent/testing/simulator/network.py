"""The way between a process and the server: what may become of a message.

A call is sent, takes effect at the server in no time, and is answered. On the way

    the request may be lost, late (after the caller gave up) or doubled;
    the answer may be lost or late: the outcome is unknown to the caller;
    the connection may be cut, or refused, or stalled for notifications.

`Weather` says how likely that is on one link now. A `Trap` waits for one particular message and
deals with that, since the dangerous sequences are too rare to be met by chance.

Notifications keep their order, except for those that a fault brings once more, late. After a stall
the last state is always reported, as a store has to.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from incumbent.core.events import Evidence, Seen
from incumbent.errors import OutcomeUnknown, StoreUnavailable
from incumbent.testing.simulator.loop import SimLoop
from incumbent.testing.simulator.world import World

__all__ = ["Fate", "Link", "Network", "StoreSubscription", "Subscription", "Trap", "Weather"]

T = TypeVar("T")


@dataclass(slots=True)
class Fate:
    """What becomes of one message."""

    request_s: float
    answer_s: float
    request_lost: bool = False
    answer_lost: bool = False
    reset: bool = False
    """The caller is told at once that nobody knows."""
    doubled_after_s: float | None = None
    dies: str = ""
    """Whether the sender is killed `before` or `after` it has its effect; where both are one."""
    stops_s: float = 0.0
    """How long the sender is stopped right after the effect; where both are one."""

    @property
    def kind(self) -> str:
        """Return the name of the fault, or ""."""
        if self.request_lost:
            return "request lost"
        if self.answer_lost:
            return "answer lost"
        return "request doubled" if self.doubled_after_s is not None else ""


@dataclass(slots=True)
class Weather:
    """How a link is now. Delays are exponential around their mean."""

    delay_s: float
    lose_request: float = 0.0
    lose_answer: float = 0.0
    reset: float = 0.5
    double: float = 0.0
    double_after_s: float = 1.0
    straggle: float = 0.0
    straggle_s: float = 1.0
    repeat_notice: float = 0.0


@dataclass(slots=True, eq=False)
class Trap:
    """Waits for the next message of one kind.

    Attributes:
        verb: the kind of the message.
        spring: changes the fate of the message; is given the link that it is sent on.
    """

    verb: str
    spring: Callable[[Link, Fate], None]


class Network:
    """All links, and the server's end of them."""

    def __init__(self, world: World, weather: Weather) -> None:
        self.world = world
        self.fair = weather
        self.up = True
        self.traps: list[Trap] = []
        self.links: list[Link] = []
        self.faults: Counter[str] = Counter()
        self.on_restart: list[Callable[[], None]] = []
        self.prompt_notices = False
        """Whether notifications are in time whenever anything gets through at all."""

    def link(self, owner: str, loop: SimLoop) -> Link:
        """Return a new link, as the one of a new process."""
        link = Link(self, owner, loop)
        self.links.append(link)
        return link

    def stop_server(self) -> None:
        """Let nothing through until `start_server`; what is on its way is lost."""
        self.up = False

    def start_server(self) -> None:
        """Answer again, and report the state to whoever follows."""
        if not self.up:
            self.up = True
            for call in self.on_restart:
                call()
        for link in self.links:
            link.catch_up()

    def disarm(self, trap: Trap) -> None:
        """Remove a trap that nobody stepped into."""
        if trap in self.traps:
            self.traps.remove(trap)

    def heal(self) -> None:
        """End every fault of the network."""
        self.traps.clear()
        for link in self.links:
            link.weather = self.fair
            link.stalled = False
            link.cut = False
        self.start_server()


class Link:
    """What lies between one process and the server."""

    def __init__(self, network: Network, owner: str, loop: SimLoop) -> None:
        self.owner = owner
        self.network = network
        self.weather = network.fair
        self.cut = False
        self.refusing = False
        self.stalled = False
        self.subscriptions: list[Subscription[Any]] = []
        self._loop = loop
        self._world = network.world
        self._waiting: list[Callable[[], None]] = []

    @property
    def open(self) -> bool:
        """Whether anything gets through."""
        return self.network.up and not self.cut

    def when_open(self, call: Callable[[], None]) -> None:
        """Call back when something gets through again."""
        self._waiting.append(call)

    async def call(self, verb: str, effect: Callable[[], T], about: str = "") -> T:
        """Have `effect` happen at the server, and return or raise what came of it."""
        answer: asyncio.Future[T] = self._loop.create_future()
        self._send(verb, effect, answer, about)
        return await answer

    def _send(
        self, verb: str, effect: Callable[[], Any], answer: asyncio.Future[Any], about: str
    ) -> None:
        world = self._world
        if self._loop.is_closed():
            return
        if not self.open:
            if self.refusing:
                refusal = StoreUnavailable("connection refused")
                world.after(0.001, self._loop.deliver, _fail, answer, refusal)
            return
        fate = self.fate(verb)
        if fate.kind:
            self.network.faults[fate.kind] += 1
        if world.writing:
            extra = f" ({fate.kind})" if fate.kind else ""
            world.write(self.owner, f"sends {verb} {about}{extra}")
        if fate.request_lost:
            if fate.reset:
                error = OutcomeUnknown("connection reset")
                world.after(fate.request_s, self._loop.deliver, _fail, answer, error)
            return
        world.after(fate.request_s, self._arrive, verb, effect, answer, fate)
        if fate.doubled_after_s is not None:
            late_s = fate.request_s + fate.doubled_after_s
            world.after(late_s, self._arrive, verb, effect, None, fate)

    def _arrive(
        self,
        verb: str,
        effect: Callable[[], Any],
        answer: asyncio.Future[Any] | None,
        fate: Fate,
    ) -> None:
        if not self.network.up:
            return
        result: Any = None
        error: Exception | None = None
        try:
            result = effect()
        except Exception as raised:
            error = raised
        if self._world.writing:
            outcome = type(error).__name__ if error is not None else "done"
            again = " once more" if answer is None else ""
            self._world.write("server", f"{verb} of {self.owner}{again}: {outcome}")
        if answer is None:
            return
        if fate.answer_lost:
            if not fate.reset:
                return
            error = OutcomeUnknown("connection reset")
        self._world.after(fate.answer_s, self._answer, answer, result, error)

    def _answer(self, answer: asyncio.Future[Any], result: object, error: Exception | None) -> None:
        if not self.open:
            return
        if error is not None:
            self._loop.deliver(_fail, answer, error)
        else:
            self._loop.deliver(_succeed, answer, result)

    def fate(self, verb: str) -> Fate:
        """Decide what becomes of a message."""
        rng, weather = self._world.rng, self.weather
        fate = Fate(self._delay_s(), self._delay_s())
        if rng.random() < weather.lose_request:
            fate.request_lost = True
        elif rng.random() < weather.lose_answer:
            fate.answer_lost = True
        elif rng.random() < weather.double:
            fate.doubled_after_s = rng.expovariate(1 / weather.double_after_s)
        fate.reset = rng.random() < weather.reset
        for trap in self.network.traps:
            if trap.verb == verb:
                self.network.traps.remove(trap)
                trap.spring(self, fate)
                break
        return fate

    def _delay_s(self) -> float:
        rng, weather = self._world.rng, self.weather
        if weather.straggle and rng.random() < weather.straggle:
            self.network.faults["straggler"] += 1
            return rng.random() * weather.straggle_s
        return rng.expovariate(1 / weather.delay_s)

    # -- notifications ----------------------------------------------------------------------------

    def notify(self, subscription: Subscription[Any], event: Any) -> None:
        """Bring a notification to the process."""
        world, weather = self._world, self.weather
        if self._loop.is_closed():
            return
        if self.stalled or not self.open:
            subscription.miss(event)
            return
        prompt = self.network.prompt_notices
        delay_s = self.network.fair.delay_s if prompt else self._delay_s()
        instant = max(world.now + delay_s, subscription.last_at)
        subscription.last_at = instant
        world.at(instant, self._notice, subscription, event)
        if subscription.now is None:
            return
        if weather.repeat_notice and world.rng.random() < weather.repeat_notice:
            self.network.faults["stale notification"] += 1
            late_s = weather.straggle_s * world.rng.random()
            world.at(instant + late_s, self._notice, subscription, event)

    def catch_up(self) -> None:
        """Report the last state wherever something was missed."""
        if self.open:
            waiting, self._waiting = self._waiting, []
            for call in waiting:
                call()
        if self.stalled or not self.open:
            return
        for subscription in self.subscriptions:
            for event in subscription.catch_up():
                self.notify(subscription, event)

    def _notice(self, subscription: Subscription[Any], event: Any) -> None:
        if self.stalled or not self.open:
            subscription.miss(event)
        elif subscription.alive:
            self._loop.deliver(subscription.hand_over, event)


@dataclass(slots=True, eq=False)
class Subscription(Generic[T]):
    """One who follows one election over one link.

    Attributes:
        now: returns the notification of the state as it is, which makes up for all that was
            missed; None for a stream, of which nothing is left out.
        sink: receives notifications in the process.
    """

    now: Callable[[], T] | None
    sink: Callable[[T], None]
    alive: bool = True
    last_at: float = field(default=-math.inf)
    _missed: list[T] = field(default_factory=list)

    def hand_over(self, event: T) -> None:
        """Give a notification to the process, unless it has lost interest meanwhile."""
        if self.alive:
            self.sink(event)

    def miss(self, event: T) -> None:
        """Take note of a notification that does not get through now."""
        self._missed.append(event)

    def catch_up(self) -> list[T]:
        """Return what makes up for what was missed."""
        missed, self._missed = self._missed, []
        return missed if self.now is None or not missed else [self.now()]


StoreSubscription = Subscription[Seen | Evidence]


def _fail(answer: asyncio.Future[Any], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)


def _succeed(answer: asyncio.Future[Any], result: object) -> None:
    if not answer.done():
        answer.set_result(result)
