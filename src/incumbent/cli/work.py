"""`incumbent work FILE`: all the work that a file describes, in one process.

Each kind of work has a module that makes pieces of its sections: `KINDS`.
"""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from incumbent.cli.logs import show_log
from incumbent.cli.options import Options, common
from incumbent.cli.voice import Voice
from incumbent.cli.working import Piece, work_on
from incumbent.errors import ConfigError
from incumbent.workloads.config import Section, load, read

__all__ = ["KINDS", "command"]

KINDS = {
    "consumer": "incumbent.cli.consuming:pieces",
    "periodic": "incumbent.cli.periodic_sections:pieces",
    "poller": "incumbent.cli.poller_sections:pieces",
}
"""For each kind, the function that makes pieces of all its sections, given the options."""


@click.command("work", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Say whether the file can be used, and end.")
@common()
def command(options: Options, file: Path, check: bool) -> int:
    """Do the work that FILE describes, each piece wherever it is elected.

    FILE is TOML: a [[periodic]] section has a name, `cron` or `every`, and a `command`, or a
    `call` to a Python function ("package.module:function"). A [[poller]] section has a `directory`
    and a `command` or `call`, or a `call` and `every`. A [[consumer]] section has a name, a
    `source`, and a `command` or `call`.
    """
    sections = read(load(file), str(file), tuple(KINDS))
    try:
        pieces = [
            piece
            for kind, where in KINDS.items()
            for piece in _made(where, options, [each for each in sections if each.kind == kind])
        ]
    except ConfigError as error:
        if str(error).startswith(str(file)):
            raise
        raise ConfigError(f"{file}: {error}") from error
    _refuse_same_names(file, pieces)
    if check:
        names = ", ".join(piece.name for piece in pieces)
        if not options.quiet:
            click.echo(f"{file} describes {names}")
        return 0
    voice = Voice(file.name, json=options.json, verbosity=options.verbosity)
    show_log(lambda text: voice.say("log", text), observed=True)
    return work_on(pieces)


def _refuse_same_names(file: Path, pieces: list[Piece]) -> None:
    """Refuse two pieces of work under one election: one of them would wait for ever."""
    counted = Counter(piece.name for piece in pieces)
    twice = [name for name, count in counted.items() if count > 1]
    if twice:
        raise ConfigError(
            f"{file}: several sections are called {twice[0]!r}: give each a name of its own"
        )


def _made(where: str, options: Options, sections: list[Section]) -> list[Piece]:
    if not sections:
        return []
    module, _, attribute = where.partition(":")
    made: Any = getattr(import_module(module), attribute)(options, sections)
    return list(made)
