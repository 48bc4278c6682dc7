"""`incumbent run NAME -- CMD`: its options, and what is refused before anything is begun.

What it does, and what it promises, is in `runner`.
"""

from __future__ import annotations

import click

from incumbent.cli import codes
from incumbent.cli.runner import Runner
from incumbent.errors import ConfigError, IncumbentError
from incumbent.runtime.settings import Settings

__all__ = ["command", "main"]


@click.command(
    "run",
    context_settings={"ignore_unknown_options": False, "help_option_names": ["-h", "--help"]},
    epilog="Exit codes: the command's own; 75 not elected; 69 no store; 77 no right; 2 usage.",
)
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--store", metavar="URL", help="Where the election is kept [INCUMBENT_STORE].")
@click.option("--ttl", "ttl_s", type=float, metavar="S", help="Time to live of the lease [15].")
@click.option(
    "--grace", "grace_s", type=float, metavar="S", help="From TERM to KILL of the whole tree."
)
@click.option("--rho", type=float, metavar="SHARE", help="Greatest clock-rate error [0.1].")
@click.option("--as", "as_", metavar="NAME", help="First part of this candidate's identity.")
@click.option("--no-wait", "no_wait", is_flag=True, help="Exit 75 if somebody else holds.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    metavar="S",
    help="Exit 75 if not elected in time.",
)
@click.option("--once", is_flag=True, help="Exit when the first term ends, also if it was lost.")
@click.option("--again", is_flag=True, help="Contend again also when the command ends by itself.")
@click.option(
    "--contain",
    type=click.Choice(["auto", "pidns", "group"]),
    default="auto",
    help="What holds the process tree together [auto: the strongest permitted].",
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def command(
    name: str,
    command: tuple[str, ...],
    store: str | None,
    ttl_s: float | None,
    grace_s: float | None,
    rho: float | None,
    as_: str | None,
    no_wait: bool,
    wait_s: float | None,
    once: bool,
    again: bool,
    contain: str,
    quiet: bool,
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
    settings = Settings.resolve(
        name, store=store, ttl_s=ttl_s, grace_s=grace_s, rho=rho, as_=as_, armed=True
    )

    if settings.store.capabilities.one_process:
        raise ConfigError(
            f"{settings.store.url} elects among the candidates of one process only, and each `run` "
            "is one: use sqlite:///PATH or kubernetes://"
        )

    def say(text: str) -> None:
        if not quiet:
            click.echo(f"incumbent: {text}", err=True)

    runner = Runner(
        settings,
        command,
        contain=contain,
        wait_s=0 if no_wait else wait_s,
        again=again,
        once=once,
        say=say,
    )
    return runner.run()


def main(argv: list[str]) -> int:
    """Run `incumbent run` with `argv`; return the exit code."""
    try:
        result = command.main(args=argv, prog_name="incumbent run", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return codes.INTERRUPTED
    except (IncumbentError, OSError) as error:
        codes.complain(error)
        return codes.code_of(error)
    return int(result or 0)
