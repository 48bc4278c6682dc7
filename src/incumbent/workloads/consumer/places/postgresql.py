"""Effects in PostgreSQL, by psycopg in the face that the handler has.

Each transaction is in a block of psycopg (`connection.transaction()`): the handler's own blocks
become savepoints of it, and its `commit()` and `rollback()` are refused by psycopg. If another item
follows at once, the block stays, and the server is told to commit and to begin in one message; not
by AND CHAIN, which hands on what the handler may have set for its transaction (READ ONLY, say).

What psycopg does not refuse is the statement COMMIT. So the message that commits begins with what
fails in any other transaction: it releases the savepoint that was set when this one was begun. That
is the cheapest for the server, but for a second number of a transaction. Where none was set, since
it would have been a message of its own, the number is compared that the seal has told.

From the first block on the connection begins transactions by itself, which nobody commits: what
uses the handler's `db` when its item is over has no effect, and is found at the next block.

Our own tables are named with their schema, for a handler may set another search path.
"""

from __future__ import annotations

from typing import Any

from incumbent.errors import ConfigError
from incumbent.fencing.progress import Database, Noted, database, tables
from incumbent.runtime.term import Term
from incumbent.stores.api import StoreURL
from incumbent.workloads.consumer.places import Ended, dead, settled
from incumbent.workloads.postgresql import application, conninfo, end_earlier, gone, named

__all__ = ["PostgresPlace"]

_PART = "effects"
_THERE = """\
SELECT quote_ident(nspname) FROM pg_class JOIN pg_namespace AS found ON found.oid = relnamespace
WHERE pg_class.oid IN (to_regclass('incumbent_progress'), to_regclass('incumbent_done'),
                       to_regclass('incumbent_dead'))
"""
_SAVEPOINT = "incumbent_item"
_NO_SAVEPOINT = "3B001"
_IDLE, _OPEN = 0, 2
_ANOTHER = "incumbent: this is another transaction"
_SAME = (
    "SELECT CAST(CASE WHEN txid_current_if_assigned() = {} THEN '1' "
    f"ELSE '{_ANOTHER}' END AS integer)"
)


class PostgresPlace:
    """One PostgreSQL database."""

    def __init__(self, url: str) -> None:
        self.url = url
        parsed = StoreURL.parse(url)
        self.name = named(parsed)
        self._conninfo = conninfo(parsed)
        self._waits = False
        self._cursor: Any = None
        self._saved = False
        self._schema = ""

    async def connect(self, term: Term, work: str, *, waits: bool) -> Any:
        """Connect, have earlier sessions ended, and make the tables if they are missing."""
        import psycopg

        self._waits, self._cursor, self._saved = waits, None, False
        name = application(work, term.token, _PART)
        kind: Any = psycopg.AsyncConnection if waits else psycopg.Connection
        connection = await settled(
            kind.connect(self._conninfo, autocommit=True, application_name=name)
        )
        try:

            async def execute(statement: str, values: Any = None) -> Any:
                return await settled(connection.execute(statement, values))

            await end_earlier(execute, term, work, _PART)
            found = await settled((await execute(_THERE)).fetchall())
            if len(found) < 3:
                await self._make(execute)
                found = await settled((await execute(_THERE)).fetchall())
            schemas = {schema for (schema,) in found}
            self._schema = schemas.pop() if len(schemas) == 1 else ""
        except BaseException:
            await settled(connection.close())
            raise
        return connection

    async def _make(self, execute: Any) -> None:
        import psycopg

        statements = (*tables("postgresql"), dead("postgresql"))
        try:
            for statement in statements:
                await execute(statement)
        except psycopg.errors.InsufficientPrivilege as error:
            raise ConfigError(
                f"{self.name} has not all tables that a consumer needs, and we may not make them "
                f"({error}). Have them made:\n{''.join(statements)}"
            ) from None

    async def begin(self, connection: Any) -> Any:
        """Begin a block."""
        if not connection.closed and int(connection.pgconn.transaction_status) != _IDLE:
            raise ConfigError(
                "a handler's db was used when its item was over; what that did is undone. Use it "
                "in the handler only, and a connection of your own elsewhere"
            )
        if connection.autocommit:
            if self._waits:
                await connection.set_autocommit(False)
            else:
                connection.autocommit = False
        block = connection.transaction()
        if self._waits:
            await block.__aenter__()
        else:
            block.__enter__()
        return block

    async def hold(self, db: Database, noted: Noted, held: str) -> str:
        """Take its number."""
        if held and held != noted.transaction:
            raise Ended
        return noted.transaction

    async def whole(self, connection: Any, db: Database, held: str) -> None:
        """Look at what the server said last of the transaction; which one it is, `commit` asks."""
        status = int(connection.pgconn.transaction_status)
        if status == _IDLE:
            raise Ended
        if connection.closed:
            raise RuntimeError("the connection was closed, by the handler or by the server")
        if status != _OPEN:
            raise RuntimeError(
                "a statement of the handler failed, and the handler did not raise: nothing of "
                "this transaction can be committed. Use a savepoint (`with db.transaction():`) "
                "around what may fail"
            )

    def refused(self, connection: Any) -> bool:
        """What psycopg refuses, it says."""
        return False

    async def commit(self, connection: Any, begun: Any, held: str) -> None:
        """See which one it is, and end the block."""
        if held:
            await self._send(connection, self._same(held))
        await self._exit(begun, None)

    async def commit_and_begin(self, connection: Any, begun: Any, held: str) -> Any:
        """Have the server do it all; what comes after something that failed, it does not do."""
        before = f"{self._same(held)}; " if held else ""
        await self._send(connection, f"{before}COMMIT; BEGIN; SAVEPOINT {_SAVEPOINT}")
        self._saved = True
        return begun

    def _same(self, held: str) -> str:
        """Return the statement that fails in any other transaction."""
        return f"RELEASE {_SAVEPOINT}" if self._saved else _SAME.format(held)

    async def _send(self, connection: Any, text: str) -> None:
        if self._cursor is None:
            self._cursor = connection.cursor()
        try:
            sent = self._cursor.execute(text, prepare=False)
            if self._waits:
                await sent
        except Exception as error:
            code = getattr(error, "sqlstate", None)
            if _ANOTHER in str(error) or (code == _NO_SAVEPOINT and _SAVEPOINT in str(error)):
                raise Ended from error
            raise

    async def rollback(self, connection: Any, begun: Any, error: BaseException) -> None:
        """End the block with the error."""
        if connection.closed:
            raise error
        if begun is not None:
            await self._exit(begun, error)

    async def _exit(self, block: Any, error: BaseException | None) -> None:
        kind = type(error) if error else None
        self._saved = False
        if self._waits:
            await block.__aexit__(kind, error, None)
        else:
            block.__exit__(kind, error, None)

    def database(self, connection: Any) -> Database:
        """Speak to our own tables."""
        return database(connection, waits=self._waits, schema=self._schema)

    async def close(self, connection: Any) -> None:
        """Disconnect."""
        await settled(connection.close())

    def lost(self, error: BaseException, connection: Any) -> str:
        """Ask what the code of the error says."""
        return gone(error, connection)
