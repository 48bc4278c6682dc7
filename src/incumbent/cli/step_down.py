"""`incumbent step-down`: ask a holder to hand over, and see who follows.

The request names the very term that was read, so it can never end another one; how the work is
stopped, and when, is the holder's affair. What happens is followed, not polled.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import click

from incumbent.cli import codes
from incumbent.cli.options import Options, common, seconds
from incumbent.cli.output import write_json
from incumbent.cli.progress import Progress
from incumbent.cli.session import following, requested, with_store
from incumbent.clock import boottime
from incumbent.core.events import Evidence
from incumbent.core.records import (
    Holding,
    Snapshot,
    StepDownRequest,
    check_identity,
    check_name,
    same_candidate,
)
from incumbent.errors import ConfigError, IncumbentError, Refused
from incumbent.stores.api import Store

__all__ = ["ask_holder", "command"]

WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it.

    Attributes:
        result: "handed over", "asked" (and not waited), or what went wrong: "still held", "nobody
            followed", "another followed".
        before: the record that was read.
        after: the record at the end.
        took_s: from the request to the next term, or to the end of the patience.
    """

    result: str
    before: Snapshot
    after: Snapshot
    took_s: float = 0.0


async def ask_holder(store: Store, name: str, to: str = "") -> Snapshot:
    """Ask the holder of `name` to hand over; return the record that it was asked of.

    Raises:
        IncumbentError: nobody holds, or the holder is no program that can be asked.
        ConfigError: `to` is the holder.
        Refused: the term ended in the meantime; nobody was asked.
    """
    now = await requested(store, store.read(name))
    if now.holding is not Holding.HELD:
        raise IncumbentError(f"nobody was asked: {now.describe()}")
    if not now.term:
        raise IncumbentError(
            f"nobody was asked: {now.describe()}, whose record was written by another program"
        )
    if to and same_candidate(to, now.holder):
        raise ConfigError(f"--to {to}: {now.holder} is the holder already")
    await requested(store, store.ask(name, StepDownRequest(now.term, to)))
    return now


@click.command("step-down")
@click.argument("name")
@click.option("--to", default="", metavar="CANDIDATE", help="Who shall follow; else anybody.")
@click.option("--wait/--no-wait", default=True, help="Wait until another term holds [wait].")
@seconds("--timeout", "timeout_s", help=f"How long to wait [{WAIT_S:g}].")
@common()
def command(options: Options, name: str, to: str, wait: bool, timeout_s: float | None) -> int:
    """Ask the holder of NAME to hand over, to anybody or to CANDIDATE.

    CANDIDATE is an identity, or what it begins with: a host's or Pod's name. Exits with 1 if nobody
    holds, if no other term has begun in time, or if another than CANDIDATE followed.
    """
    check_name(name)
    if to:
        check_identity(to)
    if not wait and timeout_s is not None:
        raise click.UsageError("--no-wait and --timeout exclude each other")
    patience_s = WAIT_S if timeout_s is None else timeout_s

    async def work(store: Store) -> Outcome:
        if wait:
            return await _hand_over(store, options, name, to, patience_s)
        asked = await ask_holder(store, name, to)
        return Outcome("asked", asked, asked)

    try:
        outcome = with_store(options, work)
    except Refused as error:
        raise IncumbentError(
            f"nobody was asked: the term ended by itself meanwhile; now {error.snapshot.describe()}"
        ) from None
    _report(options, outcome, name, to, patience_s)
    return codes.OK if outcome.result in ("handed over", "asked") else codes.NOT_SO


async def _hand_over(
    store: Store, options: Options, name: str, to: str, patience_s: float
) -> Outcome:
    async with (
        following(store, [name]) as queue,
        Progress(f"{name}: asking", quiet=options.quiet) as progress,
    ):
        asked = await ask_holder(store, name, to)
        progress.text = f"{name}: {asked.holder} was asked and is stopping its work"
        started_s = boottime()
        now = asked
        try:
            async with asyncio.timeout(patience_s):
                while _continues(asked, now) or now.holding is not Holding.HELD:
                    _, event = await queue.get()
                    if isinstance(event, Evidence) or event.serial < asked.serial:
                        continue
                    now = event
                    if not _continues(asked, now):
                        progress.text = f"{name}: {asked.holder} has let go; waiting for the next"
        except TimeoutError:
            result = "still held" if _continues(asked, now) else "nobody followed"
            return Outcome(result, asked, now, boottime() - started_s)
        took_s = boottime() - started_s
    wanted = not to or same_candidate(to, now.holder)
    return Outcome("handed over" if wanted else "another followed", asked, now, took_s)


def _continues(asked: Snapshot, now: Snapshot) -> bool:
    """Tell whether the term that was asked to end still holds."""
    return now.holding is Holding.HELD and now.term == asked.term


def _report(options: Options, outcome: Outcome, name: str, to: str, patience_s: float) -> None:
    before, after = outcome.before, outcome.after
    followed = outcome.result in ("handed over", "another followed")
    if options.json:
        write_json(
            {
                "election": name,
                "result": outcome.result,
                "from": before.holder,
                "from_token": before.token,
                "to": after.holder if followed else None,
                "to_token": after.token if followed else None,
                "asked_for": to or None,
                "took_s": round(outcome.took_s, 6) if outcome.result != "asked" else None,
            }
        )
        return
    match outcome.result:
        case "asked":
            click.echo(f"{name}: {before.holder} was asked to step down")
        case "handed over":
            again = " again, since nobody else wanted it" * (after.holder == before.holder)
            click.echo(
                f"{name}: {after.holder} holds{again}, token {after.token}; "
                f"{before.holder} stepped down {outcome.took_s:.3f} s after it was asked"
            )
        case "another followed":
            codes.complain(f"{name}: {after.holder} holds, and not {to}: is {to} a candidate?")
        case "still held":
            codes.complain(
                f"{name}: {before.holder} was asked, and still holds after {patience_s:g} s; "
                "the request stays"
            )
        case _:
            codes.complain(
                f"{name}: {before.holder} stepped down, and nobody followed within {patience_s:g} s"
            )
