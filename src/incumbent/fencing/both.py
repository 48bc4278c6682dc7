"""One text for both faces: coroutine functions that are also run where nothing can be awaited.

What speaks to a database by a blocking driver never waits in the sense of asyncio: each of its
awaits returns at once. So a coroutine over such a driver runs from its beginning to its end in one
step, without a loop, and the same text serves a driver of asyncio.
"""

from __future__ import annotations

from collections.abc import Coroutine
from inspect import isawaitable
from typing import Any, TypeVar

__all__ = ["settled", "through"]

T = TypeVar("T")


def through(steps: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that waits for nothing, and return its result.

    Raises:
        AssertionError: it waits.
        BaseException: whatever it raised.
    """
    try:
        steps.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    steps.close()
    raise AssertionError(f"{steps!r} waits, and nobody here can let it")


async def settled(result: Any) -> Any:
    """Return a result; await it first, if it is one of asyncio's."""
    return await result if isawaitable(result) else result
