"""Elections for ordinary threads.

    election = Election("billing", store="sqlite:///var/lib/billing/incumbent.db")

    with election.hold() as term:          # waits; the body never runs without the lock
        settle(fencing_token=term.token)

    @election.hold(timeout_s=0)            # ... or as a decorator: raises NotElected at once
    def nightly(): ...

    election.lead(poll_forever)            # run it whenever elected, contend again for ever

A thread cannot be stopped from outside. So `lead` asks the work to stop (`term.lost`), and if it
goes on past the term the kernel ends this process (`deadman`, armed by default in `lead`). A
process that must survive that, a web worker say, gives the work a child process: `isolate=True`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ContextDecorator
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TypeVar

from incumbent.clock import boottime
from incumbent.core.events import Why
from incumbent.core.records import Snapshot
from incumbent.errors import IncumbentError, LeadershipLost, NotElected
from incumbent.runtime.candidacy import Candidacy, Observer
from incumbent.runtime.flag import Flag
from incumbent.runtime.health import Health, HealthMonitor
from incumbent.runtime.isolate import Isolation
from incumbent.runtime.settings import Settings
from incumbent.runtime.term import Term
from incumbent.stores.api import Store

__all__ = ["Election", "Health", "Hold", "Term"]

R = TypeVar("R")


class Election:
    """An election in which this process can be a candidate.

    Args:
        name: the election: what all replicas share.
        store: URL of the store, or a `Store`; see `runtime.settings` for the default.
        ttl_s: time to live of the lease, in seconds.
        grace_s: how long the work may take to stop, in seconds.
        rho: the greatest clock-rate error of any host, as a share of one.
        as_: the first part of this candidate's identity.
        require: "token" or "exclusive": refuse a store or set-up that cannot do that.
        observer: called with a `Sighting` for everything that happens, on the keeper's thread.

    Raises:
        ConfigError: some setting cannot work; the message says what to change.
    """

    def __init__(
        self,
        name: str,
        *,
        store: str | Store | None = None,
        ttl_s: float | None = None,
        grace_s: float | None = None,
        rho: float | None = None,
        as_: str | None = None,
        require: str = "",
        observer: Observer | None = None,
    ) -> None:
        def settings(*, armed: bool, isolated: bool = False) -> Settings:
            return Settings.resolve(
                name,
                store=store,
                ttl_s=ttl_s,
                grace_s=grace_s,
                rho=rho,
                as_=as_,
                armed=armed,
                isolated=isolated,
                require=require,
            )

        self.name = name
        self._settings = settings
        self._observer = observer
        self._leading: Seat | None = None
        if not require:
            settings(armed=False)

    def hold(self, *, timeout_s: float | None = None, deadman: bool = False) -> Hold:
        """Return a context manager, and decorator, whose body runs only while we hold.

        Args:
            timeout_s: how long to wait to be elected; None for ever, 0 to try once.
            deadman: have the kernel end this process if the body outlives its term.

        Raises:
            NotElected: on entering, if the time is up.
            LeadershipLost: on leaving, if the term was lost while the body ran.
        """
        return Hold(self, timeout_s, deadman)

    def lead(
        self,
        work: Callable[[Term], R],
        *,
        deadman: bool = True,
        isolate: bool = False,
        health: Health | None = None,
        timeout_s: float | None = None,
    ) -> R:
        """Run `work(term)` whenever elected, until it returns by itself; then return its result.

        If the term ends first, `term.lost` is set: the work should return, or let `term.check()`
        raise `LeadershipLost`. It is then run again with a new term when elected again, for ever.
        An exception of the work is raised here, after the lease was released.

        Args:
            work: called in this thread.
            deadman: have the kernel end this process if the work outlives its term.
            isolate: call it in a child process instead, which the kernel ends; this one survives.
                The work and its result must be picklable.
            health: how the work is known to be well; if it is not, the term is handed over.
            timeout_s: how long to wait each time to be elected; None for ever.

        Raises:
            NotElected: the time is up.
        """
        settings = self._settings(armed=deadman, isolated=isolate)
        isolation = Isolation() if isolate else None
        seat = Seat(settings, self._observer, isolation)
        self._leading = seat
        try:
            seat.start()
            while True:
                term = seat.wait(timeout_s)
                monitor = HealthMonitor(health, seat.sick) if health else None
                try:
                    result: R = isolation.run(term, work) if isolation else work(term)
                except LeadershipLost:
                    if not seat.is_over(term):
                        raise
                else:
                    if not seat.is_over(term):
                        return result
                finally:
                    if monitor is not None:
                        monitor.stop()
                if isolation is not None:
                    isolation.renew()
                seat.work_ended(term)
        finally:
            self._leading = None
            try:
                seat.quit()
            finally:
                if isolation is not None:
                    isolation.close()

    def step_down(self, to: str = "") -> None:
        """Hand over, if this `Election` object leads in another thread by `lead`.

        Args:
            to: the candidate that shall follow, or "" for anybody.
        """
        if self._leading is not None:
            self._leading.step_down(to)

    def _seat(self, armed: bool) -> Seat:
        return Seat(self._settings(armed=armed), self._observer)


class Hold(ContextDecorator):
    """The context manager of `Election.hold`. It can be entered again after it was left."""

    def __init__(self, election: Election, timeout_s: float | None, deadman: bool) -> None:
        self._election = election
        self._timeout_s = timeout_s
        self._deadman = deadman
        self._seat: Seat | None = None
        self._term: Term | None = None

    def __enter__(self) -> Term:
        """Wait to be elected."""
        if self._seat is not None:
            raise IncumbentError("this hold is entered already: make one for each `with`")
        seat = self._election._seat(self._deadman)
        try:
            seat.start()
            self._term = seat.wait(self._timeout_s)
        except BaseException:
            seat.quit()
            raise
        self._seat = seat
        return self._term

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release; the body has ended."""
        seat, term = self._seat, self._term
        self._seat = self._term = None
        if seat is None or term is None:
            return
        lost = seat.was_lost
        seat.quit()
        if lost and error is None:
            raise LeadershipLost(f"{term.name!r} was lost while the body ran: {term.cause}")

    def _recreate_cm(self) -> Hold:
        return Hold(self._election, self._timeout_s, self._deadman)


class Seat(Candidacy):
    """A candidate for whom one thread waits."""

    def __init__(
        self, settings: Settings, observer: Observer | None, isolation: Isolation | None = None
    ) -> None:
        if isolation is None:
            super().__init__(settings, observer)
        else:
            super().__init__(settings, observer, isolation.term, isolation)
        self._isolation = isolation
        self.was_lost = False
        self._quitting = False
        self._term: Term | None = None
        # Boxes, and no locks of Python's own: see `runtime.flag`.
        self._elected: SimpleQueue[Term | BaseException] = SimpleQueue()
        self._tried: SimpleQueue[None] = SimpleQueue()
        self._gone = Flag()

    def wait(self, timeout_s: float | None) -> Term:
        """Return the next term.

        Raises:
            NotElected: the time is up; with 0, somebody else holds.
        """
        try:
            if timeout_s == 0:
                self._tried.get()
                found = self._elected.get_nowait()
            else:
                found = self._elected.get(timeout=timeout_s)
        except Empty:
            text = self._last or f"{self.settings.name!r} was not to be had in time"
            raise NotElected(text) from None
        if isinstance(found, BaseException):
            raise found
        self._tried = SimpleQueue()
        return found

    def sick(self, cause: str) -> None:
        """Hand over: the work is not well."""
        self.step_down(cause=cause)

    def quit(self) -> None:
        """Say that the work has ended, withdraw, and return when that is done."""
        self._quitting = True
        self.leave(self._term)
        if self.here:
            self._gone.wait()

    def on_elected(self, term: Term) -> None:
        """Hand the term over; if nobody waits for it any more, end it."""
        self._term = term
        self.was_lost = False
        if self._quitting:
            self.leave(term)
            return
        self._elected.put(term)
        self._tried.put(None)

    def on_waiting(self, snapshot: Snapshot | None, until: float) -> None:
        """Let go of somebody who would not wait."""
        self._tried.put(None)

    def on_note(self, code: str, text: str) -> None:
        """Let go of somebody who would not wait for a store that does not answer."""
        if code == "unreachable":
            self._tried.put(None)

    def on_stop(self, term: Term, why: Why, cause: str, deadline: float) -> None:
        """Remember whether the term was lost; `term.lost` has told the work already."""
        self.was_lost = not why.planned
        if self._isolation is not None:
            self._isolation.request_stop(deadline - boottime() - self.settings.timing.kill_s)

    def on_closed(self, error: BaseException | None) -> None:
        """Let go of everybody who waits."""
        self._elected.put(error or NotElected("the candidate was withdrawn"))
        self._tried.put(None)
        self._gone.set()
