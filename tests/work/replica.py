"""One replica: the program that does the work, whatever its kind.

    python -m tests.work.replica KIND SOURCE NAME [--raw] [--planted MISTAKE]

The store and the TTL come from the environment (INCUMBENT_STORE, INCUMBENT_TTL), and so do the
places of the source and of the effects (WORK_SOURCE, WORK_EFFECTS).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

import incumbent
from incumbent import aio
from incumbent.aio.consumer import Consumer as AioConsumer
from incumbent.errors import StoreUnavailable
from incumbent.sync.consumer import Consumer
from incumbent.workloads.sources import Item
from tests.faults.worker import say
from tests.work import CUT_OFF, raw
from tests.work.effects import INSERT, QUEUE

WORK = "work"
AT_ONCE = 20
EMPTY_S = 0.02
_NEXT = f"SELECT id, body FROM {QUEUE} WHERE id > %s ORDER BY id LIMIT %s"
EXACT: dict[str, Any] = {
    "missed": "all",
    "missed_limit": 10_000,
    "on_overrun": "all",
    "on_interrupted": "rerun",
    "reruns": 1000,
    "retries": 1000,
    "backoff_s": 0.05,
}
"""Each tick once, however long it takes."""

FILES: dict[str, Any] = {"every": EMPTY_S, "settle": 0.1, "retries": 1000, "backoff": 0.05}


class Database:
    """The connection to the effects, made anew when it is broken."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._open: psycopg.Connection[Any] | None = None

    def __call__(self) -> psycopg.Connection[Any]:
        if self._open is None or self._open.closed:
            self._open = psycopg.connect(self._url, autocommit=True)
        return self._open


class AsyncDatabase:
    """The same, for asyncio."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._open: psycopg.AsyncConnection[Any] | None = None

    async def __call__(self) -> psycopg.AsyncConnection[Any]:
        if self._open is None or self._open.closed:
            self._open = await psycopg.AsyncConnection.connect(self._url, autocommit=True)
        return self._open


def _tick_row(tick: incumbent.Tick, replica: str) -> tuple[object, ...]:
    at_ms = round(tick.due.timestamp() * 1000)
    return "ticks", at_ms, str(at_ms), tick.token, replica


class Ticking:
    """What a periodic task does: one row for each tick, known by the tick's own id."""

    def __init__(self, database: Database, replica: str) -> None:
        self._database, self._replica = database, replica

    def __call__(self, tick: incumbent.Tick) -> None:
        db = self._database()
        with db.transaction():
            if tick.term.fence(WORK).once(db, tick.id):
                db.execute(INSERT, _tick_row(tick, self._replica))


class AsyncTicking:
    """The same, for asyncio."""

    def __init__(self, database: AsyncDatabase, replica: str) -> None:
        self._database, self._replica = database, replica

    async def __call__(self, tick: incumbent.Tick) -> None:
        db = await self._database()
        async with db.transaction():
            if await tick.term.fence(WORK).once_async(db, tick.id):
                await db.execute(INSERT, _tick_row(tick, self._replica))


class Looking:
    """What a poller does that goes by a cursor of its own, which is its checkpoint.

    The checkpoint is saved after the effects, and may be lost: so each effect is known by its item.
    """

    def __init__(self, database: Database, replica: str) -> None:
        self._database, self._replica = database, replica

    def __call__(self, poll: incumbent.Poll) -> bool:
        db = self._database()
        after = -1 if poll.value is None else poll.value
        found = db.execute(_NEXT, (after, AT_ONCE)).fetchall()
        for position, body in found:
            said = json.loads(body)
            with db.transaction():
                if poll.term.fence(WORK).once(db, said["item"]):
                    db.execute(INSERT, _row(said, poll.token, self._replica))
            after = position
        if found:
            poll.save(after)
        return bool(found)


class AsyncLooking:
    """The same, for asyncio."""

    def __init__(self, database: AsyncDatabase, replica: str) -> None:
        self._database, self._replica = database, replica

    async def __call__(self, poll: aio.Poll) -> bool:
        db = await self._database()
        after = -1 if poll.value is None else poll.value
        found = await (await db.execute(_NEXT, (after, AT_ONCE))).fetchall()
        for position, body in found:
            said = json.loads(body)
            async with db.transaction():
                if await poll.term.fence(WORK).once_async(db, said["item"]):
                    await db.execute(INSERT, _row(said, poll.token, self._replica))
            after = position
        if found:
            await poll.save(after)
        return bool(found)


class Reading:
    """What is done with a file. It may come again, so its effect is known by its item."""

    def __init__(self, database: Database, replica: str) -> None:
        self._database, self._replica = database, replica

    def __call__(self, file: incumbent.File) -> None:
        said = json.loads(Path(file).read_bytes())
        db = self._database()
        with db.transaction():
            if file.term.fence(WORK).once(db, said["item"]):
                db.execute(INSERT, _row(said, file.token, self._replica))


class AsyncReading:
    """The same, for asyncio."""

    def __init__(self, database: AsyncDatabase, replica: str) -> None:
        self._database, self._replica = database, replica

    async def __call__(self, file: incumbent.File) -> None:
        said = json.loads(await asyncio.to_thread(Path(file).read_bytes))
        db = await self._database()
        async with db.transaction():
            if await file.term.fence(WORK).once_async(db, said["item"]):
                await db.execute(INSERT, _row(said, file.token, self._replica))


class Poisoned(ValueError):
    """Of this item no handler can make anything."""


def _row(said: dict[str, Any], token: int | None, replica: str) -> tuple[object, ...]:
    if said["poison"]:
        raise Poisoned(said["item"])
    return said["lane"], said["position"], said["item"], token, replica


def _consumer(options: argparse.Namespace, effects: str) -> None:
    """Consume: the effect's row is all that there is to do in either face."""
    settings: dict[str, Any] = {
        "source": os.environ["WORK_SOURCE"],
        "effects": effects,
        "retries": 1,
        "backoff_s": 0.05,
        **_common(options),
    }
    if options.aio:
        waiting = AioConsumer(WORK, **settings)

        @waiting.handler
        async def handle_async(item: Item, db: psycopg.AsyncConnection[Any]) -> None:
            await db.execute(INSERT, _row(item.json(), item.token, options.name))

        asyncio.run(waiting.run())
        return
    consumer = Consumer(WORK, **settings)

    @consumer.handler
    def handle(item: Item, db: psycopg.Connection[Any]) -> None:
        db.execute(INSERT, _row(item.json(), item.token, options.name))

    consumer.run()


def _common(options: argparse.Namespace) -> dict[str, Any]:
    return {"observer": say, "deadman": not options.no_deadman}


def _periodic(options: argparse.Namespace, effects: str) -> None:
    settings = {**EXACT, **_common(options)}
    face: Any = aio if options.aio else incumbent
    if options.source == "cron":
        decide = face.cron("* * * * * *", tz="Europe/Vienna", name=WORK, **settings)
    else:
        decide = face.every(f"{options.every_ms}ms", name=WORK, **settings)
    if options.aio:
        asyncio.run(decide(AsyncTicking(AsyncDatabase(effects), options.name)).run())
    else:
        decide(Ticking(Database(effects), options.name)).run()


def _files(options: argparse.Namespace, effects: str) -> None:
    settings = {**FILES, **_common(options)}
    folder = os.environ["WORK_SOURCE"]
    if options.aio:
        waiting = AsyncReading(AsyncDatabase(effects), options.name)
        asyncio.run(aio.Directory(folder, waiting, name=WORK, **settings).run())
    else:
        func = Reading(Database(effects), options.name)
        incumbent.Directory(folder, func, name=WORK, **settings).run()


def _rows(options: argparse.Namespace, effects: str) -> None:
    settings: dict[str, Any] = {
        "name": WORK,
        "table": QUEUE,
        "columns": ["body"],
        "every": EMPTY_S,
        **_common(options),
    }
    if options.aio:

        async def handle_async(row: incumbent.Row, db: psycopg.AsyncConnection[Any]) -> None:
            await db.execute(INSERT, _row(json.loads(row["body"]), row.token, options.name))

        asyncio.run(aio.Rows(effects, handle_async, **settings).run())
        return

    def handle(row: incumbent.Row, db: psycopg.Connection[Any]) -> None:
        db.execute(INSERT, _row(json.loads(row["body"]), row.token, options.name))

    incumbent.Rows(effects, handle, **settings).run()


def _poller(options: argparse.Namespace, effects: str) -> None:
    if options.source == "directory":
        _files(options, effects)
        return
    if options.source == "rows":
        _rows(options, effects)
        return
    common = _common(options)
    if options.aio:
        waiting = AsyncLooking(AsyncDatabase(effects), options.name)
        asyncio.run(aio.Poller(WORK, waiting, every=EMPTY_S, **common).run())
    else:
        func = Looking(Database(effects), options.name)
        incumbent.Poller(WORK, func, every=EMPTY_S, **common).run()


def _raw(options: argparse.Namespace, effects: str) -> None:
    work = raw.consume(effects, options.name, options.planted)
    # What has a mistake planted is to have the time to make it.
    deadman = options.planted != "unsealed" and not options.no_deadman
    incumbent.Election(WORK, observer=say).lead(work, deadman=deadman)


_KINDS: dict[str, Callable[[argparse.Namespace, str], None]] = {
    "consumer": _consumer,
    "periodic": _periodic,
    "poller": _poller,
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.work.replica", description=__doc__)
    parser.add_argument("kind")
    parser.add_argument("source")
    parser.add_argument("name")
    parser.add_argument("--every-ms", type=int, default=500)
    parser.add_argument("--aio", action="store_true", help="the face for asyncio")
    parser.add_argument("--no-deadman", action="store_true")
    parser.add_argument("--raw", action="store_true")
    parser.add_argument("--planted", default="")
    options = parser.parse_args(arguments)
    play = _raw if options.raw else _KINDS[options.kind]
    try:
        play(options, os.environ["WORK_EFFECTS"])
    except (StoreUnavailable, psycopg.OperationalError):
        traceback.print_exc()
        sys.exit(CUT_OFF)


if __name__ == "__main__":
    main()
