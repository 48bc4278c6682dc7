"""What a workload is given, and what it has to be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol

from incumbent.clock import boottime
from incumbent.runtime.checkpoints import Archive, Progress
from incumbent.runtime.term import Term

__all__ = ["Caller", "Clock", "Env", "Workload"]


class Clock:
    """The two clocks of a workload, and how it waits. A test has one that is driven by hand."""

    def wall(self) -> float:
        """Return the wall clock, in seconds since the epoch: for which tick is due, alone."""
        return time.time()

    def now(self) -> float:
        """Return the boot-time clock, in seconds: for durations."""
        return boottime()

    async def sleep(self, delay_s: float) -> None:
        """Wait."""
        await asyncio.sleep(max(0.0, delay_s))


class Caller(Protocol):
    """How the user's functions are called in one face."""

    async def __call__(self, func: Callable[..., Any], *args: Any) -> Any:
        """Call `func`; await what it returns if that is the face's way."""
        ...


class Env:
    """What one run of a workload has to do with the world.

    Attributes:
        term: under which it runs.
        clock: see `Clock`.
        archive: where it keeps how far it has come, opened; None if the workload keeps nothing.
    """

    def __init__(
        self, term: Term, caller: Caller, archive: Archive | None, clock: Clock | None = None
    ) -> None:
        self.term = term
        self.clock = clock or Clock()
        self.archive = archive
        self._caller = caller

    async def call(self, func: Callable[..., Any], *args: Any) -> Any:
        """Call a function of the user's, and return its result.

        In the face of threads it runs in a thread that the user has given, and cannot be stopped
        from outside: if this is cancelled it goes on, and the run of the workload ends after it.

        Raises:
            LeadershipLost: the term is over; nothing was called.
            Exception: whatever it raised.
        """
        self.term.check()
        return await self._caller(func, *args)

    def progress(self, part: str) -> Progress:
        """Return the checkpoint `part` of this work; open it before anything else is done.

        Raises:
            ConfigError: there are no fencing tokens, or `part` is no name.
        """
        if self.archive is None:
            raise AssertionError("this workload said that it keeps nothing")
        return self.archive.progress(self.term, part)


class Workload(Protocol):
    """Work that goes on for as long as a term does.

    Attributes:
        keeps: whether it needs checkpoints.
    """

    @property
    def keeps(self) -> bool:
        """Whether it needs checkpoints (`Env.archive`)."""
        ...

    async def run(self, env: Env) -> Any:
        """Work until the term ends, by being cancelled then; or until there is no more to do."""
        ...
