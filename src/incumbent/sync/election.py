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
from functools import wraps
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from incumbent.core.records import Snapshot
from incumbent.errors import IncumbentError, LeadershipLost, NotElected
from incumbent.runtime import face
from incumbent.runtime.candidacy import Observer
from incumbent.runtime.face import refuse_async, refuse_coroutine
from incumbent.runtime.flag import Flag
from incumbent.runtime.health import Health, HealthMonitor
from incumbent.runtime.isolate import Isolation, refuse_immovable
from incumbent.runtime.settings import Settings, check_timeout
from incumbent.runtime.term import Term

__all__ = ["Election", "Health", "Hold", "Term"]

R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


class Election(face.Election):
    """An election in which this process can be a candidate, for threads."""

    def hold(self, *, timeout_s: float | None = None, deadman: bool = False) -> Hold:
        """Return a context manager, and decorator, whose body runs only while we hold.

        Args:
            timeout_s: how long to wait to be elected, the opening of the store included; None for
                ever, 0 to try once, which takes no longer than one request may.
            deadman: have the kernel end this process if the body outlives its term.

        Raises:
            ConfigError: `timeout_s` is no number of seconds.
            NotElected: on entering, if the time is up; the text says what was waited for.
            StoreError: on entering, if the store cannot be opened.
            LeadershipLost: on leaving, if the term was lost while the body ran.
            TypeError: a coroutine function or generator function was decorated.
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
            timeout_s: how long to wait each time to be elected; None for ever, 0 to try once.

        Raises:
            ConfigError: `timeout_s` is no number of seconds, or isolated `work` cannot be pickled.
            NotElected: the time is up; the text says what was waited for.
            StoreError: the store cannot be opened.
            Withdrawn: `withdraw` was called.
            TypeError: `work` is a coroutine function, and not isolated, or a generator function.
            WorkStuck: isolated work was ended and its end cannot be confirmed. Nothing is released;
                this process takes no part in the election any more.
        """
        check_timeout(timeout_s)
        _refuse_misfits(work, isolate, health)
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
                    refuse_coroutine(result, work, "lead()")
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
                if isolation is not None:
                    isolation.close()
            finally:
                seat.quit()

    def _seat(self, armed: bool) -> Seat:
        return Seat(self._settings(armed=armed), self._observer)


class Hold(face.Hold[Election]):
    """The context manager of `Election.hold`. It can be entered again after it was left."""

    _seat: Seat | None = None
    _term: Term | None = None

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
        lost = seat.outlived(term)
        seat.quit()
        if lost and error is None:
            raise seat.loss(term)

    def __call__(self, func: F) -> F:
        """Make of `func` a function whose every call is the body of a hold of its own."""
        refuse_async(func, "hold()")

        @wraps(func)
        def held(*args: Any, **values: Any) -> Any:
            with Hold(self._election, self._timeout_s, self._deadman):
                result = func(*args, **values)
                refuse_coroutine(result, func, "hold()")
                return result

        return cast(F, held)

    if not TYPE_CHECKING:  # A type checker says it by itself.

        def __aenter__(self) -> NoReturn:
            raise TypeError(
                "`async with` needs incumbent.aio.Election; the hold() of incumbent.Election is "
                "entered by `with`"
            )

        __aexit__ = __aenter__


class Seat(face.Seat):
    """A candidate for whom one thread waits."""

    def __init__(
        self, settings: Settings, observer: Observer | None, isolation: Isolation | None = None
    ) -> None:
        super().__init__(settings, observer, isolation, Term)
        # Boxes and flags, and no locks of Python's own: see `runtime.flag`.
        self._elected: SimpleQueue[Term | BaseException] = SimpleQueue()
        self._tried = Flag()
        self._why_not_yet: SimpleQueue[str] = SimpleQueue()
        self._gone = Flag()

    def wait(self, timeout_s: float | None) -> Term:
        """Return the next term.

        Raises:
            NotElected: the time is up; with 0, nothing was to be had at once.
        """
        limit_s = self.limit_s(timeout_s)
        try:
            if timeout_s == 0:
                self._tried.wait(limit_s)
                limit_s = 0
            found = self._elected.get(timeout=limit_s)
        except Empty:
            found = self._last_chance()
        if isinstance(found, BaseException):
            raise found
        self._tried = Flag()
        return found

    def _last_chance(self) -> Term | BaseException:
        if not self.here:
            return NotElected(f"{self.settings.name!r}: this process is ending")
        self.give_up()
        why = self._why_not_yet.get()
        try:
            return self._elected.get_nowait()
        except Empty:
            self.given_up = True
            return NotElected(why)

    def quit(self) -> None:
        """Say that the work has ended, withdraw, and return when that is done."""
        if self.withdraw():
            self._gone.wait()

    def on_elected(self, term: Term) -> None:
        """Hand the term over."""
        self.was_lost = False
        self._elected.put(term)
        self._tried.set()

    def on_waiting(self, snapshot: Snapshot | None, until: float) -> None:
        """Let go of somebody who would not wait."""
        self._tried.set()

    def on_note(self, code: str, text: str) -> None:
        """Let go of somebody who would not wait for a store that does not answer."""
        if code == "unreachable":
            self._tried.set()

    def on_given_up(self, why: str) -> None:
        """Say what was waited for."""
        self._why_not_yet.put(why)

    def on_closed(self, error: BaseException | None) -> None:
        """Let go of everybody who waits."""
        why = self.reason(error)
        if why is not None:
            self._elected.put(why)
        self._tried.set()
        self._gone.set()


def _refuse_misfits(work: Callable[..., Any], isolate: bool, health: Health | None) -> None:
    if isolate:
        refuse_immovable(work)
    else:
        refuse_async(work, "lead()")
    if health is not None:
        refuse_async(health.check, "the health check of lead()")
