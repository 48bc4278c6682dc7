"""Exactly once: the tick is noted in the transaction of its effect."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from incumbent import LeadershipLost, StaleToken, Tick
from incumbent.core.fence import Trust
from incumbent.fencing.progress import tables
from incumbent.runtime.term import Term


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    for statement in tables("sqlite"):
        connection.execute(statement)
    connection.execute("CREATE TABLE effect (tick TEXT)")
    yield connection
    connection.close()


def tick(token: int, attempt: int = 1, *, job: str = "main", id: str = "t1") -> Tick:
    trust = Trust()
    trust.confirm(0, 1e9)
    term = Term(
        name="nightly", identity="a", token=token, term=f"a.{token}", trust=trust, clock=lambda: 0.0
    )
    return Tick(
        id=id,
        due=datetime(2026, 3, 1, tzinfo=UTC),
        attempt=attempt,
        job=job,
        manual=False,
        term=term,
        timeout_s=None,
    )


def effect(db: sqlite3.Connection, tick: Tick) -> bool:
    with db:
        first = tick.record(db)
        if first:
            db.execute("INSERT INTO effect VALUES (?)", (tick.id,))
    return first


def effects(db: sqlite3.Connection) -> int:
    (count,) = db.execute("SELECT count(*) FROM effect").fetchone()
    return int(count)


def test_a_rerun_after_the_commit_finds_the_effect_there(db: sqlite3.Connection) -> None:
    assert effect(db, tick(1))
    assert not effect(db, tick(2, attempt=2))
    assert effects(db) == 1


def test_a_rerun_after_a_roll_back_has_the_effect(db: sqlite3.Connection) -> None:
    assert tick(1).record(db)
    db.rollback()
    assert effect(db, tick(2, attempt=2))


def test_a_former_holder_writes_nothing(db: sqlite3.Connection) -> None:
    assert effect(db, tick(2))
    with pytest.raises(StaleToken):
        effect(db, tick(1, id="t2"))
    assert effects(db) == 1


def test_a_term_that_is_over_writes_nothing(db: sqlite3.Connection) -> None:
    over = tick(1)
    over.term.void("for the test")
    with pytest.raises(LeadershipLost):
        effect(db, over)
    assert effects(db) == 0


def test_tasks_of_one_election_have_ticks_of_their_own(db: sqlite3.Connection) -> None:
    """Also where their names are longer than a resource's may be, and begin alike."""
    long = "x" * 198
    assert effect(db, tick(1, job="a"))
    assert effect(db, tick(1, job="b"))
    assert effect(db, tick(1, job=f"{long}a"))
    assert effect(db, tick(1, job=f"{long}b"))
