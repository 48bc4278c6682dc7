"""Elections for asyncio, with the names of `incumbent.sync.election`.

    election = aio.Election("billing")

    async with election.hold() as term:     # waits; the body never runs without the lock
        await settle(fencing_token=term.token)

    await election.lead(poll_forever)       # run it whenever elected, contend again for ever

A task can be stopped from outside: when the term is to end, the work is *cancelled* and awaited,
and only then is the lease released. A callable that blocks the event loop does not lose the lease,
which is kept on another thread; if it blocks past the stop, the kernel ends the process (`deadman`,
armed by default in `lead`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import wraps
from inspect import isawaitable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from incumbent.core.events import Why
from incumbent.core.records import Snapshot
from incumbent.errors import IncumbentError, LeadershipLost, NotElected
from incumbent.runtime import face
from incumbent.runtime import term as plain
from incumbent.runtime.candidacy import Observer
from incumbent.runtime.face import name_of
from incumbent.runtime.health import Health, HealthMonitor
from incumbent.runtime.isolate import Isolation, refuse_immovable
from incumbent.runtime.settings import Settings, check_timeout

__all__ = ["Election", "Health", "Hold", "Term"]

R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Awaitable[Any]])


class Term(plain.Term):
    """One uninterrupted holding of an election; `lost` is an `asyncio.Event`, for `await`.

    Callbacks given to `on_lost` run on the event loop.
    """

    __slots__ = ("_loop",)

    lost: asyncio.Event  # type: ignore[assignment]

    def __init__(self, *, loop: asyncio.AbstractEventLoop, **values: Any) -> None:
        super().__init__(**values)
        self._loop = loop
        self.lost = asyncio.Event()

    def forked(self) -> None:
        """In a forked child: see `runtime.term.Term.forked`."""
        super().forked()
        self.lost = asyncio.Event()
        self.lost.set()

    def _signal(self) -> None:
        self._later(self.lost.set)

    def _run(self, callback: plain.LostCallback) -> None:
        self._later(super()._run, callback)

    def _later(self, call: Callable[..., None], *values: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *values)


class Election(face.Election):
    """An election in which this process can be a candidate, for asyncio."""

    def hold(self, *, timeout_s: float | None = None, deadman: bool = False) -> Hold:
        """Return an async context manager, and decorator, whose body runs only while we hold.

        If the term ends first, the body is cancelled and `LeadershipLost` is raised.

        Args:
            timeout_s: how long to wait to be elected, the opening of the store included; None for
                ever, 0 to try once, which takes no longer than one request may.
            deadman: have the kernel end this process if the body outlives its term.

        Raises:
            ConfigError: `timeout_s` is no number of seconds.
            NotElected: on entering, if the time is up; the text says what was waited for.
            StoreError: on entering, if the store cannot be opened.
            LeadershipLost: on leaving, if the term ended while the body ran.
            TypeError: what was decorated returned nothing that could be awaited.
        """
        return Hold(self, timeout_s, deadman)

    async def lead(
        self,
        work: Callable[[Term], Awaitable[R]],
        *,
        deadman: bool = True,
        isolate: bool = False,
        health: Health | None = None,
        timeout_s: float | None = None,
    ) -> R:
        """Run `work(term)` whenever elected, until it returns by itself; then return its result.

        If the term is to end first, the work is cancelled and awaited; it is run again with a new
        term when elected again, for ever. An exception of the work is raised here, after release.

        Args:
            work: a coroutine function.
            deadman: have the kernel end this process if the work outlives its term.
            isolate: run it in a child process instead, which the kernel ends; this one survives.
                The work and its result must be picklable.
            health: how the work is known to be well; if it is not, the term is handed over.
            timeout_s: how long to wait each time to be elected; None for ever, 0 to try once.

        Raises:
            ConfigError: `timeout_s` is no number of seconds, or isolated `work` cannot be pickled.
            NotElected: the time is up; the text says what was waited for.
            StoreError: the store cannot be opened.
            Withdrawn: `withdraw` was called.
            TypeError: `work` returned nothing that could be awaited, and was not isolated.
            WorkStuck: isolated work was ended and its end cannot be confirmed. Nothing is released;
                this process takes no part in the election any more.
        """
        check_timeout(timeout_s)
        if isolate:
            refuse_immovable(work)
        settings = self._settings(armed=deadman, isolated=isolate)
        isolation = await asyncio.to_thread(Isolation) if isolate else None
        seat = Seat(settings, self._observer, isolation)
        self._leading = seat
        try:
            seat.start()
            while True:
                term = await seat.wait(timeout_s)
                monitor = HealthMonitor(health, seat.sick, seat.ask) if health else None
                try:
                    result = await seat.serve(term, work)
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
                    await asyncio.to_thread(isolation.renew)
                seat.work_ended(term)
        finally:
            self._leading = None
            try:
                if isolation is not None:
                    await asyncio.to_thread(isolation.close)
            finally:
                await seat.quit()

    def _seat(self, armed: bool) -> Seat:
        return Seat(self._settings(armed=armed), self._observer)


class Hold(face.Hold[Election]):
    """The context manager of `Election.hold`. It can be entered again after it was left."""

    _seat: Seat | None = None
    _term: Term | None = None

    async def __aenter__(self) -> Term:
        """Wait to be elected."""
        if self._seat is not None:
            raise IncumbentError("this hold is entered already: make one for each `async with`")
        seat = self._election._seat(self._deadman)
        try:
            seat.start()
            self._term = await seat.wait(self._timeout_s)
        except BaseException:
            await seat.quit()
            raise
        self._seat = seat
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("not in a task")
        seat.cancel_on_stop(task, self._term)
        return self._term

    async def __aexit__(
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
        ours = seat.uncancel()
        if ours and error is None and not _outer_cancelled():
            # The body has ended before our cancellation reached it, which nobody wants any more.
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
        lost = seat.outlived(term)
        await seat.quit()
        if ours and kind is asyncio.CancelledError and not _outer_cancelled():
            raise seat.loss(term) from error
        if lost and error is None:
            raise seat.loss(term)

    def __call__(self, func: F) -> F:
        """Make of `func` a function whose every call is the body of a hold of its own."""

        @wraps(func)
        async def held(*args: Any, **values: Any) -> Any:
            async with Hold(self._election, self._timeout_s, self._deadman):
                return await _awaitable(func(*args, **values), func, "hold()")

        return cast(F, held)

    if not TYPE_CHECKING:  # A type checker says it by itself.

        def __enter__(self) -> NoReturn:
            raise TypeError(
                "the hold() of incumbent.aio.Election is entered by `async with`; for an ordinary "
                "`with` use incumbent.Election"
            )

        __exit__ = __enter__


class Seat(face.Seat):
    """A candidate for whom one task waits."""

    def __init__(
        self, settings: Settings, observer: Observer | None, isolation: Isolation | None = None
    ) -> None:
        self._loop = asyncio.get_running_loop()

        def make(**values: Any) -> plain.Term:
            return Term(loop=self._loop, **values)

        super().__init__(settings, observer, isolation, make)
        self._elected: asyncio.Future[Term] = self._loop.create_future()
        self._tried: asyncio.Future[None] = self._loop.create_future()
        self._why_not_yet: asyncio.Future[str] = self._loop.create_future()
        self._gone = asyncio.Event()
        self._task: asyncio.Future[Any] | None = None
        self._cancelled = False

    async def wait(self, timeout_s: float | None) -> Term:
        """Return the next term.

        Raises:
            NotElected: the time is up; with 0, nothing was to be had at once.
        """
        signs: list[asyncio.Future[Any]] = [self._elected]
        if timeout_s == 0:
            signs.append(self._tried)
        await asyncio.wait(
            signs, timeout=self.limit_s(timeout_s), return_when=asyncio.FIRST_COMPLETED
        )
        if not self._elected.done():
            self.give_up()
            why = await self._why_not_yet
            if not self._elected.done():
                self.given_up = True
                raise NotElected(why)
        term = self._elected.result()
        self._elected = self._loop.create_future()
        self._tried = self._loop.create_future()
        self._why_not_yet = self._loop.create_future()
        return term

    async def serve(self, term: Term, work: Callable[[Term], Awaitable[R]]) -> R:
        """Run the work of one term to its confirmed end.

        Raises:
            LeadershipLost: it was ended because of its term.
            Exception: whatever the work raised.
        """
        task: asyncio.Future[R]
        if self.isolation is not None:
            grace_s = self.settings.timing.grace_s
            task = asyncio.ensure_future(_isolated(self.isolation, term, work, grace_s))
        else:
            task = asyncio.ensure_future(_awaited(_awaitable(work(term), work, "lead()")))
            self.cancel_on_stop(task, term)
        try:
            return await _joined(task)
        except asyncio.CancelledError as error:
            if not task.cancelled() or not term.ended or _outer_cancelled():
                raise
            raise LeadershipLost(term.cause) from error

    def cancel_on_stop(self, task: asyncio.Future[Any], term: Term) -> None:
        """Cancel `task` when `term` is to end; at once, if that was said already."""
        self._task = task
        self._cancelled = False
        if term.ended:
            self._cancel()

    def uncancel(self) -> bool:
        """Have no task to cancel any more; tell whether it was cancelled by us."""
        task, self._task = self._task, None
        if self._cancelled and isinstance(task, asyncio.Task):
            task.uncancel()
        return self._cancelled

    def ask(self, check: Callable[[], Any]) -> Any:
        """Call a health check, on the event loop if it is a coroutine function."""
        answer = check()
        if isawaitable(answer):
            return asyncio.run_coroutine_threadsafe(_awaited(answer), self._loop).result()
        return answer

    async def quit(self) -> None:
        """Say that the work has ended, withdraw, and return when that is done."""
        self._task = None
        if self.withdraw():
            await _joined(asyncio.ensure_future(self._gone.wait()))

    def _cancel(self) -> None:
        if self._task is not None and not self._cancelled:
            self._cancelled = True
            self._task.cancel()

    def on_elected(self, term: plain.Term) -> None:
        """Hand the term over."""
        self.was_lost = False
        self._later(self._take, term)

    def _take(self, term: Term) -> None:
        _settle(self._elected, term)

    def on_waiting(self, snapshot: Snapshot | None, until: float) -> None:
        """Let go of somebody who would not wait."""
        self._later(lambda: _settle(self._tried, None))

    def on_note(self, code: str, text: str) -> None:
        """Let go of somebody who would not wait for a store that does not answer."""
        if code == "unreachable":
            self._later(lambda: _settle(self._tried, None))

    def on_given_up(self, why: str) -> None:
        """Say what was waited for."""
        self._later(lambda: _settle(self._why_not_yet, why))

    def on_stop(self, term: plain.Term, why: Why, cause: str, deadline: float) -> None:
        """Cancel the work."""
        super().on_stop(term, why, cause, deadline)
        self._later(self._cancel)

    def on_closed(self, error: BaseException | None) -> None:
        """Let go of everybody who waits."""
        self._later(self._closed, error)

    def _closed(self, error: BaseException | None) -> None:
        why = self.reason(error)
        if why is not None and not self._elected.done():
            self._elected.set_exception(why)
            self._elected.exception()  # Perhaps nobody waits any more.
        _settle(self._tried, None)
        self._gone.set()

    def _later(self, call: Callable[..., None], *values: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *values)


def _settle(future: asyncio.Future[R], value: R) -> None:
    if not future.done():
        future.set_result(value)


def _awaitable(value: Awaitable[R], call: Callable[..., Any], where: str) -> Awaitable[R]:
    """Return `value`, if it can be awaited."""
    if isawaitable(value):
        return value
    raise TypeError(
        f"{name_of(call)} returned {value!r}, which cannot be awaited: {where} of "
        "incumbent.aio.Election needs a coroutine function (async def); incumbent.Election is for "
        "ordinary ones"
    )


async def _awaited(work: Awaitable[R]) -> R:
    return await work


async def _isolated(
    isolation: Isolation, term: Term, work: Callable[[Any], Any], grace_s: float
) -> Any:
    """Run `work` in its process; to cancel this is to stop that, and the end is awaited."""
    running = asyncio.ensure_future(asyncio.to_thread(isolation.run, term, work))
    cancelled = False
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError:
            cancelled = True
            isolation.request_stop(grace_s)
    if cancelled:
        running.exception()
        raise asyncio.CancelledError
    return running.result()


async def _joined(task: asyncio.Future[R]) -> R:
    """Await `task` to its end, even if we are cancelled: then cancel it, and wait on."""
    outer: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            outer = error
            task.cancel()
    if outer is not None:
        if not task.cancelled():
            task.exception()
        raise outer
    return task.result()


def _outer_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
