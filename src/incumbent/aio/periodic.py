"""Periodic tasks for asyncio, with the names of `incumbent.sync.periodic`.

    @aio.every("30s")
    async def report(tick): ...

    await report.run()                # or `async with report:`, in an application's lifespan

A run that has had its `timeout_s`, or whose term ends, is cancelled and awaited.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar, Unpack

from incumbent.aio.work import Work
from incumbent.workloads.periodic import Periodic, Spec, Tick
from incumbent.workloads.periodic.adding import Adding
from incumbent.workloads.periodic.choices import Settings, split
from incumbent.workloads.periodic.spec import MAIN, by_cron, by_interval, name_from
from incumbent.workloads.schedule import Schedule

__all__ = ["Job", "Jobs", "Tick", "cron", "every"]

P = ParamSpec("P")
R = TypeVar("R")


class Jobs(Adding, Work):
    """Periodic tasks under one election: decorate functions with `every` and `cron`, and `run`."""

    def __init__(self, name: str, *, most: int | None = None, **settings: Any) -> None:
        """Check the settings; nothing is touched yet.

        Args:
            name: of the election.
            most: how many tasks may run at a time; None for any number.
            **settings: see `Work`.

        Raises:
            ConfigError: some setting cannot work; the message says what to change.
        """
        self._periodic = Periodic(most)
        self._awaited = True
        super().__init__(name, self._periodic, **settings)


class Job(Work, Generic[P, R]):
    """One periodic task with an election of its own. Called, it is still its function."""

    _called = "incumbent.aio.every() or cron()"
    _more = tuple(Settings.__annotations__)

    def __init__(
        self,
        func: Callable[P, Coroutine[Any, Any, R]],
        schedule: Schedule,
        *,
        name: str | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        """Check the settings; nothing is touched yet.

        Args:
            func: a coroutine function; it is called with the `Tick` if it takes an argument.
            schedule: when.
            name: of the election; the function's, with dashes.
            **settings: see `Choices` and `Work`.

        Raises:
            ConfigError: some setting cannot work; the message says what to change.
        """
        choices, others = split(settings)
        periodic = Periodic()
        periodic.add(Spec(MAIN, schedule, func, choices, awaited=True))
        name = name or name_from(func)
        super().__init__(name, periodic, **others)  # type: ignore[arg-type]  # checked there
        self._func = func
        update_wrapper(self, func)

    def __call__(self, *args: P.args, **values: P.kwargs) -> Coroutine[Any, Any, R]:
        """Call the function, here and now, whoever leads."""
        return self._func(*args, **values)


def every(
    spec: str | float,
    *,
    name: str | None = None,
    tz: str = "UTC",
    **settings: Unpack[Settings],
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Job[P, R]]:
    """Make of a coroutine function a `Job` that runs at each multiple of an interval.

    Args:
        spec: as in "30s" or "1h30m", or a number of seconds; counted from the epoch.
        name: of the election; the function's, with dashes.
        tz: in which `tick.due` is told.
        **settings: see `docs/periodic.md`, and `Work`.

    Raises:
        ConfigError: something cannot work; the message says what to change.
    """
    return _deciding(by_interval(spec, tz), name, settings)


def cron(
    line: str,
    *,
    name: str | None = None,
    tz: str = "UTC",
    **settings: Unpack[Settings],
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Job[P, R]]:
    """Make of a coroutine function a `Job` that runs at the times of a line of cron.

    Args:
        line: five fields, six with seconds, or a nickname such as "@daily".
        name: of the election; the function's, with dashes.
        tz: the time zone of the line.
        **settings: see `docs/periodic.md`, and `Work`.

    Raises:
        ConfigError: something cannot work; the message says what to change.
    """
    return _deciding(by_cron(line, tz), name, settings)


def _deciding(
    schedule: Schedule, name: str | None, settings: Settings
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Job[P, R]]:
    def decorate(func: Callable[P, Coroutine[Any, Any, R]]) -> Job[P, R]:
        return Job(func, schedule, name=name, **settings)

    return decorate
