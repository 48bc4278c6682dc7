"""Effects in a SQLite database on this host: `sqlite:///PATH`.

With asyncio its statements block the loop, for as long as they take; they are short, and there is
no other way that is not a thread. A writer holds the whole database: a transaction is begun when an
item is there, and waits for other writers.

SQLite asks us before it begins or ends a transaction, so a handler cannot: neither by a statement,
nor by `with db:` or a script. What SQLite ends by itself (INSERT OR ROLLBACK) leaves none open.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from incumbent.errors import ConfigError
from incumbent.fencing.progress import Database, Noted, database, tables
from incumbent.runtime.term import Term
from incumbent.stores.api import StoreURL
from incumbent.workloads.consumer.places import Ended, dead

__all__ = ["SqlitePlace"]

_WAIT_S = 5.0
_PASSING = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
}
_OURS = "/* by the consumer */"
"""Part of our own statements: sqlite3 keeps those that were prepared, by their text."""


class _Guard:
    """Is asked by SQLite what a statement may do, when it is prepared."""

    def __init__(self) -> None:
        self.refused = False
        self._ours = False

    def __call__(self, action: int, *about: object) -> int:
        if action != sqlite3.SQLITE_TRANSACTION or self._ours:
            return sqlite3.SQLITE_OK
        self.refused = True
        return sqlite3.SQLITE_DENY

    @contextmanager
    def ours(self) -> Iterator[None]:
        """Let the consumer's own statement pass."""
        self._ours = True
        try:
            yield
        finally:
            self._ours = False


class _Connection(sqlite3.Connection):
    """A connection on which the handler ends no transaction."""

    guard: _Guard


class SqlitePlace:
    """One SQLite database."""

    def __init__(self, url: str) -> None:
        parsed = StoreURL.parse(url)
        parsed.take_options()
        if parsed.host or not parsed.path:
            raise ConfigError(f"effects={url!r}: write sqlite:///PATH, with three slashes")
        self.url = url
        self.name = f"sqlite://{parsed.path}"
        self._path = Path(parsed.path)

    async def connect(self, term: Term, work: str, *, waits: bool) -> Any:
        """Open the file, and make our tables."""
        connection = sqlite3.connect(
            self._path,
            timeout=_WAIT_S,
            isolation_level=None,
            check_same_thread=False,
            factory=_Connection,
        )
        try:
            for statement in (*tables("sqlite"), dead("sqlite")):
                connection.execute(statement)
            connection.guard = _Guard()
            connection.set_authorizer(connection.guard)
        except BaseException:
            connection.close()
            raise
        return connection

    async def begin(self, connection: Any) -> Any:
        """Begin as a writer: one that reads first may be refused the write later."""
        _execute(connection, "BEGIN IMMEDIATE")

    async def hold(self, db: Database, noted: Noted, held: str) -> str:
        """There is nothing to tell: the handler can begin no other."""
        return ""

    async def whole(self, connection: Any, db: Database, held: str) -> None:
        """See whether it is open; a failed statement undoes itself alone."""
        if connection.guard.refused or not connection.in_transaction:
            raise Ended

    def refused(self, connection: Any) -> bool:
        """Ask the guard."""
        refused: bool = connection.guard.refused
        return refused

    async def commit(self, connection: Any, begun: Any, held: str) -> None:
        """Commit."""
        _execute(connection, "COMMIT")

    async def commit_and_begin(self, connection: Any, begun: Any, held: str) -> None:
        """Commit; whoever begins holds up all other writers."""
        await self.commit(connection, begun, held)

    async def rollback(self, connection: Any, begun: Any, error: BaseException) -> None:
        """Undo."""
        if connection.in_transaction:
            _execute(connection, "ROLLBACK")

    def database(self, connection: Any) -> Database:
        """Speak to it as it is."""
        return database(connection)

    async def close(self, connection: Any) -> None:
        """Close the file."""
        connection.close()

    def stood_still(self, error: BaseException) -> bool:
        """There is no such limit that is known here."""
        return False

    def written(self, text: str, connection: Any) -> str:
        """Nothing is known that could not be written."""
        return text

    def lost(self, error: BaseException, connection: Any, *, theirs: bool) -> str:
        """Ask what the code of the error says."""
        code = getattr(error, "sqlite_errorcode", None)
        passing = isinstance(error, sqlite3.Error) and code is not None and code & 255 in _PASSING
        return str(error) if passing else ""


def _execute(connection: _Connection, statement: str) -> None:
    with connection.guard.ours():
        connection.execute(f"{statement} {_OURS}")
