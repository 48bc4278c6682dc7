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
from incumbent.fencing.both import settled
from incumbent.fencing.progress import Database, Noted, database, tables
from incumbent.runtime.term import Term
from incumbent.stores.api import StoreURL
from incumbent.workloads.consumer.places import Ended, dead
from incumbent.workloads.postgresql import (
    STOOD_STILL,
    application,
    conninfo,
    end_earlier,
    gone,
    named,
    settle_session,
)

__all__ = ["PostgresPlace"]

_PART = "effects"
_THERE = """\
SELECT quote_ident(nspname) FROM pg_class JOIN pg_namespace AS found ON found.oid = relnamespace
WHERE pg_class.oid IN (to_regclass('incumbent_progress'), to_regclass('incumbent_done'),
                       to_regclass('incumbent_dead'))
"""
_SAVEPOINT = "incumbent_item"
_NO_SAVEPOINT = "3B001"
_RELEASE = f"RELEASE {_SAVEPOINT}".encode()
_NEXT = f"COMMIT; BEGIN; SAVEPOINT {_SAVEPOINT}".encode()
_IDLE, _ACTIVE, _OPEN, _BROKEN = 0, 1, 2, 3
_FAILED = 7
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
        self._saved = False
        self._execute: Any = None
        self._schema = ""

    async def connect(self, term: Term, work: str, *, waits: bool) -> Any:
        """Connect, have earlier sessions ended, and make the tables if they are missing."""
        import psycopg
        from psycopg.generators import execute as execute_sent

        self._waits, self._saved, self._execute = waits, False, execute_sent
        name = application(work, term.token, _PART)
        kind: Any = psycopg.AsyncConnection if waits else psycopg.Connection
        connection = await settled(
            kind.connect(self._conninfo, autocommit=True, application_name=name)
        )
        try:

            async def execute(statement: str, values: Any = None) -> Any:
                return await settled(connection.execute(statement, values))

            await settle_session(connection)
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
        if connection.closed:
            raise RuntimeError("the connection was closed, by the handler or by the server")
        if connection.pgconn.pipeline_status:
            raise RuntimeError("the handler has left a pipeline open: use `with db.pipeline():`")
        if status == _IDLE:
            raise Ended
        if status == _ACTIVE:
            raise RuntimeError(
                "the handler has left a statement before its end: read all rows, or close the "
                "cursor, the stream or the COPY"
            )
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
        before = self._same(held) + b"; " if held else b""
        await self._send(connection, before + _NEXT)
        self._saved = True
        return begun

    def _same(self, held: str) -> bytes:
        """Return the statement that fails in any other transaction."""
        return _RELEASE if self._saved else _SAME.format(held).encode()

    async def _send(self, connection: Any, text: bytes) -> None:
        """Have statements carried out without a cursor, whose work costs more than theirs.

        It is what psycopg does for its own COMMIT.
        """
        execute = self._execute(connection.pgconn)
        if self._waits:
            async with connection.lock:
                connection.pgconn.send_query(text)
                last = (await connection.wait(execute))[-1]
        else:
            with connection.lock:
                connection.pgconn.send_query(text)
                last = connection.wait(execute)[-1]
        if last.status == _FAILED:
            self._raise(last, connection)

    def _raise(self, result: Any, connection: Any) -> None:
        from psycopg import errors

        error = errors.error_from_result(result, connection.info.encoding)
        said = str(error)
        if _ANOTHER in said or (error.sqlstate == _NO_SAVEPOINT and _SAVEPOINT in said):
            raise Ended from error
        raise error

    async def rollback(self, connection: Any, begun: Any, error: BaseException) -> None:
        """End the block with the error, if the session is one that can be gone on with."""
        status = int(connection.pgconn.transaction_status)
        if connection.pgconn.pipeline_status or status not in (_IDLE, _OPEN, _BROKEN):
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

    def lost(self, error: BaseException, connection: Any, *, theirs: bool) -> str:
        """Ask what the code of the error says."""
        return gone(error, connection, theirs=theirs)

    def stood_still(self, error: BaseException) -> bool:
        """Ask what the code of the error says."""
        return getattr(error, "sqlstate", None) == STOOD_STILL

    def written(self, text: str, connection: Any) -> str:
        """Say in escapes what the encoding of the session does not have."""
        encoding: str = connection.info.encoding
        return text.encode(encoding, "backslashreplace").decode(encoding)
