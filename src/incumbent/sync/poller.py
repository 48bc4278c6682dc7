"""Pollers for threads: the user's function runs in the one thread that leads."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, ClassVar, cast

from incumbent.errors import ConfigError, LeadershipLost
from incumbent.sync.work import Work
from incumbent.workloads.polling import poll as polling
from incumbent.workloads.polling.pace import Pace
from incumbent.workloads.polling.poll import Polling

__all__ = ["Poll", "Poller", "poll"]


class Poll(polling.Poll):
    """One poll, in the hands of the user's function."""

    def save(self, value: Any) -> None:
        """Save the checkpoint, bytes or what JSON can hold; return when it is known to be saved.

        Raises:
            StaleToken: a later holder is at work; nothing was saved.
            LeadershipLost: the term is over; it may have been saved.
            StoreError: the store refuses it.
            ConfigError: it is too long, or no JSON.
        """
        saving = self._saved(value)
        try:
            future = asyncio.run_coroutine_threadsafe(saving, self._loop)
        except RuntimeError:
            saving.close()
            raise LeadershipLost(f"the poll of {self.term.name!r} is over") from None
        while not future.done():
            concurrent.futures.wait([future], timeout=1.0)
            if self._loop.is_closed():
                raise LeadershipLost(f"the poll of {self.term.name!r} is over")
        if future.cancelled():
            raise LeadershipLost(f"the poll of {self.term.name!r} is over")
        future.result()


class _Polling(Polling):
    handle = Poll
    awaits: ClassVar[bool] = False


class Poller(Work):
    """Calls a function of yours again and again, in one replica at a time and one thread.

    The function gets a `Poll`, and returns whether there was something: then it is called again
    without a wait.

    Attributes:
        func: the function itself.
    """

    _called = "incumbent.poll() or Poller()"

    def __init__(
        self,
        name: str,
        func: Callable[[Poll], Any],
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
            func: is called with a `Poll`.
            every: how long to wait after a poll that found nothing: "5s", or seconds.
            max_every: up to which the wait doubles while nothing is found.
            jitter: by which share of it, at most, each wait is shortened at random.
            errors: "log" to poll again later after an exception; "raise" to end with it.
            keeps: whether there is a checkpoint; without, any store with tokens or none will do.
            **settings: what `Work` and `Election` take, besides.

        Raises:
            ConfigError: some setting cannot work; the message says what to change.
        """
        only_one_thread(settings)
        work = _Polling(func, Pace(every, max_every, jitter), errors=errors, keeps=keeps)
        super().__init__(name, work, **settings)
        update_wrapper(self, func)
        self.func = func

    def __call__(self, *args: Any, **more: Any) -> Any:
        """Call the function itself."""
        return cast(Any, self.func)(*args, **more)


def poll(
    every: str | float, *, name: str = "", **settings: Any
) -> Callable[[Callable[[Poll], Any]], Poller]:
    """Make a function a `Poller`, by a decorator; its name is that of the election.

    Args:
        every: how long to wait after a poll that found nothing.
        name: of the election, if not the function's.
        **settings: see `Poller`.
    """

    def decorated(func: Callable[[Poll], Any]) -> Poller:
        return Poller(
            name or func.__name__.strip("_").replace("_", "-").lower(),
            func,
            every=every,
            **settings,
        )

    return decorated


def only_one_thread(settings: dict[str, Any]) -> None:
    """Refuse more threads.

    Raises:
        ConfigError: more were asked for.
    """
    if settings.get("threads", 1) != 1:
        raise ConfigError("a poller has one thread: leave out threads=")
