"""Runs a workload on the event loop, whenever this process is elected."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from incumbent.aio.election import Election
from incumbent.clock import boottime
from incumbent.errors import IncumbentError, Withdrawn
from incumbent.runtime.health import Health
from incumbent.runtime.term import Term
from incumbent.stores.api import Store
from incumbent.workloads import tasks as runner
from incumbent.workloads.env import Workload
from incumbent.workloads.settings import Plan, refuse_unknown
from incumbent.workloads.sigterm import heeded, leave_loop
from incumbent.workloads.standing import Pauses, Standing

__all__ = ["Work"]

WITHDRAW_EVERY_S = 0.05
"""While it is to end: it may only just be about to become a candidate."""

W = TypeVar("W", bound="Work")


class Work:
    """Work that one process does at a time. Kinds of it are subclasses.

    Either await `run`, which returns if the work ends by itself, or is stopped. Or `start` it as a
    task, and `stop` it; as an async context manager it does both.
    """

    _called: ClassVar[str] = ""
    _more: ClassVar[Collection[str]] = ()

    def __init__(
        self,
        name: str,
        workload: Workload,
        *,
        state: str | Store | None = None,
        isolate: bool = False,
        deadman: bool = True,
        health: Health | None = None,
        **election: Any,
    ) -> None:
        """Check the settings; nothing is touched yet.

        Args:
            name: of the election.
            workload: what runs.
            state: where it keeps how far it has come, if not beside the election: a store's URL.
            isolate: run it in a child process, which the kernel ends; this one survives.
            deadman: have the kernel end this process if the work outlives its term.
            health: how the work is known to be well; if it is not, the term is handed over.
            **election: what `Election` takes, besides.

        Raises:
            ConfigError: some setting cannot work; the message says what to change.
            TypeError: there is no such option.
        """
        where = self._called or f"incumbent.aio.{type(self).__name__}()"
        refuse_unknown(type(self), where, election, self._more)
        self._plan = Plan(name, workload, election, state)
        self._plan.check()
        self._how: dict[str, Any] = {"isolate": isolate, "deadman": deadman, "health": health}
        self.election = Election(name, **election)
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._asked: list[asyncio.Event] = []
        self._failure: BaseException | None = None
        self._ended_by: BaseException | None = None

    async def run(self, *, timeout_s: float | None = None) -> Any:
        """Do the work whenever elected until it ends by itself; for ever, mostly.

        On the main thread SIGTERM stops it in order, unless somebody handles that signal already:
        see `workloads.sigterm`. Who cancels this, stops it in order, too.

        Args:
            timeout_s: how long to wait each time to be elected; None for ever, 0 to try once.

        Returns:
            The result of the work; None after `stop`.

        Raises:
            NotElected, StoreError, WorkStuck, Withdrawn: see `Election.lead`.
            CancelledError: this was cancelled; or SIGTERM came, nothing of the work is left, and
                `SystemExit` ends the event loop.
        """
        self._plan.check(begins=True)
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()

        def ask() -> None:
            loop.call_soon_threadsafe(asked.set)

        self._asked.append(asked)
        try:
            with heeded(ask) as one:
                try:
                    return await self._led(asked, timeout_s)
                finally:
                    await leave_loop(one)
        finally:
            self._asked.remove(asked)

    async def _led(self, asked: asyncio.Event, timeout_s: float | None = None) -> Any:
        """Lead until the work ends by itself, we are asked to end it, or are cancelled.

        Then the term is ended, as for a handover: a function that swallows its cancellation is not
        followed by the next one, and has the grace of its term, and no more.
        """
        lead = self.election.lead(_Running(self._plan), timeout_s=timeout_s, **self._how)
        leading = asyncio.ensure_future(lead)
        waiting = asyncio.ensure_future(asked.wait())
        outer: asyncio.CancelledError | None = None
        while not leading.done():
            try:
                if outer is not None or asked.is_set():
                    self.election.withdraw()
                    await asyncio.wait([leading], timeout=WITHDRAW_EVERY_S)
                else:
                    both = [leading, waiting]
                    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError as error:
                outer = error
        waiting.cancel()
        if outer is not None:
            if not leading.cancelled():
                leading.exception()
            raise outer
        try:
            return leading.result()
        except Withdrawn:
            if not asked.is_set():
                raise
            return None

    async def start(self) -> None:
        """Do the same in a task of its own, for ever, and return; see `workloads.standing`.

        Raises:
            IncumbentError: it is running already.
            ConfigError: no store was named.
        """
        self._plan.check(begins=True)
        if self._task is not None and not self._task.done():
            raise IncumbentError(f"{self._plan.name!r} is running already")
        self._failure = self._ended_by = None
        self._stopping = asyncio.Event()
        name = f"incumbent-{self._plan.name}"
        self._task = asyncio.create_task(self._in_background(), name=name)

    async def stop(self) -> None:
        """Stop the work and hand over.

        A `run` returns then, which is not waited for. What was begun by `start` is waited for, and
        when this returns nothing of it is left.

        Raises:
            Exception: what has ended the work before, if anything has for good.
        """
        for asked in self._asked:
            asked.set()
        task, self._task = self._task, None
        if task is None:
            return
        self._stopping.set()
        await asyncio.wait([task])
        if self._ended_by is not None:
            raise self._ended_by

    @property
    def name(self) -> str:
        """The name of its election."""
        return self._plan.name

    @property
    def standing(self) -> Standing:
        """What the work is doing in the background."""
        begun = self._task is not None
        return Standing.of(self.election, begun=begun, failure=self._failure)

    async def _in_background(self) -> None:
        pauses = Pauses(self._plan.name, boottime)
        while not self._stopping.is_set():
            try:
                await self._led(self._stopping)
                return
            except (Withdrawn, asyncio.CancelledError):
                return
            except BaseException as error:
                self._failure = error
                pause_s = pauses.after(error)
                if pause_s is None:
                    self._ended_by = error
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause_s)
                    return
                self._failure = None

    async def __aenter__(self: W) -> W:
        """Start it."""
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop it."""
        await self.stop()


class _Running:
    """What is led; it travels to another process if the work is isolated."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    async def __call__(self, term: Term) -> Any:
        return await runner.run(self._plan.workload, term, self._plan.archive())
