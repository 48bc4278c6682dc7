"""Effects in PostgreSQL, by psycopg in the face that the handler has.

Each transaction is in a block of psycopg (`connection.transaction()`): the handler's own blocks
become savepoints of it, and its `commit()` and `rollback()` are refused by psycopg. If another item
follows at once, the block stays, and the server is told to commit and to begin in one message; not
by AND CHAIN, which hands on what the handler may have set for its transaction (READ ONLY, say).
"""

from __future__ import annotations

from typing import Any

from incumbent.errors import ConfigError
from incumbent.fencing.progress import tables
from incumbent.runtime.term import Term
from incumbent.stores.api import StoreURL
from incumbent.workloads.consumer.places import DEAD, settled
from incumbent.workloads.postgresql import application, conninfo, end_earlier, gone, named

__all__ = ["PostgresPlace"]

_PART = "effects"
_THERE = """\
SELECT count(to_regclass(name)) FROM unnest(
    ARRAY['incumbent_progress', 'incumbent_done', 'incumbent_dead']) AS name
"""


class PostgresPlace:
    """One PostgreSQL database."""

    def __init__(self, url: str) -> None:
        self.url = url
        parsed = StoreURL.parse(url)
        self.name = named(parsed)
        self._conninfo = conninfo(parsed)
        self._waits = False
        self._cursor: Any = None

    async def connect(self, term: Term, work: str, *, waits: bool) -> Any:
        """Connect, have earlier sessions ended, and make the tables if they are missing."""
        import psycopg

        self._waits, self._cursor = waits, None
        name = application(work, term.token, _PART)
        kind: Any = psycopg.AsyncConnection if waits else psycopg.Connection
        connection = await settled(
            kind.connect(self._conninfo, autocommit=True, application_name=name)
        )
        try:

            async def execute(statement: str, values: Any = None) -> Any:
                return await settled(connection.execute(statement, values))

            await end_earlier(execute, term, work, _PART)
            (there,) = await settled((await execute(_THERE)).fetchone())
            if there < 3:
                await self._make(execute)
        except BaseException:
            await settled(connection.close())
            raise
        return connection

    async def _make(self, execute: Any) -> None:
        import psycopg

        statements = (*tables("postgresql"), DEAD.format(blob="BYTEA"))
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
        block = connection.transaction()
        if self._waits:
            await block.__aenter__()
        else:
            block.__enter__()
        return block

    async def whole(self, connection: Any) -> None:
        """Look at what the server said last of the transaction."""
        if int(connection.pgconn.transaction_status) != 2:
            raise RuntimeError(
                "a statement of the handler failed, and the handler did not raise: nothing of "
                "this transaction can be committed. Use a savepoint (`with db.transaction():`) "
                "around what may fail"
            )

    async def commit(self, connection: Any, begun: Any) -> None:
        """End the block."""
        await self._exit(begun, None)

    async def commit_and_begin(self, connection: Any, begun: Any) -> Any:
        """Have the server do both; if it could not commit, it does not begin either."""
        if self._cursor is None:
            self._cursor = connection.cursor()
        if self._waits:
            await self._cursor.execute("COMMIT; BEGIN")
        else:
            self._cursor.execute("COMMIT; BEGIN")
        return begun

    async def rollback(self, connection: Any, begun: Any, error: BaseException) -> None:
        """End the block with the error."""
        if begun is not None:
            await self._exit(begun, error)

    async def _exit(self, block: Any, error: BaseException | None) -> None:
        kind = type(error) if error else None
        if self._waits:
            await block.__aexit__(kind, error, None)
        else:
            block.__exit__(kind, error, None)

    async def close(self, connection: Any) -> None:
        """Disconnect."""
        await settled(connection.close())

    def lost(self, error: BaseException, connection: Any) -> str:
        """Ask what the code of the error says."""
        return gone(error, connection)
