"""One candidate: performs the elector's effects, and reports back what came of them.

The driver decides nothing. It has an inbox, so that an effect whose result is there at once does
not run the machine inside itself; it has at most one request of its own in flight; and it makes of
every exception of a store one of the three things that a machine can hear: refused, did not
happen, nobody knows.

Warning: everything here runs on the keeper's event loop. A `Listener` is called there too; it hands
over to the user's thread or loop and returns.
"""

from __future__ import annotations

import asyncio
import logging
import math
import traceback
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import Any, Protocol

from incumbent.core import events as ev
from incumbent.core.elector import Elector, State
from incumbent.core.records import Claim, Held, Holding, Snapshot, StepDownRequest
from incumbent.core.timing import Timing
from incumbent.errors import OutcomeUnknown, Refused, SessionGone, StoreError
from incumbent.runtime.alarms import Alarm
from incumbent.runtime.denial import Denial
from incumbent.runtime.hub import Hub
from incumbent.runtime.lease import LeaseKeeper
from incumbent.runtime.term import Term
from incumbent.runtime.turns import NoTurn
from incumbent.runtime.watchdog import Watchdog

__all__ = ["Driver", "HoldBack", "Listener", "TermFactory"]

TermFactory = Callable[..., Term]

HoldBack = Callable[[Callable[[], bool]], Awaitable[bool]]
"""Waits before a take is sent, and tells whether it may be. It is given what tells whether the take
still stands, and has at most that long: then it is decided anew, and asked again. One that says no
has waited, or been told that it does not stand; else the two would ask one another for ever."""

logger = logging.getLogger("incumbent")

CONNECT_S = 1.0
"""How long before a takeover that is due the store is asked to connect: that needs several round
trips with TLS. A holder that renews in time moves the deadline before: then nothing is done."""


class Listener(Protocol):
    """Who runs the work. Called on the keeper's loop; never blocks, never raises."""

    def begun(self, term: Term) -> None:
        """Elected: start the work."""
        ...

    def stop(self, term: Term, why: ev.Why, cause: str, deadline: float) -> None:
        """Stop the work; call `Driver.work_ended` when all of it has ended."""
        ...

    def stuck(self, term: Term, cause: str) -> None:
        """Hear that the work did not stop in time."""
        ...

    def waiting(self, snapshot: Snapshot, until: float) -> None:
        """Hear that somebody else holds."""
        ...

    def note(self, code: str, text: str) -> None:
        """Hear something that people should know."""
        ...

    def closed(self) -> None:
        """Hear that this is no candidate any more."""
        ...


class Driver:
    """One candidate in one election.

    Args:
        hub: what it shares with its process.
        name: the election.
        identity: this candidate.
        incarnation: random, for the nonces.
        timing: see `core.timing`.
        listener: runs the work.
        attempts: how many attempts drivers before this one made, in this process.
        on_closed: called after `Listener.closed`.
        armed: whether the kernel's timer ends the work if it outlives its term.
        watchdog: whose timer that is; None for the process's own.
        term_factory: makes the term handle; a face may have its own kind.
    """

    def __init__(
        self,
        hub: Hub,
        name: str,
        identity: str,
        incarnation: str,
        timing: Timing,
        listener: Listener,
        *,
        armed: bool,
        watchdog: Watchdog | None = None,
        attempts: int = 0,
        on_closed: Callable[[], None] = lambda: None,
        term_factory: TermFactory = Term,
    ) -> None:
        self.name = name
        self.identity = identity
        self._hub = hub
        self._store = hub.store
        self._timing = timing
        self._listener = listener
        self._watchdog = (watchdog or hub.watchdog) if armed else None
        self._term_factory = term_factory
        self._on_closed = on_closed
        self._machine = Elector(
            name,
            identity,
            incarnation,
            timing,
            absent_is_vacant=hub.store.capabilities.absent_is_vacant,
            attempts=attempts,
        )
        self._loop = asyncio.get_running_loop()
        self._inbox: deque[ev.Event] = deque()
        self._draining = False
        self._alarm: Alarm | None = None
        self._alarm_at = math.inf
        self._connecting_alarm: Alarm | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._claim: Claim | None = None
        self._sent_at = 0.0
        self._keeper: LeaseKeeper | None = None
        self._leaving: LeaseKeeper | None = None
        self._held: Held | None = None
        self._working_under: LeaseKeeper | None = None
        self._stop_by = math.inf
        self._term: Term | None = None
        self._dead: dict[str, str] = {}
        self.denial = Denial()
        self.hold_back: HoldBack | None = None

    @property
    def state(self) -> State:
        """Where the candidate is."""
        return self._machine.state

    @property
    def attempts(self) -> int:
        """How many attempts this process has made at this election."""
        return self._machine.attempts

    @property
    def watched(self) -> Snapshot | None:
        """What the candidate has in view."""
        return self._machine.watched

    @property
    def term(self) -> Term | None:
        """The term whose work has not ended, if any."""
        return self._term

    def start(self) -> None:
        """Become a candidate."""
        self.handle(ev.Start())

    def close(self) -> None:
        """Withdraw; `Listener.closed` tells when it is done."""
        self.handle(ev.Close())

    def step_down(self, to: str = "", cause: str = "asked to") -> None:
        """Hand over, if leading."""
        self.handle(ev.StepDown(to, cause))

    def work_ended(self, term: Term) -> None:
        """Take note that all work of `term` has ended, confirmed."""
        if term is not self._term:
            return
        self._term = None
        if self._working_under is not None:
            self._hub.work_ended(self._working_under)
        valid_until = term.valid_until
        if self._watchdog is not None:
            self._watchdog.relieve(term)
            self._hub.unwatch(self._watchdog)
        term.void()
        self._end(term, "the work has ended")
        self.handle(ev.WorkEnded(valid_until))

    def handle(self, event: ev.Event) -> None:
        """Take in one event, in the order of arrival."""
        self._inbox.append(event)
        if self._draining:
            return
        self._draining = True
        try:
            while self._inbox:
                for effect in self._machine.handle(self._inbox.popleft(), self._hub.clock()):
                    self._perform(effect)
            self._recall_evidence()
            if self._looking is not None and self._machine.state is not State.LOOKING:
                # A read that began before what we know now would look like a store that went back.
                self._looking.cancel()
                self._looking = None
        finally:
            self._draining = False
        self._schedule()

    # -- what the lease has to say (runtime.lease.Member) -----------------------------------------

    def lease_expiring(self, cause: str) -> None:
        """Hear that the stop must begin, in a store that cannot renew."""
        self.handle(ev.LeaseExpiring(cause))

    def lease_failing(self, cause: str) -> None:
        """Hear that the stop must begin."""
        self.handle(ev.LeaseFailing(cause))

    def lease_revoked(self, cause: str) -> None:
        """Hear that the lease is not ours any more."""
        self.handle(ev.LeaseRevoked(cause))

    # -- effects ----------------------------------------------------------------------------------

    def _perform(self, effect: ev.Effect) -> None:  # noqa: PLR0912  a line or two per effect
        match effect:
            case ev.Follow():
                self._store.follow(self.name, self._sighted)
            case ev.Unfollow():
                self._store.unfollow(self.name, self._sighted)
            case ev.Look():
                self._looking = self._loop.create_task(self._look())
            case ev.Waiting(snapshot, until):
                self._listener.waiting(snapshot, until)
                self._connect_before(until)
            case ev.Take():
                self._request(self._take(effect), lambda e: ev.TakeUnknown(effect.attempt, e))
            case ev.ReadBack():
                self._request(
                    self._read_back(effect), lambda e: ev.ReadBackFailed(effect.attempt, e)
                )
            case ev.BeginTerm(held):
                self._begin(held)
            case ev.VoidTerm(cause):
                self._void(cause)
            case ev.StopWork(why, cause, deadline):
                self._stop(why, cause, deadline)
            case ev.EndKeepalive():
                self._leave()
            case ev.Stuck(cause):
                self._stuck(cause)
            case ev.Release():
                self._request(self._release(effect), lambda e: ev.ReleaseFailed(effect.attempt, e))
            case ev.GiveBack(term):
                self._give_back(term)
            case ev.Note(code, text):
                self._listener.note(code, text)
            case ev.Closed():
                self._connect_before(math.inf)
                if self._connecting is not None:
                    self._connecting.cancel()
                self._listener.closed()
                self._on_closed()

    def _begin(self, held: Held) -> None:
        keeper = self._keeper
        if keeper is None:
            raise AssertionError("a term without a lease")
        term = self._term_factory(
            name=self.name,
            identity=self.identity,
            token=held.token,
            term=held.term,
            trust=keeper.trust,
            clock=self._hub.clock,
            inherited_fds=keeper.inherited_fds,
        )
        self._term = term
        self._working_under = keeper
        self._stop_by = math.inf
        self._hub.work_begins(keeper)
        keeper.join(self)
        if self._watchdog is not None:
            text = f"the work of election {self.name!r} (token {held.token}) outlived its term"
            self._hub.watch(self._watchdog)
            self._watchdog.guard(term, keeper.trust, text)
        self._listener.begun(term)

    def _void(self, cause: str) -> None:
        if self._term is not None:
            self._term.void(cause)
            if self._watchdog is not None and self._stop_by != math.inf:
                # Deposed while stopping: the stop's deadline stays, however long the session lasts.
                self._watchdog.depose(self._term, self._stop_by)

    def _stop(self, why: ev.Why, cause: str, deadline: float) -> None:
        term = self._term
        if term is None:
            return
        self._stop_by = deadline
        if why is ev.Why.DEPOSED and self._watchdog is not None:
            self._watchdog.depose(term, deadline)
        self._end(term, cause)
        self._listener.stop(term, why, cause, deadline)

    def _end(self, term: Term, cause: str) -> None:
        """Tell the term's callbacks. A SystemExit of theirs would end the keeper's loop."""
        try:
            term.end(cause)
        except BaseException:
            logger.exception("a callback of %r raised", term)

    def _stuck(self, cause: str) -> None:
        if self._leaving is not None:
            self._leaving.end()
        if self._term is not None:
            self._listener.stuck(self._term, cause)

    def _leave(self) -> None:
        """Renew this term no more. A record's own lease ends; a session goes on for the others."""
        if self._keeper is not None:
            self._keeper.leave(self)
            self._leaving = self._keeper

    def _give_back(self, term: str) -> None:
        """Leave to the hub what we could not give up; without sessions it expires by itself."""
        if not self._store.capabilities.sessions:
            return
        claim, keeper = self._claim, self._keeper
        if claim is None or keeper is None or claim.term != term:
            raise AssertionError("nothing to give back")
        self._hub.give_back(self.name, claim, keeper)

    # -- requests ---------------------------------------------------------------------------------

    def _request(
        self, work: Coroutine[Any, Any, ev.Event], on_bug: Callable[[str], ev.Event]
    ) -> None:
        if self._task is not None:
            raise AssertionError("two requests in flight")
        self._task = self._loop.create_task(self._report(work, on_bug))

    async def _report(self, work: Awaitable[ev.Event], on_bug: Callable[[str], ev.Event]) -> None:
        try:
            event = await work
        except Exception as error:  # A store's bug must not silence the candidate.
            self._note_bug(error)
            event = on_bug(repr(error))
        self._task = None
        self.handle(event)

    @asynccontextmanager
    async def _asking(
        self, noting: AbstractContextManager[None] | None = None
    ) -> AsyncIterator[None]:
        """Ask the store one thing: for one attempt's time, and noting which right was missing."""
        with noting or nullcontext():
            async with asyncio.timeout(self._timing.attempt_s):
                yield

    async def _look(self) -> None:
        event: ev.Event = ev.LookFailed()
        try:
            async with self._hub.turns.mine(), self._asking(self.denial.looking()):
                event = ev.Seen(await self._store.read(self.name), fresh=True)
        except (StoreError, TimeoutError) as error:
            self._listener.note("unreachable", _say(error, self._timing))
        except Exception as error:  # A store's bug must not silence the candidate.
            self._note_bug(error)
        self._looking = None
        self.handle(event)

    async def _take(self, effect: ev.Take) -> ev.Event:
        """Take when it is our turn, with all of the time limit then: nothing is sent before.

        Nor then, if the machine does not stand by it any more. Whoever has it held back only adds
        to that wait, and so need not be trusted with more than somebody's patience.
        """
        if self.hold_back is not None and not await self.hold_back(self._take_stands):
            return ev.TakeNotSent(effect.attempt)
        try:
            async with self._hub.turns.mine(self._timing.attempt_s):
                if self._take_stands():
                    return await self._take_now(effect)
        except NoTurn:
            pass
        return ev.TakeNotSent(effect.attempt)

    def _take_stands(self) -> bool:
        """Ask anew after each wait, up to the sending."""
        return self._machine.take_stands(self._hub.clock())

    async def _take_now(self, effect: ev.Take) -> ev.Event:
        timing, attempt = self._timing, effect.attempt
        sessions = self._store.capabilities.sessions
        # The session of a leftover of ours may have work of other elections under it. To take the
        # leftover under another session would end it.
        theirs = effect.over.lease_key if sessions else ""
        keeper = self._hub.working(theirs)
        try:
            if sessions and keeper is None:
                async with self._asking(self.denial.taking(effect.over)):
                    keeper = await self._hub.session(timing)
        except (StoreError, TimeoutError) as error:
            return ev.TakeFailed(attempt, _say(error, timing))
        working = self._hub.working(theirs)  # Anew: work may have begun while a session was opened.
        if working is not None and not (
            working is keeper and keeper.timing == timing and keeper.usable()
        ):
            return ev.TakeFailed(attempt, "its session has other work of this process under it")
        if not self._take_stands():  # To open a session takes several round trips.
            return ev.TakeNotSent(attempt)
        if keeper is not None and keeper.lease.key != theirs:
            self._hub.give_up(theirs)
        lease = keeper.lease if keeper is not None else None
        self._claim = Claim(self.identity, effect.term, timing.ttl_s, lease)
        self._keeper = keeper
        self._sent_at = self._hub.clock()
        try:
            async with self._asking(self.denial.taking(effect.over)):
                held = await self._store.take(self.name, self._claim, effect.over)
        except Refused as error:
            return ev.TakeRefused(attempt, error.snapshot)
        except (OutcomeUnknown, TimeoutError) as error:
            return ev.TakeUnknown(attempt, _say(error, timing))
        except SessionGone as error:
            self._hub.drop_session(timing, str(error))
            return ev.TakeFailed(attempt, str(error))
        except StoreError as error:
            return ev.TakeFailed(attempt, str(error))
        return ev.TakeDone(attempt, held, self._keep(held))

    def _keep(self, held: Held) -> float:
        """Note what was taken, and return until when it is trusted."""
        self._held = held
        if self._keeper is None or not self._store.capabilities.sessions:
            self._keeper = self._hub.keep(held.lease, self._timing, self._sent_at)
        return self._keeper.trust.valid_until

    async def _read_back(self, effect: ev.ReadBack) -> ev.Event:
        claim = self._claim
        if claim is None:
            raise AssertionError("nothing to read back")
        try:
            async with self._hub.turns.mine(self._timing.attempt_s), self._asking():
                found = await self._store.read_back(self.name, claim)
        except NoTurn:
            return ev.ReadBackFailed(effect.attempt, "its turn did not come")
        except (StoreError, TimeoutError) as error:
            return ev.ReadBackFailed(effect.attempt, _say(error, self._timing))
        if isinstance(found, Held):
            return ev.ReadBackDone(effect.attempt, found.snapshot, found, self._keep(found))
        return ev.ReadBackDone(effect.attempt, found, None, -math.inf)

    async def _release(self, effect: ev.Release) -> ev.Event:
        held, keeper = self._held, self._leaving
        if held is None or keeper is None:
            raise AssertionError("nothing to release")
        if not self._store.capabilities.sessions:
            await keeper.quiesce()
        try:
            async with self._asking():
                snapshot = await self._store.release(held, keeper.lease, effect.successor)
        except (StoreError, TimeoutError) as error:
            return ev.ReleaseFailed(effect.attempt, _say(error, self._timing))
        return ev.ReleaseDone(effect.attempt, snapshot)

    async def ask(self, request: StepDownRequest) -> Snapshot:
        """Leave a request to step down in the record."""
        async with self._asking():
            return await self._store.ask(self.name, request)

    # -- what the store has to say ----------------------------------------------------------------

    def _sighted(self, event: ev.Seen | ev.Evidence) -> None:
        if isinstance(event, ev.Evidence):
            self._dead = {event.lease_key: event.why}
        else:
            self.denial.heard()
        self.handle(event)

    def _recall_evidence(self) -> None:
        """Repeat evidence that came while a request was in flight, if it speaks of what is watched.

        A lease that was proven dead stays dead, so this is no stale news.
        """
        watched = self._machine.watched
        if (
            self._dead
            and self._machine.state is State.STANDBY
            and watched is not None
            and watched.holding is Holding.HELD
            and watched.lease_key in self._dead
            and self._machine.wake_at > self._hub.clock()
        ):
            event = ev.Evidence(watched.lease_key, self._dead.pop(watched.lease_key))
            for effect in self._machine.handle(event, self._hub.clock()):
                self._perform(effect)

    # -- time -------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        wake_at = self._machine.wake_at
        if self._alarm is not None:
            if wake_at == self._alarm_at:
                return
            self._alarm.cancel()
            self._alarm = None
        self._alarm_at = wake_at
        if wake_at != math.inf:
            self._alarm = self._hub.alarms.call_at(wake_at, self._wake)

    def _wake(self) -> None:
        self._alarm = None
        if self._hub.clock() < self._machine.wake_at:
            self._schedule()
            return
        self.handle(ev.Tick())

    # -- being connected in time ------------------------------------------------------------------

    def _connect_before(self, instant: float) -> None:
        """Be ready shortly before a takeover that is due. No rule depends on it."""
        if self._connecting_alarm is not None:
            self._connecting_alarm.cancel()
            self._connecting_alarm = None
        if instant != math.inf:
            ahead_s = min(CONNECT_S, (instant - self._hub.clock()) / 4)
            alarms = self._hub.alarms
            self._connecting_alarm = alarms.call_at(instant - ahead_s, self._connect)

    def _connect(self) -> None:
        self._connecting_alarm = None
        if self._machine.state is State.STANDBY and self._connecting is None:
            self._connecting = self._loop.create_task(self._connected())

    async def _connected(self) -> None:
        try:
            async with self._asking():
                await self._store.connect()
                if self._store.capabilities.sessions:
                    await self._hub.session(self._timing)
        except (StoreError, TimeoutError):
            pass  # The take will tell.
        except Exception as error:
            self._note_bug(error)
        finally:
            self._connecting = None

    def _note_bug(self, error: Exception) -> None:
        self._listener.note("bug", "".join(traceback.format_exception(error)))


def _say(error: BaseException, timing: Timing) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {timing.attempt_s:.3f} s"
    return str(error)
