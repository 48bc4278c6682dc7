"""How functions become tasks in either face: `jobs.every(…)` and `jobs.cron(…)` as decorators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, Unpack

from incumbent.workloads.periodic import Periodic
from incumbent.workloads.periodic.choices import Choices, Chosen, refuse_idle
from incumbent.workloads.periodic.spec import Spec, by_cron, by_interval, name_from
from incumbent.workloads.schedule import Schedule
from incumbent.workloads.settings import no_such_option

__all__ = ["Adding"]

F = TypeVar("F", bound=Callable[..., Any])
_KNOWN = {"name", "tz", *Chosen.__annotations__}


class Adding:
    """Adds tasks to a `Periodic`. What is decorated stays an ordinary function.

    Attributes:
        _periodic: to which they are added.
        _awaited: whether they are coroutine functions.
    """

    _periodic: Periodic
    _awaited: bool

    def every(
        self,
        spec: str | float,
        *,
        name: str | None = None,
        tz: str = "UTC",
        **choices: Unpack[Chosen],
    ) -> Callable[[F], F]:
        """Run the function at each multiple of an interval, counted from the epoch.

        Args:
            spec: as in "30s" or "1h30m", or a number of seconds.
            name: of the task; the function's.
            tz: in which `tick.due` is told.
            **choices: see `docs/periodic.md`.

        Raises:
            ConfigError: on decorating, if something cannot work.
        """
        return self._adding(by_interval(spec, tz), name, choices)

    def cron(
        self,
        line: str,
        *,
        name: str | None = None,
        tz: str = "UTC",
        **choices: Unpack[Chosen],
    ) -> Callable[[F], F]:
        """Run the function at the times of a line of cron.

        Args:
            line: five fields, six with seconds, or a nickname such as "@daily".
            name: of the task; the function's.
            tz: the time zone of the line.
            **choices: see `docs/periodic.md`.

        Raises:
            ConfigError: on decorating, if something cannot work.
        """
        return self._adding(by_cron(line, tz), name, choices)

    def add(
        self,
        func: Callable[..., Any],
        schedule: Schedule,
        *,
        name: str | None = None,
        choices: Choices | None = None,
    ) -> None:
        """Add a task without a decorator.

        Raises:
            ConfigError: something cannot work, or there is one of that name.
        """
        spec = Spec(
            name or name_from(func), schedule, func, choices or Choices(), awaited=self._awaited
        )
        self._periodic.add(spec)

    def _adding(self, schedule: Schedule, name: str | None, chosen: Chosen) -> Callable[[F], F]:
        for each in chosen:
            if each not in Chosen.__annotations__:
                raise no_such_option("every() or cron() of Jobs", each, _KNOWN)
        refuse_idle(chosen)
        choices = Choices(**chosen)

        def decorate(func: F) -> F:
            self.add(func, schedule, name=name, choices=choices)
            return func

        return decorate
