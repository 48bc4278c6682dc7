"""`incumbent every SPEC NAME -- CMD`: a line of cron that one host of many runs, once per tick.

The command is held together and ended as by `incumbent run` (`workloads.command`); what becomes of
ticks is the library's (`workloads.periodic`).
"""

from __future__ import annotations

from typing import Any

import click

from incumbent.cli.election_options import EPILOG, elected, with_election
from incumbent.cli.options import Options, common
from incumbent.cli.periodic_options import chosen, with_choices
from incumbent.cli.periodic_sections import NO_ZONE
from incumbent.cli.working import CommandTask
from incumbent.errors import ConfigError
from incumbent.sync.periodic import Jobs
from incumbent.workloads.periodic.spec import MAIN
from incumbent.workloads.schedule import Interval, parse, zone_of

__all__ = ["command"]


@click.command(
    "every",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)
@click.argument("spec")
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--tz", metavar="ZONE", help="Time zone of a line of cron [UTC].")
@with_choices
@with_election
@click.option("--state", metavar="URL", help="Where ticks are noted; else INCUMBENT_STATE [store].")
@common()
def command(
    options: Options,
    spec: str,
    name: str,
    command: tuple[str, ...],
    tz: str | None,
    state: str | None,
    **values: Any,
) -> int:
    """Run COMMAND once per tick of SPEC, in one of all the places where this runs for NAME.

    SPEC is an interval (30s, 5m, 1h30m) or a line of cron ('*/5 * * * *', '@daily'). The command
    gets INCUMBENT_TICK, the same for every attempt, INCUMBENT_DUE, INCUMBENT_ATTEMPT, and
    INCUMBENT_TOKEN, the fencing token. See `incumbent runs NAME` for what has run.
    """
    schedule = parse(spec, zone_of(tz or "UTC"))
    if tz is not None and isinstance(schedule, Interval):
        raise ConfigError(f"--tz: {NO_ZONE}")
    found = chosen(values)
    asked = elected(options, name, values)
    run = asked.command(command)
    jobs = Jobs(name, state=state, **asked.asked)
    task = CommandTask(run, asked.settings.store_url, asked.voice)
    jobs.add(task, schedule, name=MAIN, choices=found)
    return asked.lead(jobs, run, command[0])
