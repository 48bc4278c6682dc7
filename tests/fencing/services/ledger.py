"""The ledgers: in SQLite (`LEDGER_SQLITE`), and in PostgreSQL (`LEDGER_POSTGRESQL`)."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import psycopg

from incumbent.fencing.http import ReceivedFence

_SQLITE, _POSTGRESQL = os.environ["LEDGER_SQLITE"], os.environ["LEDGER_POSTGRESQL"]
_BOOK = "INSERT INTO entry (token) VALUES ({0})"
_BOOKED = "SELECT token FROM entry ORDER BY id"
_PATIENCE_S = 60.0


def book(database: str, fence: ReceivedFence) -> None:
    """Write under the fence."""
    if database == "postgresql":
        with psycopg.connect(_POSTGRESQL) as postgresql:
            fence.sql(postgresql)
            postgresql.execute(_BOOK.format("%s"), (fence.token,))
        return
    with closing(sqlite3.connect(_SQLITE, timeout=_PATIENCE_S)) as sqlite, sqlite:
        fence.sql(sqlite)
        sqlite.execute(_BOOK.format("?"), (fence.token,))


async def book_async(fence: ReceivedFence) -> None:
    """Write to PostgreSQL under the fence, without a thread."""
    async with await psycopg.AsyncConnection.connect(_POSTGRESQL) as connection:
        await fence.sql_async(connection)
        await connection.execute(_BOOK.format("%s"), (fence.token,))


def booked(database: str) -> list[int]:
    """Return the tokens under which was written, in the order of the writes."""
    if database == "postgresql":
        with psycopg.connect(_POSTGRESQL) as postgresql:
            return [token for (token,) in postgresql.execute(_BOOKED)]
    with closing(sqlite3.connect(_SQLITE, timeout=_PATIENCE_S)) as sqlite:
        return [token for (token,) in sqlite.execute(_BOOKED)]
