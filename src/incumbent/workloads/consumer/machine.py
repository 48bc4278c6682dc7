"""Drives a source for one term: opens, regains, hands over, tells the broker, retries, buries.

The rules are in the head of the package. What may go wrong, and what is done then:

| what | then |
|---|---|
| the broker is gone | it is closed; wait; seal, read, open and regain anew |
| the database is gone | wait; connect and seal anew; go on with what is in hand |
| the handler raises | wait; again; after `retries` more times bury it, or end the run |
| the handler kills its process | the next term begins with it; in the end bury it (`begun`) |
| the term is to end | nothing is begun; what is committed is told to the broker; close |
| a later token is seen | the run ends |

Nothing is begun after the term: a hand looks between two items, and `Env.call` before it is given
any. A blocking handler cannot be stopped from outside, so the machine waits until it is back; the
kernel ends the process if that takes too long.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from incumbent.errors import ConfigError, IncumbentError, LeadershipLost, SourceUnavailable
from incumbent.fencing.both import through
from incumbent.fencing.progress import KEEP
from incumbent.runtime.checkpoints import Progress
from incumbent.workloads.command import CommandFailed
from incumbent.workloads.consumer.begun import Deadly
from incumbent.workloads.consumer.hand import Bare, Hand, Outcome
from incumbent.workloads.consumer.places import open_place
from incumbent.workloads.env import Env
from incumbent.workloads.reason import said
from incumbent.workloads.sources import Item, Joining, Opening, Source, open_source

__all__ = ["Machine"]

PART = "consumer"
"""The checkpoint of a consumer that has no database, of a source that has positions."""

TELL_S = 2.0
"""How long the broker has, at the end of a term, to hear what is done."""

DEATHS = 5
"""How many terms may end with an item. Hosts die, too, and that is no fault of what they did."""

LONGEST_PAUSE_S = 30.0
_FIRST_WAIT_S = 0.05
_LONGEST_WAIT_S = 2.0
_STEADY_S = 10.0
"""A source that was open for so long, and goes then, is a trouble of its own. That it gives items
says nothing: one that cannot be buried is given each time."""
REMIND_S = 60.0
"""How often trouble that lasts is said again."""
_REASONS = 5
"""How many different reasons of it are said meanwhile."""

_log = logging.getLogger("incumbent")


@dataclass
class Machine:
    """A consumer: what is consumed, where the effects lie, and what happens to what fails.

    Attributes:
        source: a URL, or a function that returns a source.
        waits: whether the handler is a coroutine function.
        effects: the URL of the database, or a function that connects to it; None for none.
        handler: the user's.
        retries: how many more times a failed item is tried.
        backoff_s: before the first of them; each further one waits twice as long.
        dead_letter: where the source puts what failed; None for the database, or if there is none,
            for the source's usual place.
        raises: end the run instead.
        batch: how many items share a transaction, at most.
        prefetch: how many items are taken from the source at a time, at most.
        remember: of how many items the ids are kept.
        deaths: how many terms may end without a word that began with the same item; 0 for any
            number, None for `DEATHS` where there is a database.
    """

    source: str | Callable[[], Source]
    waits: bool
    effects: str | Callable[[], Any] | None = None
    handler: Callable[..., Any] | None = None
    retries: int = 3
    backoff_s: float = 1.0
    dead_letter: str | None = None
    raises: bool = False
    batch: int = 1
    prefetch: int = 100
    remember: int = KEEP
    deaths: int | None = None
    keeps: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        for name, value, least in (
            ("retries", self.retries, 0),
            ("backoff_s", self.backoff_s, 0),
            ("batch", self.batch, 1),
            ("prefetch", self.prefetch, 1),
            ("remember", self.remember, 1),
            ("deaths", self.deaths or 0, 0),
        ):
            if value < least:
                raise ConfigError(f"{name}={value!r} has to be at least {least}")
        if self.batch > self.prefetch:
            raise ConfigError(
                f"batch={self.batch} is more than prefetch={self.prefetch}: so many are never there"
            )
        if self.remember < 2 * self.prefetch:
            raise ConfigError(
                f"remember={self.remember}: keep the ids of at least twice as many items as are "
                f"taken from the source at a time (prefetch={self.prefetch})"
            )
        if self.effects is None and self.batch > 1:
            raise ConfigError(
                "batch= is the size of a transaction, and there is none: add effects="
            )
        if self.effects is None and self.deaths:
            raise ConfigError(
                "deaths= is counted beside the effects, and there are none: add effects="
            )
        if self.deaths is None:
            self.deaths = 0 if self.effects is None else DEATHS
        if self.effects is not None:
            open_place(self.effects)
        self.keeps = self.effects is None and not self.open_source().remembers

    def open_source(self) -> Source:
        """Return a source that is not connected yet."""
        return open_source(self.source) if isinstance(self.source, str) else self.source()

    async def run(self, env: Env) -> None:
        """Consume until the term ends."""
        await _Run(self, env).run()


class _Run:
    """One term of a consumer."""

    def __init__(self, machine: Machine, env: Env) -> None:
        if machine.handler is None:
            raise ConfigError("the consumer has no handler: decorate one with @consumer.handler")
        self._machine = machine
        self._env = env
        self._term = env.term
        self._source = machine.open_source()
        self._hand = self._new_hand(machine.handler)
        self._wait_s = 0.0
        self._open_at_s = math.inf
        self._said_at_s = -math.inf
        self._said: set[str] = set()
        self._noted: Progress | None = None
        self._begins = bool(machine.deaths)
        self._begun: Item | None = None
        self._careful = 0

    def _new_hand(self, handler: Callable[..., Any]) -> Hand:
        machine = self._machine
        if machine.effects is None:
            return Bare(self._term, handler, waits=machine.waits)
        from incumbent.workloads.consumer.sealed import Sealed

        place, source = open_place(machine.effects), self._source
        joins = isinstance(source, Joining) and bool(place.url) and source.join(place.url)
        return Sealed(
            self._term,
            handler,
            place,
            waits=machine.waits,
            work=self._term.name,
            batch=machine.batch,
            remember=machine.remember,
            joined=source if joins and isinstance(source, Joining) else None,
        )

    async def run(self) -> None:
        try:
            while True:
                try:
                    await self._consume()
                except SourceUnavailable as error:
                    await self._source.close()
                    if self._env.clock.now() - self._open_at_s >= _STEADY_S:
                        self._wait_s = 0.0
                    await self._pause(f"{self._source.name}: {error}")
        except BaseException:
            await self._take_back()
            raise
        finally:
            await self._source.close()
            if self._machine.waits:
                await self._hand.close()
            else:
                through(self._hand.close())

    async def _consume(self) -> None:
        self._open_at_s = math.inf
        position = await self._opened()
        limit = self._machine.prefetch
        await self._source.open(Opening(self._term.name, self._term, position, limit))
        self._open_at_s = self._env.clock.now()
        while items := await self._source.regain(limit):
            await self._work(items)
        while True:
            items = await self._source.next(limit)
            await self._work(items)

    async def _opened(self) -> str:
        """Seal, and return how far the work has come."""
        if self._machine.keeps:
            self._noted = self._env.progress(PART)
            return (await self._noted.open()).decode()
        while True:
            try:
                position: str = await self._call(self._hand.open)
            except SourceUnavailable as error:
                await self._pause(str(error))
            else:
                return position

    async def _work(self, items: Sequence[Item]) -> None:
        """Settle these, each before the next one, whatever it takes."""
        left = list(items)
        while left:
            if self._begins and (deadly := await self._begin(left[0])) is not None:
                await self._give_up(left[0], deadly)
                del left[0]
                continue
            outcome = await self._handed(left if self._several() else left[:1])
            if outcome.done:
                self._begun, self._careful = None, self._careful - outcome.done
                await self._told(left[: outcome.done])
                del left[: outcome.done]
                self._wait_s = 0.0
            # Else a handler that never waits would keep the end away. Not before the broker was
            # told: the end would come in between, and what is done would be done again.
            await asyncio.sleep(0)
            if outcome.over is not None:
                raise outcome.over
            if outcome.gone:
                await self._pause(outcome.gone)
                await self._opened()
            elif outcome.failed is not None:
                await self._failed(left[0], outcome.failed)
                if left[0].attempt > self._machine.retries:
                    await self._give_up(left[0], outcome.failed)
                    del left[0]
                else:
                    left[0].attempt += 1
            elif not outcome.done:
                # The hand began nothing, since the term is to end: this is about to be cancelled.
                self._term.check()
                await self._env.clock.sleep(_FIRST_WAIT_S)
                if self._term.ended:  # A coroutine has swallowed what was to cancel it, and us.
                    raise LeadershipLost(f"{self._term.name!r} is to end: {self._term.cause}")

    def _several(self) -> bool:
        """Tell whether the hand may be given several items at a time."""
        return self._machine.effects is not None and not self._begins and self._careful <= 0

    async def _handed(self, items: Sequence[Item]) -> Outcome:
        """Hand items over. If the term ends meanwhile, the broker hears what of them is done."""
        self._hand.settled = 0
        try:
            outcome: Outcome = await self._call(self._hand.work, items)
        except asyncio.CancelledError:
            if self._hand.settled:
                self._begun = None
                with suppress(IncumbentError, TimeoutError):
                    async with asyncio.timeout(TELL_S):
                        await self._told(items[: self._hand.settled])
            raise
        return outcome

    async def _told(self, items: Sequence[Item]) -> None:
        if self._noted is not None:
            await self._noted.save(items[-1].position.encode())
        await self._source.done(items)

    async def _failed(self, item: Item, error: Exception) -> None:
        """Say so, and wait, if it is to be tried again."""
        machine = self._machine
        _log.warning(
            "%s: item %s failed, attempt %d of %d: %s",
            self._term.name,
            item.id,
            item.attempt,
            machine.retries + 1,
            said(error),
            exc_info=None if isinstance(error, CommandFailed) else error,
        )
        if item.attempt <= machine.retries:
            pause_s = machine.backoff_s * 2 ** (item.attempt - 1)
            await self._env.clock.sleep(min(pause_s, LONGEST_PAUSE_S))
        elif machine.raises:
            raise error

    async def _begin(self, item: Item) -> Deadly | None:
        """Note with which item this term begins; return why it is not to be begun, if so."""
        former = await self._former(item)
        if former is None:
            return None  # It is done, and was delivered again: this term begins with another.
        self._begins, self._begun = False, item
        if not former:
            return None
        self._careful = self._machine.prefetch
        text = f"{former} terms in a row ended without a word that had begun with it"
        _log.warning("%s: item %s: %s", self._term.name, item.id, text)
        if former < (self._machine.deaths or 0):
            return None
        item.attempt = former
        if self._machine.raises:
            raise Deadly(text)
        return Deadly(text)

    async def _former(self, item: Item) -> int | None:
        while True:
            try:
                former: int | None = await self._call(self._hand.begin, item)
            except SourceUnavailable as gone:
                await self._pause(str(gone))
                await self._opened()
            else:
                return former

    async def _take_back(self) -> None:
        """Say of the item with which this term began that nobody died of it."""
        if self._begun is None:
            return
        with suppress(Exception):
            if not self._machine.waits:
                through(self._hand.take_back(self._begun))
                return
            async with asyncio.timeout(TELL_S):
                await self._hand.take_back(self._begun)

    async def _give_up(self, item: Item, error: Exception) -> None:
        await self._buried(item, error)
        self._begun = None
        await self._told([item])

    async def _buried(self, item: Item, error: Exception) -> None:
        reason = said(error)
        machine = self._machine
        in_source = machine.effects is None or machine.dead_letter is not None
        if in_source:
            await self._source.bury(item, machine.dead_letter or "", reason)
        while True:
            try:
                await self._call(lambda: self._hand.bury(item, reason, keep=not in_source))
            except SourceUnavailable as gone:
                await self._pause(str(gone))
                await self._opened()
            else:
                break
        _log.error("%s: item %s is among the dead letters: %s", self._term.name, item.id, reason)

    async def _call(self, func: Callable[..., Any], *args: Any) -> Any:
        """Call what belongs to the hand where the user's functions are called.

        A call in another thread cannot be cancelled: whoever cancels this waits until it is back,
        so that nothing of the hand is touched by two.
        """
        if self._machine.waits:
            return await self._env.call(func, *args)
        call = asyncio.ensure_future(self._env.call(lambda: through(func(*args))))
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            await asyncio.wait([call])
            if not call.cancelled():
                call.exception()  # Nobody asks for it any more: the term has ended.
            raise

    async def _pause(self, reason: str) -> None:
        now_s = self._env.clock.now()
        if not self._wait_s or now_s - self._said_at_s >= REMIND_S:
            self._said_at_s = now_s
            self._said.clear()
        if reason not in self._said and len(self._said) < _REASONS:
            self._said.add(reason)
            _log.warning("%s: %s (tried again until this is over)", self._term.name, reason)
        await self._env.clock.sleep(self._wait_s)
        self._wait_s = min(max(2 * self._wait_s, _FIRST_WAIT_S), _LONGEST_WAIT_S)
        self._term.check()
