"""What stores in SQL databases have in common, on real servers: PostgreSQL and MariaDB."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from typing import Any

import pytest

from incumbent.core import events as ev
from incumbent.core.records import Held, Holding, StepDownRequest
from incumbent.errors import OutcomeUnknown, Refused, SessionGone, StoreUnavailable
from incumbent.stores import open_store
from incumbent.stores.api import Store
from incumbent.stores.sql.pool import PLACES
from incumbent.stores.sql.store import SqlStore
from incumbent.testing.conformance.kit import Watch
from tests.servers.mariadb import MariaDb
from tests.servers.postgresql import Postgres
from tests.servers.proxy import Proxy
from tests.stores.candidate import candidate, plan
from tests.stores.sql_harness import NAME, TTL_S, a_name, claimed, opened, renewed, taken

Database = Postgres | MariaDb


@pytest.fixture(params=["postgres", "mariadb"])
def database(request: pytest.FixtureRequest) -> Database:
    found: Database = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["own_postgres", "own_mariadb"])
def own_database(request: pytest.FixtureRequest) -> Database:
    found: Database = request.getfixturevalue(request.param)
    return found


def ask(connection: Any, statement: str, *values: object) -> list[Any]:
    """Return what a statement finds in a transaction that goes on."""
    cursor = connection.cursor()
    cursor.execute(statement, values)
    return list(cursor.fetchall())


def wait_for_locks(database: Database, wanted: range) -> None:
    """Return once so many clients wait for one. A look is a connection, so there are pauses."""
    while len(database.waiting()) not in wanted:
        time.sleep(0.05)  # sleep: a lock has no event


def test_what_never_left_did_not_happen(database: Database) -> None:
    async def main() -> None:
        with Proxy(database.host, database.port) as proxy:
            async with opened(database.url(address=proxy.address)) as store:
                name = a_name()
                over = await store.read(name)
                proxy.refuse()
                with pytest.raises(StoreUnavailable):
                    await store.read(name)
                with pytest.raises(StoreUnavailable):
                    await store.connect()
                findings = await store.examine()
                assert (findings[0].check, findings[0].ok) == ("reachable", False)
                proxy.heal()
                await taken(store, name, over=over)

    asyncio.run(main())


def test_a_write_whose_answer_is_lost_is_unknown_and_found_again(database: Database) -> None:
    async def main() -> None:
        with Proxy(database.host, database.port) as proxy:
            async with opened(database.url(address=proxy.address)) as store:
                name = a_name()
                claim = await claimed(store)
                over = await store.read(name)
                proxy.drop_replies()
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await store.take(name, claim, over)
                proxy.heal()
                found = await store.read_back(name, claim)
                assert isinstance(found, Held)
                assert found.token == found.snapshot.serial

                async with opened(database.url()) as other:
                    with Watch(other, name) as watch:
                        await watch.until(lambda s: s.term == found.term, "the take")
                        proxy.drop_replies()
                        renewing = asyncio.ensure_future(store.renew(found.lease))
                        await watch.until(lambda s: s.lease_version == 1, "its effect")
                proxy.reset()
                with pytest.raises(OutcomeUnknown):
                    await renewing
                proxy.heal()
                assert (await store.renew(found.lease)).version == 2

    asyncio.run(main())


def test_a_time_limit_is_kept_though_the_server_stands_still(own_database: Database) -> None:
    async def main() -> None:
        async with opened(own_database.url()) as store:
            held = await taken(store, NAME)
            own_database.pause()
            loop = asyncio.get_running_loop()
            began = loop.time()
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await store.renew(held.lease)
            assert loop.time() - began < 1.5
            own_database.resume()
            await store.renew(held.lease)

    asyncio.run(main())


def test_a_renewal_waits_for_no_other_request(database: Database) -> None:
    """And what was cancelled leaves no transaction behind."""
    name = a_name()

    async def main() -> None:
        async with opened(database.url()) as store:
            held = await taken(store, name)
            claim = await claimed(store)
            with database.transaction() as blocker:
                lock = "SELECT serial FROM incumbent_counter WHERE name = %s FOR UPDATE"
                assert ask(blocker, lock, name)
                stuck = [
                    asyncio.ensure_future(store.take(name, claim, held.snapshot))
                    for _ in range(2 * PLACES)
                ]
                await asyncio.to_thread(wait_for_locks, database, range(PLACES, 2 * PLACES + 1))
                lease = await store.renew(held.lease)
                assert lease.version == 1
                for take in stuck:
                    take.cancel()
                await asyncio.wait(stuck)
                assert all(take.cancelled() for take in stuck)
                await store.renew(lease)
                # With nobody at its other end, each gives up by itself after half a TTL.
                await asyncio.to_thread(wait_for_locks, database, range(1))
            assert (await store.read(name)).term == held.term

    asyncio.run(main())


def test_a_holder_outlives_its_connections(database: Database) -> None:
    name = a_name()

    async def main() -> None:
        async with opened(database.url()) as store, opened(database.url()) as looker:
            ours = candidate(store, name, "ours_1", plan(6))
            begun = await ours.until("begun", 10)
            with Watch(looker, name) as watch:
                for _ in range(3):
                    last = await watch.until(lambda s: s.token == begun["token"], "the holder")
                    assert await asyncio.to_thread(database.end_connections)
                    await watch.until(renewed(last), "a renewal")
            assert not ours.all("stopped")
            await looker.ask(name, StepDownRequest((await looker.read(name)).term))
            stopped = await ours.until("stopped", 10)
            assert stopped["why"] is ev.Why.STEP_DOWN
            assert len(ours.all("begun")) == 1

    asyncio.run(main())


def test_a_holder_outlives_a_crash_of_the_server(own_database: Database) -> None:
    async def main() -> None:
        async with opened(own_database.url()) as store:
            ours = candidate(store, NAME, "ours_1", plan(15))
            begun = await ours.until("begun", 10)
            await asyncio.to_thread(own_database.kill)
            await asyncio.to_thread(own_database.start)
            async with opened(own_database.url()) as looker:
                with Watch(looker, NAME) as watch:
                    first = await watch.until(lambda s: s.token == begun["token"], "the holder")
                    await watch.until(renewed(first), "a renewal")
            assert not ours.all("stopped")

    asyncio.run(main())


def test_an_election_that_never_was_is_vacant_and_one_that_was_deleted_is_waited_out(
    database: Database,
) -> None:
    name = a_name()

    async def main() -> None:
        async with opened(database.url()) as one, opened(database.url()) as two:
            loop = asyncio.get_running_loop()
            asked = loop.time()
            first = candidate(one, name, "a_1", plan(4))
            old = await first.until("begun", 10)
            assert loop.time() - asked < 2.0
            await one.examine()  # It is listening by then, and has looked, if it ever does.
            for _ in range(3):
                await one.read(name)
            database.execute("DELETE FROM incumbent_election WHERE name = %s", (name,))
            # Somebody who has never seen the record.
            second = candidate(two, name, "b_2", plan(4))
            gone = await second.until("waiting", 5, lambda e: e["holding"] is Holding.ABSENT)
            stopped = await first.until("stopped", 5)
            assert stopped["why"] is ev.Why.DEPOSED
            assert stopped["at"] - gone["at"] < 2.5, "the next renewal tells"
            tasks = [
                asyncio.ensure_future(recorder.until("begun", 10, count=count))
                for recorder, count in ((first, 2), (second, 1))
            ]
            done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in rest:
                task.cancel()
            begun = done.pop().result()
            assert begun["at"] - gone["at"] >= 3.9, "a whole TTL is waited out"
            assert begun["token"] > old["token"]

    asyncio.run(main())


def test_an_absence_that_came_back_is_another_one(database: Database) -> None:
    name = a_name()

    async def main() -> None:
        async with opened(database.url()) as one, opened(database.url()) as two:
            nothing = await two.read(name)
            assert nothing.serial == 0
            held = await taken(one, name)
            database.execute("DELETE FROM incumbent_election WHERE name = %s", (name,))
            deleted = await two.read(name)
            assert deleted.serial > held.snapshot.serial
            with pytest.raises(Refused) as refusal:
                await taken(two, name, over=nothing)
            assert refusal.value.snapshot.watched == deleted.watched
            await taken(two, name, over=deleted)

    asyncio.run(main())


def test_a_holder_hears_of_a_deleted_row_by_its_own_renewal(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody says that it was deleted, and nobody looks: only the print of the session tells."""
    name, other = a_name(), a_name()
    monkeypatch.setattr(SqlStore, "_pause_s", lambda self: 3600.0)

    async def main() -> None:
        async with opened(database.url()) as store:
            claim = await claimed(store)
            held = await store.take(name, claim, await store.read(name))
            await store.take(other, replace(claim, term="a_1/x.2"), await store.read(other))
            lease = await store.renew(held.lease)
            with Watch(store, name) as watch:
                await watch.until(lambda s: s.term == held.term, "the holder")
                await store.examine()  # A connection that listens has told it all by now.
                lease = await store.renew(lease)
                database.execute("DELETE FROM incumbent_election WHERE name = %s", (name,))
                await store.renew(lease)
                await watch.until(lambda s: s.holding is Holding.ABSENT, "the deletion")

    asyncio.run(main())


def test_a_take_names_the_write_that_was_watched(database: Database) -> None:
    """A row that changed back looks the same, but for its serial."""
    name = a_name()

    async def main() -> None:
        async with opened(database.url()) as one, opened(database.url()) as two:
            held = await taken(one, name)
            watched = await two.read(name)
            request = StepDownRequest(held.term, "b_2")
            asked = await two.ask(name, request)
            undone = "UPDATE incumbent_election SET request_term = %s, request_to = %s "
            database.execute(undone + "WHERE name = %s", ("", "", name))
            with pytest.raises(Refused) as refusal:
                await taken(two, name, over=watched)
            assert refusal.value.snapshot.serial == asked.serial
            await one.renew(held.lease)

    asyncio.run(main())


def test_a_session_that_is_gone_proves_nothing(database: Database) -> None:
    name = a_name()

    async def main() -> None:
        async with opened(database.url()) as store:
            held = await taken(store, name)
            before = await store.read(name)
            database.execute("DELETE FROM incumbent_session WHERE id = %s", (held.lease.key,))
            with pytest.raises(Refused):
                await store.renew(held.lease)
            seen = await store.read(name)
            assert (seen.holding, seen.term) == (Holding.HELD, held.term)
            assert seen.ttl_s == TTL_S
            with pytest.raises(Refused):
                await taken(store, name, over=before)
            later = await taken(store, name, over=seen)
            assert later.token is not None
            assert later.token > seen.serial

    asyncio.run(main())


def test_a_database_that_forgot_gives_no_token_twice(database: Database) -> None:
    """As after the promotion of a standby that lagged, or a backup: the counter is an old one."""
    name, tables = a_name(), ("incumbent_election", "incumbent_counter")

    async def main() -> None:
        async with opened(database.url()) as store:
            first = await taken(store, name)
            await store.release(first, first.lease, "")
            old = [
                database.execute(f"SELECT * FROM {table} WHERE name = %s", (name,))
                for table in tables
            ]
            forgotten = await taken(store, name)
            for table, found in zip(tables, old, strict=True):
                database.execute(f"DELETE FROM {table} WHERE name = %s", (name,))
                for row in found:
                    marks = ", ".join(["%s"] * len(row))
                    database.execute(f"INSERT INTO {table} VALUES ({marks})", row)
        async with opened(database.url()) as store:
            assert (await store.read(name)).holding is Holding.VACANT
            again = await taken(store, name)
            tokens = [held.token or 0 for held in (first, forgotten, again)]
            assert tokens == sorted(set(tokens))

    asyncio.run(main())


def test_tokens_grow_though_the_clock_was_set_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = a_name()

    async def main() -> None:
        async with opened(database.url()) as store:
            held = await taken(store, name)
            assert isinstance(store, SqlStore)
            monkeypatch.setattr(store, "_wall", lambda: 1.0)
            vacant = await store.release(held, held.lease, "")
            assert (await taken(store, name)).token == vacant.serial + 1

    asyncio.run(main())


def test_a_request_is_a_change_that_a_takeover_has_to_have_seen(database: Database) -> None:
    name = a_name()

    async def main() -> None:
        async with opened(database.url()) as one, opened(database.url()) as two:
            held = await taken(one, name)
            asked = await two.ask(name, StepDownRequest(held.term, "b_2"))
            with pytest.raises(Refused) as refusal:
                await taken(two, name, over=held.snapshot)
            assert refusal.value.snapshot == asked
            await taken(two, name, over=asked)

    asyncio.run(main())


def test_a_take_under_a_session_that_is_over_changes_nothing(database: Database) -> None:
    name = a_name()

    async def main() -> None:
        async with opened(database.url()) as one, opened(database.url()) as two:
            held = await taken(one, name)
            claim = await claimed(two, "b_2")
            assert claim.session is not None
            await two.close_session(claim.session)
            with pytest.raises(SessionGone):
                await two.take(name, claim, held.snapshot)
            assert await one.read(name) == held.snapshot
            assert (await one.renew(held.lease)).version == 1

    asyncio.run(main())


def test_of_two_that_void_each_other_one_is_told(database: Database) -> None:
    async def main() -> None:
        async with opened(database.url()) as one, opened(database.url()) as two:
            for _ in range(20):
                ours, theirs = await claimed(one, "a_1"), await claimed(two, "b_2")
                x, y = a_name(), a_name()
                await one.take(x, ours, await one.read(x))
                await two.take(y, theirs, await two.read(y))
                over_x, over_y = await two.read(x), await one.read(y)
                results = await asyncio.gather(
                    one.take(y, replace(ours, term="a_1/z.9"), over_y),
                    two.take(x, replace(theirs, term="b_2/z.9"), over_x),
                    return_exceptions=True,
                )
                assert sorted(type(r).__name__ for r in results) == ["Held", "SessionGone"], results

    asyncio.run(main())


def test_any_text_is_carried(database: Database) -> None:
    async def main() -> None:
        async with opened(database.url()) as store:
            for odd in ("o'clock", "back\\slash", "späť '; DROP TABLE x; --", "%s $1 {0}"):
                name = a_name()
                held = await taken(store, name)
                assert (await store.release(held, held.lease, odd)).successor == odd

    asyncio.run(main())


def test_a_forked_child_has_connections_of_its_own(database: Database) -> None:
    name = a_name()

    async def child(store: Store) -> None:
        await store.open()
        assert (await store.read(name)).holding is Holding.HELD
        await store.close()

    async def main() -> None:
        store = open_store(database.url())
        await store.open()
        held = await taken(store, name)
        lease = await store.renew(held.lease)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                asyncio.events._set_running_loop(None)
                asyncio.run(child(store))
                code = 0
            finally:
                os._exit(code)
        _, status = await asyncio.to_thread(os.waitpid, pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert (await store.renew(lease)).version == 2
        await store.close()

    asyncio.run(main())


def test_a_transaction_that_checks_the_term_cannot_be_overtaken(database: Database) -> None:
    name = a_name()
    check = "SELECT 1 FROM incumbent_election WHERE name = %s AND token = %s "
    check += database.for_share

    async def main() -> None:
        async with opened(database.url()) as one, opened(database.url()) as two:
            old = await taken(one, name)
            with database.transaction() as work:
                assert ask(work, check, name, old.token)
                await one.renew(old.lease)  # A renewal does not wait for it.
                over = await two.read(name)
                taking = asyncio.ensure_future(taken(two, name, over=over))
                while not await asyncio.to_thread(database.waiting):
                    assert not taking.done(), "the takeover waits for the commit"
                work.commit()
                new = await taking
                assert not ask(work, check, name, old.token)
                assert ask(work, check, name, new.token)

    asyncio.run(main())
