"""One periodic task as its user has written it: a function, when it is due, and what was chosen."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from typing import Any

from incumbent.core.records import check_name
from incumbent.errors import ConfigError
from incumbent.runtime.face import is_awaited, name_of, refuse_async
from incumbent.workloads.periodic.choices import Choices
from incumbent.workloads.periodic.tick import Tick
from incumbent.workloads.schedule import Cron, Interval, Schedule, seconds_of, zone_of

__all__ = ["MAIN", "Spec", "by_cron", "by_interval", "name_from"]

MAIN = "main"
"""The task of an election that has one alone."""

_LONGEST_NAME = 150
_SAMPLED_FROM_MS = 1_735_689_600_000


class Spec:
    """A task.

    Attributes:
        name: of the task, among those under one election.
        schedule: when it is due.
        func: what is called; with the `Tick`, if it takes an argument.
        choices: see `Choices`.
        awaited: whether it is a coroutine function.
    """

    def __init__(
        self,
        name: str,
        schedule: Schedule,
        func: Callable[..., Any],
        choices: Choices,
        *,
        awaited: bool,
    ) -> None:
        if len(name) > _LONGEST_NAME:
            raise ConfigError(f"the name of a task has at most {_LONGEST_NAME} characters: {name}")
        self.name = check_name(name)
        self.schedule = schedule
        self.func = func
        self.choices = choices
        self.awaited = awaited
        self._takes_tick = _takes_tick(func)
        _check_jitter(schedule, choices)
        if not awaited:
            if is_awaited(func):
                raise TypeError(
                    f"incumbent.every and incumbent.cron cannot await {name_of(func)}, a coroutine "
                    "function: use incumbent.aio.every and incumbent.aio.cron, or plain `def`"
                )
            refuse_async(func, "incumbent.every and incumbent.cron")
        elif not is_awaited(func):
            raise TypeError(
                f"incumbent.aio awaits {name_of(func)}, which is no coroutine function: define it "
                "with `async def`, or use incumbent.every and incumbent.cron"
            )

    def arguments(self, tick: Tick) -> tuple[Tick, ...]:
        """Return what to call the function with."""
        return (tick,) if self._takes_tick else ()

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process: the function by its name, which may mean its task by now."""
        where = self.func.__module__, getattr(self.func, "__qualname__", "")
        if _by_name(*where) is not self.func:
            raise ConfigError(
                f"{name_of(self.func)} cannot be imported by its name: define it at the top of a "
                "module, as a function"
            )
        return _again, (self.name, self.schedule, where, self.choices, self.awaited)


def by_interval(every: str | float, tz: str = "UTC") -> Schedule:
    """Return the schedule of `@every(…)`.

    Raises:
        ConfigError: it cannot be understood.
    """
    _refuse_function(every, "every('30s')")
    return Interval(round(seconds_of(every) * 1000), zone_of(tz))


def by_cron(line: str, tz: str = "UTC") -> Schedule:
    """Return the schedule of `@cron(…)`.

    Raises:
        ConfigError: it cannot be understood.
    """
    _refuse_function(line, "cron('*/5 * * * *')")
    return Cron(line, zone_of(tz))


def _refuse_function(given: object, how: str) -> None:
    if callable(given):
        raise ConfigError(
            f"{name_of(given)} is decorated without saying when: write `@….{how}` above it"
        )


def name_from(func: Callable[..., Any]) -> str:
    """Return the name of a function as one of an election or a task."""
    name = getattr(func, "__name__", "").strip("_").replace("_", "-").lower()
    try:
        return check_name(name)
    except ConfigError:
        raise ConfigError(
            f"{name_of(func)} makes no name: give one, as in name='nightly'"
        ) from None


def _again(
    name: str, schedule: Schedule, where: tuple[str, str], choices: Choices, awaited: bool
) -> Spec:
    return Spec(name, schedule, _by_name(*where), choices, awaited=awaited)


def _by_name(module: str, qualname: str) -> Any:
    found: Any = import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return getattr(found, "__wrapped__", found)


def _takes_tick(func: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(func).parameters.values()
    except (TypeError, ValueError):
        return True
    needed = [p for p in parameters if p.default is p.empty and p.kind not in _SPREAD]
    if len(needed) > 1:
        raise ConfigError(
            f"{name_of(func)} needs {len(needed)} arguments, and gets the tick alone: give the "
            "others a default"
        )
    return bool(needed) or any(p.kind is p.VAR_POSITIONAL for p in parameters)


_SPREAD = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _check_jitter(schedule: Schedule, choices: Choices) -> None:
    """Refuse more jitter than there is between two ticks: each would hold back all later ones."""
    ticks: list[int] = []
    instant: int | None = _SAMPLED_FROM_MS
    while choices.jitter_s and len(ticks) < 16:
        instant = schedule.after(instant) if instant is not None else None
        if instant is None:
            break
        ticks.append(instant)
    least_ms = min((after - before for before, after in pairwise(ticks)), default=None)
    if least_ms is not None and choices.jitter_s * 1000 >= least_ms:
        raise ConfigError(
            f"jitter_s={choices.jitter_s:g} is not less than the {least_ms / 1000:g} s between two "
            f"ticks of {schedule.text!r}: choose less"
        )
