"""Rows of a table, handled one after the other, each in one transaction with what comes of it.

It is a consumer (`incumbent.workloads.consumer`) whose source is a table in the very database of
the effects: rows are read on a connection of its own, and handled on another one in transactions
that are sealed with the token. What has to be done when a connection, a commit or a term is lost is
the consumer's affair. Two ways to know what is new:

- **by a cursor**: rows with a key above the last one that was handled. How far that is, is
  committed with the effect. Which rows may still appear below is the question of `horizon`;
- **by a claim** (`done=`): rows for which `where` holds. That it holds no more is set in the
  transaction of the effect, or of the dead letter, so others may work on the same table: rows that
  they have locked are passed over when looking (SKIP LOCKED, where there is such a thing), and a
  row that was done by somebody else meanwhile is not handled.

With a cursor a row is known by its key. With a claim it is known by the state that it is in, so one
that is set back by an operator is handled again: each time that it is found it gets a new id.
"""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from inspect import isawaitable
from itertools import count
from typing import Any

from incumbent.errors import ConfigError, IncumbentError, SourceUnavailable
from incumbent.fencing.both import settled, through
from incumbent.fencing.progress import Database, database
from incumbent.runtime.face import Misuse, refuse_coroutine
from incumbent.runtime.flag import Flag
from incumbent.runtime.term import Term
from incumbent.workloads.consumer.hand import Taker
from incumbent.workloads.consumer.places import Place, open_place
from incumbent.workloads.polling.calling import check_kind
from incumbent.workloads.polling.horizon import Horizon, horizon_of
from incumbent.workloads.polling.keys import Fallen, refuse_ambiguous
from incumbent.workloads.polling.pace import Pace
from incumbent.workloads.sources.api import Item, Opening

__all__ = ["Handler", "Row", "RowSource", "Table"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}(\.[A-Za-z_][A-Za-z0-9_]{0,62})?")
_PASSING = {1205, 1213, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
"""What MySQL and SQLite say when something stayed locked for too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Which rows are handled.

    Attributes:
        table: its name.
        key: the column that they are in the order of: unique, and a number or text; "id" if "".
        columns: what is read of each row, beside the key.
        where: a condition on them; with a cursor, the key has to be named, too.
        done: with claims: what is set when a row is done, as in "state = 'done'"; or "DELETE".
        start: with a cursor: after which key to begin the first time; None for the first row.
        settle_s: see `horizon`.
        pace: how long to wait when there is nothing.
    """

    table: str
    key: str = ""
    columns: Sequence[str] = ()
    where: str = ""
    done: str = ""
    start: int | str | None = None
    settle_s: float | None = None
    pace: Pace = field(default_factory=lambda: Pace(1.0))

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigError: the message says what to change.
        """
        cursor = bool(self.key)
        object.__setattr__(self, "key", self.key or "id")
        if isinstance(self.columns, str):
            raise ConfigError(f"columns={self.columns!r} must be a list of names")
        for name in (self.table, self.key, *self.columns):
            if not _NAME.fullmatch(name):
                raise ConfigError(f"{name!r} is no name of a table or column; make a view, or none")
        for text in (self.where, self.done):
            if re.search(r"[%;]|(?<!:):[a-z_]", text):
                raise ConfigError(
                    f"{text!r} has a '%', ';' or ':name' in it, which drivers read as their own: "
                    "put it into a function or a generated column"
                )
        if self.where and not self.done and not cursor:
            raise ConfigError(
                f"where={self.where!r} needs done=, which says how it holds no more of a row that "
                "is done, as \"state = 'done'\"; or, if a cursor is to see such rows once, key="
            )
        if self.done and not self.where:
            raise ConfigError(
                f"done={self.done!r} needs where=, which no longer holds for a row that is done"
            )

    def select(self, *, after: bool, until: bool, skip: bool, locking: str) -> str:
        """Return the statement that reads rows."""
        conditions = [
            f"({self.where})" if self.where else "",
            f"{self.key} > :after" if after else "",
            f"{self.key} <= :until" if until else "",
        ]
        given = " AND ".join(filter(None, conditions))
        return (
            f"SELECT {', '.join((self.key, *self.columns))} FROM {self.table}"
            f"{' WHERE ' if given else ''}{given} ORDER BY {self.key} LIMIT :most"
            f"{' FOR UPDATE SKIP LOCKED' if skip else locking}"
        )

    def edge(self, *, after: bool) -> str:
        """Return the statement that reads the greatest key, and whether it is above the cursor."""
        above = f"max({self.key}) > :after" if after else f"max({self.key}) IS NOT NULL"
        return f"SELECT max({self.key}), {above} FROM {self.table}"

    def claiming(self) -> str:
        """Return the statement that makes one row done, if it is not."""
        which = f"WHERE {self.key} = :key AND ({self.where})"
        if self.done.strip().upper() == "DELETE":
            return f"DELETE FROM {self.table} {which}"
        return f"UPDATE {self.table} SET {self.done} {which}"


class Row:
    """A row in the hands of the handler: `row["column"]`.

    Attributes:
        key: of the row.
        columns: all that was read of it.
        attempt: 1 for the first time that this term handles it.
        term: under which that is done.
    """

    def __init__(self, item: Item, key: Any, columns: dict[str, Any]) -> None:
        if item.term is None:
            raise AssertionError("a row is handled under a term")
        self.key = key
        self.columns = columns
        self.attempt = item.attempt
        self.term: Term = item.term

    def __getitem__(self, column: str) -> Any:
        """Return the value of a column."""
        return self.columns[column]

    @property
    def token(self) -> int | None:
        """The fencing token of the term."""
        return self.term.token

    @property
    def lost(self) -> Flag:
        """Set as soon as the term is to end: see `Term.lost`."""
        return self.term.lost

    def check(self) -> None:
        """Return if the row may still be handled now.

        Raises:
            LeadershipLost: the term is over.
        """
        self.term.check()


@dataclass(slots=True)
class _Found:
    """What the source knows of an item.

    Attributes:
        key: of its row.
        columns: of its row.
    """

    key: Any
    columns: dict[str, Any]


class Handler(Taker):
    """What a consumer calls: makes the row done, if it is claimed, and calls the user's handler."""

    def __init__(self, table: Table, handler: Callable[..., Any], *, waits: bool) -> None:
        check_kind(handler, "Rows", awaits=waits)
        self._table = table
        self._handler = handler
        self._waits = waits

    def __call__(self, item: Item, db: Any) -> Any:
        """Handle a row in the transaction that `db` is in."""
        return self._handled(item, db) if self._waits else through(self._handled(item, db))

    async def _handled(self, item: Item, db: Any) -> None:
        found: _Found = item.tag
        if not await self.take(item, database(db, waits=self._waits)):
            return
        result = self._handler(Row(item, found.key, found.columns), db)
        if self._waits:
            if not isawaitable(result):
                raise Misuse("the handler of rows of incumbent.aio has to be async def")
            await result
        else:
            refuse_coroutine(result, self._handler, "rows for threads", "incumbent.aio.Rows")

    async def take(self, item: Item, db: Database) -> bool:
        """Make the row done, if it is claimed; tell whether nobody else has done it meanwhile."""
        if not self._table.done:
            return True
        return await db.changed(self._table.claiming(), {"key": item.tag.key}) > 0


class RowSource:
    """A table, as a source of a consumer."""

    def __init__(self, table: Table, connect: str | Callable[[], Any], *, waits: bool) -> None:
        self.name = f"rows of {table.table}"
        self.positions = not table.done
        self.remembers = bool(table.done)
        self._table = table
        self._waits = waits
        self._place: Place = open_place(connect)
        self._connection: Any = None
        self._db: Database | None = None
        self._horizon: Horizon | None = None
        self._after: int | str | None = None
        self._until: int | str | None = None
        self._token = 0
        self._fallen = Fallen(table.table, table.key)
        self._found = count(1)
        self._idle = 0

    async def open(self, opening: Opening) -> None:
        """Connect, and begin after what was committed last."""
        self._token = opening.term.token or 0
        self._after = json.loads(opening.position) if opening.position else self._table.start
        self._until = None
        self._fallen = Fallen(self._table.table, self._table.key)
        try:
            # Under a name of its own, or it would have the session of the effects ended.
            self._connection = await self._place.connect(
                opening.term, f"{opening.work}/rows", waits=self._waits
            )
            self._db = database(self._connection, waits=self._waits)
            self._horizon = horizon_of(self._db.dialect, self._table.table, self._table.settle_s)
            await self._horizon.open(self._db)
            await refuse_ambiguous(self._db, self._table.table, self._table.key)
            await self._rest()
        except Exception as error:
            raise await self._meant(error) from error

    async def regain(self, limit: int) -> Sequence[Item]:
        """Return nothing: what a predecessor had in hand is not done, and comes first anyway."""
        return []

    async def next(self, limit: int) -> Sequence[Item]:
        """Look, and wait if there is nothing."""
        wait_s = 0.0
        items: list[Item] = []
        try:
            if self._table.done:
                items = await self._claimable(limit)
            else:
                items, wait_s = await self._above(limit)
        except Exception as error:
            if await self._only_waited(error):
                return []
            raise await self._meant(error) from error
        self._idle = 0 if items or wait_s else self._idle + 1
        if not items:
            await asyncio.sleep(wait_s or self._table.pace.wait_s(self._idle))
        return items

    async def done(self, items: Sequence[Item]) -> None:
        """There is nothing to be told: a row is done with its effect, or with its dead letter."""

    async def bury(self, item: Item, place: str, reason: str) -> None:
        """Refuse: the dead letters of rows are in the database of the effects."""
        raise ConfigError(f"{self.name} have no dead letters of their own: leave dead_letter= out")

    async def close(self) -> None:
        """Disconnect."""
        connection, self._connection, self._db = self._connection, None, None
        if connection is not None:
            try:
                await self._place.close(connection)
            except Exception:
                return

    # -- by a cursor ------------------------------------------------------------------------------

    async def _above(self, limit: int) -> tuple[list[Item], float]:
        """Return what is complete; or for how long to wait, because something may still appear."""
        db, horizon = self._used(), self._seen()
        if self._until is None:
            values = {} if self._after is None else {"after": self._after}
            ((edge, above),) = await db.run(self._table.edge(after=bool(values)), values)
            if not above:
                if self._after is not None and self._after != self._table.start:
                    await self._fallen.check(db, self._after, edge)
                await self._rest()
                return [], 0.0
            self._until = self._told(edge)
            await horizon.seen(db)
        wait_s = await horizon.wait_s(db)
        await self._rest()
        if wait_s:
            return [], wait_s
        items = await self._read(limit, horizon.locking)
        if len(items) < limit:
            self._after, self._until = self._until, None
        else:
            self._after = items[-1].tag.key
        return items, 0.0

    async def _read(self, limit: int, locking: str) -> list[Item]:
        values: dict[str, Any] = {"until": self._until, "most": limit}
        if self._after is not None:
            values["after"] = self._after
        statement = self._table.select(
            after=self._after is not None, until=True, skip=False, locking=locking
        )
        items = []
        for row in await self._used().run(statement, values):
            key = self._told(row[0])
            items.append(self._item(row, str(key), json.dumps(key)))
        await self._rest()
        return items

    def _told(self, key: Any) -> int | str:
        if isinstance(key, bool) or not isinstance(key, int | str):
            raise ConfigError(
                f"{self._table.table}.{self._table.key} is {key!r}, and a cursor needs a number or "
                "text: name another column as key="
            )
        return key

    # -- by a claim -------------------------------------------------------------------------------

    async def _claimable(self, limit: int) -> list[Item]:
        skip = self._used().dialect != "sqlite"
        statement = self._table.select(after=False, until=False, skip=skip, locking="")
        found = await self._used().run(statement, {"most": limit})
        await self._rest()
        return [self._item(row, f"{row[0]}@{self._token}.{next(self._found)}", "") for row in found]

    # -- helpers ----------------------------------------------------------------------------------

    def _item(self, row: tuple[Any, ...], name: str, position: str) -> Item:
        columns = dict(zip((self._table.key, *self._table.columns), row, strict=True))
        body = json.dumps(columns, default=str).encode()
        return Item(name, body, position=position, tag=_Found(row[0], columns))

    async def _rest(self) -> None:
        """End the transaction that a driver may have begun: nothing is to be kept waiting."""
        if not self._place.url:
            await settled(self._connection.commit())

    async def _only_waited(self, error: Exception) -> bool:
        """Tell whether something stayed locked for too long; it is read later then."""
        extended = getattr(error, "sqlite_errorcode", None)
        code = extended & 255 if extended else error.args[0] if error.args else None
        if code not in _PASSING or self._connection is None or self._place.url:
            return False
        await settled(self._connection.rollback())
        return True

    def _used(self) -> Database:
        if self._db is None:
            raise SourceUnavailable("there is no connection")
        return self._db

    def _seen(self) -> Horizon:
        if self._horizon is None:
            raise SourceUnavailable("there is no connection")
        return self._horizon

    async def _meant(self, error: Exception) -> Exception:
        """Return what an error is: of the server, or of what it was asked.

        Of a connection that a function made, only itself can tell: if it still answers, it was the
        statement.
        """
        if isinstance(error, IncumbentError):
            return error
        text = " ".join(str(error).split()) or repr(error)
        lost = self._place.lost(error, self._connection, theirs=False)
        if lost or (self._connection is not None and not await self._answers()):
            return SourceUnavailable(text)
        return IncumbentError(f"{self.name}: {text}")

    async def _answers(self) -> bool:
        if self._db is None:
            return False
        try:
            if not self._place.url:
                await settled(self._connection.rollback())
            await self._db.run("SELECT 1", {})
            await self._rest()
        except Exception:
            return False
        return True
