"""The elections of `stores.sql`, on a database in this process."""

from __future__ import annotations

import itertools

from incumbent.stores.api import Store
from incumbent.stores.memory import CAPABILITIES
from incumbent.stores.sql.api import Heard
from incumbent.stores.sql.store import SqlStore
from incumbent.testing import conformance
from incumbent.testing.database import Database, MemoryServer


class SqlHarness:
    """A database per case; real servers have harnesses of the same shape."""

    ttl_s = 5.0

    def __init__(self) -> None:
        self._database = Database()
        self._listeners: list[Heard] = []
        self._stores: list[Store] = []
        self._numbers = itertools.count(1)

    def name(self) -> str:
        return f"election-{next(self._numbers)}"

    async def store(self, *, create: bool = True) -> Store:
        server = MemoryServer(self._database, self._listeners)
        store = SqlStore(server, "memory://", CAPABILITIES)
        self._stores.append(store)
        await store.open(create=create)
        return store

    async def delete(self, name: str) -> bool:
        self._database.look("DELETE FROM incumbent_election WHERE name = ?", name)
        return self._say(name)

    async def scribble(self, name: str) -> bool:
        self._database.look("UPDATE incumbent_election SET format = 999 WHERE name = ?", name)
        return self._say(name)

    async def disturb(self, name: str) -> bool:
        move = "UPDATE incumbent_election SET serial = serial + 1 WHERE name = ?"
        self._database.look(move, name)
        return self._say(name)

    def _say(self, name: str) -> bool:
        for heard in self._listeners:
            heard(f"e:{name}")
        return True

    async def close(self) -> None:
        for store in self._stores:
            await store.close()
        self._database.close()


@conformance.parametrize(SqlHarness)
def test_sql(conform: conformance.Bound) -> None:
    conform()
