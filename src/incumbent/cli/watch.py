"""`incumbent watch`: every change, as the store reports it.

A store notifies its followers, so a change is told when it happens. It may report late and skip
states in between, so this is a view and not a protocol of record. Elections that come into being
later are seen only if they were named.

Silence says nothing: a connection that is cut without a word notifies of nothing either, and most
stores notice it late. So everything is read anew every few seconds, which is also how one learns
that the store cannot be reached, and that it is back; whatever the store is, and on whichever way
its notifications come. A read that a notification overtook is older than that, and is not believed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import click

from incumbent.cli import codes
from incumbent.cli.options import Options, common, seconds
from incumbent.cli.output import console, require_rich, write_json_line
from incumbent.cli.records import as_json, change, note
from incumbent.cli.session import followed, requested, with_store
from incumbent.clock import boottime
from incumbent.core.events import Evidence
from incumbent.core.records import Holding, Snapshot, absent, check_name
from incumbent.errors import StoreError
from incumbent.stores.api import Store

__all__ = ["command"]

_STYLES = {
    "elected": "bold green",
    "vacant": "yellow",
    "asked": "cyan",
    "dead": "bold red",
    "absent": "bold red",
    "foreign": "bold red",
    "barred": "yellow",
    "renewed": "dim",
    "changed": "dim",
    "unreachable": "bold red",
    "reachable": "bold green",
}
_ONLY_VERBOSE = ("renewed", "changed")
LOOK_EVERY_S = 5.0
RETRY_EVERY_S = 1.0


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
    things are now. A store that cannot be reached is told, and when it is back. Ctrl-C ends it.
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
    async def look() -> list[Snapshot]:
        if not names:
            return await requested(store, store.elections())
        return [await requested(store, store.read(name)) for name in dict.fromkeys(names)]

    known = await look()
    if not known:
        codes.complain("no elections in this store yet: name the one to watch for")
        return codes.NOT_SO
    out = Lines(options, max(len(snapshot.name) for snapshot in known), count)
    view = View(out, known, verbose=options.verbosity > 0)
    queue: asyncio.Queue[_Report | _Look] = asyncio.Queue()
    with suppress(TimeoutError):
        async with asyncio.timeout(for_s):
            looking = asyncio.create_task(_look_on(look, queue))
            try:
                with followed(store, view.names, lambda *report: queue.put_nowait(report)):
                    while not out.full:
                        view.take_in(await queue.get())
            finally:
                looking.cancel()
    return codes.OK


_Report = tuple[str, Snapshot | Evidence]


@dataclass(frozen=True, slots=True)
class _Look:
    """What came of reading everything, or why nothing did, and when it was asked for."""

    asked_s: float
    found: list[Snapshot] | StoreError


async def _look_on(
    look: Callable[[], Awaitable[list[Snapshot]]], queue: asyncio.Queue[_Report | _Look]
) -> None:
    """Read everything every few seconds."""
    pause_s = LOOK_EVERY_S
    while True:
        await asyncio.sleep(pause_s)
        asked_s = boottime()
        try:
            queue.put_nowait(_Look(asked_s, await look()))
            pause_s = LOOK_EVERY_S
        except StoreError as error:
            queue.put_nowait(_Look(asked_s, error))
            pause_s = RETRY_EVERY_S


class View:
    """What was seen of each election, and which of it is worth a line."""

    def __init__(self, out: Lines, known: list[Snapshot], *, verbose: bool) -> None:
        self._out = out
        self._verbose = verbose
        self._seen = {snapshot.name: snapshot for snapshot in known}
        self._told_s = dict.fromkeys(self._seen, boottime())
        self._lost_s: float | None = None
        for snapshot in known:
            out.write("now", snapshot)

    @property
    def names(self) -> list[str]:
        """The elections."""
        return list(self._seen)

    def take_in(self, news: _Report | _Look) -> None:
        """Take in what a store reported, or what came of a look."""
        if not isinstance(news, _Look):
            name, event = news
            self._told_s[name] = boottime()
            if isinstance(event, Evidence):
                if event.lease_key == self._seen[name].lease_key:
                    self._out.write("dead", self._seen[name])
            else:
                if event.holding is not Holding.ABSENT:
                    self._reached()  # Only the store can know of a record.
                self._compare(event)
        elif isinstance(news.found, StoreError):
            if self._lost_s is None:
                self._lost_s = news.asked_s
                self._out.write_about_store("unreachable", str(news.found))
        else:
            self._reached()
            for snapshot in news.found:
                if self._told_s.get(snapshot.name, news.asked_s) < news.asked_s:
                    self._compare(snapshot)

    def _reached(self) -> None:
        if self._lost_s is not None:
            text = f"the store answers again, after {boottime() - self._lost_s:.0f} s"
            self._out.write_about_store("reachable", text)
            self._lost_s = None

    def _compare(self, now: Snapshot) -> None:
        what = change(self._seen[now.name], now)
        self._seen[now.name] = now
        if what and (self._verbose or what not in _ONLY_VERBOSE):
            self._out.write(what, now)


class Lines:
    """Writes one line per change, up to `count` of them."""

    def __init__(self, options: Options, name_width: int, count: int | None) -> None:
        self._json = options.json
        self._console = None if options.json else console()
        self._name_width = max(len("election"), min(name_width, 40))
        self._started_s = boottime()
        self._left = float("inf") if count is None else count
        if self._console is not None and not options.quiet:
            head = self._row("time", "election", "event", "token", "holder")
            self._console.print(head, style="bold", soft_wrap=True)

    @property
    def full(self) -> bool:
        """Tell whether all lines that were wanted are written."""
        return self._left <= 0

    def write(self, event: str, snapshot: Snapshot) -> None:
        """Write a line about an election."""
        if self._json:
            self._write_json(event, as_json(snapshot))
            return
        held = snapshot.holding is Holding.HELD
        word = f"({snapshot.state})" if event == "now" else event
        text = snapshot.holder if held else ""
        more = _DEAD if event == "dead" else note(snapshot)
        token = "" if snapshot.token is None else str(snapshot.token)
        self._draw(event, (snapshot.name, word, token, text), more)

    def write_about_store(self, event: str, text: str) -> None:
        """Write a line about the store itself."""
        if self._json:
            nothing: dict[str, Any] = dict.fromkeys(as_json(absent("")))
            self._write_json(event, {**nothing, "why": text})
        else:
            self._draw(event, ("", event, "", ""), text)

    def _write_json(self, event: str, values: dict[str, Any]) -> None:
        if not self.full:
            self._left -= 1
            elapsed_s = boottime() - self._started_s
            write_json_line({"event": event, "elapsed_s": round(elapsed_s, 6), **values})

    def _draw(self, event: str, cells: tuple[str, str, str, str], more: str) -> None:
        from rich.text import Text

        if self._console is None or self.full:
            return
        self._left -= 1
        row = self._row(_local_time(), *cells)
        line = Text(row.rstrip() if not more else row)
        if more:
            line.append(("  " if cells[-1] else "") + more, style="dim")
        start = 12 + 2 + self._name_width + 2
        line.stylize(_STYLES.get(event, ""), start, start + len(cells[1]))
        self._console.print(line, soft_wrap=True)

    def _row(self, *cells: Any) -> str:
        time_, name, event, token, rest = cells
        return f"{time_:<12}  {name:<{self._name_width}}  {event:<11}  {token:<13}  {rest}"


_DEAD = "proof: everything that held the lease is gone"


def _local_time() -> str:
    """Return when *we* saw it, for people who compare it with their logs."""
    now_s = time.time()
    return time.strftime("%H:%M:%S", time.localtime(now_s)) + f".{int(now_s * 1000) % 1000:03}"
