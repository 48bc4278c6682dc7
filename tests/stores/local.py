"""The stores on one host's disk, for tests that concern all of them."""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import json
import os
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from incumbent import Election
from incumbent.core.events import Evidence, Seen
from incumbent.core.records import Snapshot
from incumbent.stores.file import FileStore
from incumbent.stores.local.store import LocalStore
from incumbent.stores.sqlite import SqliteStore
from tests.faces.programs import LIMIT_S, until

__all__ = [
    "HOLD",
    "PLACES",
    "TTL_S",
    "FileHarness",
    "LocalHarness",
    "Sights",
    "SqliteHarness",
    "change_file",
    "election",
    "last_is",
    "meanwhile",
    "run",
    "tamper",
]

TTL_S = 20.0
"""So long that whoever is elected in time was not elected because it ran out."""

HOLD = """
    ttl_s = float(sys.argv[2])
    election = Election("e", store=sys.argv[1], ttl_s=ttl_s, observer=lambda s: say(s.event))
    with election.hold() as term:
        {body}
        say("holds", term.token)
        hear()
"""


class LocalHarness:
    """A store in a folder, and hands that reach into it."""

    ttl_s = 5.0
    kind = ""
    file = ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / self.file
        self.url = f"{self.kind}://{self.path}"
        self._numbers = itertools.count(1)
        self._stores: list[LocalStore[Any]] = []

    def new(self) -> LocalStore[Any]:
        """Return a store that is not open."""
        raise NotImplementedError

    def delete_now(self, name: str) -> None:
        """Delete a record behind everybody's back."""
        raise NotImplementedError

    def scribble_now(self, name: str) -> None:
        """Write over a record what nobody understands."""
        raise NotImplementedError

    def disturb_now(self, name: str) -> None:
        """Change in a record what is not the store's business."""
        raise NotImplementedError

    def locks(self) -> Path:
        """Return the folder of the lock files."""
        raise NotImplementedError

    def busy(self) -> AbstractContextManager[None]:
        """Keep everybody from writing."""
        raise NotImplementedError

    def name(self) -> str:
        return f"election-{next(self._numbers)}"

    async def store(self, *, create: bool = True) -> LocalStore[Any]:
        store = self.new()
        self._stores.append(store)
        await store.open(create=create)
        return store

    async def delete(self, name: str) -> bool:
        self.delete_now(name)
        return True

    async def scribble(self, name: str) -> bool:
        self.scribble_now(name)
        return True

    async def disturb(self, name: str) -> bool:
        self.disturb_now(name)
        return True

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


class SqliteHarness(LocalHarness):
    kind = "sqlite"
    file = "incumbent.db"

    def new(self) -> SqliteStore:
        return SqliteStore(self.path)

    def delete_now(self, name: str) -> None:
        tamper(self.path, "DELETE FROM election WHERE name = ?", name)

    def scribble_now(self, name: str) -> None:
        change = "UPDATE election SET format = 999, serial = (SELECT serial FROM counter) "
        tamper(self.path, change + "WHERE name = ?", name)

    def disturb_now(self, name: str) -> None:
        change = "UPDATE election SET serial = (SELECT serial FROM counter) WHERE name = ?"
        tamper(self.path, change, name)

    def locks(self) -> Path:
        return Path(f"{self.path}-locks")

    @contextmanager
    def busy(self) -> Iterator[None]:
        db = sqlite3.connect(self.path, isolation_level=None)
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            db.execute("COMMIT")
            db.close()


class FileHarness(LocalHarness):
    kind = "file"
    file = "elections.d"

    def new(self) -> FileStore:
        return FileStore(self.path)

    def record(self, name: str) -> Path:
        """Return the file of a record."""
        return self.path / "elections" / f"{name}.json"

    def session(self, key: str) -> Path:
        """Return the file of a session."""
        return self.path / "sessions" / f"{key}.json"

    def delete_now(self, name: str) -> None:
        self.record(name).unlink()

    def scribble_now(self, name: str) -> None:
        self.record(name).write_text('{"format": 999}\n')

    def disturb_now(self, name: str) -> None:
        change_file(self.record(name), note=next(self._numbers))

    def locks(self) -> Path:
        return self.path / "sessions"

    @contextmanager
    def busy(self) -> Iterator[None]:
        fd = os.open(self.path / "elections", os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            os.close(fd)


PLACES = {place.kind: place for place in (SqliteHarness, FileHarness)}


def tamper(path: Path, statement: str, *values: object) -> None:
    """Change the database behind everybody's back, and ring."""
    with sqlite3.connect(path, isolation_level=None) as db:
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE counter SET serial = serial + 1")
        db.execute(statement, values)
        db.execute("COMMIT")
    db.close()
    Path(f"{path}-bell").write_bytes(b"!")


def change_file(path: Path, **members: object) -> None:
    """Change members of a JSON file, as an editor does that writes beside and renames."""
    beside = path.with_name(f".{path.name}.swp")
    beside.write_text(json.dumps({**json.loads(path.read_text()), **members}))
    beside.rename(path)


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(LIMIT_S):
            await main()

    asyncio.run(limited())


async def meanwhile(holds: Callable[[], bool]) -> None:
    """Let the store's loop go on until something is so."""
    await asyncio.to_thread(until, holds, "what the store has to report")


def election(url: str, ttl_s: float = TTL_S, **more: object) -> Election:
    return Election("e", store=url, ttl_s=ttl_s, **more)  # type: ignore[arg-type]


class Sights:
    """Collects what is reported of one election."""

    def __init__(self) -> None:
        self.seen: list[Snapshot] = []
        self.evidence: list[Evidence] = []

    def __call__(self, event: Seen | Evidence) -> None:
        if isinstance(event, Seen):
            self.seen.append(event.snapshot)
        else:
            self.evidence.append(event)


def last_is(seen: list[Snapshot], term: str) -> bool:
    return bool(seen) and seen[-1].term == term
