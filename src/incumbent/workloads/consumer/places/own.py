"""Effects by a function of the user's that returns a new connection: any library that is known.

What an error says of the server is judged by its name alone, since the library may be any: an
`OperationalError` or `InterfaceError` closes the connection, and a new one has to prove that the
server is there. It counts as a failed attempt of the item, because it might be its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from incumbent.errors import ConfigError
from incumbent.fencing.connections import bound_dialect, library_of, mark_and_dialect
from incumbent.fencing.progress import database, tables
from incumbent.runtime.face import name_of
from incumbent.runtime.term import Term
from incumbent.workloads.consumer.places import DEAD, settled

__all__ = ["OwnPlace"]

_OF_THE_SERVER = {"OperationalError", "InterfaceError"}
_BLOBS = {"postgresql": "BYTEA", "mysql": "LONGBLOB", "mariadb": "LONGBLOB", "sqlite": "BLOB"}


class OwnPlace:
    """What a function connects to."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        if not callable(connect):
            raise ConfigError(f"effects={connect!r}: give a URL, or a function that connects")
        self.url = ""
        self.name = f"{name_of(connect)}()"
        self._connect = connect
        self._waits = False

    async def connect(self, term: Term, work: str, *, waits: bool) -> Any:
        """Call the function, and make our tables."""
        self._waits = waits
        connection = await settled(self._connect())
        try:
            if library_of(connection) == "sqlalchemy":
                dialect = bound_dialect(connection)
            else:
                _, dialect = mark_and_dialect(connection)
            db = database(connection, waits=waits)
            for statement in (*tables(dialect), DEAD.format(blob=_BLOBS[dialect])):
                await db.run(statement, {})
            await settled(connection.commit())
        except BaseException:
            await settled(connection.close())
            raise
        return connection

    async def begin(self, connection: Any) -> Any:
        """Do nothing: the first statement begins a transaction, or the seal raises."""

    async def whole(self, connection: Any) -> None:
        """See whether a statement still goes."""
        db = database(connection, waits=self._waits)
        await db.run("SELECT 1", {})
        await db.refuse_autocommit()

    async def commit(self, connection: Any, begun: Any) -> None:
        """Commit."""
        await settled(connection.commit())

    async def commit_and_begin(self, connection: Any, begun: Any) -> None:
        """Commit; the next one begins by itself."""
        await self.commit(connection, begun)

    async def rollback(self, connection: Any, begun: Any, error: BaseException) -> None:
        """Undo; after an error of the server's the connection is given up instead."""
        if _of_the_server(error):
            raise error
        await settled(connection.rollback())

    async def close(self, connection: Any) -> None:
        """Disconnect."""
        await settled(connection.close())

    def lost(self, error: BaseException, connection: Any) -> str:
        """Judge by the name of the class."""
        return str(error) if connection is None and _of_the_server(error) else ""


def _of_the_server(error: BaseException) -> bool:
    return bool({kind.__name__ for kind in type(error).__mro__} & _OF_THE_SERVER)
