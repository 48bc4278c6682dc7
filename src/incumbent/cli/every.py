"""`incumbent every SPEC NAME -- CMD`: a line of cron that one host of many runs, once per tick.

The command is held together and ended as by `incumbent run` (`workloads.command`); what becomes of
ticks is the library's (`workloads.periodic`).
"""

from __future__ import annotations

from typing import Any

import click

from incumbent.cli import codes
from incumbent.cli.logs import show_log
from incumbent.cli.options import Options, common, seconds
from incumbent.cli.periodic_options import chosen, with_choices
from incumbent.cli.periodic_sections import NO_ZONE
from incumbent.cli.run import refusal
from incumbent.cli.voice import Voice
from incumbent.cli.wording import in_options
from incumbent.cli.working import CommandTask, Piece, observer, refuse_one_process, work_on
from incumbent.errors import ConfigError
from incumbent.runtime.settings import Settings
from incumbent.sync.periodic import Jobs
from incumbent.workloads.command import Command
from incumbent.workloads.periodic.spec import MAIN
from incumbent.workloads.schedule import Interval, parse, zone_of

__all__ = ["command"]


@click.command(
    "every",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 128 and the signal that ended it; 126 and 127 if COMMAND cannot be run; "
    "69 no store; 77 no right; 2 usage.",
)
@click.argument("spec")
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--tz", metavar="ZONE", help="Time zone of a line of cron [UTC].")
@with_choices
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
@click.option("--state", metavar="URL", help="Where ticks are noted; else INCUMBENT_STATE [store].")
@common()
def command(
    options: Options,
    spec: str,
    name: str,
    command: tuple[str, ...],
    tz: str | None,
    ttl_s: float | None,
    grace_s: float | None,
    rho: float | None,
    as_: str | None,
    contain: str,
    require: str | None,
    state: str | None,
    **choices: Any,
) -> int:
    """Run COMMAND once per tick of SPEC, in one of all the places where this runs for NAME.

    SPEC is an interval (30s, 5m, 1h30m) or a line of cron ('*/5 * * * *', '@daily'). The command
    gets INCUMBENT_TICK, the same for every attempt, INCUMBENT_DUE, INCUMBENT_ATTEMPT, and
    INCUMBENT_TOKEN, the fencing token. See `incumbent runs NAME` for what has run.
    """
    schedule = parse(spec, zone_of(tz or "UTC"))
    if tz is not None and isinstance(schedule, Interval):
        raise ConfigError(f"--tz: {NO_ZONE}")
    found = chosen(choices)
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
    jobs = Jobs(name, state=state, observer=observer(voice), **election)
    if (refused := refusal(command[0])) is not None:
        code, text = refused
        codes.complain(text)
        return code
    show_log(lambda text: voice.say("log", text), observed=True)
    run = Command(command, grace_s=settings.timing.grace_s, contain=contain)
    jobs.add(CommandTask(run, settings.store_url, voice), schedule, name=MAIN, choices=found)
    return work_on([Piece(name, jobs, voice, [run])])
