"""`incumbent work FILE`: all the work that a file describes, in one process.

Each kind of work has a module that makes pieces of its sections: `KINDS`.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import click

from incumbent.cli.logs import show_log
from incumbent.cli.options import Options, common
from incumbent.cli.voice import Voice
from incumbent.cli.working import Piece, work_on
from incumbent.workloads.config import Section, load, read

__all__ = ["KINDS", "command"]

KINDS = {
    "consumer": "incumbent.cli.consuming:pieces",
    "periodic": "incumbent.cli.periodic_sections:pieces",
}
"""For each kind, the function that makes pieces of all its sections, given the options."""


@click.command("work", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Say whether the file can be used, and end.")
@common()
def command(options: Options, file: Path, check: bool) -> int:
    """Do the work that FILE describes, each piece wherever it is elected.

    FILE is TOML: a [[periodic]] section has a name, `cron` or `every`, and a `command`, or a
    `call` to a Python function ("package.module:function"). A [[consumer]] section has a name, a
    `source`, and one of the same two.
    """
    sections = read(load(file), str(file), tuple(KINDS))
    pieces = [
        piece
        for kind, where in KINDS.items()
        for piece in _made(where, options, [each for each in sections if each.kind == kind])
    ]
    if check:
        names = ", ".join(piece.name for piece in pieces)
        if not options.quiet:
            click.echo(f"{file} describes {names}")
        return 0
    voice = Voice(file.name, json=options.json, verbosity=options.verbosity)
    show_log(lambda text: voice.say("log", text), observed=True)
    return work_on(pieces)


def _made(where: str, options: Options, sections: list[Section]) -> list[Piece]:
    if not sections:
        return []
    module, _, attribute = where.partition(":")
    made: Any = getattr(import_module(module), attribute)(options, sections)
    return list(made)
