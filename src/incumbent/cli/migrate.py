"""`incumbent migrate`: moves a live election from one store to another. See `migration`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import click

from incumbent.cli import codes
from incumbent.cli.logs import show_log
from incumbent.cli.migration import Migration, Step
from incumbent.cli.options import Options, common, seconds
from incumbent.cli.output import write_json
from incumbent.cli.progress import Progress
from incumbent.cli.wording import in_options

__all__ = ["command"]

PATIENCE_S = 60.0


@click.command("migrate")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.argument("name")
@click.option("--prepare", is_flag=True, help="Bar TO, and no more: then start its candidates.")
@click.option("--undo", is_flag=True, help="Have FROM go on; TO stays barred.")
@click.option("--abandon", is_flag=True, help="Undo, and open TO: no candidate may run there.")
@click.option("--allow-absent", is_flag=True, help="Also if neither store has a record of NAME.")
@seconds("--ttl", "ttl_s", help="TTL of the migration's own terms [15].")
@seconds("--timeout", "timeout_s", help=f"How long to wait for a holder [{PATIENCE_S:g}].")
@common(store=False)
def command(
    options: Options,
    source: str,
    target: str,
    name: str,
    prepare: bool,
    undo: bool,
    abandon: bool,
    allow_absent: bool,
    ttl_s: float | None,
    timeout_s: float | None,
) -> int:
    """Move the election NAME from the store FROM to the store TO, without two leaders.

    First --prepare; then start candidates with TO, which wait; then this, without an option. At any
    moment it may be broken off: run it again to go on, or with --undo. Candidates of FROM are
    stopped when it is done.
    """
    if prepare + undo + abandon > 1:
        raise click.UsageError("--prepare, --undo and --abandon exclude each other")
    steps: list[dict[str, Any]] = []

    async def work() -> None:
        async with Progress(f"{name}: connecting", quiet=options.quiet) as progress:

            def say(step: Step, text: str) -> None:
                steps.append({"step": step.value, "text": text})
                progress.text = f"{name}: {step.value}"
                if not options.json and not options.quiet:
                    progress.clear()
                    click.echo(f"{name}: {step.value}: {text}")

            with in_options(ttl_s=ttl_s):
                migration = Migration(
                    source,
                    target,
                    name,
                    ttl_s=ttl_s,
                    patience_s=PATIENCE_S if timeout_s is None else timeout_s,
                    allow_absent=allow_absent,
                    say=say,
                )
                async with migration.connected():
                    if prepare:
                        await migration.prepare()
                    elif abandon:
                        await migration.abandon()
                    elif undo:
                        await migration.undo()
                    else:
                        await migration.run()
        if options.json:
            write_json(
                {
                    "election": name,
                    "migration": migration.id,
                    "result": steps[-1]["step"],
                    "from_token": migration.source.seen.token,
                    "to_token": migration.target.seen.token,
                    "steps": steps,
                }
            )

    def write(text: str) -> None:
        if not options.quiet:
            print(f"incumbent: {text}", file=sys.stderr, flush=True)

    show_log(write)
    asyncio.run(work())
    return codes.OK
