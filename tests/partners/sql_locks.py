"""Lock tables of other libraries on the test databases: one `Place` per database and library."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from incumbent.stores.sql.joined.tables import LockTable, shedlock, spring
from tests.partners.member import Member
from tests.servers import java
from tests.servers.faketime import ahead_by
from tests.servers.mariadb import MariaDb
from tests.servers.postgresql import Postgres
from tests.servers.unprivileged import PASSWORD

PLACES = (
    "postgresql-shedlock",
    "postgresql-spring",
    "mariadb-shedlock",
    "mariadb-spring",
)
CROSSED = ("postgresql-shedlock", "mariadb-spring")
"""Both databases and both libraries, for what depends on one of the two alone."""
TTL_S = 4.0
LOCK = "Nightly_Report"


@dataclass
class Place:
    """A lock table with a name of its own, on a server that is shared.

    Attributes:
        server: the database.
        recipe: whose table.
        id: makes the table's name.
    """

    server: Postgres | MariaDb
    recipe: str
    id: str = field(default_factory=lambda: f"t{secrets.token_hex(4)}_")

    @property
    def table(self) -> LockTable:
        return shedlock(self.id) if self.recipe == "shedlock" else spring(self.id)

    @property
    def family(self) -> str:
        return "postgresql" if isinstance(self.server, Postgres) else "mysql"

    def make(self) -> None:
        """Make the table as their documentation has it, with room for longer names."""
        self.execute(self.table.ddl[self.family].replace("name VARCHAR(64)", "name VARCHAR(250)"))

    def drop(self) -> None:
        self.execute(f"DROP TABLE IF EXISTS {self.table.table}")

    def execute(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        return self.server.execute(statement, values)

    def url(self, lock: str = "", *, address: str = "") -> str:
        """Return where our members go."""
        option = "table" if self.recipe == "shedlock" else "prefix"
        named = f"&lock={lock}" if lock else ""
        where = self.server.url(address=address)
        return f"{where}?recipe={self.recipe}&{option}={self.id}{named}"

    def where(self, lock: str) -> str:
        """Return the condition that finds a lock's row."""
        return " AND ".join(f"{key} = '{value}'" for key, value in self.table.key(lock).items())

    def owner(self, lock: str = LOCK) -> str | None:
        """Return what stands in their row, or None if there is none."""
        table = self.table
        found = self.execute(f"SELECT {table.owner} FROM {table.table} WHERE {self.where(lock)}")
        return found[0][0] if found else None

    def still_ours(self, lock: str, token: int) -> str:
        """Return what docs/stores has for a transaction of one's own: does a token still count?"""
        table = self.table
        key = " AND ".join(f"t.{name} = '{value}'" for name, value in table.key(lock).items())
        return (
            f"SELECT 1 FROM incumbent_lock o JOIN {table.table} t "
            f"ON t.{table.owner} = o.mark AND {key} "
            f"WHERE o.name = '{table.place}/{next(iter(table.key(lock).values()))}' AND o.held = 1 "
            f"AND o.token = {token} {self.server.for_share}"
        )

    def until(self, lock: str = LOCK) -> Any:
        """Return until when the lock keeps others out."""
        table = self.table
        found = self.execute(f"SELECT {table.until} FROM {table.table} WHERE {self.where(lock)}")
        return found[0][0]

    def theirs(
        self, folder: Path, name: str, *words: str, lock: str = LOCK, ttl_s: float = TTL_S
    ) -> Member:
        """Return a member of theirs."""
        kind = "postgresql" if self.family == "postgresql" else "mariadb"
        jdbc = f"jdbc:{kind}://127.0.0.1:{self.server.port}/tests"
        ms = str(int(ttl_s * 1000))
        arguments = (jdbc, "tests", PASSWORD, self.id, lock, ms, *words)
        return Member(name, java.command(self.recipe, *arguments), folder)

    def ours(self, folder: Path, name: str, *, lock: str = LOCK, ttl_s: float = TTL_S) -> Member:
        """Return a member of ours."""
        words = (self.url(lock), "report", name, str(ttl_s))
        return Member(name, [sys.executable, "-m", "tests.partners.ours", *words], folder)


def ahead(member: Member, by_s: int) -> Member:
    """Return the member with the wall clock of its whole process ahead by so much."""
    return Member(member.name, member.command, member.log_path.parent, ahead_by(by_s))


def place(name: str, fixture: Callable[[str], Any]) -> Place:
    """Return the place that is called so, with its table made."""
    server, _, recipe = name.partition("-")
    made = Place(fixture("postgres" if server == "postgresql" else server), recipe)
    made.make()
    return made
