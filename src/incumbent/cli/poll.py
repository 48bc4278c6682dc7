"""`incumbent poll DIR NAME -- CMD {}`: a command for each file that appears in a folder.

The command is held together and ended as by `incumbent run` (`workloads.command`); what becomes of
files is the library's (`workloads.polling`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from incumbent.cli import codes
from incumbent.cli.logs import show_log
from incumbent.cli.options import Options, common, seconds
from incumbent.cli.run import refusal
from incumbent.cli.voice import Voice
from incumbent.cli.wording import in_options
from incumbent.cli.working import Piece, observer, refuse_one_process, work_on
from incumbent.runtime.settings import Settings
from incumbent.sync.directory import Directory
from incumbent.workloads.command import Command, CommandFailed
from incumbent.workloads.polling.directory import IGNORED, File, HandlingFailed

__all__ = ["CommandHandler", "command"]


class CommandHandler:
    """A command as the handler of files: `{}` in its words is the path."""

    def __init__(
        self, command: Command, store_url: str, voice: Voice, timeout_s: float | None
    ) -> None:
        self._command = command
        self._words = command.argv
        self._store_url = store_url
        self._voice = voice
        self._timeout_s = timeout_s

    def __call__(self, file: File) -> None:
        """Run it for one file."""
        path = str(file.path)
        environment = {
            "INCUMBENT_STORE": self._store_url,
            "INCUMBENT_FILE": path,
            "INCUMBENT_NAME": file.name,
            "INCUMBENT_ATTEMPT": str(file.attempt),
        }
        self._voice.detail("file", f"{file.name}, attempt {file.attempt}")
        self._command.argv = tuple(word.replace("{}", path) for word in self._words)
        try:
            self._command.run(file.term, environment, self._timeout_s)
        except (CommandFailed, TimeoutError) as error:
            raise HandlingFailed(str(error)) from None


@click.command(
    "poll",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 128 and the signal that ended it; 126 and 127 if COMMAND cannot be run; "
    "69 no store; 77 no right; 2 usage.",
)
@click.argument("directory", type=click.Path(path_type=Path))
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--done", metavar="DIR", help="Where handled files go [DIR/done].")
@click.option("--delete", is_flag=True, help="Delete handled files instead.")
@click.option("--failed", default="failed", metavar="DIR", help="Where others go [DIR/failed].")
@click.option(
    "--order",
    type=click.Choice(["name", "mtime"]),
    default="name",
    help="Which comes first [name].",
)
@click.option(
    "--ignore",
    multiple=True,
    default=IGNORED,
    metavar="PATTERN",
    help=f"Names to leave alone; may be given again [{' '.join(IGNORED)}].",
)
@click.option(
    "--settle", default="1s", metavar="S", help="How long a file has to stand still [1s]."
)
@click.option("--every", default="5s", metavar="S", help="How often to look, beside notices [5s].")
@click.option("--max-every", metavar="S", help="Up to which that doubles while there is nothing.")
@click.option("--retries", type=click.IntRange(0), default=3, help="Before a file has failed [3].")
@click.option("--backoff", default="1s", metavar="S", help="Before the first retry; doubles [1s].")
@seconds("--timeout", "timeout_s", least=0.001, help="For one run of COMMAND [none].")
@seconds("--ttl", "ttl_s", help="Time to live of the lease [15].")
@seconds("--grace", "grace_s", help="From TERM to KILL of the whole tree.")
@click.option("--rho", type=float, metavar="SHARE", help="Greatest clock-rate error [0.1].")
@click.option("--as", "as_", metavar="NAME", help="First part of this candidate's identity.")
@click.option(
    "--contain",
    type=click.Choice(["auto", "pidns", "group"]),
    default="auto",
    help="What holds the process tree together [auto: the strongest permitted].",
)
@click.option(
    "--require",
    type=click.Choice(["token", "exclusive", "renewal"]),
    help="Refuse a store or set-up without it [nothing].",
)
@common()
def command(
    options: Options,
    directory: Path,
    name: str,
    command: tuple[str, ...],
    done: str | None,
    delete: bool,
    timeout_s: float | None,
    ttl_s: float | None,
    grace_s: float | None,
    rho: float | None,
    as_: str | None,
    contain: str,
    require: str | None,
    **files: Any,
) -> int:
    """Run COMMAND for each file of DIRECTORY, in one of all the places where this runs for NAME.

    {} in COMMAND is the path of the file, as is INCUMBENT_FILE. Files are handled one after the
    other: with exit code 0 one is done, else it is tried again, and has failed in the end.
    INCUMBENT_ATTEMPT counts; INCUMBENT_TOKEN is the fencing token.
    """
    if delete and done is not None:
        raise click.UsageError("--delete leaves nothing for --done: leave one of them out")
    voice = Voice(name, json=options.json, verbosity=options.verbosity)
    election: dict[str, Any] = {
        "store": options.store,
        "ttl_s": ttl_s,
        "grace_s": grace_s,
        "rho": rho,
        "as_": as_,
    }
    with in_options(ttl_s=ttl_s, grace_s=grace_s, rho=rho):
        election["require"] = require or ""
        settings = Settings.resolve(name, armed=True, **election)
    refuse_one_process(settings)
    run = Command(command, grace_s=settings.timing.grace_s, contain=contain)
    work = Directory(
        directory,
        CommandHandler(run, settings.store_url, voice, timeout_s),
        name=name,
        done=None if delete else done or "done",
        observer=observer(voice),
        **files,
        **election,
    )
    if (refused := refusal(command[0])) is not None:
        code, text = refused
        codes.complain(text)
        return code
    show_log(lambda text: voice.say("log", text), observed=True)
    return work_on([Piece(name, work, voice, [run])])
