"""A cancellation that nobody of ours has asked for, which is a failure like any other.

A coroutine function that awaits a task of its own, which somebody has cancelled, raises
`CancelledError` as well. Taken for the end of the term it would end the work for good, and in
silence. What tells the two apart is whether the task that runs here was itself asked to end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

__all__ = ["unless_ours"]

T = TypeVar("T")


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
        raise RuntimeError("it was cancelled, and not by incumbent") from error
