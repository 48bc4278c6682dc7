"""The choices of periodic tasks as options, and as keys of a configuration file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from incumbent.cli.options import seconds
from incumbent.workloads.periodic.choices import Choices, refuse_idle

__all__ = ["chosen", "with_choices"]

F = TypeVar("F", bound=Callable[..., Any])

_NAMES = (
    *("missed", "missed_limit", "late_s", "on_overrun", "on_interrupted", "reruns"),
    *("jitter_s", "timeout_s", "retries", "backoff_s", "history"),
)

_OPTIONS = (
    click.option(
        "--missed",
        type=click.Choice(["skip", "latest", "all"]),
        help="What becomes of ticks at which nobody led [latest].",
    ),
    click.option("--missed-limit", type=int, metavar="N", help="Make up for N at most [100]."),
    seconds("--late", "late_s", help="How late a tick may begin under --missed=skip [10]."),
    click.option(
        "--on-overrun",
        type=click.Choice(["skip", "latest", "all"]),
        help="What becomes of ticks that come during a run [skip; all with --missed=all].",
    ),
    click.option(
        "--on-interrupted",
        type=click.Choice(["rerun", "skip"]),
        help="What becomes of a tick whose run a failover cut short [rerun].",
    ),
    click.option("--reruns", type=int, metavar="N", help="Begin one again N times at most [3]."),
    seconds("--jitter", "jitter_s", help="Begin each tick up to so much later [0]."),
    seconds("--timeout", "timeout_s", help="End a run after so long [never]."),
    click.option("--retries", type=int, metavar="N", help="Try a failed run again N times [0]."),
    seconds("--backoff", "backoff_s", help="Pause before the first retry; it doubles [1]."),
    click.option("--history", type=int, metavar="N", help="Remember N runs [100]."),
)


def with_choices(function: F) -> F:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def chosen(values: dict[str, Any]) -> Choices:
    """Take the choices out of what was given; what was not given is as it is by default.

    Raises:
        ConfigError: some value is none of those that there are.
    """
    found = {name: values.pop(name, None) for name in _NAMES}
    given = {name: value for name, value in found.items() if value is not None}
    refuse_idle(given)
    return Choices(**given)
