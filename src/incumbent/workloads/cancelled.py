"""A cancellation that nobody of ours has asked for, which is a failure like any other.

A coroutine function that awaits a task of its own, which somebody has cancelled, raises
`CancelledError` as well, and so does an ordinary one that runs a loop of its own. Taken for the end
of the term it would end the work for good, and in silence. What tells the two apart is whether the
task that runs here was itself asked to end; in a thread there is none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

__all__ = ["in_a_thread", "unless_ours"]

T = TypeVar("T")
_NOT_OURS = "it was cancelled, and not by incumbent"


async def unless_ours(call: Awaitable[T]) -> T:
    """Await what a function of the user has returned.

    Raises:
        RuntimeError: it was cancelled, and nobody has cancelled the task that awaits it.
    """
    try:
        return await call
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise RuntimeError(_NOT_OURS) from error


def in_a_thread(func: Callable[..., T], *args: Any) -> T:
    """Call a function of the user in a thread.

    Raises:
        RuntimeError: something was cancelled in it.
    """
    try:
        return func(*args)
    except asyncio.CancelledError as error:
        raise RuntimeError(_NOT_OURS) from error
