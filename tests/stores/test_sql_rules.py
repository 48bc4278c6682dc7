"""The elections of `stores.sql`, on a database in this process."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import pytest

from incumbent.core.records import Claim, Holding, Snapshot
from incumbent.errors import OutcomeUnknown, StoreUnavailable
from incumbent.stores.api import Store
from incumbent.stores.memory import CAPABILITIES
from incumbent.stores.sql.api import Heard, Rows
from incumbent.stores.sql.store import SqlStore
from incumbent.testing import conformance
from incumbent.testing.conformance.kit import Watch
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


class Deaf(MemoryServer):
    """A server that carries out what is written, and answers no look as long as it is deaf."""

    deaf = False

    async def look(self, statements: Sequence[str], *, urgent: bool = False) -> list[Rows]:
        if self.deaf:
            raise StoreUnavailable("no answer")
        return await super().look(statements, urgent=urgent)


def test_a_renewal_counts_when_what_it_holds_was_looked_at() -> None:
    """A holder that cannot look may have missed that its row was deleted; others wait it out."""

    async def main() -> None:
        database = Database()
        server = Deaf(database, [])
        store = SqlStore(server, "memory://", CAPABILITIES)
        await store.open()
        session = await store.open_session("a_1", 5.0)
        held = await store.take("jobs", Claim("a_1", "a_1/x.1", 5.0, session), absence("jobs"))
        with Watch(store, "jobs") as watch:
            await watch.until(lambda s: s.term == held.term, "the holder")
            lease = await store.renew(held.lease)
            database.look("DELETE FROM incumbent_election")
            server.deaf = True
            for _ in range(2):
                with pytest.raises(OutcomeUnknown, match="could not be looked at"):
                    await store.renew(lease)
            server.deaf = False
            await store.renew(lease)
            assert watch.seen[-1].holding is Holding.ABSENT
        await store.close()
        database.close()

    asyncio.run(main())


def absence(name: str) -> Snapshot:
    return Snapshot(name, Holding.ABSENT, None, 0, lease_version=0)
