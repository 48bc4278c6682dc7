"""Effects by a function of the user's that returns a new connection: any library that is known.

What an error says of the server is judged by its name alone, since the library may be any: an
`OperationalError` or `InterfaceError` closes the connection, and a new one has to prove that the
server is there. It counts as a failed attempt of the item, because it might be its own.

A transaction is told from the next one by its number in PostgreSQL, and elsewhere by a savepoint
that is set when it was sealed, and released when the handler has returned. Whatever ends a
transaction ends its savepoints: a COMMIT, a statement that commits by itself, a deadlock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from incumbent.errors import ConfigError
from incumbent.fencing.both import settled
from incumbent.fencing.connections import bound_dialect, library_of, mark_and_dialect
from incumbent.fencing.progress import Database, Noted, database, tables
from incumbent.runtime.face import name_of
from incumbent.runtime.term import Term
from incumbent.workloads.consumer.places import Ended, dead

__all__ = ["OwnPlace"]

_OF_THE_SERVER = {"OperationalError", "InterfaceError"}
_SAVEPOINT = "incumbent_item"
_NO_SAVEPOINT = 1305
"""Of MySQL and MariaDB: it does not exist."""


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
            for statement in (*tables(dialect), dead(dialect)):
                await db.run(statement, {})
            await settled(connection.commit())
        except BaseException:
            await settled(connection.close())
            raise
        return connection

    async def begin(self, connection: Any) -> Any:
        """Do nothing: the first statement begins a transaction, or the seal raises."""

    async def hold(self, db: Database, noted: Noted, held: str) -> str:
        """Take its number, or set a savepoint."""
        if held and noted.transaction != held and noted.transaction:
            raise Ended
        if not noted.transaction:
            await db.run(f"SAVEPOINT {_SAVEPOINT}", {})
        return noted.transaction or _SAVEPOINT

    async def whole(self, connection: Any, db: Database, held: str) -> None:
        """Ask for the number, or release the savepoint; which also sees that a statement goes."""
        if held != _SAVEPOINT:
            ((number,),) = await db.run("SELECT txid_current_if_assigned()", {})
            if str(number) != held:
                raise Ended
            return
        try:
            await db.run(f"RELEASE SAVEPOINT {_SAVEPOINT}", {})
        except Exception as error:
            if _is_no_savepoint(error):
                raise Ended from error
            raise

    def refused(self, connection: Any) -> bool:
        """Nothing can be refused on a connection of the user's."""
        return False

    async def commit(self, connection: Any, begun: Any, held: str) -> None:
        """Commit."""
        await settled(connection.commit())

    async def commit_and_begin(self, connection: Any, begun: Any, held: str) -> None:
        """Commit; the next one begins by itself."""
        await self.commit(connection, begun, held)

    async def rollback(self, connection: Any, begun: Any, error: BaseException) -> None:
        """Undo; after an error of the server's the connection is given up instead."""
        if _of_the_server(error):
            raise error
        await settled(connection.rollback())

    def database(self, connection: Any) -> Database:
        """Speak to it as it is."""
        return database(connection, waits=self._waits)

    async def close(self, connection: Any) -> None:
        """Disconnect."""
        await settled(connection.close())

    def stood_still(self, error: BaseException) -> bool:
        """There is no such limit that is known here."""
        return False

    def written(self, text: str, connection: Any) -> str:
        """Nothing is known that could not be written."""
        return text

    def lost(self, error: BaseException, connection: Any, *, theirs: bool) -> str:
        """Judge by the name of the class."""
        return str(error) if connection is None and _of_the_server(error) else ""


def _is_no_savepoint(error: Exception) -> bool:
    of_driver = getattr(error, "orig", None) or error
    code = of_driver.args[0] if of_driver.args else None
    return code == _NO_SAVEPOINT or f"no such savepoint: {_SAVEPOINT}" in str(of_driver)


def _of_the_server(error: BaseException) -> bool:
    return bool({kind.__name__ for kind in type(error).__mro__} & _OF_THE_SERVER)
