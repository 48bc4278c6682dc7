"""Effect, item and checkpoint in one transaction: a seal makes work safe, and this makes it exact.

Two tables in the user's database, beside that of `fencing.sql`:

    incumbent_progress (work, token, checkpoint, items)     one row for each work: the seal of it
    incumbent_done     (work, item, number)                 which of the last items are done

Rules
-----
1. **Everything is in the user's transaction**: the seal, the id of the item, the checkpoint, and
   the user's own writes. Either all of it is there, or nothing.
2. **The seal comes first.** Each function here begins by raising the row's token, which waits for
   whoever is in the middle of a transaction under it, and holds the row until the end of this one.
   So of two transactions of one work the second sees all that the first has done.
3. **An id is written once.** It is the primary key together with the work. It is written before the
   effect: who cannot write it, has been told that the effect is there.
4. **An unknown commit is asked about by doing it again.** After the connection was lost, the same
   item in a new transaction is either refused by its id, so it was committed; or it is not, and
   nothing of it was. By rule 2 there is no third answer: the second one waits for the first.

Growth
------
Ids are kept in a ring: of each work the last `keep` ones, by the number that the row of the work
counts. One that comes again is counted again, and moves to the front: whatever a broker delivers
over and over is known for as long as it does. What has a position (a log's offset) needs no more of
them than may be in hand at once, for the checkpoint says what was done before. What has none (a
queue) needs as many as a broker may deliver again: those that were handed out and not acknowledged.
Producers' own repetitions under one id are recognised as long as fewer than `keep` items came in
between.

Ids that a column would not keep as they are (longer than 200 characters, with blanks around them
or characters that do not print) are kept as their SHA-256.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple, Protocol

from incumbent.fencing.connections import (
    bound_dialect,
    cursor_of,
    library_of,
    mark_and_dialect,
    refuse_autocommit,
    refuse_autocommit_below,
    unknown,
    values_of,
)

__all__ = [
    "KEEP",
    "Database",
    "Noted",
    "Taking",
    "advance",
    "database",
    "done",
    "handled",
    "kept",
    "note",
    "read",
    "span",
    "tables",
]

KEEP = 10_000
"""Of how many items the ids are kept."""

handled: ContextVar[str] = ContextVar("handled", default="")
"""The work of which a handler has an item in hand, with its id noted already."""

LONGEST_ID = 200
_HASHED = "sha256:"

_TABLES = (
    """\
CREATE TABLE IF NOT EXISTS incumbent_progress (
    work VARCHAR(200){0} NOT NULL PRIMARY KEY,
    token BIGINT NOT NULL,
    checkpoint TEXT{0} NOT NULL,
    items BIGINT NOT NULL
)
""",
    """\
CREATE TABLE IF NOT EXISTS incumbent_done (
    work VARCHAR(200){0} NOT NULL,
    item VARCHAR(200){0} NOT NULL,
    number BIGINT NOT NULL,
    PRIMARY KEY (work, item),
    UNIQUE (work, number)
)
""",
)

_SEAL = """\
INSERT INTO incumbent_progress (work, token, checkpoint, items) VALUES (:work, :token, '', :step)
ON CONFLICT (work) DO UPDATE SET
    token = CASE WHEN incumbent_progress.token < excluded.token THEN excluded.token
            ELSE incumbent_progress.token END,
    items = incumbent_progress.items + :step
"""
_SEAL_MYSQL = """\
INSERT INTO incumbent_progress (work, token, checkpoint, items) VALUES (:work, :token, '', :step)
ON DUPLICATE KEY UPDATE token = GREATEST(token, VALUES(token)), items = items + :step
"""
_READ = "SELECT token, checkpoint, items FROM incumbent_progress WHERE work = :work"
_RETURNING = "RETURNING token, checkpoint, items"
_NOTE = """\
INSERT INTO incumbent_done (work, item, number) VALUES (:work, :item, :number)
ON CONFLICT (work, item) DO NOTHING
"""
_NOTE_MYSQL = """\
INSERT INTO incumbent_done (work, item, number) VALUES (:work, :item, :number)
ON DUPLICATE KEY UPDATE item = item
"""
_FOUND = "SELECT number FROM incumbent_done WHERE work = :work AND item = :item"
_NOTE_AT_ONCE = """\
WITH held AS (
    SELECT token, items FROM incumbent_progress WHERE work = :work FOR UPDATE
),
noted AS (
    INSERT INTO incumbent_done (work, item, number)
    SELECT :work, :item, items + 1 FROM held WHERE token <= :token
    ON CONFLICT (work, item) DO NOTHING
    RETURNING number
),
{taken}sealed AS (
    INSERT INTO incumbent_progress (work, token, checkpoint, items)
    SELECT :work, :token, '', 1 FROM held
    ON CONFLICT (work) DO UPDATE SET
        token = GREATEST(incumbent_progress.token, excluded.token),
        items = incumbent_progress.items + 1,
        checkpoint = CASE WHEN EXISTS (SELECT 1 FROM {first}) AND :checkpoint <> ''
                     THEN :checkpoint ELSE incumbent_progress.checkpoint END
    RETURNING token, items
)
SELECT token, items, (SELECT number FROM noted), EXISTS (SELECT 1 FROM {first}), txid_current()
FROM sealed
"""
"""All of it in one statement, for PostgreSQL.

The row is locked before the id is written: `held` waits for whoever has it, and each other part
needs what it found. The id is looked for in the index and not in the snapshot, so what was
committed meanwhile is seen. The row is written as one in conflict, and so as it is after the wait.
"""
_TAKEN = "taken AS ({taking} AND EXISTS (SELECT 1 FROM held WHERE token <= :token) RETURNING 1),\n"
_AGAIN = "UPDATE incumbent_done SET number = :number WHERE work = :work AND item = :item"
_ADVANCE = "UPDATE incumbent_progress SET checkpoint = :checkpoint WHERE work = :work"
_FORGET = "DELETE FROM incumbent_done WHERE work = :work AND number <= :number"
_SPAN = "SELECT MIN(number), MAX(number) FROM incumbent_done WHERE work = :work"

Taking = tuple[str, dict[str, Any]]

_NAME = re.compile(r"(?<!:):([a-z_]+)")
_OURS = re.compile(r"\bincumbent_(?:progress|done|dead)\b")


class Noted(NamedTuple):
    """What a transaction has found.

    Attributes:
        token: the greatest that this work has seen. If it is above ours, nothing was written.
        checkpoint: what was committed last, if that was asked; "" if nothing was.
        first: whether the item was written now, and so was not done before; and was there to be
            taken, if it had to be.
        known: whether it was done before.
        transaction: the number that PostgreSQL has given to this transaction, and to no other; ""
            elsewhere.
    """

    token: int
    checkpoint: str = ""
    first: bool = False
    known: bool = False
    transaction: str = ""


class Database(Protocol):
    """A connection of any kind, in the hands of this module.

    Attributes:
        dialect: which SQL its server speaks.
    """

    dialect: str

    async def run(self, statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Carry out a statement with `:name` for its values, and return its rows."""
        ...

    async def changed(self, statement: str, values: dict[str, Any]) -> int:
        """Carry out a statement, and return how many rows it has changed."""
        ...

    async def refuse_autocommit(self) -> None:
        """Raise if what was carried out is committed already."""
        ...


def tables(dialect: str) -> tuple[str, ...]:
    """Return the statements that make the tables; they are made by the user, or by a consumer.

    MySQL would take two ids for one that differ by case alone, so there the columns are told not
    to.
    """
    exact = " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin" if dialect in ("mysql", "mariadb") else ""
    return tuple(statement.format(exact) for statement in _TABLES)


async def read(db: Database, work: str, token: int) -> Noted:
    """Seal, and return what was committed last."""
    mysql = db.dialect in ("mysql", "mariadb")
    values = {"work": work, "token": token, "step": 0}
    if db.dialect == "postgresql":
        (found,) = await db.run(_SEAL + _RETURNING, values)
    else:
        await db.run(_SEAL_MYSQL if mysql else _SEAL, values)
        (found,) = await db.run(_READ + _locking(db), values)
    await db.refuse_autocommit()
    return Noted(int(found[0]), str(found[1]))


async def note(
    db: Database,
    work: str,
    token: int,
    item: str,
    keep: int = KEEP,
    taking: Taking | None = None,
    checkpoint: str = "",
    step: int = 0,
) -> Noted:
    """Seal, and write the id of an item.

    Args:
        db: the connection.
        work: whose item it is.
        token: of the term.
        item: its id.
        keep: of how many items the ids are kept.
        taking: a DELETE with a condition, and its values, that takes the item out of a table. It is
            carried out for a known id as well: the producer has sent that twice, and the second one
            has to go, too.
        checkpoint: written if the item is done now; "" to leave what is there.
        step: after how many items the others are forgotten; 0 for a tenth of `keep`.
    """
    values: dict[str, Any] = {"work": work, "token": token, "item": kept(item)}
    if db.dialect == "postgresql":
        values["checkpoint"] = checkpoint
        if taking is not None:
            values.update(taking[1])
        statement = _noting(taking[0] if taking else "")
        rows = await db.run(statement, values)
        if not rows:
            # There is no row to be locked: it is made, and locked by that.
            await db.run(_SEAL, {**values, "step": 0})
            rows = await db.run(statement, values)
        await db.refuse_autocommit()
        highest, number, noted, first, transaction = rows[0]
    else:
        mysql = db.dialect in ("mysql", "mariadb")
        await db.run(_SEAL_MYSQL if mysql else _SEAL, {**values, "step": 1})
        (found,) = await db.run(_READ + _locking(db), values)
        await db.refuse_autocommit()
        highest, _, number = found
        if highest > token:
            return Noted(int(highest))
        await db.run(_NOTE_MYSQL if mysql else _NOTE, {**values, "number": number})
        ((noted,),) = await db.run(_FOUND + _locking(db), values)
        taken = taking is None or await db.changed(*taking) > 0
        first, transaction = noted == number and taken, ""
        if first and checkpoint:
            await advance(db, work, checkpoint)
    known = noted != number and highest <= token
    if known:
        await db.run(_AGAIN, {**values, "number": number})
    if number % max(1, step or keep // 10) == 0:
        await db.run(_FORGET, {"work": work, "number": number - keep})
    return Noted(int(highest), "", first, known, str(transaction))


async def done(db: Database, work: str, item: str) -> bool:
    """Tell whether the id of an item is written; the transaction is sealed already."""
    return bool(await db.run(_FOUND, {"work": work, "item": kept(item)}))


async def span(db: Database, work: str) -> int:
    """Return over how many numbers the ids reach back, for who wants to keep fewer of them."""
    ((least, greatest),) = await db.run(_SPAN, {"work": work})
    return 0 if least is None else int(greatest) - int(least) + 1


async def advance(db: Database, work: str, checkpoint: str) -> None:
    """Write the checkpoint; the transaction is sealed already."""
    await db.run(_ADVANCE, {"work": work, "checkpoint": checkpoint})


def database(connection: Any, *, waits: bool = False, schema: str = "") -> Database:
    """Return what speaks to `connection`, which is one of asyncio if `waits`.

    With a `schema`, quoted as SQL wants it, our tables are those of this schema, wherever the
    session looks for others. That is for drivers alone.

    Raises:
        ConfigError: it is none that is known here.
    """
    library = library_of(connection)
    if library == "sqlalchemy":
        return _SqlAlchemy(connection, waits=waits)
    if library == "psycopg":
        return (_Waiting if waits else _Psycopg)(connection, schema)
    if waits and library != "sqlite3":
        raise unknown(connection)
    return _Driver(connection, schema)


def _locking(db: Database) -> str:
    return "" if db.dialect == "sqlite" else " FOR UPDATE"


def kept(item: str) -> str:
    """Return an id as it stands in the table."""
    plain = 0 < len(item) <= LONGEST_ID and item.isprintable() and item.strip() == item
    if plain and not item.startswith(_HASHED):
        return item
    return _HASHED + sha256(item.encode("utf-8", "surrogatepass")).hexdigest()


@lru_cache(maxsize=64)
def _noting(taking: str) -> str:
    if not taking:
        return _NOTE_AT_ONCE.format(taken="", first="noted")
    return _NOTE_AT_ONCE.format(taken=_TAKEN.format(taking=taking), first="noted, taken")


@lru_cache(maxsize=256)
def _marked(statement: str, mark: str, schema: str) -> tuple[str, tuple[str, ...]]:
    names = tuple(_NAME.findall(statement))
    text = _NAME.sub(mark, statement)
    if schema:
        before = schema.replace("%", "%%")
        text = _OURS.sub(lambda found: f"{before}.{found[0]}", text)
    return text, names


class _Driver:
    """A driver of the DB-API, which blocks."""

    def __init__(self, connection: Any, schema: str) -> None:
        self._connection = connection
        self._schema = schema
        self._cursor: Any = None
        self._mark, self.dialect = mark_and_dialect(connection)

    async def run(self, statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        cursor = self._execute(statement, values)
        return [values_of(row) for row in cursor.fetchall()] if cursor.description else []

    async def changed(self, statement: str, values: dict[str, Any]) -> int:
        return int(self._execute(statement, values).rowcount)

    def _execute(self, statement: str, values: dict[str, Any]) -> Any:
        text, names = _marked(statement, self._mark, self._schema)
        if self._cursor is None:
            self._cursor = cursor_of(self._connection)
        self._cursor.execute(text, [values[name] for name in names])
        return self._cursor

    async def refuse_autocommit(self) -> None:
        refuse_autocommit(self._connection)


class _Psycopg(_Driver):
    """psycopg, which would make an object of each column for its `description`."""

    async def run(self, statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        cursor = self._execute(statement, values)
        found: list[tuple[Any, ...]] = cursor.fetchall() if cursor.pgresult.nfields else []
        return found


class _Waiting(_Driver):
    """psycopg with asyncio."""

    async def run(self, statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        async with cursor_of(self._connection) as cursor:
            await self._carry_out(cursor, statement, values)
            return await cursor.fetchall() if cursor.pgresult.nfields else []

    async def changed(self, statement: str, values: dict[str, Any]) -> int:
        async with cursor_of(self._connection) as cursor:
            await self._carry_out(cursor, statement, values)
            return int(cursor.rowcount)

    async def _carry_out(self, cursor: Any, statement: str, values: dict[str, Any]) -> None:
        text, names = _marked(statement, self._mark, self._schema)
        await cursor.execute(text, [values[name] for name in names])


class _SqlAlchemy:
    """A Connection or Session of SQLAlchemy, or one of its asyncio."""

    def __init__(self, connection: Any, *, waits: bool) -> None:
        self._connection = connection
        self._waits = waits
        self.dialect = bound_dialect(connection)

    async def run(self, statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        result = await self._result(statement, values)
        return [tuple(row) for row in result] if result.returns_rows else []

    async def changed(self, statement: str, values: dict[str, Any]) -> int:
        return int((await self._result(statement, values)).rowcount)

    async def _result(self, statement: str, values: dict[str, Any]) -> Any:
        from sqlalchemy import text

        wanted = {name: values[name] for name in _NAME.findall(statement)}
        result = self._connection.execute(text(statement), wanted)
        return await result if self._waits else result

    async def refuse_autocommit(self) -> None:
        used = self._connection
        if not hasattr(used, "dialect"):
            used = used.connection()
            if self._waits:
                used = await used
        refuse_autocommit_below(used.sync_connection if self._waits else used)
