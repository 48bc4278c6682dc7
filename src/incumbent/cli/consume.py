"""`incumbent consume URL NAME -- CMD`: the items of a queue, each to a run of a command, in order.

The command is held together and ended as by `incumbent run` (`workloads.command`); how items are
regained, retried and buried is the library's (`workloads.consumer`). An item is done when the
command has ended with 0, and the broker hears so after that: at least once, in order.
"""

from __future__ import annotations

from typing import Any

import click

from incumbent.cli import codes
from incumbent.cli.consuming import ItemCommand, consumer_of
from incumbent.cli.logs import show_log
from incumbent.cli.options import Options, common, seconds
from incumbent.cli.run import refusal
from incumbent.cli.voice import Voice
from incumbent.cli.wording import in_options
from incumbent.cli.working import Piece, observer, refuse_one_process, work_on
from incumbent.errors import ConfigError
from incumbent.runtime.settings import Settings
from incumbent.workloads.command import Command

__all__ = ["command"]


@click.command(
    "consume",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 128 and the signal that ended it; 126 and 127 if COMMAND cannot be run; "
    "69 no store; 77 no right; 2 usage.",
)
@click.argument("source")
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--retries", type=click.IntRange(0), default=3, show_default=True, help="Per item.")
@seconds("--backoff", "backoff_s", help="Before the first retry; doubled for each further one [1].")
@seconds("--timeout", "timeout_s", help="How long a run may take [for ever].")
@click.option("--dead-letter", metavar="PLACE", help="Queue, stream or topic for what failed.")
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
@click.option("--state", metavar="URL", help="Where positions are noted; else INCUMBENT_STATE.")
@common()
def command(
    options: Options,
    source: str,
    name: str,
    command: tuple[str, ...],
    retries: int,
    backoff_s: float | None,
    timeout_s: float | None,
    dead_letter: str | None,
    ttl_s: float | None,
    grace_s: float | None,
    rho: float | None,
    as_: str | None,
    contain: str,
    require: str | None,
    state: str | None,
) -> int:
    """Run COMMAND for each item of the queue SOURCE, one at a time, in order, in one place.

    SOURCE is the URL of a broker, as redis://HOST/0?stream=orders or
    postgresql://HOST/DB?queue=orders. COMMAND gets the item as a line of JSON on its standard
    input, and INCUMBENT_ITEM (its id), INCUMBENT_ATTEMPT and INCUMBENT_TOKEN, the fencing token.
    It is done if COMMAND ends with 0; after a crash it may come again.
    """
    if "://" not in source:
        raise ConfigError(
            f"{source!r} is no URL of a queue. SOURCE comes first, then NAME: incumbent consume "
            "'redis://HOST/0?stream=orders' orders -- COMMAND"
        )
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
    if (refused := refusal(command[0])) is not None:
        code, text = refused
        codes.complain(text)
        return code
    run = Command(ItemCommand.wrapped(command), grace_s=settings.timing.grace_s, contain=contain)
    consumer = consumer_of(
        name,
        source,
        ItemCommand(run, settings.store_url, voice, timeout_s),
        retries=retries,
        backoff_s=1.0 if backoff_s is None else backoff_s,
        dead_letter=dead_letter,
        state=state,
        observer=observer(voice),
        **election,
    )
    show_log(lambda text: voice.say("log", text), observed=True)
    return work_on([Piece(name, consumer, voice, [run])])
