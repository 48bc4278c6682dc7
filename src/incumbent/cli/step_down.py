"""`incumbent step-down`: ask a holder to hand over, and see who follows.

The request names the very term that was read, so it can never end another one; how the work is
stopped, and when, is the holder's affair. What happens is followed, not polled, and
no more is said than what was seen: a follower may miss states in between, and a record does not say
who lives. Whoever looks late sees another term and not what ended the one before: it may have been
given up, or its holder may have died. Then this is what is said. A proof of death is believed only
if the record, read after it, still carries the term: one that was released leaves a free lock, too,
when its process ends.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

import click

from incumbent.cli import codes
from incumbent.cli.options import Options, common, seconds
from incumbent.cli.output import write_json
from incumbent.cli.progress import Progress
from incumbent.cli.records import change
from incumbent.cli.session import Reports, following, requested, with_store, written
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
FIRST_REPORT_S = 1.0
"""How long to wait for what the store has to say at once, such as a proof of death."""


class End(Enum):
    """What was seen of the end of a term."""

    UNSEEN = "unseen"
    """Nothing: it holds still, or the next thing that was seen was another term."""
    RELEASED = "released"
    """The record says that its holder gave it up."""
    VACANT = "vacant"
    """The record is vacant, and does not say whose term was the last."""
    VOIDED = "voided"
    """The record still names it, and its session is over: another, or itself, has ended that."""
    REMOVED = "removed"
    """There is no record any more."""
    DIED = "died"
    """There is proof that everything that worked under its lease was gone, while it held."""


@dataclass(slots=True)
class Outcome:
    """What came of it.

    Attributes:
        before: the record that was read.
        after: the latest record.
        result: "asked" (and not waited), "handed over", or what went wrong: "still held", "nobody
            followed", "same again" (the holder itself followed), "another followed".
        took_s: from the request to the next term, or to the end of the patience.
        let_go_s: from the request to the vacancy, if one was seen.
        renewed: whether the holder renewed after it was asked.
        end: how the term ended, as far as it was seen.
    """

    before: Snapshot
    after: Snapshot
    result: str = "asked"
    took_s: float = 0.0
    let_go_s: float | None = None
    renewed: bool = False
    end: End = End.UNSEEN

    @property
    def continues(self) -> bool:
        """Tell whether the term that was asked to end still holds."""
        return self.after.holding is Holding.HELD and self.after.term == self.before.term

    @property
    def followed(self) -> bool:
        """Tell whether another term holds."""
        return self.after.holding is Holding.HELD and not self.continues

    def take_in(self, event: Snapshot | Evidence, since_s: float) -> None:
        """Take in a report, `since_s` after the request."""
        if isinstance(event, Evidence):
            if self.continues and event.lease_key == self.before.lease_key:
                self.end = End.DIED
        elif event.serial >= self.before.serial:
            self.renewed |= self.continues and change(self.after, event) == "renewed"
            self.after = event
            if not self.continues and not self.followed and self.let_go_s is None:
                self.let_go_s = since_s
                if self.end is not End.DIED:  # Whatever became of the record of a dead holder.
                    self.end = self._ending()

    def _ending(self) -> End:
        """Return what a record that nobody holds says of the term that held it before."""
        after = self.after
        if after.holding is Holding.ABSENT:
            return End.REMOVED
        if after.holding is not Holding.VACANT or after.term not in ("", self.before.term):
            return End.UNSEEN  # Another term held in between, or there is another's record.
        if not after.term:
            return End.VACANT
        return End.VOIDED if after.lease_key else End.RELEASED

    def conclude(self, to: str) -> None:
        """Say in a word what came of it."""
        before, after = self.before, self.after
        if self.continues and self.end is not End.DIED:
            self.result = "still held"
        elif not self.followed:
            self.result = "nobody followed"
        elif to and not same_candidate(to, after.holder):
            self.result = "another followed"
        else:
            self.result = "same again" if after.holder == before.holder else "handed over"


async def ask_holder(store: Store, name: str, to: str = "") -> Snapshot:
    """Ask the holder of `name` to hand over; return the record that it was asked of.

    Raises:
        IncumbentError: nobody holds, or the holder is no program that can be asked.
        ConfigError: `to` is the holder.
        Refused: the term ended in the meantime; nobody was asked.
    """
    async with following(store, [name]) as queue:
        return await _ask(store, name, to, queue)


async def _ask(store: Store, name: str, to: str, queue: Reports) -> Snapshot:
    with suppress(TimeoutError):
        async with asyncio.timeout(FIRST_REPORT_S):
            await queue.get()
    now = await requested(store, store.read(name))
    if now.holding is not Holding.HELD:
        raise IncumbentError(f"nobody was asked: {now.describe()}")
    if not now.term:
        raise IncumbentError(
            f"nobody was asked: {now.describe()}, whose record was written by another program"
        )
    if to and same_candidate(to, now.holder):
        raise ConfigError(f"--to {to}: {now.holder} is the holder already")
    while not queue.empty():
        _, report = queue.get_nowait()
        if isinstance(report, Evidence) and report.lease_key == now.lease_key:
            raise IncumbentError(
                f"nobody was asked: {now.describe()}, and is dead: {report.why}; a candidate need "
                "not wait for the TTL, so it seems that there is none"
            )
    await written(store, store.ask(name, StepDownRequest(now.term, to)))
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
    holds (or the holder is dead), if nobody else followed in time, or if another than CANDIDATE
    did.
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
        return Outcome(asked, asked)

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
        asked = await _ask(store, name, to, queue)
        outcome = Outcome(asked, asked)
        progress.text = f"{name}: {asked.holder} was asked; waiting until it lets go"
        started_s = boottime()
        try:
            async with asyncio.timeout(patience_s):
                while not outcome.followed:
                    _, report = await queue.get()
                    if isinstance(report, Evidence):
                        now = await requested(store, store.read(name))
                        outcome.take_in(now, boottime() - started_s)
                    outcome.take_in(report, boottime() - started_s)
                    if outcome.end is End.DIED:
                        progress.text = f"{name}: {asked.holder} is dead; waiting for the next"
                    elif not outcome.continues:
                        progress.text = f"{name}: {asked.holder} has let go; waiting for the next"
        except TimeoutError:
            # Perhaps it is the store that is silent, and then nothing is known.
            now = await requested(store, store.read(name))
            outcome.take_in(now, boottime() - started_s)
        outcome.took_s = boottime() - started_s
    outcome.conclude(to)
    return outcome


def _report(options: Options, outcome: Outcome, name: str, to: str, patience_s: float) -> None:
    before, after = outcome.before, outcome.after
    if options.json:
        waited = outcome.result != "asked"
        write_json(
            {
                "election": name,
                "result": outcome.result,
                "from": before.holder,
                "from_token": before.token,
                "to": after.holder if outcome.followed else None,
                "to_token": after.token if outcome.followed else None,
                "asked_for": to or None,
                "took_s": round(outcome.took_s, 6) if waited else None,
                "let_go_s": None if outcome.let_go_s is None else round(outcome.let_go_s, 6),
                "end": None if outcome.end is End.UNSEEN else outcome.end.value,
            }
        )
        return
    text = f"{name}: {_in_words(outcome, to, patience_s)}"
    if outcome.result in ("asked", "handed over"):
        click.echo(text)
    else:
        codes.complain(text)


def _in_words(outcome: Outcome, to: str, patience_s: float) -> str:
    before, after = outcome.before, outcome.after
    end = _ending_in_words(outcome)
    token = "" if after.token is None else f", token {after.token}"
    match outcome.result:
        case "asked":
            return f"{before.holder} was asked to step down"
        case "handed over":
            return f"{after.holder} holds{token}; {end}"
        case "same again":
            return f"{after.holder} holds again{token}, since nobody else wanted it; {end}"
        case "another followed":
            return f"{after.holder} holds, and not {to}: is {to} a candidate? {end}"
        case "nobody followed":
            return f"{end}, and nobody followed within {patience_s:g} s: is there a candidate?"
    text = f"{before.holder} was asked, and still holds after {patience_s:g} s; "
    if outcome.renewed:
        text += "it renews, so its work goes on; "
    elif outcome.took_s >= before.ttl_s > 0:
        text += "it gave no sign of life in that time; "
    return f"{text}the request stays"


def _ending_in_words(outcome: Outcome) -> str:
    holder, let_go_s = outcome.before.holder, outcome.let_go_s or 0.0
    match outcome.end:
        case End.RELEASED:
            return f"{holder} stepped down {let_go_s:.3f} s after it was asked"
        case End.VACANT:
            return f"the election was vacant {let_go_s:.3f} s after {holder} was asked"
        case End.VOIDED:
            return f"the lease of {holder} was ended before it stepped down"
        case End.REMOVED:
            return f"the record was removed before {holder} stepped down"
        case End.DIED:
            return f"{holder} died before it stepped down"
        case End.UNSEEN:
            return f"how the term of {holder} ended was not seen"
