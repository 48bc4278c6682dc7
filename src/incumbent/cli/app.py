"""The command line as a whole: the table of commands, and what becomes of errors.

A command's module is imported when the command is called, and rich only inside of what draws, so
that `incumbent --version` and a mistyped option answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from io import TextIOWrapper
from typing import Any

from incumbent import __version__
from incumbent.cli import codes
from incumbent.errors import IncumbentError, MissingExtra

try:
    import click
except ModuleNotFoundError as missing:
    raise MissingExtra(
        "the command line needs click and rich: pip install 'incumbent[cli]'"
    ) from missing

from incumbent.cli.options import Options, common

__all__ = ["COMMANDS", "command_line", "main"]

COMMANDS = {
    "run": ("incumbent.cli.run:command", "Run a command in one replica at a time."),
    "every": ("incumbent.cli.every:command", "Run a command once per tick, wherever it runs."),
    "consume": (
        "incumbent.cli.consume:command",
        "Run a command for each item of a queue, in order.",
    ),
    "work": ("incumbent.cli.work:command", "Do the work that a file describes."),
    "runs": ("incumbent.cli.orders:runs", "Show what has run, and what is due."),
    "run-now": ("incumbent.cli.orders:run_now", "Order a periodic task to run now."),
    "pause": ("incumbent.cli.orders:pause", "Let no ticks run until `resume`."),
    "resume": ("incumbent.cli.orders:resume", "End a pause."),
    "status": ("incumbent.cli.status:command", "Show who holds which election."),
    "watch": ("incumbent.cli.watch:command", "Show every change as it happens."),
    "step-down": ("incumbent.cli.step_down:command", "Ask a holder to hand over."),
    "probe": ("incumbent.cli.probing:command", "Ask whether the `run` beside it is alive."),
    "assert-death": (
        "incumbent.cli.assert_death:command",
        "Say that a holder on Kubernetes is dead.",
    ),
    "migrate": ("incumbent.cli.migrate:command", "Move a live election to another store."),
    "manifests": (
        "incumbent.cli.manifests:command",
        "Write Kubernetes manifests for what must not be two.",
    ),
    "doctor": ("incumbent.cli.doctor:command", "Look for what could break the promise here."),
    "audit": ("incumbent.cli.audit:command", "Judge Kubernetes manifests, or a cluster."),
    "stores": ("incumbent.cli.stores:command", "List the stores and what each can do."),
    "guard": ("incumbent.cli.guard:command", "Print policies that keep marked singletons single."),
    "operator": (
        "incumbent.cli.operator:command",
        "Keep the objects of every Singleton in a cluster.",
    ),
    "consent": ("incumbent.cli.consent:command", "Consent that a Pod is evicted; say what waits."),
    "consent-webhook": (
        "incumbent.cli.consent_webhook:command",
        "Answer evictions: yes, or not before its owner consents.",
    ),
    "demo": ("incumbent.cli.demo:command", "See takeovers on this machine, in half a minute."),
}
"""Where each command is, and its line of help; in the order in which they are listed."""


class _ReaderGone(Exception):
    """Whoever read our output went away. Not an OSError, of which click would make an exit code."""


@contextmanager
def _telling_of_readers() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise _ReaderGone from error
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # What rich makes of it.
            raise _ReaderGone from error
        raise


class Commands(click.Group):
    """A group whose commands are imported when they are called."""

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        """Parse; options such as `--help` write, and end it."""
        with _telling_of_readers():
            return super().make_context(*args, **more)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _telling_of_readers():
            result = super().invoke(ctx)
            sys.stdout.flush()
        return result

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        found: click.Command = getattr(import_module(module), attribute)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which one may have been meant."""
        if args and args[0] not in COMMANDS:
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, 1)
            meant = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(COMMANDS)}"
            ctx.fail(f"no command {args[0]!r}: {meant}")
        return super().resolve_command(ctx, args)


@click.command(
    cls=Commands,
    name="incumbent",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 ok; 1 not so; 2 usage or configuration; 69 no store; 75 not elected; "
    "74 output failed; 77 no right.",
)
@click.version_option(__version__, prog_name="incumbent", message="%(prog)s %(version)s")
@common()
def command_line(_: Options) -> None:
    """Leader election: many replicas, exactly one active."""


def main(argv: list[str]) -> int:
    """Run the command line `argv`; return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # An arrow is not worth a traceback.
    try:
        result = command_line.main(args=argv, prog_name="incumbent", standalone_mode=False)
    except click.ClickException as error:
        codes.complain(_in_words(error))
        return codes.USAGE
    except (click.Abort, KeyboardInterrupt):
        return codes.INTERRUPTED
    except IncumbentError as error:
        codes.complain(error)
        return codes.code_of(error)
    except _ReaderGone:
        return codes.broken_pipe()
    except OSError as error:
        if (code := codes.output_failed(error)) is None:
            raise
        return code
    return int(result or 0)


def _in_words(error: click.ClickException) -> str:
    text = error.format_message()
    if isinstance(error, click.UsageError) and error.ctx is not None:
        return f"{text.rstrip('.')} (see `{error.ctx.command_path} --help`)"
    return text
