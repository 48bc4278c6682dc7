"""The election of a command that runs commands: its options, and the way from them to the work.

`every`, `poll` and `consume` are elected in the same way, and differ in what they are elected for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from incumbent.cli import codes
from incumbent.cli.logs import show_log
from incumbent.cli.options import Options, seconds
from incumbent.cli.run import refusal
from incumbent.cli.voice import Voice
from incumbent.cli.wording import in_options
from incumbent.cli.working import Piece, observer, refuse_one_process, work_on
from incumbent.runtime.settings import Settings
from incumbent.sync.work import Work
from incumbent.workloads.command import Command

__all__ = ["EPILOG", "Elected", "elected", "with_election"]

F = TypeVar("F", bound=Callable[..., Any])

EPILOG = (
    "Exit codes: 128 and the signal that ended it; 126 and 127 if COMMAND cannot be run; "
    "69 no store; 77 no right; 2 usage."
)
_OPTIONS = (
    seconds("--ttl", "ttl_s", help="Time to live of the lease [15]."),
    seconds("--grace", "grace_s", help="From TERM to KILL of the whole tree."),
    click.option("--rho", type=float, metavar="SHARE", help="Greatest clock-rate error [0.1]."),
    click.option("--as", "as_", metavar="NAME", help="First part of this candidate's identity."),
    click.option(
        "--contain",
        type=click.Choice(["auto", "pidns", "group"]),
        default="auto",
        help="What holds the process tree together [auto: the strongest permitted].",
    ),
    click.option(
        "--require",
        type=click.Choice(["token", "exclusive", "renewal"]),
        help="Refuse a store or set-up without it [nothing].",
    ),
)


def with_election(function: F) -> F:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@dataclass
class Elected:
    """An election that was asked for.

    Attributes:
        name: of it.
        voice: what tells of it.
        settings: what follows from what was said.
        asked: what was said, as `Work` and `Election` take it.
        contain: what shall hold process trees together.
    """

    name: str
    voice: Voice
    settings: Settings
    asked: dict[str, Any]
    contain: str

    def command(self, words: Sequence[str]) -> Command:
        """Return a command that ends with the term."""
        return Command(tuple(words), grace_s=self.settings.timing.grace_s, contain=self.contain)

    def lead(self, work: Work, run: Command, program: str) -> int:
        """Do the work, in which `run` starts `program`, until a signal comes; return the code."""
        if (refused := refusal(program)) is not None:
            code, text = refused
            codes.complain(text)
            return code
        show_log(lambda text: self.voice.say("log", text), observed=True)
        return work_on([Piece(self.name, work, self.voice, [run])])


def elected(options: Options, name: str, values: dict[str, Any]) -> Elected:
    """Take what concerns the election out of what was given; nothing is touched yet.

    Raises:
        ConfigError: it cannot be meant, or its store elects among the candidates of one process.
    """
    voice = Voice(name, json=options.json, verbosity=options.verbosity)
    contain = values.pop("contain")
    require = values.pop("require")
    said = {key: values.pop(key) for key in ("ttl_s", "grace_s", "rho")}
    asked: dict[str, Any] = {"store": options.store, "as_": values.pop("as_"), **said}
    with in_options(**said):
        asked["require"] = require or ""
        settings = Settings.resolve(name, armed=True, **asked)
    refuse_one_process(settings)
    return Elected(name, voice, settings, {**asked, "observer": observer(voice)}, contain)
