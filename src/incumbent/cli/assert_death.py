"""`incumbent assert-death`: a person says that a holder is dead, and its TTL is not waited out.

It is outside the promise, and says so: if the person is wrong, two are active until the old one
fails to renew. What can be checked is checked. The record is shown; then it has to stand still for
as long as a holder that lives takes to renew; then that very version is swapped for a vacancy, and
no other. So a holder that renews refuses it by that.

It is for long TTLs, and for records of which it is known from elsewhere that nobody is behind them:
the machine is off, the cluster that it belonged to is gone. A standby takes a vacancy at once.
"""

from __future__ import annotations

import asyncio
import sys

import click

from incumbent.cli import codes
from incumbent.cli.options import Options, common
from incumbent.cli.output import write_json
from incumbent.cli.progress import Progress
from incumbent.cli.records import as_json
from incumbent.cli.session import REQUEST_S, requested, with_store
from incumbent.core.records import Holding, Snapshot, check_name
from incumbent.errors import ConfigError, IncumbentError, OutcomeUnknown, Refused
from incumbent.stores.api import Store
from incumbent.stores.kubernetes import KubernetesStore

__all__ = ["RENEWED_SHARE", "command"]

RENEWED_SHARE = 1 / 3
"""Of its TTL: a holder of ours that lives, and reaches its store, renews within that."""

_OUTSIDE = """\
This is outside the promise. Nothing here knows whether that holder is dead: if it works on, two
are active until it fails to renew, and only a fence keeps its writes out."""


@click.command("assert-death")
@click.argument("name")
@click.option("--token", type=int, help="Of the term that you mean: another one is left alone.")
@click.option("--yes", is_flag=True, help="It is dead: void its record.")
@common()
def command(options: Options, name: str, token: int | None, yes: bool) -> int:
    """Say that the holder of NAME is dead, so that a standby need not wait for the TTL.

    For records of incumbent on Kubernetes. Without --yes it shows the record and changes nothing.
    Exits with 1 if nobody holds, if another term holds than the one that you mean, or if the holder
    renews.
    """
    check_name(name)

    async def work(store: Store) -> tuple[Snapshot, Snapshot | None]:
        if not isinstance(store, KubernetesStore):
            raise ConfigError(
                f"assert-death is for kubernetes:// with one record for each election, and not for "
                f"{store.url}"
            )
        seen = await requested(store, store.read(name))
        _check(seen, token)
        _show(seen, options)
        if not yes:
            return seen, None
        return seen, await _voided(store, seen, options)

    seen, after = with_store(options, work)
    if options.json:
        done = "voided" if after is not None else "shown"
        write_json({**as_json(seen), "result": done})
    elif after is None:
        again = f"incumbent assert-death {name} --yes"
        if seen.token is not None:
            again = f"{again} --token {seen.token}"
        click.echo(f"Nothing was changed. If you know that it is dead: {again}")
    else:
        click.echo(f"{name}: the record of {seen.holder} is void; whoever stands by may take over")
    return codes.OK


def _check(seen: Snapshot, token: int | None) -> None:
    if seen.holding is not Holding.HELD:
        raise IncumbentError(f"nothing was changed: {seen.describe()}")
    if not seen.term:
        raise IncumbentError(
            f"nothing was changed: {seen.describe()}, whose record another program wrote"
        )
    if token is not None and token != seen.token:
        raise IncumbentError(
            f"nothing was changed: {seen.describe()} under the token {seen.token}, and not {token}"
        )


def _show(seen: Snapshot, options: Options) -> None:
    if options.quiet or options.json:
        return
    told = f"{seen.name}: held by {seen.holder}, token {seen.token}, TTL {seen.ttl_s:g} s"
    print(f"{told}\n{_OUTSIDE}", file=sys.stderr, flush=True)


async def _voided(store: KubernetesStore, seen: Snapshot, options: Options) -> Snapshot:
    wait_s = seen.ttl_s * RENEWED_SHARE
    async with Progress(f"watching whether it renews, for {wait_s:g} s", quiet=options.quiet):
        await asyncio.sleep(wait_s)
    try:
        async with asyncio.timeout(REQUEST_S):
            return await store.void(seen)
    except Refused as error:
        now = error.snapshot
        if now.term == seen.term:
            text = f"nothing was changed: {now.describe()}, who has renewed meanwhile: it lives"
        elif now.holding is Holding.HELD:  # A proxy that repeats writes may have been late.
            text = f"meanwhile {now.describe()}; whether because of this is not known"
        else:
            text = f"nothing was changed: meanwhile {now.describe()}, and not by this"
        raise IncumbentError(text) from None
    except (OutcomeUnknown, TimeoutError) as error:
        why = str(error) or f"no answer within {REQUEST_S:g} s"
        raise OutcomeUnknown(
            f"it is not known whether the record of {seen.holder} was voided ({why}); "
            f"incumbent status {seen.name} shows what it says now"
        ) from None
