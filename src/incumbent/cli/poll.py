"""`incumbent poll DIR NAME -- CMD {}`: a command for each file that appears in a folder.

The command is held together and ended as by `incumbent run` (`workloads.command`); what becomes of
files is the library's (`workloads.polling`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from incumbent.cli.election_options import EPILOG, elected, with_election
from incumbent.cli.options import Options, common, seconds
from incumbent.cli.voice import Voice
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
    epilog=EPILOG,
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
@with_election
@common()
def command(
    options: Options,
    directory: Path,
    name: str,
    command: tuple[str, ...],
    done: str | None,
    delete: bool,
    timeout_s: float | None,
    **values: Any,
) -> int:
    """Run COMMAND for each file of DIRECTORY, in one of all the places where this runs for NAME.

    {} in COMMAND is the path of the file, as is INCUMBENT_FILE. Files are handled one after the
    other: with exit code 0 one is done, else it is tried again, and has failed in the end.
    INCUMBENT_ATTEMPT counts; INCUMBENT_TOKEN is the fencing token.
    """
    if delete and done is not None:
        raise click.UsageError("--delete leaves nothing for --done: leave one of them out")
    asked = elected(options, name, values)
    run = asked.command(command)
    work = Directory(
        directory,
        CommandHandler(run, asked.settings.store_url, asked.voice, timeout_s),
        name=name,
        done=None if delete else done or "done",
        **values,
        **asked.asked,
    )
    return asked.lead(work, run, command[0])
