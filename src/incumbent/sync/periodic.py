"""Periodic tasks in threads: one run per tick, in one process at a time.

    @incumbent.every("30s")
    def report(tick): ...

    report.run()                      # or report.start(), or `with report:`

    jobs = incumbent.Jobs("nightly", threads=4)

    @jobs.cron("15 2 * * *", tz="Europe/Vienna")
    def tidy(): ...

    jobs.run()

A thread cannot be stopped from outside: `timeout_s` is seen by `tick.check()` alone, and the end of
the term by `tick.lost` and `tick.check()`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar, Unpack

from incumbent.sync.work import Work
from incumbent.workloads.background import Background
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

    def __init__(self, name: str, *, threads: int = 1, **settings: Any) -> None:
        """Check the settings; nothing is touched yet.

        Args:
            name: of the election.
            threads: how many tasks may run at a time.
            **settings: see `Work`.

        Raises:
            ConfigError: some setting cannot work; the message says what to change.
        """
        self._periodic = Periodic(threads)
        self._awaited = False
        super().__init__(name, self._periodic, threads=threads, **settings)


class Job(Work, Generic[P, R]):
    """One periodic task with an election of its own. Called, it is still its function."""

    _called = "incumbent.every() or cron()"
    _more = tuple(Settings.__annotations__)

    def __init__(
        self,
        func: Callable[P, R],
        schedule: Schedule,
        *,
        name: str | None = None,
        background: bool = False,
        **settings: Unpack[Settings],
    ) -> None:
        """Check the settings; nothing is touched yet, unless it shall begin in the background.

        Args:
            func: what is called; with the `Tick` if it takes an argument.
            schedule: when.
            name: of the election; the function's, with dashes.
            background: begin now, in a thread of its own, and again after each fork.
            **settings: see `Choices` and `Work`.

        Raises:
            ConfigError: some setting cannot work; the message says what to change.
        """
        choices, others = split(settings)
        periodic = Periodic(1)
        periodic.add(Spec(MAIN, schedule, func, choices, awaited=False))
        name = name or name_from(func)
        super().__init__(name, periodic, **others)  # type: ignore[arg-type]  # checked there
        self._func = func
        update_wrapper(self, func)
        self.background: Background | None = None
        if background:
            self.background = Background(self)
            self.background.start()

    def __call__(self, *args: P.args, **values: P.kwargs) -> R:
        """Call the function, here and now, whoever leads."""
        return self._func(*args, **values)


def every(
    spec: str | float,
    *,
    name: str | None = None,
    tz: str = "UTC",
    background: bool = False,
    **settings: Unpack[Settings],
) -> Callable[[Callable[P, R]], Job[P, R]]:
    """Make of a function a `Job` that runs at each multiple of an interval.

    Args:
        spec: as in "30s" or "1h30m", or a number of seconds; counted from the epoch.
        name: of the election; the function's, with dashes.
        tz: in which `tick.due` is told.
        background: begin when the module is imported, and again after each fork.
        **settings: see `docs/periodic.md`, and `Work`.

    Raises:
        ConfigError: something cannot work; the message says what to change.
    """
    return _deciding(by_interval(spec, tz), name, background, settings)


def cron(
    line: str,
    *,
    name: str | None = None,
    tz: str = "UTC",
    background: bool = False,
    **settings: Unpack[Settings],
) -> Callable[[Callable[P, R]], Job[P, R]]:
    """Make of a function a `Job` that runs at the times of a line of cron.

    Args:
        line: five fields, six with seconds, or a nickname such as "@daily".
        name: of the election; the function's, with dashes.
        tz: the time zone of the line.
        background: begin when the module is imported, and again after each fork.
        **settings: see `docs/periodic.md`, and `Work`.

    Raises:
        ConfigError: something cannot work; the message says what to change.
    """
    return _deciding(by_cron(line, tz), name, background, settings)


def _deciding(
    schedule: Schedule, name: str | None, background: bool, settings: Settings
) -> Callable[[Callable[P, R]], Job[P, R]]:
    def decorate(func: Callable[P, R]) -> Job[P, R]:
        return Job(func, schedule, name=name, background=background, **settings)

    return decorate
