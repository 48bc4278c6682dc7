"""Whether the keys of a table tell its rows apart, and whether they have begun anew.

A cursor goes on above the last key, and a claim is made by the key. So two rows of one key are
handled as one, and a row without a key is never seen. A key that is given out again, below what was
handled, is passed over: after TRUNCATE … RESTART IDENTITY, say, or in SQLite after the greatest
rows were deleted, whose keys it gives to the next ones unless the column says AUTOINCREMENT.

What can be seen of this is asked of the catalogue: when a term begins, whether there is a unique
index; and whenever nothing is above the cursor and the greatest key is not where it stands, which
key comes next. A table in whose catalogue nothing can be seen (a view, another kind of database) is
taken at its word.
"""

from __future__ import annotations

import logging
import re
from typing import NamedTuple

from incumbent.errors import ConfigError
from incumbent.fencing.progress import Database

__all__ = ["Fallen", "refuse_ambiguous"]

_SEQUENCE = re.compile(r'[\w."$]+')

_POSTGRESQL = """\
SELECT a.attnotnull, EXISTS (
    SELECT 1 FROM pg_index i
    WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
    AND a.attnum = ANY(i.indkey::int2[]) AND (i.indnkeyatts = 1 OR c.relkind = 'p')
)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.oid = to_regclass(:named) AND a.attname = :folded
"""
"""Of a partitioned table an index that is unique has the columns of the partitions in it, too."""

_MYSQL = """\
SELECT c.is_nullable = 'NO', t.table_type = 'VIEW' OR EXISTS (
    SELECT 1 FROM information_schema.statistics s
    WHERE s.table_schema = c.table_schema AND s.table_name = c.table_name AND s.non_unique = 0
    GROUP BY s.index_name HAVING count(*) = 1 AND lower(max(s.column_name)) = :folded
)
FROM information_schema.columns c
JOIN information_schema.tables t ON t.table_schema = c.table_schema AND t.table_name = c.table_name
WHERE c.table_schema = coalesce(nullif(:schema, ''), database()) AND c.table_name = :name
AND lower(c.column_name) = :folded
"""

_SQLITE = """\
SELECT c."notnull", m.type = 'view'
    OR (c.pk = 1 AND (SELECT count(*) FROM pragma_table_xinfo(m.name) p WHERE p.pk > 0) = 1)
    OR EXISTS (
        SELECT 1 FROM pragma_index_list(m.name) i
        WHERE i."unique" AND NOT i.partial
        AND (SELECT count(*) FROM pragma_index_info(i.name)) = 1
        AND (SELECT lower(name) FROM pragma_index_info(i.name)) = :folded
    )
FROM sqlite_master m, pragma_table_xinfo(m.name) c
WHERE m.type IN ('table', 'view') AND lower(m.name) = :table AND lower(c.name) = :folded
"""

_SQLITE_GIVES = """\
SELECT instr(upper(m.sql), 'AUTOINCREMENT') > 0
FROM sqlite_master m, pragma_table_xinfo(m.name) c
WHERE m.type = 'table' AND lower(m.name) = :table AND lower(c.name) = :folded
AND upper(c.type) = 'INTEGER' AND c.pk = 1 AND instr(upper(m.sql), 'WITHOUT ROWID') = 0
AND (SELECT count(*) FROM pragma_table_xinfo(m.name) p WHERE p.pk > 0) = 1
"""

logger = logging.getLogger("incumbent")


class _Column(NamedTuple):
    """A column of a table, as the catalogues are asked for it."""

    table: str
    key: str

    def values(self) -> dict[str, str]:
        schema, _, name = self.table.rpartition(".")
        return {
            "named": self.table,
            "schema": schema,
            "name": name,
            "table": name.lower(),
            "folded": self.key.rpartition(".")[2].lower(),
        }


async def refuse_ambiguous(db: Database, table: str, key: str) -> None:
    """Refuse a key by which rows cannot be told apart.

    Raises:
        ConfigError: the message says what to change.
    """
    asked = {"postgresql": _POSTGRESQL, "mysql": _MYSQL, "mariadb": _MYSQL, "sqlite": _SQLITE}
    statement = asked.get(db.dialect)
    if statement is None:
        return
    found = await db.run(statement, _Column(table, key).values())
    if not found:
        return  # No such column, which the statement that reads it says better; or an implicit one.
    full, unique = found[0]
    if not unique:
        raise ConfigError(
            f"{table}.{key} has no unique index of its own, and of rows that have one key only one "
            "would be handled: make one, or name another column as key="
        )
    if not full and await db.run(f"SELECT 1 FROM {table} WHERE {key} IS NULL LIMIT 1", {}):
        raise ConfigError(
            f"there are rows in {table} whose {key} is NULL, which would never be handled: give "
            "them one, and make the column NOT NULL"
        )


class Fallen:
    """Whether the keys of a table have begun anew, as one term sees it."""

    def __init__(self, table: str, key: str) -> None:
        self._column = _Column(table, key)
        self._warned = False

    async def check(self, db: Database, after: int | str, greatest: int | str | None) -> None:
        """Look, if nothing is above `after`, up to which all is handled.

        Raises:
            ConfigError: the next rows would be passed over.
        """
        if greatest == after:
            return
        table, key = self._column
        coming = await self._next(db, greatest) if isinstance(after, int) else None
        if coming is not None and isinstance(after, int) and coming <= after:
            raise ConfigError(
                f"the next {key} of {table} would be {coming}, and all up to {after} is handled: "
                f"rows would be passed over. Let keys go on from {after + 1} "
                f"({_REMEDIES[db.dialect]}), or begin anew under another name="
            )
        if coming is None and greatest is not None and not self._warned:
            self._warned = True
            logger.warning(
                "the greatest %s of %s is %r, and all up to %r is handled: if keys have begun "
                "anew, rows are passed over; begin anew under another name= then",
                key,
                table,
                greatest,
                after,
            )

    async def _next(self, db: Database, greatest: int | str | None) -> int | None:
        """Return the key that the next row gets; None if that cannot be known."""
        if db.dialect == "postgresql":
            return await self._of_a_sequence(db)
        if db.dialect in ("mysql", "mariadb"):
            return await self._of_a_counter(db)
        if db.dialect != "sqlite":
            return None
        found = await db.run(_SQLITE_GIVES, self._column.values())
        if not found:
            return None
        last = greatest if isinstance(greatest, int) else 0
        if found[0][0]:
            given = "SELECT seq FROM sqlite_sequence WHERE lower(name) = :table"
            last = max([last, *(seq for (seq,) in await db.run(given, self._column.values()))])
        return last + 1

    async def _of_a_counter(self, db: Database) -> int | None:
        """Ask for the statement that makes the table: the catalogue's number may be a day old."""
        _, statement, *_ = (await db.run(f"SHOW CREATE TABLE {self._column.table}", {}))[0]
        column = rf"^ *`{self._column.values()['folded']}` .* AUTO_INCREMENT"
        if not re.search(column, str(statement), re.IGNORECASE | re.MULTILINE):
            return None
        counted = re.search(r"^\).* AUTO_INCREMENT=(\d+)", str(statement), re.MULTILINE)
        return int(counted[1]) if counted else 1

    async def _of_a_sequence(self, db: Database) -> int | None:
        named = "SELECT pg_get_serial_sequence(:named, :folded)"
        ((sequence,),) = await db.run(named, self._column.values())
        if sequence is None or not _SEQUENCE.fullmatch(sequence):
            return None
        readable = "SELECT has_sequence_privilege(:named, 'SELECT')"
        if not (await db.run(readable, {"named": sequence}))[0][0]:
            return None
        ((last, called),) = await db.run(f"SELECT last_value, is_called FROM {sequence}", {})
        return int(last) + bool(called)


_REMEDIES = {
    "postgresql": "ALTER TABLE … ALTER COLUMN … RESTART WITH …",
    "mysql": "ALTER TABLE … AUTO_INCREMENT = …",
    "mariadb": "ALTER TABLE … AUTO_INCREMENT = …",
    "sqlite": "declare the column INTEGER PRIMARY KEY AUTOINCREMENT",
}
