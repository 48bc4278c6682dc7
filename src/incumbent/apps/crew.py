"""All the work of one application: begun together, stopped together, and told of together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import Any

from incumbent.aio.work import Work as AioWork
from incumbent.errors import ConfigError
from incumbent.sync.work import Work
from incumbent.workloads.standing import Standing

__all__ = ["Crew"]


class Crew:
    """The work of one application, for threads or for asyncio, in any mixture.

    Args:
        works: each is started at most once, whoever asks.

    Raises:
        ConfigError: one of them is no work, or two have the same name.
    """

    def __init__(self, works: Sequence[Work | AioWork]) -> None:
        names: set[str] = set()
        for work in works:
            if not isinstance(work, (Work, AioWork)):
                raise ConfigError(
                    f"{work!r} is no work: decorate the function, as by @incumbent.every('30s')"
                )
            if work.election.name in names:
                raise ConfigError(f"two works have the name {work.election.name!r}: rename one")
            names.add(work.election.name)
        self._works = tuple(works)

    async def start(self) -> None:
        """Begin all of them, or none; none waits to be elected here.

        Raises:
            IncumbentError: one of them is running already.
        """
        async with AsyncExitStack() as begun:
            for work in self._works:
                if isinstance(work, AioWork):
                    await work.start()
                else:
                    work.start()
                begun.push_async_callback(_stop, work)
            begun.pop_all()

    async def stop(self) -> None:
        """Stop all of them at once, and return when nothing is left of any.

        Raises:
            ExceptionGroup: what has ended some of them before, for good.
        """
        async with asyncio.TaskGroup() as group:
            for work in self._works:
                group.create_task(_stop(work))

    def standings(self) -> list[Standing]:
        """Return what each of them is doing."""
        return [work.standing for work in self._works]

    def told(self) -> dict[str, Any]:
        """Return the same as what an endpoint answers with."""
        return {"work": [asdict(standing) for standing in self.standings()]}


async def _stop(work: Work | AioWork) -> None:
    if isinstance(work, AioWork):
        await work.stop()
    else:
        await asyncio.to_thread(work.stop)
