"""How a poller calls the user's function, and what it may find out when its term is to end.

Rules
-----
1. A call that has begun is waited for. A coroutine is cancelled first; a thread cannot be, and runs
   to its end. So a file that was handled to its end while the term was being handed over counts as
   handled, and is not handled again by the successor.
2. A call that has not begun when the term is to end does not begin.
3. `LeadershipLost` and `StaleToken` are nobody's to catch, and end the run of the workload. So does
   what is no `Exception`, an interrupt above all; and a function of the wrong kind, whose call only
   makes a coroutine or a generator: it fails for each file and each poll, by no fault of theirs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any, TypeVar

from incumbent.errors import LeadershipLost, StaleToken
from incumbent.runtime.face import Misuse, refuse_async, refuse_generator
from incumbent.runtime.term import Term
from incumbent.workloads.env import Env

__all__ = ["Outcome", "apart", "called", "check_kind"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has become of one call.

    Attributes:
        result: what the function returned.
        error: what it raised; None if it returned.
        ending: whether the term is to end: finish what is in hand, and raise CancelledError.
    """

    result: Any = None
    error: Exception | None = None
    ending: bool = False


def check_kind(func: Callable[..., Any], what: str, *, awaits: bool) -> None:
    """Refuse a function whose calls would do nothing, as far as can be seen before one.

    Raises:
        Misuse: it is a generator function; or a coroutine function, where nobody awaits.
    """
    if awaits:
        refuse_generator(func, f"incumbent.aio.{what}")
    else:
        refuse_async(func, f"incumbent.{what}", f"incumbent.aio.{what}")


async def called(env: Env, func: Callable[..., Any], arg: Any, *, awaits: bool) -> Outcome:
    """Call `func(arg)`, and return what became of it.

    Args:
        env: of the run.
        func: the user's function.
        arg: what it is given.
        awaits: whether it is a coroutine function, which can be cancelled.

    Raises:
        CancelledError: the term is to end, and the function did not come to its end.
        LeadershipLost, StaleToken: it is over.
        Misuse: nothing can come of such a function.
        BaseException: what the function raised and is no `Exception`.
    """
    gate = _Gate(env.term, func)
    task = asyncio.ensure_future(_made(env, gate, arg))
    ending = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            ending = True
            if awaits or gate.shut():
                task.cancel()
    result, error = task.result()
    if error is None or _is_the_works_affair(error):
        return Outcome(result, error, ending)
    raise error


async def _made(env: Env, gate: _Gate, arg: Any) -> tuple[Any, Any]:
    """Call, and tell an interrupt apart: one that leaves a task on its own stops the loop."""
    try:
        return await env.call(gate, arg), None
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        return None, error


def _is_the_works_affair(error: BaseException) -> bool:
    return isinstance(error, Exception) and not isinstance(
        error, (LeadershipLost, StaleToken, Misuse)
    )


class _Gate:
    """The user's function, which is begun or shut out, and never both."""

    def __init__(self, term: Term, func: Callable[..., Any]) -> None:
        update_wrapper(self, func)
        self._term = term
        self._func = func
        self._lock = threading.Lock()
        self._begun = False
        self._shut = False

    def __call__(self, arg: Any) -> Any:
        with self._lock:
            if self._shut or self._term.ended:
                raise LeadershipLost(f"the term of {self._term.name!r} ended: {self._term.cause}")
            self._begun = True
        return self._func(arg)

    def shut(self) -> bool:
        """Return True if it has not begun, and never will."""
        with self._lock:
            self._shut = not self._begun
            return self._shut


async def apart(func: Callable[..., T], *args: Any) -> T:
    """Call something of ours that may block for a moment, beside the loop.

    When this is cancelled, it waits for the end of it all the same: what a rename has done is known
    before the run ends.

    Raises:
        CancelledError: the term is to end; by then `func` has returned.
        Exception: whatever it raised.
    """
    task = asyncio.ensure_future(asyncio.to_thread(func, *args))
    ending = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            ending = True
    if ending and task.exception() is None:
        raise asyncio.CancelledError
    return task.result()
