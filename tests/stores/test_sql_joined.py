"""The rules of elections in the lock table of another library; what its members do is done by hand.

The members themselves are in tests/partners.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from incumbent.core.elector import Elector
from incumbent.core.events import Seen, Start
from incumbent.core.records import (
    FORMAT,
    Bar,
    Claim,
    Held,
    Holding,
    Snapshot,
    StepDownRequest,
)
from incumbent.core.timing import Timing
from incumbent.errors import ConfigError, OutcomeUnknown, Refused, StoreAbsent, StoreUnusable
from incumbent.stores import open_store
from incumbent.stores.api import Store
from incumbent.stores.sql.joined import rows
from incumbent.testing.conformance.kit import Watch
from tests.faces.programs import until
from tests.partners.sql_locks import CROSSED, Place, place
from tests.servers.proxy import Proxy

TTL_S = 9.0
"""Of our terms; nothing here happens because one of them was over."""
NAME = "report"
LIMIT_S = 30.0
ONE, TWO = Bar("moved to elsewhere", "nonce-1"), Bar("moved to elsewhere", "nonce-2")
YEAR_S = 365 * 86400.0
THEIRS = "0b7ef4a8-6f0a-4f0e-9d4e-3f6f6c0a3b11"
"""An owner of theirs; Spring's have 36 characters."""


@pytest.fixture(params=CROSSED, scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[Place]:
    made = place(request.param, request.getfixturevalue)
    yield made
    made.drop()


@pytest.fixture
def here(table: Place) -> Place:
    table.execute(f"DELETE FROM {table.table.table}")
    table.execute("DELETE FROM incumbent_lock WHERE name <> ''") if _made(table) else None
    return table


def _made(here: Place) -> bool:
    return bool(here.execute(f"SELECT 1 FROM information_schema.tables WHERE table_name = {_OURS}"))


_OURS = "'incumbent_lock'"


class Theirs:
    """What a member of theirs does to a lock, as statements."""

    def __init__(self, here: Place) -> None:
        self.here, self.table, self.where = here, here.table, here.where(NAME)
        self.now = (
            "(clock_timestamp() AT TIME ZONE 'UTC')"
            if here.family == "postgresql"
            else "UTC_TIMESTAMP(6)"
        )

    def locks(self, for_s: float, owner: str = THEIRS) -> None:
        """Take the lock, whoever has it: what a clock that is ahead does as well."""
        self.here.execute(f"DELETE FROM {self.table.table} WHERE {self.where}")
        key = self.table.key(NAME)
        columns = (*key, self.table.owner, self.table.since, self.table.until)
        values = [f"'{value}'" for value in (*key.values(), owner)]
        times = (self.now, f"{self.now} + INTERVAL '{for_s}' SECOND")
        listed = ", ".join((*values, *times))
        self.here.execute(
            f"INSERT INTO {self.table.table} ({', '.join(columns)}) VALUES ({listed})"
        )

    def until(self, in_s: float) -> None:
        """Extend the lock, or shorten it."""
        time = f"{self.now} + INTERVAL '{in_s}' SECOND"
        self.here.execute(
            f"UPDATE {self.table.table} SET {self.table.until} = {time} WHERE {self.where}"
        )

    def unlocks(self) -> None:
        if self.table.keeps:
            self.until(-0.01)
        else:
            self.here.execute(f"DELETE FROM {self.table.table} WHERE {self.where}")

    def left_s(self) -> float:
        """Return for how long the lock keeps others out."""
        text = (
            f"extract(epoch FROM ({self.table.until} - {self.now}))"
            if self.here.family == "postgresql"
            else f"TIMESTAMPDIFF(MICROSECOND, {self.now}, {self.table.until}) / 1000000"
        )
        found = self.here.execute(f"SELECT {text} FROM {self.table.table} WHERE {self.where}")
        return float(found[0][0])

    def whole_row(self) -> list[Any]:
        return self.here.execute(f"SELECT * FROM {self.table.table} WHERE {self.where}")


@asynccontextmanager
async def opened(here: Place, more: str = "") -> AsyncIterator[Store]:
    store = open_store(here.url() + more)
    try:
        await store.open()
        yield store
    finally:
        await store.close()


_attempts = iter(range(1, 1000))


def claim(identity: str = "a_1") -> Claim:
    return Claim(identity, f"{identity}/x.{next(_attempts)}", TTL_S)


async def taken(store: Store) -> Held:
    return await store.take(NAME, claim(), await store.read(NAME))


async def refused(work: Awaitable[object]) -> Snapshot:
    with pytest.raises(Refused) as raised:
        await work
    return raised.value.snapshot


def played(scene: Callable[[Store, Theirs], Awaitable[None]], here: Place) -> None:
    async def main() -> None:
        async with opened(here) as store:
            await scene(store, Theirs(here))

    asyncio.run(main())


# -- how a lock of theirs is seen -----------------------------------------------------------------


def test_a_lock_of_theirs_is_theirs_until_its_time_has_passed(here: Place) -> None:
    async def scene(store: Store, theirs: Theirs) -> None:
        theirs.locks(600)
        seen = await store.read(NAME)
        assert (seen.holding, seen.holder, seen.term) == (Holding.HELD, THEIRS, "")
        told = await refused(store.take(NAME, claim(), seen))
        assert told.watched == seen.watched
        # Also if we had seen it over: the database's clock, which may be set back, decides.
        row = theirs.whole_row()
        await refused(store.take(NAME, claim(), replace(seen, lease_version=rows.OVER)))
        assert theirs.whole_row() == row

    played(scene, here)


def test_one_whose_time_has_passed_stands_still_besides(here: Place) -> None:
    async def scene(store: Store, theirs: Theirs) -> None:
        theirs.locks(0.05)
        runs = await store.read(NAME)
        theirs.until(-3000)
        theirs.until(-0.01)
        seen = await store.read(NAME)
        assert seen.holding is Holding.HELD
        assert 0 < seen.ttl_s <= rows.PATIENCE_S
        assert seen.watched != runs.watched, "the wait begins when its time is seen to be over"
        theirs.until(-0.001)
        await refused(store.take(NAME, claim(), seen))
        held = await store.take(NAME, claim(), await store.read(NAME))
        assert here.owner(NAME) == here.table.mark(held.term)

    played(scene, here)


def test_a_long_time_is_not_waited_for_again(here: Place) -> None:
    async def scene(store: Store, theirs: Theirs) -> None:
        theirs.locks(3600)
        assert (await store.read(NAME)).ttl_s >= 3599
        theirs.here.execute(
            f"UPDATE {theirs.table.table} SET {theirs.table.since} = {theirs.now} - "
            f"INTERVAL '7200' SECOND, {theirs.table.until} = {theirs.now} - INTERVAL '60' SECOND"
        )
        async with opened(here) as newcomer:
            assert (await newcomer.read(NAME)).ttl_s == rows.PATIENCE_S

    played(scene, here)


def test_one_that_is_given_up_under_our_eyes_is_free(here: Place) -> None:
    async def scene(store: Store, theirs: Theirs) -> None:
        theirs.locks(600)
        with Watch(store, NAME) as watch:
            await watch.until(lambda s: s.holder == THEIRS, "their holder")
            theirs.unlocks()
            free = await watch.until(lambda s: s.holding is Holding.VACANT, "the unlock")
            held = await store.take(NAME, claim(), free)
            assert held.snapshot.serial > free.serial

    played(scene, here)


def test_one_that_expires_under_our_eyes_is_not_given_up(here: Place) -> None:
    async def scene(store: Store, theirs: Theirs) -> None:
        theirs.locks(0.5)
        with Watch(store, NAME) as watch:
            await watch.until(lambda s: s.lease_version == rows.RUNS, "their holder")
            over = await watch.until(lambda s: s.lease_version != rows.RUNS, "its end")
            assert over.holding is Holding.HELD

    played(scene, here)


def test_their_row_comes_first_where_both_insert(here: Place) -> None:
    async def scene(store: Store, theirs: Theirs) -> None:
        seen = await store.read(NAME)
        assert seen.holding is Holding.ABSENT
        theirs.locks(600)
        told = await refused(store.take(NAME, claim(), seen))
        assert told.holder == THEIRS
        assert here.owner(NAME) == THEIRS

    played(scene, here)


# -- what we write keeps them out -----------------------------------------------------------------


def test_what_we_write_keeps_them_out_for_a_ttl(here: Place) -> None:
    async def scene(store: Store, theirs: Theirs) -> None:
        held = await taken(store)
        assert theirs.left_s() > TTL_S / 2
        theirs.until(1)
        lease = await store.renew(held.lease)
        assert theirs.left_s() > TTL_S / 2
        await store.ask(NAME, StepDownRequest(held.term))
        assert (await store.release(held, lease, "")).holding is Holding.VACANT
        assert theirs.whole_row() == [] or theirs.left_s() <= 0

    played(scene, here)


def test_a_lock_that_is_taken_over_keeps_them_out_as_well(here: Place) -> None:
    async def scene(store: Store, theirs: Theirs) -> None:
        await taken(store)
        theirs.until(0.1)
        await taken(store)
        assert theirs.left_s() > TTL_S / 2

    played(scene, here)


def test_a_take_whose_answer_is_lost_is_unknown_and_found_again(here: Place) -> None:
    async def main() -> None:
        with Proxy("127.0.0.1", here.server.port) as proxy:
            plain = "&sslmode=disable" if here.family == "postgresql" else "&ssl-mode=DISABLED"
            store = open_store(here.url(address=proxy.address) + plain)
            await store.open()
            wanted, seen = claim(), await store.read(NAME)
            async with opened(here) as other:
                proxy.drop_replies()
                taking = asyncio.ensure_future(store.take(NAME, wanted, seen))
                with Watch(other, NAME) as watch:
                    await watch.until(lambda s: s.term == wanted.term, "its effect")
                proxy.reset()
                with pytest.raises(OutcomeUnknown):
                    await taking
                proxy.heal()
                found = await store.read_back(NAME, wanted)
                assert isinstance(found, Held)
                await store.renew(found.lease)
            await store.close()

    asyncio.run(main())


def test_the_check_in_a_transaction_makes_everybody_wait(here: Place) -> None:
    """What docs/stores has: nothing of ours is committed after somebody else has the lock."""

    async def scene(store: Store, theirs: Theirs) -> None:
        held = await taken(store)
        with here.server.transaction() as connection, ThreadPoolExecutor() as pool:
            cursor = connection.cursor()
            cursor.execute(here.still_ours(NAME, held.token or 0))
            assert cursor.fetchall()
            taking = pool.submit(theirs.until, -1)
            until(lambda: bool(here.server.waiting()), "somebody waits", LIMIT_S)
            assert not taking.done()
            connection.commit()
            taking.result(LIMIT_S)

    played(scene, here)


# -- a lock that is taken from under our term -----------------------------------------------------


def test_a_robbed_term_is_over_and_touches_nothing(here: Place) -> None:
    async def scene(store: Store, theirs: Theirs) -> None:
        held = await taken(store)
        theirs.locks(600)
        row = theirs.whole_row()
        told = await refused(store.renew(held.lease))
        assert told.holder == THEIRS
        assert told.serial > held.snapshot.serial, "the holder would take it for old news"
        told = await store.release(held, held.lease, "")
        assert told.holder == THEIRS
        await refused(store.ask(NAME, StepDownRequest(held.term)))
        assert theirs.whole_row() == row
        assert isinstance(await store.read_back(NAME, claim()), Snapshot)

    played(scene, here)


def test_whoever_follows_the_robber_waits_for_the_robbed(here: Place) -> None:
    """The robbed one of ours may trust its term still, and the robber is gone in a moment."""

    async def scene(store: Store, theirs: Theirs) -> None:
        held = await taken(store)
        with Watch(store, NAME) as watch:
            await watch.until(lambda s: s.term == held.term, "our term")
            theirs.locks(600)
            await watch.until(lambda s: s.holder == THEIRS, "the robber")
            theirs.unlocks()
            gone = await watch.until(lambda s: s.lease_version != rows.RUNS, "its unlock")
            assert gone.holding is not Holding.VACANT
            assert gone.ttl_s == TTL_S
            follower = await store.take(NAME, claim("b_2"), gone)
            assert (follower.token or 0) > (held.token or 0)

    played(scene, here)


def test_what_theirs_had_been_given_is_not_waited_out_for_ours() -> None:
    """A row that Spring deletes may have said days, and the one who was robbed holds for a TTL."""
    ours = (7, FORMAT, 1, "a_1", "a_1/x.1", 7, TTL_S, "", "", "", "mark")
    theirs = rows.Raw(ours, rows.Row(THEIRS, "1", "2"), 86400.0, over=False)
    vanished = rows.Raw(ours, None, 0.0, over=False)
    seen = rows.snapshot(NAME, theirs, keeps=False, given_up=False)
    gone = rows.snapshot(NAME, vanished, keeps=False, given_up=vanished.given_up_since(theirs))
    elector = Elector(NAME, "b_2", "y", Timing.plan(TTL_S), absent_is_vacant=True)
    elector.handle(Start(), 0.0)
    elector.handle(Seen(seen), 1.0)
    elector.handle(Seen(gone), 2.0)
    assert elector.wake_at == 2.0 + TTL_S


def test_a_row_that_somebody_deletes_is_waited_out_and_tokens_grow(here: Place) -> None:
    async def scene(store: Store, theirs: Theirs) -> None:
        held = await taken(store)
        theirs.here.execute(f"DELETE FROM {theirs.table.table} WHERE {theirs.where}")
        gone = await store.read(NAME)
        assert (gone.holding, gone.ttl_s) == (Holding.ABSENT, TTL_S)
        assert (await refused(store.renew(held.lease))).holding is Holding.ABSENT
        again = await store.take(NAME, claim("b_2"), gone)
        assert (again.token or 0) > (held.token or 0)

    played(scene, here)


def test_an_old_term_releases_nothing_of_the_next(here: Place) -> None:
    async def scene(store: Store, theirs: Theirs) -> None:
        old = await taken(store)
        new = await store.take(NAME, claim("b_2"), await store.read(NAME))
        row = theirs.whole_row()
        told = await store.release(old, old.lease, "")
        assert told.term == new.term
        await refused(store.renew(old.lease))
        assert theirs.whole_row() == row
        await store.renew(new.lease)

    played(scene, here)


# -- bars -----------------------------------------------------------------------------------------


async def barred(store: Store) -> Snapshot:
    return await store.bar((await taken(store)).snapshot, ONE)


def test_a_bar_keeps_them_out_for_good_until_it_is_lifted(here: Place) -> None:
    async def scene(store: Store, theirs: Theirs) -> None:
        left = await barred(store)
        assert theirs.left_s() > 10 * YEAR_S
        assert here.owner(NAME) == here.table.bar_mark(ONE.nonce)
        left = await store.bar(left, TWO)
        assert (left.bar, left.why) == (TWO, TWO.text)
        assert theirs.left_s() > 10 * YEAR_S
        assert (await store.unbar(left)).holding is Holding.VACANT
        assert theirs.whole_row() == [] or theirs.left_s() <= 0
        assert ((await taken(store)).token or 0) > (left.token or 0)

    played(scene, here)


def test_a_term_that_was_robbed_is_not_barred(here: Place) -> None:
    async def scene(store: Store, theirs: Theirs) -> None:
        held = await taken(store)
        theirs.locks(600)
        row = theirs.whole_row()
        told = await refused(store.bar(held.snapshot, ONE))
        assert (told.bar, told.holder) == (None, THEIRS)
        await refused(store.bar(told, ONE))
        assert theirs.whole_row() == row

    played(scene, here)


def test_a_bar_that_they_have_broken_keeps_ours_out_and_says_so(here: Place) -> None:
    """It is not written anew, which would be success; lifted, it leaves their holder alone."""

    async def scene(store: Store, theirs: Theirs) -> None:
        left = await barred(store)
        with Watch(store, NAME) as watch:
            await watch.until(lambda s: s.bar == ONE, "the bar")
            theirs.locks(600)
            seen = await watch.until(lambda s: s.why != ONE.text, "that it is broken")
        assert (seen.bar, seen.why) == (ONE, f"{ONE.text}; {rows.OPENED}")
        row = theirs.whole_row()
        await refused(store.take(NAME, claim(), seen))
        for over in (left, seen):
            assert (await refused(store.bar(over, TWO))).bar == ONE
        assert theirs.whole_row() == row
        assert (await store.unbar(seen)).holder == THEIRS
        assert theirs.whole_row() == row

    played(scene, here)


def test_a_bar_that_they_have_only_unlocked_is_written_anew(here: Place) -> None:
    """As a member of ShedLock does that unlocks late, by the lock's name alone."""

    async def scene(store: Store, theirs: Theirs) -> None:
        await barred(store)
        theirs.until(-0.01)
        seen = await store.read(NAME)
        assert (seen.bar, seen.why) == (ONE, f"{ONE.text}; {rows.OPENED}")
        left = await store.bar(seen, TWO)
        assert (left.bar, left.why) == (TWO, TWO.text)
        assert theirs.left_s() > 10 * YEAR_S

    played(scene, here)


def test_to_a_version_that_knows_no_bars_it_is_foreign(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(store: Store, theirs: Theirs) -> None:
        await barred(store)
        monkeypatch.setattr(rows, "BARRED", None)
        old = await store.read(NAME)
        assert (old.holding, old.bar) == (Holding.FOREIGN, None)
        row = theirs.whole_row()
        await refused(store.take(NAME, claim(), old))
        assert theirs.whole_row() == row

    played(scene, here)


# -- the address and the tables -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("recipe=quartz", "no recipe='quartz'; it knows: shedlock, spring"),
        ("lock=x", "say which, by recipe="),
        ("table=x", r"table= does not go with recipe=\(none\)"),
        ("recipe=shedlock&prefix=x", "prefix= does not go with recipe=shedlock"),
        ("recipe=spring&table=x", "table= does not go with recipe=spring"),
        ("recipe=shedlock&table=x;y", "table='x;y' cannot be"),
        ("recipe=spring&region=%27", "cannot be"),
    ],
)
@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_what_an_address_may_say(scheme: str, query: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        open_store(f"{scheme}://h/a?{query}")


def test_a_lock_of_one_name_is_one_election(here: Place) -> None:
    async def main() -> None:
        async with opened(here, "&lock=Only_One") as store:
            held = await store.take("a", claim(), await store.read("a"))
            assert here.owner("Only_One") == here.table.mark(held.term)
            with pytest.raises(ConfigError, match="is one lock"):
                await store.read("b")
            with Watch(store, "b") as watch:
                told = await watch.until(lambda s: s.holding is Holding.FOREIGN, "the mistake")
                assert "is one lock" in told.why
            assert [s.name for s in await store.elections()] == ["a"]
            assert "&lock=Only_One" in store.url

    asyncio.run(main())


def test_their_table_is_not_made_by_us(here: Place) -> None:
    missing = Place(here.server, here.recipe)

    async def main() -> None:
        store = open_store(missing.url())
        with pytest.raises(StoreUnusable, match=r"no table t.*CREATE TABLE t"):
            await store.open()
        await store.close()

    asyncio.run(main())


def test_a_table_of_another_version_is_refused(here: Place) -> None:
    other = Place(here.server, here.recipe)
    other.make()
    other.execute(f"ALTER TABLE {other.table.table} DROP COLUMN {other.table.until}")

    async def main() -> None:
        store = open_store(other.url())
        with pytest.raises(StoreUnusable, match=f"(?i){other.table.until}"):
            await store.open()
        await store.close()

    try:
        asyncio.run(main())
    finally:
        other.drop()


def test_who_only_looks_makes_nothing(here: Place) -> None:
    async def main() -> None:
        store = open_store(here.url())
        with pytest.raises(StoreAbsent, match="not there yet"):
            await store.open(create=False)
        await store.close()

    if _made(here):
        here.execute("DROP TABLE incumbent_lock")
    asyncio.run(main())


def test_a_long_identity_has_a_mark_of_its_own(here: Place) -> None:
    marks = {here.table.mark(f"{'x' * 252}/y.{number}") for number in range(3)}
    assert len(marks) == 3
    assert max(map(len, marks)) <= (255 if here.table.keeps else 36)
