"""Stores in SQL databases, for the fault suite."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from incumbent.stores.sql.joined.tables import shedlock
from tests.faults.adapter import OneServer
from tests.servers.mariadb import MariaDb
from tests.servers.postgresql import Postgres

__all__ = ["Mysql", "Postgresql", "PostgresqlShedlock"]


class _Sql(OneServer):
    """A database server, whose data lie in a folder of its own user."""

    def __init__(self, database: Postgres | MariaDb) -> None:
        self._database = database
        super().__init__(database, database.host, database.port)

    def stop(self) -> None:
        super().stop()
        self._database.remove_data()

    def _url(self, lane: int, addresses: Sequence[str]) -> str:
        return self._database.url(address=addresses[0])

    def end_connections(self, lane: int, seat: int) -> None:
        self._database.end_connections(self._ports(lane, seat))


class Postgresql(_Sql):
    """PostgreSQL, where standbys listen."""

    scheme = "postgresql"

    def __init__(self, base_dir: Path) -> None:
        super().__init__(Postgres())


class PostgresqlShedlock(Postgresql):
    """The same, in ShedLock's table."""

    least_ttl_s = 3.0

    def start(self) -> None:
        super().start()
        self._database.execute(shedlock().ddl["postgresql"])

    def _url(self, lane: int, addresses: Sequence[str]) -> str:
        return f"{super()._url(lane, addresses)}?recipe=shedlock"


class Mysql(_Sql):
    """MariaDB, where standbys look again and again."""

    scheme = "mysql"
    least_ttl_s = 3.0

    def __init__(self, base_dir: Path) -> None:
        super().__init__(MariaDb())
