"""Members of ShedLock and of Spring before a lock that is barred, and a lock that moves away."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from incumbent.cli.migration import Migration, Step
from incumbent.cli.migration import Place as Whereabouts
from incumbent.core.records import Bar, Claim, Held, Snapshot
from incumbent.errors import Refused
from incumbent.stores import open_store
from incumbent.stores.api import Store
from incumbent.stores.sql.joined import rows
from incumbent.testing.conformance.kit import Watch
from tests.cli.processes import Process, run
from tests.partners.member import Member
from tests.partners.passing import ended
from tests.partners.sql_locks import LOCK, TTL_S, Place, place

LIMIT_S = 60.0
NAME = "report"
BAR = Bar("moved to elsewhere", "nonce-1")
HIGHER, HIGHEST = "tokens_from=4000000000000000", "tokens_from=8000000000000000"
"""Tokens of a database follow its candidates' clocks, in microseconds: less than 2 * 10^15."""


@pytest.fixture
def here(request: pytest.FixtureRequest) -> Iterator[Place]:
    made = place(request.param, request.getfixturevalue)
    yield made
    made.drop()


async def taken(store: Store, over: Snapshot) -> Held:
    return await store.take(NAME, Claim("a_1", "a_1/x.1", TTL_S), over)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("here", ["postgresql-shedlock", "mariadb-spring"], indirect=True)
def test_they_stay_out_until_it_is_lifted(here: Place, tmp_path: Path) -> None:
    """For longer than it waits for a holder that is silent, as another lock shows."""
    out = here.theirs(tmp_path, "out")
    after = here.theirs(tmp_path, "after", lock="silent")

    async def main() -> None:
        store, silent = open_store(here.url(LOCK)), open_store(here.url("silent"))
        for each in (store, silent):
            await each.open()
        held = await taken(store, await store.read(NAME))
        left = await store.bar(held.snapshot, BAR)
        out.start()
        await asyncio.to_thread(out.wait_for, "waiting", LIMIT_S)
        await taken(silent, await silent.read(NAME))
        after.start()
        await asyncio.to_thread(after.wait_for, "holding", LIMIT_S)
        assert not out.all("holding")
        seen = await store.read(NAME)
        assert (seen.bar, seen.why) == (BAR, BAR.text)
        await store.unbar(left)
        await asyncio.to_thread(out.wait_for, "holding", LIMIT_S)
        for each in (store, silent):
            await each.close()

    with ended(out, after):
        asyncio.run(main())


@pytest.mark.parametrize("here", ["mariadb-shedlock"], indirect=True)
def test_a_late_unlock_opens_a_bar_for_them_and_it_shows(here: Place, tmp_path: Path) -> None:
    """By its own clock it names no owner, so what it unlocks is our bar by then."""
    theirs = here.theirs(tmp_path, "theirs", "client-time", "never-extends")
    next_one = here.theirs(tmp_path, "next", "client-time")

    async def main() -> None:
        store = open_store(here.url(LOCK))
        await store.open()
        with Watch(store, NAME) as watch:
            over = await watch.until(lambda s: s.lease_version == rows.OVER, "its end")
        held = await taken(store, over)
        left = await store.bar(held.snapshot, BAR)
        await asyncio.to_thread(theirs.leave, LIMIT_S)
        opened = await store.read(NAME)
        assert (opened.bar, opened.why) == (BAR, f"{BAR.text}; {rows.OPENED}")
        left = await store.bar(opened, BAR)
        assert left.why == BAR.text, "nobody had taken it meanwhile, so it is closed again"
        await store.unbar(left)
        await asyncio.to_thread(next_one.start)
        await asyncio.to_thread(next_one.wait_for, "holding", LIMIT_S)
        await store.close()

    with ended(theirs, next_one):
        theirs.start()
        theirs.wait_for("holding", LIMIT_S)
        asyncio.run(main())


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("here", ["postgresql-shedlock"], indirect=True)
def test_a_lock_moves_away_and_back(here: Place, tmp_path: Path) -> None:
    """With candidates on both sides; a member of theirs that holds is waited for, and not asked."""
    source, target = here.url(LOCK), f"sqlite://{tmp_path}/store.db?{HIGHER}"
    theirs, again = here.theirs(tmp_path, "theirs"), here.theirs(tmp_path, "again")

    def migrate(*words: str) -> tuple[int, str]:
        done = run("migrate", *words, NAME, "--ttl", "2", "--json")
        return done.code, done.out + done.err

    def state(url: str) -> dict[str, object]:
        told: dict[str, object] = run("status", NAME, "--store", url, "--json").json
        return told

    with ended(theirs, again), ExitStack() as candidates:

        def candidate(url: str, as_: str) -> Process:
            argv = [sys.executable, "-m", "tests.cli.candidate", NAME, url, as_, "2.0", "good"]
            started = Process(argv)
            candidates.callback(started.close)
            return started

        _start(theirs, "holding")
        old = candidate(source, "old")
        old.event("standby")
        assert migrate(source, target, "--prepare")[0] == 0
        new = candidate(target, "new")
        new.event("barred")
        code, told = migrate(source, target, "--timeout", "3")
        assert (code, "is held by" in told) == (75, True), told
        theirs.leave(LIMIT_S)
        before = old.event("elected")["token"]
        code, told = migrate(source, target)
        assert code == 0, told
        assert new.event("elected")["token"] > before
        here_now = state(source)
        assert here_now["state"] == "barred"
        assert str(here_now["why"]).startswith("moved to sqlite://")
        _start(again, "waiting")
        assert state(target)["state"] == "held"

        old.close()
        code, told = migrate(target, f"{source}&{HIGHEST}")
        assert code == 0, told
        again.wait_for("holding", LIMIT_S)
        assert str(state(target)["why"]).startswith("moved to postgresql://")


class Broken(Exception):
    """The migration is broken off here."""


@pytest.mark.parametrize("here", ["postgresql-shedlock"], indirect=True)
def test_beside_a_holder_of_theirs_the_migration_opens_nothing(here: Place, tmp_path: Path) -> None:
    """Somebody rewrites the row by hand while both sides are barred: TO stays so, FROM goes on."""
    urls = (here.url(LOCK), f"sqlite://{tmp_path}/store.db?{HIGHER}")

    async def between(step: Step) -> None:
        if step is Step.SOURCE_BARRED:
            raise Broken

    async def main() -> None:
        store = open_store(urls[0])
        await store.open()
        await store.close()
        migration = Migration(*urls, NAME, ttl_s=2, between=between, allow_absent=True)
        async with migration.connected():
            with pytest.raises(Broken):
                await migration.run()
            table = here.table
            change = f"UPDATE {table.table} SET {table.owner} = 'theirs' WHERE {here.where(LOCK)}"
            await asyncio.to_thread(here.execute, change)
            with pytest.raises(Refused, match="members of the other library may have it"):
                await migration.run()
            assert await migration.place() is Whereabouts.BETWEEN
            await migration.undo()
            assert await migration.place() is Whereabouts.PREPARED
            assert migration.source.seen.holder == "theirs"

    asyncio.run(main())


def _start(member: Member, event: str) -> None:
    member.start()
    member.wait_for(event, LIMIT_S)
