"""`incumbent consume URL NAME -- CMD`: the items of a queue, each to a run of a command, in order.

The command is held together and ended as by `incumbent run` (`workloads.command`); how items are
regained, retried and buried is the library's (`workloads.consumer`). An item is done when the
command has ended with 0, and the broker hears so after that: at least once, in order.
"""

from __future__ import annotations

from typing import Any

import click

from incumbent.cli.consuming import ItemCommand, consumer_of
from incumbent.cli.election_options import EPILOG, elected, with_election
from incumbent.cli.options import Options, common, seconds
from incumbent.errors import ConfigError

__all__ = ["command"]


@click.command(
    "consume",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)
@click.argument("source")
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--retries", type=click.IntRange(0), default=3, show_default=True, help="Per item.")
@seconds("--backoff", "backoff_s", help="Before the first retry; doubled for each further one [1].")
@seconds("--timeout", "timeout_s", help="How long a run may take [for ever].")
@click.option("--dead-letter", metavar="PLACE", help="Queue, stream or topic for what failed.")
@with_election
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
    state: str | None,
    **values: Any,
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
    asked = elected(options, name, values)
    run = asked.command(ItemCommand.wrapped(command))
    consumer = consumer_of(
        name,
        source,
        ItemCommand(run, asked.settings.store_url, asked.voice, timeout_s),
        retries=retries,
        backoff_s=1.0 if backoff_s is None else backoff_s,
        dead_letter=dead_letter,
        state=state,
        **asked.asked,
    )
    return asked.lead(consumer, run, command[0])
