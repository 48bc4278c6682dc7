"""The elections of `stores.sql`, on a database in this process."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import pytest

from incumbent.core.records import Claim, Holding, Snapshot, StepDownRequest
from incumbent.errors import OutcomeUnknown, StoreUnavailable
from incumbent.stores.api import Store
from incumbent.stores.memory import CAPABILITIES
from incumbent.stores.sql.api import Heard, Rows
from incumbent.stores.sql.base import LONGEST_PAUSE_S
from incumbent.stores.sql.store import SqlStore
from incumbent.testing import conformance
from incumbent.testing.conformance.kit import Watch
from incumbent.testing.database import Database, MemoryServer

SOON_S = LONGEST_PAUSE_S / 2
"""Before the look that comes without any news."""


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


class Slow(MemoryServer):
    """A server whose answers are slow; those to looks are counted, and can be kept on their way."""

    def __init__(self, database: Database, listeners: list[Heard]) -> None:
        super().__init__(database, listeners)
        self.looks = 0
        self.arrives = asyncio.Event()
        self.arrives.set()
        self.found = asyncio.Event()

    async def look(self, statements: Sequence[str], *, urgent: bool = False) -> list[Rows]:
        self.looks += 1
        found = await super().look(statements, urgent=urgent)
        self.found.set()
        await self.arrives.wait()
        return found

    async def write(
        self, statements: Sequence[str], limit_s: float, *, urgent: bool = False
    ) -> list[Rows]:
        """What is said at the commit is heard before the answer."""
        found = await super().write(statements, limit_s, urgent=urgent)
        for _ in range(5):
            await asyncio.sleep(0)
        return found


def test_a_change_of_our_own_is_known_without_a_look() -> None:
    async def main() -> None:
        database, listeners = Database(), list[Heard]()
        server = Slow(database, listeners)
        mine = SqlStore(server, "memory://", CAPABILITIES)
        other = SqlStore(MemoryServer(database, listeners), "memory://", CAPABILITIES)
        await mine.open()
        await other.open()
        claims = [
            Claim(who, f"{who}/x.1", 5.0, await store.open_session(who, 5.0))
            for who, store in (("a_1", mine), ("b_2", other))
        ]
        with Watch(mine, "jobs") as watch, Watch(other, "jobs") as theirs:
            await watch.until(_is_absent, "the absence")
            await theirs.until(_is_absent, "the absence")
            server.looks = 0
            held = await mine.take("jobs", claims[0], absence("jobs"))
            assert watch.seen[-1] == held.snapshot
            await theirs.until(lambda s: s.term == held.term, "the take")
            vacant = await mine.release(held, held.lease, "")
            assert watch.seen[-1] == vacant
            seen = await theirs.until(lambda s: s.holding is Holding.VACANT, "the release")
            assert server.looks == 0
            taken = await other.take("jobs", claims[1], seen)
            await watch.until(lambda s: s.term == taken.term, "what another one changed")
            assert server.looks == 1
            # Two changes at once, of which the first is known.
            asked = await other.ask("jobs", StepDownRequest(taken.term, "a_1"))
            unheard = [text for text in database.said if text.startswith("e:jobs:")]
            await watch.until(lambda s: s == asked, "the request")
            assert server.looks == 2
            server.found.clear()
            for text in (*unheard, "e:jobs:another"):
                listeners[0](text)
            async with asyncio.timeout(SOON_S):
                await server.found.wait()
        await mine.close()
        await other.close()
        database.close()

    asyncio.run(main())


def test_a_look_that_began_before_a_change_of_our_own_does_not_undo_it() -> None:
    async def main() -> None:
        database, listeners = Database(), list[Heard]()
        server = Slow(database, listeners)
        store = SqlStore(server, "memory://", CAPABILITIES)
        await store.open()
        claim = Claim("a_1", "a_1/x.1", 5.0, await store.open_session("a_1", 5.0))
        with Watch(store, "jobs") as watch:
            await watch.until(_is_absent, "the absence")
            server.arrives.clear()
            server.found.clear()
            for heard in listeners:
                heard("e:jobs:-1")
            await server.found.wait()
            held = await store.take("jobs", claim, absence("jobs"))
            server.found.clear()
            server.arrives.set()
            await server.found.wait()  # The look that decides.
            vacant = await store.release(held, held.lease, "")
            await watch.until(lambda s: s == vacant, "the release")
            assert [s.serial for s in watch.seen] == sorted(s.serial for s in watch.seen)
        await store.close()
        database.close()

    asyncio.run(main())


def _is_absent(snapshot: Snapshot) -> bool:
    return snapshot.holding is Holding.ABSENT


def absence(name: str) -> Snapshot:
    return Snapshot(name, Holding.ABSENT, None, 0, lease_version=0)
