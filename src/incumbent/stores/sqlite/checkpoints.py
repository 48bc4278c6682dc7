"""The checkpoints of the embedded store: one table beside the elections, in the same database.

1. **Made when it is first written to**, in the transaction that writes. A database in which nobody
   keeps a checkpoint stays as it was, and so does one that is only looked at.
2. **A version is the origin of the database and a number of its one counter**, which only grows. A
   row that was deleted and written anew has another number; a database that was deleted and made
   anew has another origin. So nothing that compares an older version, however late, fits again.
3. **Synced.** What was confirmed stands on the disk: what the work did meanwhile may be known to
   other machines, and after a power cut nobody else remembers how far it had come.
4. **Nobody is woken.** No election has changed, and no row of one is touched.
5. **Several advances are one transaction**, which is synced once. Each is compared with what is
   there just before it is written. They share the number, but nobody can have asked for one over a
   number that is drawn only now: so each part is written once in it, and has a version of its own.

A row that somebody changed by hand to something else than ours is refused, and left alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from incumbent.core.records import Advance, Checkpoint
from incumbent.errors import CheckpointMoved, StoreError, StoreUnusable

__all__ = ["TableCheckpoints"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS checkpoint (
    election TEXT NOT NULL, part TEXT NOT NULL, value BLOB NOT NULL, token INTEGER NOT NULL,
    serial INTEGER NOT NULL, PRIMARY KEY (election, part)
)
"""
_KEPT = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'checkpoint'"
_SELECT = (
    "SELECT c.election, c.part, c.value, c.token, c.serial, counter.rowid "
    "FROM checkpoint AS c, counter WHERE c.election = ?"
)


class TableCheckpoints:
    """The checkpoints in one database.

    Args:
        reading: a context that is a transaction for one look.
        writing: one that is a transaction which writes and is synced, and the next number.
    """

    def __init__(
        self,
        reading: Callable[[], AbstractContextManager[sqlite3.Connection]],
        writing: Callable[[], AbstractContextManager[tuple[sqlite3.Connection, int]]],
    ) -> None:
        self._reading = reading
        self._writing = writing

    def read(self, name: str, part: str) -> Checkpoint:
        """Return one checkpoint.

        Raises:
            StoreUnusable: its row is none of ours.
        """
        with self._reading() as db:
            return _there(db, name, part)

    def listed(self, name: str) -> list[Checkpoint]:
        """Return all of an election, by part."""
        with self._reading() as db:
            if not _is_kept(db):
                return []
            rows = db.execute(f"{_SELECT} ORDER BY c.part", (name,)).fetchall()
        return [_checkpoint(row) for row in rows]

    def advance(self, over: Checkpoint, value: bytes, token: int) -> Checkpoint:
        """Write one over exactly `over`.

        Raises:
            CheckpointMoved: it is not `over` any more.
        """
        with self._writing() as (db, serial):
            return _swapped(db, serial, Advance(over, value, token))

    def advance_all(self, advances: Sequence[Advance]) -> list[Checkpoint | StoreError]:
        """Carry out several advances; return what each came to."""
        with self._writing() as (db, serial):
            return [_outcome(db, serial, one) for one in advances]


def _outcome(db: sqlite3.Connection, serial: int, one: Advance) -> Checkpoint | StoreError:
    try:
        return _swapped(db, serial, one)
    except (CheckpointMoved, StoreUnusable) as error:
        return error


def _swapped(db: sqlite3.Connection, serial: int, one: Advance) -> Checkpoint:
    over = one.over
    now = _there(db, over.name, over.part)
    if now.version != over.version:
        raise CheckpointMoved(now)
    db.execute(_SCHEMA)
    db.execute(
        "INSERT OR REPLACE INTO checkpoint VALUES (?, ?, ?, ?, ?)",
        (over.name, over.part, one.value, one.token, serial),
    )
    return _there(db, over.name, over.part)


def _there(db: sqlite3.Connection, name: str, part: str) -> Checkpoint:
    if not _is_kept(db):
        return Checkpoint(name, part)
    row = db.execute(f"{_SELECT} AND c.part = ?", (name, part)).fetchone()
    return _checkpoint(row) if row is not None else Checkpoint(name, part)


def _is_kept(db: sqlite3.Connection) -> bool:
    return bool(db.execute(_KEPT).fetchone()[0])


def _checkpoint(row: tuple[Any, ...]) -> Checkpoint:
    name, part, value, token, serial, origin = row
    if type(value) is not bytes or type(token) is not int or type(serial) is not int:
        raise StoreUnusable(
            f"the checkpoint {part!r} of {name!r} was changed by hand to something that no "
            "candidate can read: put it right, or delete its row and the work starts afresh"
        )
    return Checkpoint(name, part, value, token, (origin, serial))
