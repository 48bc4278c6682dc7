"""Several singletons, spread over the replicas, for asyncio: a task for each that is held here.

    async def work(term: Term) -> None:
        while True:
            await settle(term.name, fencing_token=term.token)

    await Spread("shards", [f"shard-{number}" for number in range(30)], work).run()

When a term is to end, its task is cancelled and awaited, and only then the lease is released.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any

from incumbent.aio.election import Term
from incumbent.errors import LeadershipLost
from incumbent.runtime import term as plain
from incumbent.runtime.face import name_of
from incumbent.workloads.sigterm import heeded, leave_loop
from incumbent.workloads.spread.group import Group
from incumbent.workloads.spread.member import Misuse, Seat

__all__ = ["Spread"]

Work = Callable[[Term], Awaitable[object]]


class Spread(Group[Work]):
    """Elections of which this process holds its share, each with a task that does its work."""

    async def run(self, *, deadman: bool = True) -> None:
        """Hold what is our share, until `stop`, or until the work of all has returned by itself.

        If a term is to end first, its work is cancelled and awaited. A work that raises an
        exception loses its term to others, and is run here again after a pause. Who cancels this
        cancels all work, and it is over when everything has been given up. On the main thread
        SIGTERM does what `stop` does, unless somebody handles that signal already: see
        `workloads.sigterm`.

        Args:
            deadman: have the kernel end this process if some work outlives its term.

        Raises:
            ConfigError: this object runs already, or some setting cannot work.
            StoreError: the store cannot be opened.
            CancelledError: this was cancelled; or SIGTERM came, all has ended, and `SystemExit`
                ends the event loop.
            BaseException: what some work raised that is no `Exception`, when all has ended.
        """
        loop = asyncio.get_running_loop()

        def make(**values: Any) -> plain.Term:
            return Term(loop=loop, **values)

        tasks = _Tasks(self.work, loop)
        member = self._enter(tasks, make, deadman=deadman)
        try:
            with heeded(member.leave) as one:
                try:
                    member.start()
                    await tasks.serve(member.leave)
                finally:
                    await leave_loop(one)
        finally:
            self._member = None


class _Tasks:
    """Runs the work of each term in a task of its own."""

    def __init__(self, work: Work, loop: asyncio.AbstractEventLoop) -> None:
        self._work = work
        self._loop = loop
        self._tasks: dict[Term, asyncio.Task[None]] = {}
        self._over: asyncio.Future[BaseException | None] = loop.create_future()

    def begin(self, seat: Seat, term: plain.Term) -> None:
        """Start a task."""
        self._later(self._begin, seat, term)

    def stop(self, seat: Seat, term: plain.Term) -> None:
        """Cancel it."""
        self._later(self._stop, term)

    def gone(self, error: BaseException | None) -> None:
        """Let who runs the spread go."""
        self._later(self._gone, error)

    async def serve(self, leave: Callable[[], None]) -> None:
        """Wait until all is over; if we are cancelled, leave first."""
        cancelled: asyncio.CancelledError | None = None
        while not self._over.done():
            try:
                await asyncio.wait([self._over])
            except asyncio.CancelledError as outer:
                cancelled = outer
                leave()
        if cancelled is not None:
            raise cancelled
        error = self._over.result()
        if error is not None:
            raise error

    def _begin(self, seat: Seat, term: Term) -> None:
        task = self._loop.create_task(self._call(term), name=f"incumbent-{term.name}")
        self._tasks[term] = task
        # Not in the task itself: one that is cancelled before it began runs no line of it.
        task.add_done_callback(lambda done: self._done(seat, term, done))

    def _done(self, seat: Seat, term: Term, task: asyncio.Task[None]) -> None:
        del self._tasks[term]
        error: BaseException | None
        if task.cancelled():
            error = LeadershipLost(term.cause) if term.ended else asyncio.CancelledError()
        else:
            error = task.exception()
        seat.ended(term, error)

    def _stop(self, term: Term) -> None:
        task = self._tasks.get(term)
        if task is not None:
            task.cancel()

    def _gone(self, error: BaseException | None) -> None:
        if not self._over.done():
            self._over.set_result(error)

    async def _call(self, term: Term) -> None:
        result = self._work(term)
        if not isawaitable(result):
            raise Misuse(
                f"{name_of(self._work)} returned {result!r}, which cannot be awaited: the work of "
                "incumbent.aio.Spread must be a coroutine function (async def); incumbent.Spread "
                "is for ordinary ones"
            )
        await result

    def _later(self, call: Callable[..., None], *values: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *values)
