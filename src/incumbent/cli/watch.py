"""`incumbent watch`: every change, as the store reports it.

Nothing is polled: a store notifies its followers. It may report late and skip states in between, so
this is a view and not a protocol of record. Elections that come into being later are seen only if
they were named.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import click

from incumbent.cli import codes
from incumbent.cli.options import Options, common, seconds
from incumbent.cli.output import console, require_rich, write_json_line
from incumbent.cli.records import as_json, change, note
from incumbent.cli.session import following, requested, with_store
from incumbent.clock import boottime
from incumbent.core.events import Evidence
from incumbent.core.records import Holding, Snapshot, check_name
from incumbent.stores.api import Store

__all__ = ["command"]

_STYLES = {
    "elected": "bold green",
    "vacant": "yellow",
    "asked": "cyan",
    "dead": "bold red",
    "absent": "bold red",
    "foreign": "bold red",
    "renewed": "dim",
    "changed": "dim",
}
_ONLY_VERBOSE = ("renewed", "changed")


@click.command("watch")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@seconds("--for", "for_s", help="End after so many seconds.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N lines.")
@common()
def command(
    options: Options, names: tuple[str, ...], for_s: float | None, count: int | None
) -> int:
    """Show every change of the elections as it happens; renewals only with -v.

    Without a NAME, all elections that there are when it begins. The first line of each says how
    things are now. Ctrl-C ends it.
    """
    if not options.json:
        require_rich()
    for name in names:
        check_name(name)
    with suppress(KeyboardInterrupt):
        return with_store(options, lambda store: _watch(store, options, names, for_s, count))
    return codes.OK


async def _watch(
    store: Store, options: Options, names: tuple[str, ...], for_s: float | None, count: int | None
) -> int:
    known: list[Snapshot] = []
    if not names:
        known = await requested(store, store.elections())
        names = tuple(snapshot.name for snapshot in known)
    else:
        known = [await requested(store, store.read(name)) for name in dict.fromkeys(names)]
    if not names:
        codes.complain("no elections in this store yet: name the one to watch for")
        return codes.NOT_SO
    out = Lines(options, max(map(len, names)))
    seen: dict[str, Snapshot] = {}
    with suppress(TimeoutError):
        async with asyncio.timeout(for_s), following(store, dict.fromkeys(names)) as queue:
            for snapshot in known:
                seen[snapshot.name] = snapshot
                if out.write("now", snapshot) == count:
                    return codes.OK
            while True:
                name, event = await queue.get()
                if isinstance(event, Evidence):
                    now = seen[name]
                    what = "dead" if event.lease_key == now.lease_key else ""
                else:
                    what, now = change(seen[name], event), event
                    seen[name] = event
                if what in _ONLY_VERBOSE and options.verbosity < 1:
                    continue
                if what and out.write(what, now) == count:
                    return codes.OK
    return codes.OK


class Lines:
    """Writes one line per change, and counts them."""

    def __init__(self, options: Options, name_width: int) -> None:
        self._json = options.json
        self._console = None if options.json else console()
        self._name_width = max(len("election"), min(name_width, 40))
        self._started_s = boottime()
        self._count = 0
        if self._console is not None and not options.quiet:
            head = self._row("time", "election", "event", "token", "holder")
            self._console.print(head, style="bold", soft_wrap=True)

    def write(self, event: str, snapshot: Snapshot) -> int:
        """Write a line; return how many were written."""
        self._count += 1
        elapsed_s = boottime() - self._started_s
        if self._json:
            write_json_line({"event": event, "elapsed_s": round(elapsed_s, 6), **as_json(snapshot)})
        else:
            self._draw(event, snapshot)
        return self._count

    def _draw(self, event: str, snapshot: Snapshot) -> None:
        from rich.text import Text

        if self._console is None:
            return
        held = snapshot.holding is Holding.HELD
        word = f"({snapshot.holding.value})" if event == "now" else event
        text = snapshot.holder if held else ""
        more = _DEAD if event == "dead" else note(snapshot)
        token = "" if snapshot.token is None else str(snapshot.token)
        row = self._row(_local_time(), snapshot.name, word, token, text)
        line = Text(row.rstrip() if not more else row)
        if more:
            line.append(("  " if text else "") + more, style="dim")
        start = 12 + 2 + self._name_width + 2
        line.stylize(_STYLES.get(event, ""), start, start + len(word))
        self._console.print(line, soft_wrap=True)

    def _row(self, *cells: Any) -> str:
        time_, name, event, token, rest = cells
        return f"{time_:<12}  {name:<{self._name_width}}  {event:<9}  {token:<13}  {rest}"


_DEAD = "proof: everything that held the lease is gone"


def _local_time() -> str:
    """Return when *we* saw it, for people who compare it with their logs."""
    now_s = time.time()
    return time.strftime("%H:%M:%S", time.localtime(now_s)) + f".{int(now_s * 1000) % 1000:03}"
