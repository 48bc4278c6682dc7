"""MySQL and MariaDB as a `stores.sql.api.Server`: connections, tables, and what is refused.

What is refused, and why
------------------------
*Galera*, and MySQL's group replication with several primaries: a row that is locked on one node is
not locked on another. Conflicts are found at the commit, by a comparison of the rows that were
written; what was only read, as our session's row is in a take, is not among them.

*innodb_flush_log_at_trx_commit = 0*: a crash of the server forgets commits that it has confirmed.

*A replica*, also for reading: what it says may be old. A server with `read_only` counts as one.

*Tables of another engine than InnoDB*: there are no transactions.
"""

from __future__ import annotations

import math
import re
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from incumbent.core.records import FORMAT
from incumbent.errors import StoreAbsent, StoreError, StoreUnavailable, StoreUnusable
from incumbent.stores.api import Finding, unreached
from incumbent.stores.mysql import rights
from incumbent.stores.mysql.connection import Connection, NoTls
from incumbent.stores.sql.api import NEEDED, Heard, Rows, Tables
from incumbent.stores.sql.pool import Pool

__all__ = ["MysqlDialect", "MysqlServer"]

LIMIT_S = 5.0
_PLAIN = re.compile(r"[-A-Za-z0-9 _./:#@+=,]*")


class MysqlDialect:
    """How MySQL and MariaDB write SQL."""

    prefix = ""
    family = "mysql"
    form = " ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    now = "UTC_TIMESTAMP(6)"
    # A TIMESTAMP column ends two days later, which leaves room for any time zone of the session. A
    # DATETIME could be later; but whoever has another type than is documented, and a server that
    # is not strict, would have a zero there, which is a lock that is free.
    latest = "TIMESTAMP '2038-01-17 00:00:00'"

    def text(self, value: str) -> str:
        """Return a literal, without having to know what needs a backslash."""
        if _PLAIN.fullmatch(value):
            return f"'{value}'"
        return f"CONVERT(X'{value.encode().hex()}' USING utf8mb4)"

    def names(self, names: Sequence[str]) -> str:
        """Return the names as a table."""
        first, *others = (self.text(name) for name in names)
        rows = [f"SELECT {first} AS name", *(f"SELECT {name}" for name in others)]
        return f"({' UNION ALL '.join(rows)}) AS n"

    def ensure_counter(self, name: str) -> str:
        """Return an INSERT that changes nothing if there is one, and locks it either way."""
        return (
            "INSERT INTO incumbent_counter (name, serial, ttl_s) "
            f"VALUES ({self.text(name)}, 0, 0) ON DUPLICATE KEY UPDATE serial = serial"
        )

    def after(self, ttl_s: float) -> str:
        """Return the time that is so much later, and a millisecond: columns may round to that."""
        return f"TIMESTAMPADD(MICROSECOND, {math.ceil(ttl_s * 1e6) + 1000}, {self.now})"

    def seconds(self, since: str, until: str) -> str:
        """Return the time between two columns."""
        return f"TIMESTAMPDIFF(MICROSECOND, {since}, {until}) / 1000000"

    def written(self, time: str) -> str:
        """Return a time as text."""
        return f"CAST({time} AS CHAR)"

    def insert_new(self, table: str, columns: Sequence[str], source: str) -> str:
        """Return an INSERT that changes nothing if there is a row with that key."""
        same = f"{table}.{columns[0]} = {table}.{columns[0]}"
        return f"INSERT INTO {table} ({', '.join(columns)}) {source} ON DUPLICATE KEY UPDATE {same}"

    def is_there(self, table: str) -> str:
        """Return a question that is answered by no row, or NULL, if it is not."""
        return (
            "SELECT MAX(table_name) FROM information_schema.tables "
            f"WHERE table_schema = DATABASE() AND table_name = {self.text(table)}"
        )

    def make_checkpoints(self) -> Sequence[str]:
        """Return what makes the table of the checkpoints. It ends the transaction that it is in."""
        table = (
            "CREATE TABLE IF NOT EXISTS incumbent_checkpoint (election VARCHAR(255) NOT NULL, "
            "part VARCHAR(255) NOT NULL, value MEDIUMTEXT NOT NULL, token BIGINT NOT NULL, "
            f"version VARCHAR(64) NOT NULL, PRIMARY KEY (election, part)) {self.form.strip()}"
        )
        return (table,)

    def say(self, text: str, source: str) -> Sequence[str]:
        """Return nothing: nobody can be told."""
        return ()


_FORM = MysqlDialect.form.strip()
_SCHEMA = (
    (
        "CREATE TABLE IF NOT EXISTS incumbent_counter (name VARCHAR(255) NOT NULL PRIMARY KEY, "
        f"serial BIGINT NOT NULL, ttl_s DOUBLE NOT NULL) {_FORM}"
    ),
    (
        "CREATE TABLE IF NOT EXISTS incumbent_session (id VARCHAR(64) NOT NULL PRIMARY KEY, "
        f"owner VARCHAR(512) NOT NULL, ttl_s DOUBLE NOT NULL, beat BIGINT NOT NULL) {_FORM}"
    ),
    (
        "CREATE TABLE IF NOT EXISTS incumbent_election (name VARCHAR(255) NOT NULL PRIMARY KEY, "
        "format INTEGER NOT NULL, serial BIGINT NOT NULL, holder VARCHAR(512) NOT NULL, "
        "term VARCHAR(512) NOT NULL, token BIGINT NOT NULL, session VARCHAR(64) NOT NULL, "
        "ttl_s DOUBLE NOT NULL, successor VARCHAR(512) NOT NULL, "
        "request_term VARCHAR(512) NOT NULL, "
        f"request_to VARCHAR(512) NOT NULL, INDEX incumbent_election_session (session)) {_FORM}"
    ),
    (
        f"INSERT INTO incumbent_counter (name, serial, ttl_s) VALUES ('', {FORMAT}, 0) "
        "ON DUPLICATE KEY UPDATE serial = serial"
    ),
)

_ELECTIONS = Tables("incumbent_counter", _SCHEMA, NEEDED)
"""The tables of our own format."""


class MysqlServer:
    """One database.

    Args:
        params: how to connect, as PyMySQL wants it.
        tls: how to encrypt, or None.
        required: whether a server that has no TLS will not do.
        tables: which tables, in this dialect; those of our own format if not given.
    """

    listens = False
    dialect = MysqlDialect()

    def __init__(
        self,
        params: Mapping[str, Any],
        tls: ssl.SSLContext | None,
        *,
        required: bool,
        tables: Callable[[MysqlDialect], Tables] | None = None,
    ) -> None:
        self._params = params
        self._tls = tls
        self._required = required
        self._tables = tables(self.dialect) if tables else _ELECTIONS
        self._pool = Pool(self._connection)

    async def _connection(self) -> Connection:
        if self._tls is None:
            return await Connection.to({**self._params, "ssl_disabled": True})
        try:
            return await Connection.to({**self._params, "ssl": self._tls})
        except NoTls:
            if self._required:
                raise
            return await Connection.to({**self._params, "ssl_disabled": True})

    async def open(self, *, create: bool) -> None:
        """Connect, and create the tables if need be."""
        self._pool.open()
        try:
            facts = await self._facts()
        except StoreUnavailable:  # Nobody tries again for us, and a network may have just healed.
            facts = await self._facts()
        if why := _refusal(facts):
            raise StoreUnusable(why)
        names = list(self._tables.needed)
        listed = ", ".join(map(self.dialect.text, names))
        question = (
            "SELECT table_name, engine FROM information_schema.tables "
            f"WHERE table_schema = DATABASE() AND table_name IN ({listed})"
        )
        (engines,) = await self.look([question])
        there = {str(table).lower() for table, _ in engines}
        for table, missing in self._tables.theirs.items():
            if table.lower() not in there:
                raise StoreUnusable(missing)
        if len(there) < len(names):
            if not create:
                raise StoreAbsent(
                    "incumbent's tables are not there yet: the first candidate creates them; if "
                    "there are candidates, they use another database"
                )
            async with self._pool.use() as connection:
                await connection.ask(self._tables.create, writes=True)
            (engines,) = await self.look([question])
        for table, engine in engines:
            if str(engine).lower() != "innodb":
                raise StoreUnusable(f"the table {table} is kept by {engine}: it must be InnoDB")
        where = f"FROM {self._tables.format_in} WHERE name = ''"
        (found,) = await self.look([f"SELECT serial {where}"])
        if not found or int(found[0][0]) != FORMAT:
            raise StoreUnusable(
                f"the tables have format {found[0][0] if found else 'none'}; this incumbent knows "
                f"format {FORMAT}: use one release of incumbent for all candidates"
            )

    async def _facts(self) -> dict[str, str]:
        """Return the server's variables on which the promise depends."""
        names = (
            "version",
            "read_only",
            "wsrep_on",
            "innodb_flush_log_at_trx_commit",
            "sync_binlog",
            "log_bin",
            "group_replication_group_name",
            "group_replication_single_primary_mode",
        )
        listed = ", ".join(map(self.dialect.text, names))
        async with self._pool.use() as connection:
            (found,) = await connection.ask(
                [f"SHOW GLOBAL VARIABLES WHERE variable_name IN ({listed})"], writes=False
            )
        return {str(name).lower(): str(value) for name, value in found}

    async def close(self) -> None:
        """Close every connection."""
        self._pool.close()

    async def connect(self) -> None:
        """Have an idle connection."""
        await self._pool.warm()

    async def look(self, statements: Sequence[str], *, urgent: bool = False) -> list[Rows]:
        """Return what each of some SELECTs finds, on a server that is no replica."""
        async with self._pool.use(urgent=urgent) as connection:
            only, *found = await connection.ask(
                ["SELECT @@global.read_only", *statements], writes=False
            )
        if str(only[0][0]).upper() not in ("0", "OFF"):
            raise StoreUnusable(
                "this server is read-only, a replica perhaps: what it says may be old. Name the "
                "primary"
            )
        return found

    async def write(
        self, statements: Sequence[str], limit_s: float, *, urgent: bool = False
    ) -> list[Rows]:
        """Carry out a transaction."""
        first = [
            f"SET innodb_lock_wait_timeout = {max(1, int(limit_s))}",
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
            "START TRANSACTION",
        ]
        async with self._pool.use(urgent=urgent) as connection:
            found = await connection.ask([*first, *statements, "COMMIT"], writes=True)
        return found[len(first) : -1]

    def listen(self, heard: Heard) -> None:
        """Report nothing: neither MySQL nor MariaDB can notify."""

    async def examine(self) -> list[Finding]:
        """Look at the server and its settings."""
        began = time.perf_counter()
        try:
            facts = await self._facts()
        except StoreError as error:
            return [unreached(error)]
        took_ms = (time.perf_counter() - began) * 1000
        flush, binlog = facts["innodb_flush_log_at_trx_commit"], facts.get("sync_binlog", "1")
        synced = flush == "1" and (binlog == "1" or facts.get("log_bin") != "ON")
        return [
            Finding("reachable", True, f"version {facts['version']}"),
            Finding("round trip", True, f"{took_ms:.1f} ms"),
            Finding("set-up", not _refusal(facts), _refusal(facts) or "one primary, InnoDB"),
            Finding(
                "durability",
                synced,
                f"innodb_flush_log_at_trx_commit is {flush}, sync_binlog is {binlog}",
                "" if synced else "set both to 1: a power cut would lose renewals",
            ),
            Finding(
                "failover",
                None,
                "whether a commit waits for a replica cannot be told: after the time limit of "
                "semi-synchronous replication it does not",
            ),
            *await rights.examine(self._try, self._tables),
        ]

    async def _try(self, statements: Sequence[str]) -> list[Rows]:
        async with self._pool.use() as connection:
            return await connection.ask(statements, writes=False)


def _refusal(facts: Mapping[str, str]) -> str:
    """Return why this server cannot keep the promise, or ""."""
    if facts.get("wsrep_on") == "ON":
        return (
            "this is a Galera cluster: what is locked on one node is not locked on another, so two "
            "could lead"
        )
    several = facts.get("group_replication_single_primary_mode") == "OFF"
    if facts.get("group_replication_group_name") and several:
        return "this is group replication with several primaries: two could lead"
    if facts.get("innodb_flush_log_at_trx_commit") == "0":
        return (
            "innodb_flush_log_at_trx_commit is 0: a crash of the server would forget renewals that "
            "it has confirmed. Set it to 1"
        )
    return ""
