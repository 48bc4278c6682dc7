"""Runs a workload for asyncio: as a task of the user's loop, on which the calls are awaited too."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isawaitable
from typing import Any

from incumbent.runtime.checkpoints import Archive
from incumbent.runtime.face import Misuse, name_of
from incumbent.runtime.term import Term
from incumbent.workloads.cancelled import unless_ours
from incumbent.workloads.env import Clock, Env, Workload

__all__ = ["run"]


async def run(
    workload: Workload, term: Term, archive: Archive | None, clock: Clock | None = None
) -> Any:
    """Run `workload` under `term`, and return its result.

    Raises:
        CancelledError: the term ended first, and so this was cancelled.
        Exception: whatever the workload raised.
    """
    env = Env(term, _call, archive, clock)
    if archive is None:
        return await workload.run(env)
    async with archive:
        return await workload.run(env)


async def _call(func: Callable[..., Any], *args: Any) -> Any:
    result = func(*args)
    if not isawaitable(result):
        raise Misuse(
            f"{name_of(func)} returned {result!r}, which cannot be awaited: the work of "
            "incumbent.aio needs coroutine functions (async def)"
        )
    return await unless_ours(result)
