"""Effects in a SQLite database on this host: `sqlite:///PATH`.

With asyncio its statements block the loop, for as long as they take; they are short, and there is
no other way that is not a thread. A writer holds the whole database: a transaction is begun when an
item is there, and waits for other writers.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, NoReturn

from incumbent.errors import ConfigError
from incumbent.fencing.progress import tables
from incumbent.runtime.term import Term
from incumbent.stores.api import StoreURL
from incumbent.workloads.consumer.places import DEAD

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
_COMMITS = "the consumer commits, when the handler has returned: leave commit() and rollback() out"


class _Connection(sqlite3.Connection):
    """A connection on which the handler ends no transaction."""

    def commit(self) -> NoReturn:
        """Refuse."""
        raise ConfigError(_COMMITS)

    def rollback(self) -> NoReturn:
        """Refuse."""
        raise ConfigError(_COMMITS)


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
            for statement in (*tables("sqlite"), DEAD.format(blob="BLOB")):
                connection.execute(statement)
        except BaseException:
            connection.close()
            raise
        return connection

    async def begin(self, connection: Any) -> Any:
        """Begin as a writer: one that reads first may be refused the write later."""
        connection.execute("BEGIN IMMEDIATE")

    async def whole(self, connection: Any) -> None:
        """See whether it is open; a failed statement undoes itself alone."""
        if not connection.in_transaction:
            raise ConfigError(_COMMITS)

    async def commit(self, connection: Any, begun: Any) -> None:
        """Commit."""
        connection.execute("COMMIT")

    async def commit_and_begin(self, connection: Any, begun: Any) -> None:
        """Commit; whoever begins holds up all other writers."""
        await self.commit(connection, begun)

    async def rollback(self, connection: Any, begun: Any, error: BaseException) -> None:
        """Undo."""
        if connection.in_transaction:
            connection.execute("ROLLBACK")

    async def close(self, connection: Any) -> None:
        """Close the file."""
        connection.close()

    def lost(self, error: BaseException, connection: Any) -> str:
        """Ask what the code of the error says."""
        code = getattr(error, "sqlite_errorcode", None)
        passing = isinstance(error, sqlite3.Error) and code is not None and code & 255 in _PASSING
        return str(error) if passing else ""
