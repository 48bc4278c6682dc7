"""Pollers for asyncio: the user's coroutine function is awaited on the loop, one call at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import update_wrapper
from typing import Any, ClassVar, cast

from incumbent.aio.work import Work
from incumbent.workloads.polling import poll as polling
from incumbent.workloads.polling.pace import Pace
from incumbent.workloads.polling.poll import Polling

__all__ = ["Poll", "Poller", "poll"]


class Poll(polling.Poll):
    """One poll, in the hands of the user's function."""

    async def save(self, value: Any) -> None:
        """Save the checkpoint, bytes or what JSON can hold; return when it is known to be saved.

        Raises:
            StaleToken: a later holder is at work; nothing was saved.
            LeadershipLost: the term is over; it may have been saved.
            StoreError: the store refuses it.
            ConfigError: it is too long, or no JSON.
        """
        await self._saved(value)


class _Polling(Polling):
    handle = Poll
    awaits: ClassVar[bool] = True


class Poller(Work):
    """Awaits a coroutine function of yours again and again, in one replica, one call at a time.

    The function gets a `Poll`, and returns whether there was something: then it is called again
    without a wait.

    Attributes:
        func: the function itself.
    """

    _called = "incumbent.aio.poll() or Poller()"

    def __init__(
        self,
        name: str,
        func: Callable[[Poll], Awaitable[Any]],
        *,
        every: str | float,
        max_every: str | float | None = None,
        jitter: float = 0.1,
        errors: str = "log",
        keeps: bool = True,
        **settings: Any,
    ) -> None:
        """Check the settings; nothing is touched yet.

        Args:
            name: of the election.
            func: a coroutine function, which is given a `Poll`.
            every: how long to wait after a poll that found nothing: "5s", or seconds.
            max_every: up to which the wait doubles while nothing is found.
            jitter: by which share of it, at most, each wait is shortened at random.
            errors: "log" to poll again later after an exception; "raise" to end with it.
            keeps: whether there is a checkpoint; without, any store with tokens or none will do.
            **settings: what `Work` and `Election` take, besides.

        Raises:
            ConfigError: some setting cannot work; the message says what to change.
        """
        work = _Polling(func, Pace(every, max_every, jitter), errors=errors, keeps=keeps)
        super().__init__(name, work, **settings)
        update_wrapper(self, func)
        self.func = func

    def __call__(self, *args: Any, **more: Any) -> Any:
        """Call the function itself."""
        return cast(Any, self.func)(*args, **more)


def poll(
    every: str | float, *, name: str = "", **settings: Any
) -> Callable[[Callable[[Poll], Awaitable[Any]]], Poller]:
    """Make a function a `Poller`, by a decorator; its name is that of the election.

    Args:
        every: how long to wait after a poll that found nothing.
        name: of the election, if not the function's.
        **settings: see `Poller`.
    """

    def decorated(func: Callable[[Poll], Awaitable[Any]]) -> Poller:
        return Poller(
            name or func.__name__.strip("_").replace("_", "-").lower(),
            func,
            every=every,
            **settings,
        )

    return decorated
