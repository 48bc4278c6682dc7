"""What members of ShedLock and of Spring can break in a lock that is ours, as they do it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from incumbent.core.records import Claim
from incumbent.stores import open_store
from incumbent.stores.sql.joined import rows
from incumbent.testing.conformance.kit import Watch
from tests.partners.passing import ended
from tests.partners.sql_locks import LOCK, TTL_S, Place, ahead, place

LIMIT_S = 60.0


@pytest.fixture
def here(request: pytest.FixtureRequest) -> Iterator[Place]:
    made = place(request.param, request.getfixturevalue)
    yield made
    made.drop()


def still_ours(here: Place, token: int) -> bool:
    return bool(here.execute(here.still_ours(LOCK, token)))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("here", ["postgresql-shedlock", "mariadb-spring"], indirect=True)
def test_a_clock_that_is_ahead_takes_our_lock_early(here: Place, tmp_path: Path) -> None:
    """Our member learns of it at its next renewal; the check in its own transaction knows at once.

    Spring's member has no clock that could be set, so a library sets that of the whole process. It
    is slow to connect to PostgreSQL then, and what its clock does is the same everywhere.
    """
    hour_ms = 3_600_000
    if here.recipe == "shedlock":
        theirs = here.theirs(tmp_path, "theirs", "client-time", f"ahead={hour_ms}")
    else:
        theirs = ahead(here.theirs(tmp_path, "theirs"), hour_ms // 1000)
    ours = here.ours(tmp_path, "ours", ttl_s=6.0)
    with ended(theirs, ours):
        ours.start()
        token = ours.wait_for("holding", LIMIT_S)["token"]
        assert still_ours(here, token)
        theirs.start()
        robbed = theirs.wait_for("holding", LIMIT_S)
        assert not still_ours(here, token)
        stopped = ours.wait_for("stopped", LIMIT_S)
        print(f"beside each other for {stopped['at'] - robbed['at']:.3f} s")
        assert theirs.running


@pytest.mark.parametrize("here", ["mariadb-shedlock", "postgresql-spring"], indirect=True)
def test_work_that_outlives_its_lock_goes_on_beside_us(here: Place, tmp_path: Path) -> None:
    """And what it unlocks at last is ours by then: ShedLock's own clock names no owner."""
    shedlock = here.recipe == "shedlock"
    words = ("client-time", "never-extends") if shedlock else ("never-renews",)
    theirs = here.theirs(tmp_path, "theirs", *words)

    async def follow() -> None:
        store = open_store(here.url(LOCK))
        await store.open()
        with Watch(store, "report") as watch:
            over = await watch.until(lambda s: s.lease_version == rows.OVER, "its end")
            held = await store.take("report", Claim("a_1", "a_1/x.1", TTL_S), over)
            lease = await store.renew(held.lease)
            beats = len(theirs.all("beat"))
            await asyncio.to_thread(theirs.wait_for, "beat", LIMIT_S, count=beats + 2)
            assert still_ours(here, held.token or 0)
            before = here.until(LOCK)
            said = await asyncio.to_thread(theirs.leave, LIMIT_S)
            assert (here.until(LOCK) < before) == shedlock
            assert any("error" in event for event in said) != shedlock
            # The lock is open to members of theirs until our next renewal, and ours all the same.
            await store.renew(lease)
            assert here.until(LOCK) > before
            assert (await store.read("report")).term == held.term
        await store.close()

    with ended(theirs):
        theirs.start()
        theirs.wait_for("holding", LIMIT_S)
        asyncio.run(follow())
