"""What all commands have in common: which store, what kind of output, how much of it.

The options may stand before or after the command's name; the later one counts.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import click

from incumbent.errors import ConfigError

__all__ = ["Options", "common", "seconds"]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Options:
    """What was asked for.

    Attributes:
        store: URL, or None for the environment's or the default one.
        json: for programs, instead of for people.
        verbosity: 0 usual, less with -q, more with -v.
    """

    store: str | None = None
    json: bool = False
    verbosity: int = 0

    @property
    def quiet(self) -> bool:
        """Tell whether only results shall be written."""
        return self.verbosity < 0

    def url(self) -> str:
        """Return the URL of the store.

        Raises:
            StoreRequired: none was named, and a default would give every replica a store.
        """
        from incumbent.stores import default_url

        return self.store or default_url()


def common(*, store: bool = True) -> Callable[[F], F]:
    """Return a decorator that adds the common options and passes an `Options` first."""

    def decorate(function: F) -> F:
        if store:
            function = click.option(
                "--store",
                metavar="URL",
                expose_value=False,
                callback=_set_store,
                help="Where elections are kept; else INCUMBENT_STORE, else this user's own file.",
            )(function)
        for option in (
            click.option(
                "--json",
                is_flag=True,
                expose_value=False,
                callback=_set_json,
                help="Write JSON, for programs.",
            ),
            click.option(
                "-v",
                "--verbose",
                count=True,
                expose_value=False,
                callback=_louder,
                help="Say more; twice for the library's log.",
            ),
            click.option(
                "-q",
                "--quiet",
                count=True,
                expose_value=False,
                callback=_quieter,
                help="Say nothing but results and errors.",
            ),
        ):
            function = option(function)
        passed: Any = click.make_pass_decorator(Options, ensure=True)(function)
        return cast(F, passed)

    return decorate


def seconds(*names: str, help: str, least: float = 0.0) -> Callable[[F], F]:
    """Return a decorator that adds an option for a finite number of seconds, or a duration."""

    def check(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
        value = None if text is None else _seconds(text)
        if value is not None and not least <= value < 1e9:
            raise click.BadParameter(f"{value:g} is not a number of seconds from {least:g} on")
        return value

    return click.option(*names, type=str, metavar="S", callback=check, help=help)


def _seconds(text: str) -> float:
    from incumbent.workloads.schedule import seconds_of

    with suppress(ValueError):
        return float(text)
    try:
        return seconds_of(text)
    except ConfigError as error:
        raise click.BadParameter(f"{error}, or as a number of seconds") from None


def _options(context: click.Context) -> Options:
    found: Options = context.ensure_object(Options)
    return found


def _set_store(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        _options(context).store = value


def _set_json(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        _options(context).json = True


def _louder(context: click.Context, _: click.Parameter, value: int) -> None:
    options = _options(context)
    options.verbosity += value
    if options.verbosity > 1:
        import logging

        from incumbent.cli.logs import Loud

        form = "%(name)s: %(levelname)s: %(message)s"
        logging.basicConfig(level=logging.DEBUG, format=form, handlers=[Loud()])


def _quieter(context: click.Context, _: click.Parameter, value: int) -> None:
    _options(context).verbosity -= value
