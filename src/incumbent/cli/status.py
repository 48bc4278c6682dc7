"""`incumbent status`: what the records say.

A record says who was elected, not who lives. Whether a holder still renews is seen by watching for
up to its TTL, and `--confirm` does that; an age is never guessed from a wall clock.

`--cluster` shows a Kubernetes namespace instead of a store (`cluster`). There the server keeps an
account of writes by its own clock.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import click

from incumbent.cli import codes
from incumbent.cli.cluster import Place, is_plugin, status
from incumbent.cli.options import Options, common
from incumbent.cli.output import require_rich, show, write_json
from incumbent.cli.progress import Progress
from incumbent.cli.records import as_json, change, note
from incumbent.cli.session import following, requested, with_store
from incumbent.core.events import Evidence
from incumbent.core.records import Holding, Snapshot, check_name
from incumbent.errors import ConfigError
from incumbent.stores.api import Store

__all__ = ["command", "confirm"]

LEAST_WATCH_S = 1.0
_SIGN_OF = {
    "renewed": "renewed",
    **dict.fromkeys(("elected", "vacant", "absent", "foreign", "barred"), "changed"),
}
_SIGNS = {
    "renewed": "renews",
    "dead": "DEAD: everything that held the lease is gone",
    "silent": "SILENT for a whole TTL",
    "changed": "changed meanwhile",
}


@click.command("status")
@click.argument("name", required=False)
@click.option("--confirm", "confirmed", is_flag=True, help="Watch whether each holder renews.")
@click.option("--cluster", is_flag=True, help="Show all elections of a Kubernetes namespace.")
@click.option("-n", "--namespace", default="", help="Which one; with --cluster, which it implies.")
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="All of them; the same.")
@click.option("--context", default="", help="Of the kubeconfig, with --cluster.")
@click.option("--kubeconfig", default="", metavar="PATH", help="Where that is, with --cluster.")
@click.option("-o", "--output", type=click.Choice(["wide"]), help="With --cluster: all columns.")
@common()
def command(
    options: Options,
    name: str | None,
    confirmed: bool,
    cluster: bool,
    namespace: str,
    everywhere: bool,
    context: str,
    kubeconfig: str,
    output: str | None,
) -> int:
    """Show who holds which election, or NAME alone.

    With NAME the exit code is 1 if nobody holds it, or if --confirm saw no sign of life. Without
    --confirm a holder is what the record names; whether it lives is not known.
    """
    if not options.json:
        require_rich()
    if name is not None:
        check_name(name)
    place = Place(namespace, everywhere, context, kubeconfig)
    if cluster or place != Place() or output or (is_plugin() and not _names_store(options)):
        if confirmed or options.store is not None:
            raise ConfigError("--confirm and --store are for a store, and not for --cluster")
        return status(options, place, name, wide=output == "wide")
    snapshots, signs = with_store(options, lambda store: _look(store, options, name, confirmed))
    rows = [{**as_json(s), "sign": signs.get(s.name)} for s in snapshots]
    if options.json:
        write_json(rows[0] if name is not None else {"elections": rows})
    elif not rows:
        click.echo("no elections in this store yet", err=True)
    else:
        _draw(snapshots, signs, confirmed, options)
    if name is None:
        return codes.OK
    alive = signs.get(name, "renewed") in ("renewed", "changed")
    held = snapshots[0].holding is Holding.HELD
    return codes.OK if held and alive else codes.NOT_SO


def _names_store(options: Options) -> bool:
    return options.store is not None or "INCUMBENT_STORE" in os.environ


async def _look(
    store: Store, options: Options, name: str | None, confirmed: bool
) -> tuple[list[Snapshot], dict[str, str]]:
    async with Progress("reading", quiet=options.quiet):
        if name is not None:
            snapshots = [await requested(store, store.read(name))]
        else:
            snapshots = await requested(store, store.elections())
    if not confirmed:
        return snapshots, {}
    return await confirm(store, snapshots, quiet=options.quiet)


async def confirm(
    store: Store, snapshots: list[Snapshot], *, quiet: bool = False
) -> tuple[list[Snapshot], dict[str, str]]:
    """Watch each holder for up to its TTL.

    A follower that hears nothing may be the one who is cut off, so silence is asked about.

    Raises:
        StoreError: it was not the holder that was silent, but the store.

    Returns:
        The records as they are then, and a sign for each that was held: "renewed", "silent",
        "dead" (the store has proof) or "changed" (another term, or none).
    """
    latest = {snapshot.name: snapshot for snapshot in snapshots}
    waiting = {s.name: s for s in snapshots if s.holding is Holding.HELD}
    signs: dict[str, str] = {}
    longest_s = max([LEAST_WATCH_S, *(s.ttl_s for s in waiting.values())])
    holders = "1 holder" if len(waiting) == 1 else f"{len(waiting)} holders"
    text = f"watching {holders} for up to {longest_s:g} s"
    async with following(store, waiting) as queue, Progress(text, quiet=quiet):
        try:
            async with asyncio.timeout(longest_s):
                while waiting:
                    name, event = await queue.get()
                    if isinstance(event, Evidence):
                        if name in waiting and latest[name].lease_key == event.lease_key:
                            signs[name] = "dead"
                            del waiting[name]
                        continue
                    what = change(latest[name], event)
                    latest[name] = event
                    if what in _SIGN_OF:
                        signs[name] = _SIGN_OF[what]
                        waiting.pop(name, None)
        except TimeoutError:
            for name in waiting:
                before, latest[name] = latest[name], await requested(store, store.read(name))
                signs[name] = _SIGN_OF.get(change(before, latest[name]), "silent")
    return list(latest.values()), signs


def _draw(
    snapshots: list[Snapshot], signs: dict[str, str], confirmed: bool, options: Options
) -> None:
    rows: list[list[Any]] = []
    for snapshot in snapshots:
        held = snapshot.holding is Holding.HELD
        rows.append(
            [
                snapshot.name,
                _state(snapshot, signs.get(snapshot.name, "")),
                snapshot.holder if held else "",
                "" if snapshot.token is None else str(snapshot.token),
                f"{snapshot.ttl_s:g} s" if snapshot.ttl_s else "",
                "; ".join(filter(None, [_SIGNS.get(signs.get(snapshot.name, "")), note(snapshot)])),
            ]
        )
    heads = ["election", "state", "holder", "token", "TTL", "note"]
    if not any(row[-1] for row in rows):
        heads.pop()
        rows = [row[:-1] for row in rows]
    show(rows, *heads, wrap=("holder", "note"))
    if not confirmed and not options.quiet and any(s.holding is Holding.HELD for s in snapshots):
        click.echo("The records name them; --confirm watches for signs of life.", err=True)


def _state(snapshot: Snapshot, sign: str) -> Any:
    from rich.text import Text

    style = {
        Holding.HELD: "green" if sign in ("", "renewed", "changed") else "bold red",
        Holding.VACANT: "yellow",
        Holding.ABSENT: "yellow",
        Holding.FOREIGN: "bold red" if snapshot.bar is None else "yellow",
    }[snapshot.holding]
    return Text(snapshot.state, style=style)
