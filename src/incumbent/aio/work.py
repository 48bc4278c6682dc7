"""Runs a workload on the event loop, whenever this process is elected."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, TypeVar

from incumbent.aio.election import Election
from incumbent.clock import boottime
from incumbent.errors import IncumbentError, Withdrawn
from incumbent.runtime.health import Health
from incumbent.runtime.term import Term
from incumbent.stores.api import Store
from incumbent.workloads import tasks as runner
from incumbent.workloads.env import Workload
from incumbent.workloads.settings import Plan
from incumbent.workloads.standing import Pauses, Standing

__all__ = ["Work"]

W = TypeVar("W", bound="Work")


class Work:
    """Work that one process does at a time. Kinds of it are subclasses.

    Either await `run`, which returns only if the work ends by itself. Or `start` it as a task, and
    `stop` it; as an async context manager it does both.
    """

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
        """
        self._plan = Plan(name, workload, election, state)
        self._plan.check()
        self._how: dict[str, Any] = {"isolate": isolate, "deadman": deadman, "health": health}
        self.election = Election(name, **election)
        self._task: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        self._ended_by: BaseException | None = None

    async def run(self, *, timeout_s: float | None = None) -> Any:
        """Do the work whenever elected until it ends by itself; for ever, mostly.

        Args:
            timeout_s: how long to wait each time to be elected; None for ever, 0 to try once.

        Raises:
            NotElected, StoreError, WorkStuck, Withdrawn: see `Election.lead`.
        """
        return await self.election.lead(_Running(self._plan), timeout_s=timeout_s, **self._how)

    async def start(self) -> None:
        """Do the same in a task of its own, for ever, and return; see `workloads.standing`.

        Raises:
            IncumbentError: it is running already.
        """
        if self._task is not None and not self._task.done():
            raise IncumbentError(f"{self._plan.name!r} is running already")
        self._failure = self._ended_by = None
        name = f"incumbent-{self._plan.name}"
        self._task = asyncio.create_task(self._in_background(), name=name)

    async def stop(self) -> None:
        """Stop the work, hand over, and return when nothing of it is left.

        Raises:
            Exception: what has ended the work before, if anything has for good.
        """
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        if self._ended_by is not None:
            raise self._ended_by

    @property
    def standing(self) -> Standing:
        """What the work is doing in the background."""
        begun = self._task is not None
        return Standing.of(self.election, begun=begun, failure=self._failure)

    async def _in_background(self) -> None:
        pauses = Pauses(self._plan.name, boottime)
        while True:
            try:
                await self.run()
                return
            except (Withdrawn, asyncio.CancelledError):
                return
            except BaseException as error:
                self._failure = error
                pause_s = pauses.after(error)
                if pause_s is None:
                    self._ended_by = error
                    return
                await asyncio.sleep(pause_s)
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
