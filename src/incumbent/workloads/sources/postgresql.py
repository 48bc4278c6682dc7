"""The source `postgresql://…?queue=NAME`: a table of items in a PostgreSQL database.

    postgresql://USER:PASSWORD@HOST/DATABASE?queue=orders[&table=incumbent_queue][&poll_s=1]

A producer inserts in its own transaction, together with whatever it does there, and may notify:

    INSERT INTO incumbent_queue (queue, item, body) VALUES ('orders', 'order 7', '…');
    SELECT pg_notify('incumbent_queue', 'orders');

psycopg is used, as in the store.

The order
---------
Numbers of a sequence are given out before the commit: of two transactions the later one may have
the smaller number, or the smaller number may appear when the greater one was handled already. So
items are in the order of (`tx`, `id`), where `tx` is the number of the producer's transaction, and
an item is read only when every transaction that could still put one before it has ended: `tx` is
below the oldest one that is running, `pg_snapshot_xmin`. Then nothing can appear in between any
more, the items of one producer are in the order in which it sent them, and one that was committed
before another was begun comes first.

What it costs: a long transaction that writes, anywhere on that server, holds the queue up until it
ends. Nothing is passed over; and after 10 s it is said in the log.

What is in hand
---------------
An item that is done is deleted. If the effects lie in the same database, that is a part of their
transaction: it is there as a whole or not at all, and whoever comes next waits for the row's lock
of an open one. So a predecessor's items are simply those that are still there; nothing has to be
taken from it but its sessions (`incumbent.workloads.postgresql`). Before the first read the head of
the queue is locked once: a predecessor's open transaction is waited for, and not jumped over.

If the effects lie elsewhere, or nowhere, the row is deleted when they are committed.

Numbers of transactions belong to one server's history. In a copy that was restored by `pg_dump`
they mean nothing; a row from the future of the server is refused with the statement that mends it.

The number of a row may come again: after TRUNCATE … RESTART IDENTITY, a table made anew, a restore.
So a row is meant by (`tx`, `id`) everywhere, and that is its id if the producer gave none.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from incumbent.clock import boottime
from incumbent.errors import ConfigError, IncumbentError, SourceUnavailable
from incumbent.stores.api import StoreURL
from incumbent.workloads.postgresql import (
    application,
    conninfo,
    end_earlier,
    gone,
    named,
    same_database,
    settle_session,
)
from incumbent.workloads.sources.api import Item, Opening

if TYPE_CHECKING:
    import psycopg

__all__ = ["TABLE", "PostgresQueue", "open", "schema"]

TABLE = "incumbent_queue"
_PART = "queue"
_OPTIONS = ("queue", "table", "poll_s")
_SCHEMA = """\
CREATE TABLE IF NOT EXISTS {table} (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tx XID8 NOT NULL DEFAULT pg_current_xact_id(),
    queue VARCHAR(200) NOT NULL,
    item VARCHAR(200),
    body BYTEA NOT NULL,
    headers JSONB NOT NULL DEFAULT '{{}}'
);
CREATE INDEX IF NOT EXISTS {table}_order ON {table} (queue, tx, id);
CREATE TABLE IF NOT EXISTS {table}_dead (
    LIKE {table}, reason TEXT NOT NULL, PRIMARY KEY (tx, id)
);
"""
_READ = """\
SELECT id, tx::text AS transaction, item, body, headers FROM {table}
WHERE queue = %(queue)s AND (tx, id) > (%(tx)s::text::xid8, %(id)s)
AND tx < pg_snapshot_xmin(pg_current_snapshot())
ORDER BY tx, id LIMIT %(limit)s
"""
_LOCK_HEAD = """\
SELECT id FROM {table} WHERE queue = %s ORDER BY tx, id LIMIT 1 FOR UPDATE
"""
_HELD_UP = """\
SELECT count(*), count(*) FILTER (WHERE tx >= pg_snapshot_xmax(pg_current_snapshot()))
FROM {table} WHERE queue = %s AND tx >= pg_snapshot_xmin(pg_current_snapshot())
"""
_BURY = """\
INSERT INTO {table}_dead (id, tx, queue, item, body, headers, reason)
SELECT id, tx, %(place)s, item, body, headers, %(reason)s FROM {table}
WHERE id = %(id)s AND tx = %(tx)s::text::xid8
ON CONFLICT DO NOTHING
"""
_LOST = """\
SELECT 1 FROM {table} AS row WHERE id = %(id)s AND tx = %(tx)s::text::xid8
AND NOT EXISTS (SELECT 1 FROM {table}_dead AS dead WHERE dead.id = row.id AND dead.tx = row.tx)
"""
_DONE = """\
DELETE FROM {table} USING unnest(%s::bigint[], %s::text[]) AS done (id, tx)
WHERE {table}.id = done.id AND {table}.tx = done.tx::xid8
"""
_FULL_NAME = """\
SELECT format('%%I.%%I', nspname, relname) FROM pg_class
JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE pg_class.oid = to_regclass(%s)
"""
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,49}")
_OTHER_FORM = ("42703", "42704", "42804", "42809", "42830", "42883", "42P01")
"""A column, key, type, kind of table, operator or table that is not there, or is another one."""

_SHORT_WAIT_S = 0.02
"""How long to wait for transactions that are in the way; most end at once."""
_SAID_AFTER_S = 10.0

_log = logging.getLogger("incumbent")


def schema(table: str = TABLE) -> str:
    """Return the statements that make the tables of a queue."""
    return _SCHEMA.format(table=table)


class PostgresQueue:
    """A queue in a table. See the head of this module."""

    positions = False
    remembers = True

    def __init__(self, url: StoreURL, queue: str, table: str, poll_s: float) -> None:
        other = "" if table == TABLE else f"&table={table}"
        self.name = f"{named(url)}?queue={queue}{other}"
        self._conninfo = conninfo(url, *_OPTIONS)
        self._queue = queue
        self._table = self._full_name = table
        self._poll_s = poll_s
        self._joined = False
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._after: tuple[str, int] = ("0", 0)
        self._held_up_since: float | None = None

    # -- in the transaction of the effects --------------------------------------------------------

    def join(self, effects: str) -> bool:
        """Tell whether effects at this URL are in the same database."""
        url = StoreURL.parse(effects)
        if url.scheme in ("postgresql", "postgres"):
            self._joined = same_database(self._conninfo, conninfo(url))
        return self._joined

    def taking(self, item: Item) -> tuple[str, dict[str, Any]]:
        """Return the statement that deletes the row; it waits for whoever else is at it."""
        number, tx = item.tag
        statement = f"DELETE FROM {self._full_name} WHERE id = :id AND tx = CAST(:tx AS xid8)"
        return statement, {"id": number, "tx": tx}

    # -- as a source ------------------------------------------------------------------------------

    async def open(self, opening: Opening) -> None:
        """Connect, listen, end earlier sessions, and wait for the head of the queue."""
        import psycopg

        name = application(opening.work, opening.term.token, _PART)
        self._after = ("0", 0)
        try:
            self._connection = await psycopg.AsyncConnection.connect(
                self._conninfo, autocommit=True, application_name=name
            )
            await settle_session(self._connection)
            await end_earlier(self._connection.execute, opening.term, opening.work, _PART)
            await self._make()
            cursor = await self._connection.execute(_FULL_NAME, [self._table])
            (self._full_name,) = await cursor.fetchone() or (self._table,)
            # First this, then the read: what is sent in between is heard.
            await self._connection.execute(f"LISTEN {self._table}")
            await self._connection.execute(_LOCK_HEAD.format(table=self._table), [self._queue])
        except psycopg.Error as error:
            raise self._meant(error) from error

    async def _make(self) -> None:
        import psycopg

        cursor = await self._connected().execute(
            "SELECT to_regclass(%s) IS NOT NULL AND to_regclass(%s) IS NOT NULL",
            [self._table, f"{self._table}_dead"],
        )
        (there,) = await cursor.fetchone() or (False,)
        if not there:
            try:
                await self._connected().execute(schema(self._table).encode())
            except psycopg.errors.InsufficientPrivilege as error:
                raise ConfigError(
                    f"{self.name}: there is no table {self._table!r}, and we may not make it "
                    f"({' '.join(str(error).split())}). Have it made:\n{schema(self._table)}"
                ) from None

    async def regain(self, limit: int) -> Sequence[Item]:
        """Return nothing: what a predecessor had in hand is at the head of the queue."""
        return []

    async def next(self, limit: int) -> Sequence[Item]:
        """Return what is there, or wait for a notification and see."""
        import psycopg

        try:
            if items := await self._read(limit):
                self._held_up_since = None
                return items
            wait_s = _SHORT_WAIT_S if await self._is_held_up() else self._poll_s
            async for _ in self._connected().notifies(timeout=wait_s, stop_after=1):
                pass
        except psycopg.Error as error:
            raise self._meant(error) from error
        return []

    async def _read(self, limit: int) -> list[Item]:
        values = {
            "queue": self._queue,
            "tx": self._after[0],
            "id": self._after[1],
            "limit": limit,
        }
        cursor = await self._connected().execute(_READ.format(table=self._table), values)
        found = await cursor.fetchall()
        if found:
            self._after = (found[-1][1], found[-1][0])
        return [
            Item(name or f"#{tx}/{id_}", bytes(body), headers=_words(headers), tag=(id_, tx))
            for id_, tx, name, body, headers in found
        ]

    async def _is_held_up(self) -> bool:
        """Tell whether items wait for transactions that are still running."""
        cursor = await self._connected().execute(_HELD_UP.format(table=self._table), [self._queue])
        waiting, future = await cursor.fetchone() or (0, 0)
        if future:
            raise ConfigError(
                f"{self.name}: {future} items have numbers of transactions that this server has "
                "not reached: they were copied from another one. Once no producer is at work: "
                f"UPDATE {self._table} SET tx = pg_current_xact_id() (their order is that of id "
                "then)"
            )
        now_s = boottime()
        if not waiting:
            self._held_up_since = None
        elif self._held_up_since is None:
            self._held_up_since = now_s
        elif now_s - self._held_up_since > _SAID_AFTER_S:
            self._held_up_since = now_s
            _log.warning(
                "%s: %d items wait, since transactions that began before theirs are still "
                "running on this server (pg_stat_activity.backend_xid)",
                self.name,
                waiting,
            )
        return bool(waiting)

    async def done(self, items: Sequence[Item]) -> None:
        """Delete the rows, unless that was a part of the effects."""
        if self._joined:
            return
        ids, transactions = zip(*(item.tag for item in items), strict=True)
        await self._run(_DONE.format(table=self._table), [list(ids), list(transactions)])

    async def bury(self, item: Item, place: str, reason: str) -> None:
        """Copy the row into the table of the dead ones; `place` is a name of a queue there."""
        values = {
            "place": place or self._queue,
            "reason": reason.replace("\0", "\\0"),
            "id": item.tag[0],
            "tx": item.tag[1],
        }
        await self._run(_BURY.format(table=self._table), values)
        cursor = await self._run(_LOST.format(table=self._table), values)
        if await cursor.fetchone():
            dead = f"{self._table}_dead"
            raise ConfigError(
                f"{self.name}: {dead} has a row with the number of the one that failed, and is "
                "not of the form of now, in which a number may come again: ALTER TABLE "
                f"{dead} DROP CONSTRAINT {dead}_pkey, ADD PRIMARY KEY (tx, id)"
            )

    async def close(self) -> None:
        """Disconnect."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close()
            except Exception:
                _log.debug("closing %s failed", self.name, exc_info=True)

    # -- helpers ----------------------------------------------------------------------------------

    async def _run(self, statement: str, values: Any) -> psycopg.AsyncCursor[Any]:
        import psycopg

        try:
            return await self._connected().execute(statement, values)
        except psycopg.Error as error:
            raise self._meant(error) from error

    def _connected(self) -> psycopg.AsyncConnection[Any]:
        if self._connection is None:
            raise SourceUnavailable("there is no connection")
        return self._connection

    def _meant(self, error: psycopg.Error) -> IncumbentError:
        text = " ".join(str(error).split())
        if why := gone(error, self._connection):
            return SourceUnavailable(why)
        if (error.sqlstate or "").startswith(_OTHER_FORM):
            return ConfigError(
                f"{self.name}: {self._table!r} is a table of another form ({text}): give the name "
                f"of another one by &table=, which is made then. Its form:\n{schema(self._table)}"
            )
        return ConfigError(f"{self.name}: {text}")


def open(url: StoreURL) -> PostgresQueue:
    """Return the source of `postgresql://…?queue=NAME`.

    Raises:
        ConfigError: an option is missing, or cannot be.
        MissingExtra: psycopg is not installed.
    """
    queue = url.options.get("queue", "")
    table = url.options.get("table", TABLE)
    poll = url.options.get("poll_s", "1")
    if not queue:
        raise ConfigError(f"{url.scheme}://: which queue? Add ?queue=NAME")
    if not _NAME.fullmatch(table):
        raise ConfigError(f"table={table!r}: use up to 50 of a-z, 0-9 and '_'")
    try:
        poll_s = float(poll)
    except ValueError:
        poll_s = 0.0
    if not 0 < poll_s <= 3600:
        raise ConfigError(f"poll_s={poll!r}: use a number of seconds above 0")
    return PostgresQueue(url, queue, table, poll_s)


def _words(headers: Any) -> dict[str, str]:
    found = headers if isinstance(headers, dict) else {}
    return {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in found.items()
    }
