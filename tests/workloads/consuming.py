"""Consumers over a source in memory, in both faces, and what they have left in a database."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from incumbent.aio.consumer import Consumer as AioConsumer
from incumbent.fencing.both import settled
from incumbent.stores.memory import MemoryStore
from incumbent.sync.consumer import Consumer
from incumbent.workloads.sources.api import Item
from incumbent.workloads.sources.memory import MemorySource, Shelf
from tests.workloads.faces import LIMIT_S, Face

__all__ = ["Effects", "consumer", "until"]


def consumer(
    face: Face, source: Shelf | str, store: MemoryStore, func: Any, **settings: Any
) -> Any:
    """Return a consumer of a shelf or URL whose handler is `func`, an ordinary function."""
    positions = settings.pop("positions", False)
    kind: Any = Consumer if face.name == "sync" else AioConsumer

    def shelf() -> MemorySource:
        assert isinstance(source, Shelf)
        return MemorySource(source, positions=positions)

    made = kind(
        "orders",
        source if isinstance(source, str) else shelf,
        store=store,
        deadman=False,
        **{"backoff_s": 0, **settings},
    )
    if face.name == "sync":
        made.handler(func)
    elif "effects" in settings:

        async def with_db(item: Item, db: Any) -> None:
            await settled(func(item, db))

        made.handler(with_db)
    else:

        async def alone(item: Item) -> None:
            await settled(func(item))

        made.handler(alone)
    return made


class Effects:
    """A SQLite database with a table of effects."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite://{path}"
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("CREATE TABLE effect (item TEXT NOT NULL, token INTEGER NOT NULL)")

    def write(self, item: Item, db: Any) -> None:
        """Be a handler."""
        db.execute("INSERT INTO effect VALUES (?, ?)", (item.id, item.token))

    def rows(self, query: str = "SELECT item FROM effect ORDER BY rowid") -> list[Any]:
        """Return the first column."""
        with closing(sqlite3.connect(self.path, timeout=LIMIT_S)) as db:
            return [row[0] for row in db.execute(query)]


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until something is so."""
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline_s, f"not in time: {what}"
        time.sleep(0.002)  # sleep: what another thread or process has done can only be polled
