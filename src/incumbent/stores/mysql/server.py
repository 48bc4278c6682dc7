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

import re
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Any

from incumbent.core.records import FORMAT
from incumbent.errors import StoreAbsent, StoreError, StoreUnavailable, StoreUnusable
from incumbent.stores.api import Finding, unreached
from incumbent.stores.mysql import rights
from incumbent.stores.mysql.connection import Connection, NoTls
from incumbent.stores.sql.api import Heard, Rows
from incumbent.stores.sql.pool import Pool

__all__ = ["MysqlDialect", "MysqlServer"]

LIMIT_S = 5.0
TABLES = ("incumbent_counter", "incumbent_session", "incumbent_election")
_PLAIN = re.compile(r"[-A-Za-z0-9 _./:#@+=,]*")


class MysqlDialect:
    """How MySQL and MariaDB write SQL."""

    prefix = ""

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

    def say(self, text: str, source: str) -> Sequence[str]:
        """Return nothing: nobody can be told."""
        return ()


_FORM = "ENGINE = InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
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


class MysqlServer:
    """One database.

    Args:
        params: how to connect, as PyMySQL wants it.
        tls: how to encrypt, or None.
        required: whether a server that has no TLS will not do.
    """

    listens = False
    dialect = MysqlDialect()

    def __init__(
        self, params: Mapping[str, Any], tls: ssl.SSLContext | None, *, required: bool
    ) -> None:
        self._params = params
        self._tls = tls
        self._required = required
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
        listed = ", ".join(map(self.dialect.text, TABLES))
        question = (
            "SELECT table_name, engine FROM information_schema.tables "
            f"WHERE table_schema = DATABASE() AND table_name IN ({listed})"
        )
        (engines,) = await self.look([question])
        if len(engines) < len(TABLES):
            if not create:
                raise StoreAbsent(
                    "incumbent's tables are not there yet: the first candidate creates them; if "
                    "there are candidates, they use another database"
                )
            async with self._pool.use() as connection:
                await connection.ask(_SCHEMA, writes=True)
            (engines,) = await self.look([question])
        for table, engine in engines:
            if str(engine).lower() != "innodb":
                raise StoreUnusable(f"the table {table} is kept by {engine}: it must be InnoDB")
        (found,) = await self.look(["SELECT serial FROM incumbent_counter WHERE name = ''"])
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
            *await rights.examine(self._try),
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
