"""`incumbent run NAME -- CMD`: its options, and what is refused before anything is begun.

What it does, and what it promises, is in `runner`.

A command that cannot be run is refused before this is a candidate: else a replica without it would
win, fail, and do so again and again in the place of one that could work. That is looked at as the
init will do it, and once more by the kernel when the command is started.
"""

from __future__ import annotations

import os
import stat
from contextlib import AbstractContextManager, closing, nullcontext

import click

from incumbent.cli import codes
from incumbent.cli.answering import Answers
from incumbent.cli.logs import show_log
from incumbent.cli.options import Options, common, seconds
from incumbent.cli.runner import Runner
from incumbent.cli.voice import Voice
from incumbent.cli.wording import in_options
from incumbent.errors import ConfigError
from incumbent.runtime.settings import Settings

__all__ = ["command"]

_HOW = "write `incumbent run NAME [options] -- COMMAND...`, what belongs to COMMAND after the `--`"
_NO_DASHES = "incumbent.run.no_dashes"


class _Run(click.Command):
    """A command whose usage errors tell of the `--`, where it was left out."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse."""
        no_dashes = "--" not in args
        ctx.meta[_NO_DASHES] = no_dashes
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if not no_dashes:
                raise
            text = error.format_message().rstrip(".")
            raise click.UsageError(f"{text}: {_HOW}", ctx) from None


@click.command(
    "run",
    cls=_Run,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: the command's own; 126 and 127 if it cannot be run; 75 not elected; "
    "69 no store; 77 no right; 2 usage.",
)
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@seconds("--ttl", "ttl_s", help="Time to live of the lease [15].")
@seconds("--grace", "grace_s", help="From TERM to KILL of the whole tree.")
@click.option("--rho", type=float, metavar="SHARE", help="Greatest clock-rate error [0.1].")
@click.option("--as", "as_", metavar="NAME", help="First part of this candidate's identity.")
@click.option("--no-wait", "no_wait", is_flag=True, help="Exit 75 if somebody else holds.")
@seconds("--wait", "wait_s", help="Exit 75 if not elected in time.")
@click.option("--once", is_flag=True, help="Exit when the first term ends, also if it was lost.")
@click.option("--again", is_flag=True, help="Contend again also when the command ends by itself.")
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
@click.option(
    "--probe",
    metavar="PATH",
    help="A Unix socket at which `incumbent probe PATH` finds out whether this is alive.",
)
@click.option(
    "--hand-over-on",
    "causes",
    type=click.Choice(["eviction", "cordon"]),
    multiple=True,
    help="In a Pod: hand over before it goes, if another is there to take over.",
)
@common()
@click.pass_context
def command(
    context: click.Context,
    options: Options,
    name: str,
    command: tuple[str, ...],
    ttl_s: float | None,
    grace_s: float | None,
    rho: float | None,
    as_: str | None,
    no_wait: bool,
    wait_s: float | None,
    once: bool,
    again: bool,
    contain: str,
    require: str | None,
    probe: str | None,
    causes: tuple[str, ...],
) -> int:
    """Run COMMAND in one replica at a time: the one that is elected for NAME.

    The command gets INCUMBENT_ELECTION, INCUMBENT_IDENTITY, INCUMBENT_STORE, INCUMBENT_TERM and
    INCUMBENT_TOKEN, the fencing token. It must stay in the foreground: when it ends, whatever it
    left behind is killed. When the term is to end it is stopped (TERM, grace, KILL of its whole
    process tree) before the lease can pass to another. It is started again when elected again,
    until it ends by itself.
    """
    if once and again:
        raise click.UsageError("--once and --again exclude each other")
    if no_wait and wait_s is not None:
        raise click.UsageError("--no-wait and --wait exclude each other")
    if no_wait and again:
        raise click.UsageError(
            "--no-wait and --again exclude each other: to contend again is to wait, since the "
            "vacancy is left to others first"
        )
    with in_options(ttl_s=ttl_s, grace_s=grace_s, rho=rho):
        settings = Settings.resolve(
            name,
            store=options.store,
            ttl_s=ttl_s,
            grace_s=grace_s,
            rho=rho,
            as_=as_,
            armed=True,
            require=require or "",
        )
    if settings.store.capabilities.one_process:
        raise ConfigError(
            f"{settings.store.url} elects among the candidates of one process only, and each `run` "
            "is one: use sqlite:///PATH or kubernetes://"
        )
    if (refused := refusal(command[0])) is not None:
        code, text = refused
        hint = f" ({name!r} was taken for the election's NAME: {_HOW})"
        codes.complain(text + hint * bool(context.meta[_NO_DASHES]))
        return code
    voice = Voice(name, json=options.json, verbosity=options.verbosity)
    show_log(lambda text: voice.say("log", text), observed=True)
    voice.detail("timing", settings.timing.explain(renews=settings.store.capabilities.renews))
    with nullcontext() if probe is None else closing(Answers(probe)) as answers:
        runner = Runner(
            settings,
            command,
            contain=contain,
            wait_s=0 if no_wait else wait_s,
            again=again,
            once=once,
            voice=voice,
            answers=answers,
        )
        try:
            with _before_it_goes(runner, causes):
                code = runner.run()
        except OSError as error:
            voice.error(error)
            return codes.code_of(error)
    if code == codes.TEMPFAIL and (denied := runner.denied) is not None:
        # To whoever starts it again on 75 it would look like a matter of time.
        voice.error(denied)
        return codes.code_of(denied)
    return code


def _before_it_goes(runner: Runner, causes: tuple[str, ...]) -> AbstractContextManager[object]:
    """Have it hand over before its Pod goes, if that is wanted; only then is it imported."""
    if not causes:
        return nullcontext()
    from incumbent.consent.handover import Handover

    try:
        return Handover(
            lambda cause: runner.step_down(cause=cause), lambda: runner.leads, on=frozenset(causes)
        )
    except ConfigError as error:
        raise ConfigError(
            f"--hand-over-on {causes[0]} is for a Pod, whatever the store: leave it out elsewhere. "
            f"To find the Pod: {error}"
        ) from None


def refusal(word: str) -> tuple[int, str] | None:
    """Return the exit code and the reason if `word` cannot be run as a command; None if it may."""
    why = ""
    for path in _places(word):
        try:
            mode = os.stat(path).st_mode
        except PermissionError:
            if "/" in word:  # A folder of somebody else's PATH has no word in this.
                why = "Permission denied"
            continue
        except OSError:
            continue
        if stat.S_ISDIR(mode):
            why = why or "it is a folder"
        elif os.access(path, os.X_OK):
            return None
        else:
            why = why or "Permission denied"
    if why:
        return 126, f"{word}: cannot be executed: {why}"
    return 127, f"{word}: command not found"


def _places(word: str) -> list[str]:
    if "/" in word:
        return [word]
    folders = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin").split(":")
    return [os.path.join(folder or ".", word) for folder in folders] if word else []
