"""The reference database below stores in SQL: SQLite in memory, for their rules and the simulator.

It carries out the statements of `stores.sql` as they are. It knows no locks, and needs none: one
transaction is carried out after the other.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from incumbent.errors import StoreUnavailable
from incumbent.stores.api import Finding
from incumbent.stores.sql.api import Heard, Rows

__all__ = ["ClockedSqliteDialect", "Database", "MemoryServer", "SqliteDialect"]

_TABLES = """
CREATE TABLE incumbent_counter (name TEXT PRIMARY KEY, serial INTEGER, ttl_s REAL);
CREATE TABLE incumbent_session (id TEXT PRIMARY KEY, owner TEXT, ttl_s REAL, beat INTEGER);
CREATE TABLE incumbent_election (name TEXT PRIMARY KEY, format INTEGER, serial INTEGER,
    holder TEXT, term TEXT, token INTEGER, session TEXT, ttl_s REAL, successor TEXT,
    request_term TEXT, request_to TEXT);
"""


class SqliteDialect:
    """How SQLite writes SQL, and what makes it speak."""

    prefix = ""

    def __init__(self, *, speaks: bool) -> None:
        self._speaks = speaks

    def text(self, value: str) -> str:
        """Return a literal."""
        return "'" + value.replace("'", "''") + "'"

    def names(self, names: Sequence[str]) -> str:
        """Return the names as a table."""
        return f"({' UNION ALL '.join(f'SELECT {self.text(name)} AS name' for name in names)}) n"

    def ensure_counter(self, name: str) -> str:
        """Return an INSERT that does nothing if there is one."""
        return f"INSERT OR IGNORE INTO incumbent_counter VALUES ({self.text(name)}, 0, 0)"

    def insert_new(self, table: str, columns: Sequence[str], source: str) -> str:
        """Return an INSERT that does nothing if there is a row with that key."""
        return f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) {source}"

    def is_there(self, table: str) -> str:
        """Return a question that is answered by NULL if it is not."""
        return f"SELECT MAX(name) FROM sqlite_master WHERE name = {self.text(table)}"

    def make_checkpoints(self) -> Sequence[str]:
        """Return what makes the table of the checkpoints."""
        table = (
            "CREATE TABLE IF NOT EXISTS incumbent_checkpoint (election TEXT, part TEXT, "
            "value TEXT, token INTEGER, version TEXT, PRIMARY KEY (election, part))"
        )
        return (table,)

    def say(self, text: str, source: str) -> Sequence[str]:
        """Return what is told to all who listen, at the commit."""
        return [f"SELECT SAY({text}) FROM {source}"] if self._speaks else []


class ClockedSqliteDialect(SqliteDialect):
    """The same with times: whole microseconds of the clock of whoever made the database."""

    family = "sqlite"
    form = ""
    now = "CLOCK()"
    latest = "253370764800000000"

    def __init__(self) -> None:
        super().__init__(speaks=False)

    def after(self, ttl_s: float) -> str:
        """Return the time that is so much later."""
        return f"({self.now} + {math.ceil(ttl_s * 1e6)})"

    def seconds(self, since: str, until: str) -> str:
        """Return the time between two columns."""
        return f"(({until} - {since}) / 1e6)"

    def written(self, time: str) -> str:
        """Return a time as text."""
        return f"substr('{'0' * 20}' || {time}, -20)"


class Database:
    """A database in memory. What the last transaction said at its commit is in `said`.

    Args:
        script: makes the tables.
        clock: reads the database's clock in microseconds, for statements that ask for it.
    """

    def __init__(self, script: str = _TABLES, clock: Callable[[], int] | None = None) -> None:
        self.said: list[str] = []
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        self._connection.create_function("SAY", 1, self.said.append)
        self._connection.create_function("GREATEST", -1, max)
        if clock is not None:
            self._connection.create_function("CLOCK", 0, clock)
        self._connection.executescript(script)

    def carry_out(self, statements: Sequence[str]) -> list[Rows]:
        """Carry out a transaction."""
        self.said.clear()
        self._connection.execute("BEGIN")
        try:
            done = [self.look(statement) for statement in statements]
        except sqlite3.Error as error:
            self._connection.execute("ROLLBACK")
            self.said.clear()
            raise StoreUnavailable(str(error)) from error
        self._connection.execute("COMMIT")
        return done

    def look(self, statement: str, *values: Any) -> Rows:
        """Carry out one statement."""
        return self._connection.execute(statement.removesuffix(" FOR UPDATE"), values).fetchall()

    def elections(self) -> dict[str, tuple[str, str]]:
        """Return the term of each election, and the session under which it is held."""
        found = self.look("SELECT name, term, session FROM incumbent_election")
        return {name: (term, session) for name, term, session in found}

    def dump(self) -> bytes:
        """Return everything."""
        return self._connection.serialize()

    def load(self, everything: bytes) -> None:
        """Go back."""
        self._connection.deserialize(everything)

    def close(self) -> None:
        """Forget it."""
        self._connection.close()


class MemoryServer:
    """A `stores.sql.api.Server` for the stores of one process, which answers at once."""

    listens = True

    def __init__(self, database: Database, listeners: list[Heard]) -> None:
        self.dialect = SqliteDialect(speaks=True)
        self._database = database
        self._listeners = listeners

    async def open(self, *, create: bool) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    async def connect(self) -> None:
        """Do nothing."""

    async def look(self, statements: Sequence[str], *, urgent: bool = False) -> list[Rows]:
        """Return what each of some SELECTs finds."""
        return self._database.carry_out(statements)

    async def write(
        self, statements: Sequence[str], limit_s: float, *, urgent: bool = False
    ) -> list[Rows]:
        """Carry out a transaction."""
        done = self._database.carry_out(statements)
        for text in tuple(self._database.said):
            for heard in self._listeners:
                heard(text)
        return done

    def listen(self, heard: Heard) -> None:
        """Begin to report what others say."""
        self._listeners.append(heard)
        heard("")

    async def examine(self) -> list[Finding]:
        """Find nothing."""
        return []
