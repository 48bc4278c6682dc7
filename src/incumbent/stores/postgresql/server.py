"""PostgreSQL as a `stores.sql.api.Server`: connections, tables, notifications, what is refused."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from incumbent.core.records import FORMAT
from incumbent.errors import StoreAbsent, StoreError, StoreUnavailable, StoreUnusable
from incumbent.stores.api import Finding, unreached
from incumbent.stores.postgresql import rights
from incumbent.stores.postgresql.bell import PROOF_S, Bell
from incumbent.stores.postgresql.connection import Connection
from incumbent.stores.sql.api import NEEDED, Heard, Rows, Tables
from incumbent.stores.sql.pool import Pool

__all__ = ["PostgresDialect", "PostgresServer"]

LEAST_VERSION = 120_000
LOOK_MS = 5_000
_PLAIN = re.compile(r"[-A-Za-z0-9 _./:#@+=,]*")


@dataclass(frozen=True, slots=True)
class PostgresDialect:
    """How PostgreSQL writes SQL."""

    prefix: str
    channel: str
    family = "postgresql"
    form = ""
    now = "(clock_timestamp() AT TIME ZONE 'UTC')"
    # Of four digits, so that times as text keep their order: `infinity` and later years do not.
    latest = "TIMESTAMP '9999-12-31 00:00:00'"

    def text(self, value: str) -> str:
        """Return a literal, without having to know what needs a backslash."""
        if _PLAIN.fullmatch(value):
            return f"'{value}'"
        return f"convert_from(decode('{value.encode().hex()}', 'hex'), 'UTF8')"

    def names(self, names: Sequence[str]) -> str:
        """Return the names as a table."""
        return f"unnest(ARRAY[{', '.join(map(self.text, names))}]::text[]) AS n (name)"

    def ensure_counter(self, name: str) -> str:
        """Return an INSERT that does nothing if there is one."""
        return (
            f"INSERT INTO {self.prefix}incumbent_counter (name, serial, ttl_s) "
            f"VALUES ({self.text(name)}, 0, 0) ON CONFLICT DO NOTHING"
        )

    def after(self, ttl_s: float) -> str:
        """Return the time that is so much later."""
        return f"({self.now} + make_interval(secs => {ttl_s!r}))"

    def seconds(self, since: str, until: str) -> str:
        """Return the time between two columns; a time without an end is long."""
        finite = f"isfinite({since}) AND isfinite({until})"
        return f"CASE WHEN {finite} THEN extract(epoch FROM ({until} - {since})) ELSE 1e9 END"

    def written(self, time: str) -> str:
        """Return a time as text."""
        return f"CAST({time} AS text)"

    def insert_new(self, table: str, columns: Sequence[str], source: str) -> str:
        """Return an INSERT that does nothing if there is a row with that key."""
        return f"INSERT INTO {table} ({', '.join(columns)}) {source} ON CONFLICT DO NOTHING"

    def is_there(self, table: str) -> str:
        """Return a question that is answered by NULL if it is not."""
        return f"SELECT to_regclass({self.text(self.prefix + table)})"

    def make_checkpoints(self) -> Sequence[str]:
        """Return what makes the table of the checkpoints."""
        return (
            _ONE_BY_ONE,
            (
                f"CREATE TABLE IF NOT EXISTS {self.prefix}incumbent_checkpoint "
                "(election text NOT NULL, part text NOT NULL, value text NOT NULL, "
                "token bigint NOT NULL, version text NOT NULL, PRIMARY KEY (election, part))"
            ),
        )

    def say(self, text: str, source: str) -> Sequence[str]:
        """Return a NOTIFY: it is sent at the commit."""
        return [f"SELECT pg_notify({self.text(self.channel)}, {text}) FROM {source}"]


_ONE_BY_ONE = "SELECT pg_advisory_xact_lock(7453892)"
"""Of several candidates that make the same tables at once, all succeed."""


def _elections(prefix: str) -> Tables:
    """Return the tables of our own format."""
    return Tables("incumbent_counter", _schema(prefix), NEEDED)


def _schema(prefix: str) -> list[str]:
    return [
        (
            f"CREATE TABLE IF NOT EXISTS {prefix}incumbent_counter "
            "(name text PRIMARY KEY, serial bigint NOT NULL, ttl_s double precision NOT NULL)"
        ),
        (
            f"CREATE TABLE IF NOT EXISTS {prefix}incumbent_session (id text PRIMARY KEY, "
            "owner text NOT NULL, ttl_s double precision NOT NULL, beat bigint NOT NULL) "
            "WITH (fillfactor = 50)"
        ),
        (
            f"CREATE TABLE IF NOT EXISTS {prefix}incumbent_election (name text PRIMARY KEY, "
            "format integer NOT NULL, serial bigint NOT NULL, holder text NOT NULL, "
            "term text NOT NULL, token bigint NOT NULL, session text NOT NULL, "
            "ttl_s double precision NOT NULL, successor text NOT NULL, "
            "request_term text NOT NULL, request_to text NOT NULL)"
        ),
        (
            "CREATE INDEX IF NOT EXISTS incumbent_election_session "
            f"ON {prefix}incumbent_election (session)"
        ),
        (
            f"INSERT INTO {prefix}incumbent_counter (name, serial, ttl_s) VALUES ('', {FORMAT}, 0) "
            "ON CONFLICT DO NOTHING"
        ),
    ]


class PostgresServer:
    """One database.

    Args:
        conninfo: where requests go, as libpq reads it.
        direct: where to listen: the server itself, past any pooler.
        schema: of the tables; "" for the first of the search path.
        tables: which tables, in this dialect; those of our own format if not given.
    """

    def __init__(
        self,
        conninfo: str,
        direct: str,
        schema: str = "",
        tables: Callable[[PostgresDialect], Tables] | None = None,
    ) -> None:
        quoted = '"' + schema.replace('"', '""') + '".' if schema else ""
        self._conninfo = conninfo
        self._direct = direct
        self._schema = schema
        self._dialect = PostgresDialect(quoted, f"incumbent {schema}".strip())
        self._tables = tables(self._dialect) if tables else _elections(quoted)
        self._pool = Pool(self._connection)
        self._bell: Bell | None = None

    @property
    def dialect(self) -> PostgresDialect:
        """How PostgreSQL writes SQL."""
        return self._dialect

    @property
    def listens(self) -> bool:
        """Whether NOTIFY reaches us."""
        return self._bell is not None and self._bell.works

    async def open(self, *, create: bool) -> None:
        """Connect, and create the tables if need be."""
        self._pool.open()
        prefix = self.dialect.prefix
        tables = (self._tables.format_in, *self._tables.theirs)
        questions = [
            "SELECT current_setting('server_version_num')",
            *(f"SELECT to_regclass({self.dialect.text(prefix + table)})" for table in tables),
        ]
        try:
            facts, found, *theirs = await self.look(questions)
        except StoreUnavailable:  # Nobody tries again for us, and a network may have just healed.
            facts, found, *theirs = await self.look(questions)
        if int(facts[0][0]) < LEAST_VERSION:
            raise StoreUnusable(f"PostgreSQL {LEAST_VERSION // 10_000} or newer is needed")
        for answer, missing in zip(theirs, self._tables.theirs.values(), strict=True):
            if answer[0][0] is None:
                raise StoreUnusable(missing)
        if found[0][0] is None:
            if not create:
                raise StoreAbsent(
                    "incumbent's tables are not there yet: the first candidate creates them; if "
                    "there are candidates, they use another database or schema"
                )
            await self.write([_ONE_BY_ONE, *self._tables.create], LOOK_MS / 1000)
        where = f"FROM {prefix}{self._tables.format_in} WHERE name = ''"
        (found,) = await self.look([f"SELECT serial {where}"])
        if not found or int(found[0][0]) != FORMAT:
            raise StoreUnusable(
                f"the tables have format {found[0][0] if found else 'none'}; this incumbent knows "
                f"format {FORMAT}: use one release of incumbent for all candidates"
            )

    async def close(self) -> None:
        """Close every connection."""
        bell, self._bell = self._bell, None
        if bell is not None:
            await bell.close()
        self._pool.close()

    async def connect(self) -> None:
        """Have an idle connection."""
        await self._pool.warm()

    async def _connection(self) -> Connection:
        return await Connection.to(self._conninfo)

    async def look(self, statements: Sequence[str], *, urgent: bool = False) -> list[Rows]:
        """Return what each of some SELECTs finds, on a server that is no standby."""
        first = [f"SET LOCAL statement_timeout = {LOOK_MS}", "SELECT pg_is_in_recovery()"]
        async with self._pool.use(urgent=urgent) as connection:
            _, standby, *found = await connection.ask([*first, *statements], writes=False)
        if standby[0][0] != "f":
            raise StoreUnusable(
                "this PostgreSQL server is a standby: what it says may be old. Name the primary"
            )
        return found

    async def write(
        self, statements: Sequence[str], limit_s: float, *, urgent: bool = False
    ) -> list[Rows]:
        """Carry out a transaction, durably."""
        limit_ms = max(1, int(limit_s * 1000))
        first = [
            f"SET LOCAL statement_timeout = {limit_ms}",
            f"SET LOCAL lock_timeout = {limit_ms}",
            "SET LOCAL synchronous_commit = on",
        ]
        async with self._pool.use(urgent=urgent) as connection:
            _, _, _, *found = await connection.ask([*first, *statements], writes=True)
        return found

    def listen(self, heard: Heard) -> None:
        """Begin to listen."""

        async def connect() -> Connection:
            return await Connection.to(self._direct)

        async def say(text: str) -> None:
            quoted = self.dialect.text(self.dialect.channel)
            await self.look([f"SELECT pg_notify({quoted}, {self.dialect.text(text)})"])

        channel = '"' + self.dialect.channel.replace('"', '""') + '"'
        self._bell = Bell(connect, channel, say, heard)

    async def examine(self) -> list[Finding]:
        """Look at the server, its settings and our rights."""
        began = time.perf_counter()
        try:
            (facts,) = await self.look(
                [
                    (
                        "SELECT version(), current_setting('fsync'), "
                        "current_setting('full_page_writes'), "
                        "current_setting('synchronous_standby_names'), "
                        "current_setting('synchronous_commit'), "
                        "(SELECT count(*) FROM pg_stat_replication)"
                    )
                ]
            )
        except StoreError as error:
            return [unreached(error)]
        took_ms = (time.perf_counter() - began) * 1000
        version, fsync, pages, standbys, commit, replicas = facts[0]
        findings = [
            Finding("reachable", True, f"{version.partition(' on ')[0]}, a primary"),
            Finding("round trip", True, f"{took_ms:.1f} ms"),
            Finding(
                "durability",
                (fsync, pages) == ("on", "on"),
                f"fsync is {fsync}, full_page_writes is {pages}, synchronous_commit is {commit} "
                "and set to on by each transaction of ours",
                "" if fsync == pages == "on" else "turn them on: a crash would lose renewals",
            ),
        ]
        if standbys:
            text = f"a commit waits for: {standbys}"
            findings.append(Finding("failover", True, text))
        elif int(replicas or 0):
            text = "there are standbys, and a commit waits for none: a failover may lose it"
            fix = "set synchronous_standby_names, or do not fail over automatically"
            findings.append(Finding("failover", False, text, fix))
        else:
            findings.append(Finding("failover", None, "no standby is to be seen"))
        findings += await rights.examine(self.look, self.dialect, self._schema, self._tables.needed)
        return findings if self._bell is None else [*findings, await self._ears(self._bell)]

    async def _ears(self, bell: Bell) -> Finding:
        try:
            async with asyncio.timeout(2 * PROOF_S):
                await bell.settled.wait()
        except TimeoutError:
            pass
        if bell.works:
            return Finding("notification", True, "standbys wake by LISTEN")
        fix = "behind a pooler, name the server itself: listen=HOST:PORT"
        return Finding("notification", None, f"no LISTEN: {bell.why_not}", fix)
