"""Queues and effects in a real PostgreSQL, in both faces: order, restarts, predecessors."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pytest

from incumbent import ConfigError, testing
from incumbent.errors import SourceUnavailable
from incumbent.fencing import Fence
from incumbent.stores.memory import MemoryStore
from incumbent.workloads.consumer.places.postgresql import PostgresPlace
from incumbent.workloads.postgresql import application
from incumbent.workloads.sources.api import Item
from incumbent.workloads.sources.postgresql import PostgresQueue
from tests.servers.postgresql import Postgres
from tests.workloads.consuming import Effects, consumer, until
from tests.workloads.faces import FACES, Face
from tests.workloads.queues import Queue, add, names


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Face:
    return Face(request.param)


@pytest.mark.parametrize("batch", [1, 10])
def test_effect_id_and_row_go_together(
    face: Face, memory: MemoryStore, queue: Queue, batch: int
) -> None:
    sessions = (
        "SELECT pid FROM pg_stat_activity WHERE datname = 'tests' AND pid <> pg_backend_pid()"
    )
    before = set(queue.rows(sessions))  # A pooler of another test keeps some.
    queue.put(*names(50))
    settings = {"effects": queue.effects, "batch": batch}
    face.start(consumer(face, queue.source, memory, queue.write, **settings))
    queue.until_empty()
    queue.put(*names(5, 50))
    queue.until_empty()
    face.stop()
    assert queue.rows() == names(55)
    assert queue.rows("SELECT item FROM incumbent_done ORDER BY number") == names(55)
    assert set(queue.rows(sessions)) <= before


def test_transactions_are_ordered_as_numbers(face: Face, memory: MemoryStore, queue: Queue) -> None:
    """As text the hundredth would come before the ninety-ninth."""
    queue.put("second", "first")
    queue.server.execute("UPDATE incumbent_queue SET tx = '99' WHERE item = 'first'")
    queue.server.execute("UPDATE incumbent_queue SET tx = '100' WHERE item = 'second'")
    face.start(consumer(face, queue.source, memory, queue.write, effects=queue.effects))
    queue.until_empty()
    face.stop()
    assert queue.rows() == ["first", "second"]


def test_what_commits_late_is_waited_for(face: Face, memory: MemoryStore, queue: Queue) -> None:
    """Its number is smaller, and it would come to light behind the one that is there."""
    with queue.server.transaction() as slow:
        add(slow, "first")
        queue.put("second")
        face.start(consumer(face, queue.source, memory, queue.write, effects=queue.effects))
        until(lambda: "orders" in memory.shelf.records, "it is elected")
        held_up = "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_snapshot_xmax%' AND state"
        until(lambda: queue.rows(f"{held_up} = 'idle'"), "it has found that it must wait")
        assert queue.rows() == []
        slow.commit()
    queue.until_empty()
    face.stop()
    assert queue.rows() == ["first", "second"]


def test_the_open_transaction_of_a_predecessor_is_ended(
    face: Face, memory: MemoryStore, queue: Queue
) -> None:
    """It is paused before its commit; it had a smaller token, and its session is known by name."""
    queue.put(*names(3))
    first = consumer(face, queue.source, memory, queue.write, effects=queue.effects)
    with psycopg.connect(
        queue.effects, application_name=application("orders", 0, "effects"), autocommit=True
    ) as paused:
        from incumbent.fencing.progress import tables

        for statement in tables("postgresql"):
            paused.execute(statement.encode())
        paused.execute("BEGIN")
        assert Fence("orders", 0, lambda: None).once(paused, "i0")
        paused.execute("DELETE FROM incumbent_queue WHERE item = 'i0'")
        paused.execute("INSERT INTO effect (item, token) VALUES ('i0', 0)")
        face.start(first)
        queue.until_empty()
        face.stop()
        with pytest.raises(psycopg.OperationalError):
            paused.execute("COMMIT")
    assert queue.rows() == names(3)
    assert queue.rows("SELECT token FROM effect WHERE token = 0") == []


def test_the_open_transaction_of_somebody_else_is_waited_for(
    face: Face, memory: MemoryStore, queue: Queue
) -> None:
    """The head is locked: what comes behind it is not done before it."""
    queue.put(*names(3))
    with queue.server.transaction() as other:
        other.execute("DELETE FROM incumbent_queue WHERE item = 'i0'")
        face.start(consumer(face, queue.source, memory, queue.write, effects=queue.effects))
        until(queue.server.waiting, "it waits for the row")
        assert queue.rows() == []
        other.rollback()
    queue.until_empty()
    face.stop()
    assert queue.rows() == names(3)


def test_a_session_that_ends_in_the_middle_is_no_fault_of_the_item(
    face: Face, memory: MemoryStore, queue: Queue
) -> None:
    ended: list[str] = []

    def end(item: Item) -> None:
        if item.id in ("i3", "i7") and item.id not in ended:
            ended.append(item.id)
            queue.end_sessions()

    def handle(item: Item, db: Any) -> Any:
        attempts.add(item.attempt)
        if face.name == "sync":
            queue.write(item, db)
            end(item)
            return None

        async def steps() -> None:
            await queue.write(item, db)
            end(item)

        return steps()

    attempts: set[int] = set()
    queue.put(*names(10))
    made = consumer(face, queue.source, memory, handle, effects=queue.effects, retries=0)
    face.start(made)
    queue.until_empty()
    face.stop()
    assert ended == ["i3", "i7"]
    assert attempts == {1}
    assert queue.rows() == names(10)
    assert queue.rows("SELECT item FROM incumbent_dead") == []


def _at_least(queue: Queue, count: int) -> bool:
    return len(queue.rows()) >= count


def test_the_server_is_killed_and_started_again(
    face: Face, memory: MemoryStore, own_postgres: Postgres
) -> None:
    server, queue = own_postgres, Queue(own_postgres)
    queue.put(*names(120))
    face.start(consumer(face, queue.source, memory, queue.write, effects=queue.effects))
    for least in (20, 60):
        some = partial(_at_least, queue, least)
        until(some, "some are done")
        server.kill()
        server.start()
    queue.until_empty()
    face.stop()
    assert queue.rows() == names(120)
    assert queue.rows("SELECT item FROM incumbent_done ORDER BY number") == names(120)


def test_the_effects_may_lie_elsewhere(
    face: Face, memory: MemoryStore, queue: Queue, tmp_path: Path
) -> None:
    effects = Effects(tmp_path / "e.db")
    queue.put(*names(20))

    def handle(item: Item, db: Any) -> None:
        effects.write(item, db)
        if item.id == "i7" and item.attempt == 1:
            queue.end_sessions()
        if item.id == "i9":
            raise ValueError("poison")

    settings = {"effects": effects.url, "retries": 1, "dead_letter": ""}
    face.start(consumer(face, queue.source, memory, handle, **settings))
    queue.until_empty()
    face.stop()
    assert effects.rows() == [name for name in names(20) if name != "i9"]
    assert queue.rows("SELECT item FROM incumbent_queue_dead") == ["i9"]
    assert queue.rows("SELECT reason FROM incumbent_queue_dead") == ["ValueError: poison"]


def test_a_statement_that_fails_in_silence_does_not_pass_for_done(
    face: Face, memory: MemoryStore, queue: Queue
) -> None:
    """The server would undo everything, and answer the commit without an error."""

    def handle(item: Item, db: Any) -> Any:
        if face.name == "sync":
            queue.write(item, db)
            if item.id == "i1":
                with pytest.raises(psycopg.Error):
                    db.execute("SELECT 1 / 0")
            return None

        async def steps() -> None:
            await queue.write(item, db)
            if item.id == "i1":
                with pytest.raises(psycopg.Error):
                    await db.execute("SELECT 1 / 0")

        return steps()

    queue.put(*names(3))
    settings = {"effects": queue.effects, "retries": 0}
    face.start(consumer(face, queue.source, memory, handle, **settings))
    queue.until_empty()
    face.stop()
    assert queue.rows() == ["i0", "i2"]
    (reason,) = queue.rows("SELECT reason FROM incumbent_dead")
    assert "did not raise" in reason


def test_each_item_is_committed_before_the_next_one_begins(
    face: Face, memory: MemoryStore, queue: Queue
) -> None:
    """One message ends a transaction and begins the next one; what was the handler's ends, too."""

    def handle(item: Item, db: Any) -> Any:
        seen.append(queue.rows())
        sessions.add(db.info.backend_pid)
        if face.name == "sync":
            queue.write(item, db)
            db.execute("SET TRANSACTION READ ONLY")
            return None

        async def steps() -> None:
            await queue.write(item, db)
            await db.execute("SET TRANSACTION READ ONLY")

        return steps()

    seen: list[Any] = []
    sessions: set[int] = set()
    queue.put(*names(4))
    face.start(consumer(face, queue.source, memory, handle, effects=queue.effects))
    queue.until_empty()
    face.stop()
    assert seen == [names(count) for count in range(4)]
    assert len(sessions) == 1


def test_no_transaction_is_open_while_the_broker_is_told(
    face: Face, memory: MemoryStore, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("incumbent.workloads.consumer.hand.SLICE_S", -1.0)
    states: list[Any] = []

    async def done(self: PostgresQueue, items: Sequence[Item]) -> None:
        assert len(items) == 1
        states.extend(
            queue.rows("SELECT state FROM pg_stat_activity WHERE application_name LIKE '%/effects'")
        )

    monkeypatch.setattr(PostgresQueue, "done", done)
    queue.put(*names(4))
    face.start(consumer(face, queue.source, memory, queue.write, effects=queue.effects))
    until(lambda: len(states) == 4, "all are told")
    face.stop()
    assert states == ["idle"] * 4
    assert queue.rows() == names(4)


def test_a_commit_that_also_begins_is_asked_about_if_nobody_heard_of_it(
    face: Face, memory: MemoryStore, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    fates = Random(7)
    happened: set[str] = set()
    commit = PostgresPlace.commit_and_begin

    async def unheard(self: PostgresPlace, connection: Any, begun: Any, held: str) -> Any:
        fate = fates.choice(["heard", "unheard", "lost"])
        happened.add(fate)
        if fate != "lost":
            begun = await commit(self, connection, begun, held)
        if fate != "heard":
            raise SourceUnavailable("nobody knows")
        return begun

    monkeypatch.setattr(PostgresPlace, "commit_and_begin", unheard)
    queue.put(*names(12))
    face.start(consumer(face, queue.source, memory, queue.write, effects=queue.effects))
    queue.until_empty()
    face.stop()
    assert happened == {"heard", "unheard", "lost"}
    assert queue.rows() == names(12)
    assert queue.rows("SELECT item FROM incumbent_done ORDER BY number") == names(12)


def test_a_handler_cannot_commit(face: Face, memory: MemoryStore, queue: Queue) -> None:
    queue.put("a")
    settings = {"effects": queue.effects, "retries": 0}
    face.start(consumer(face, queue.source, memory, lambda item, db: db.commit(), **settings))
    queue.until_empty()
    face.stop()
    (reason,) = queue.rows("SELECT reason FROM incumbent_dead")
    assert "commit() forbidden" in reason


def test_what_was_restored_from_another_server_is_refused(
    face: Face, memory: MemoryStore, queue: Queue
) -> None:
    queue.put("a")
    queue.server.execute("UPDATE incumbent_queue SET tx = '4611686018427387904'")
    face.start(consumer(face, queue.source, memory, queue.write, effects=queue.effects))
    face.join()
    assert isinstance(face.failure, ConfigError)
    assert "SET tx = pg_current_xact_id()" in str(face.failure)


def test_without_the_right_to_make_tables_it_says_which(
    face: Face, memory: MemoryStore, queue: Queue
) -> None:
    server = queue.server
    server.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    server.execute("CREATE USER poor PASSWORD 'secret'")
    try:
        poor = server.url(user="poor", password="secret")
        face.start(consumer(face, queue.source, memory, queue.write, effects=poor))
        face.join()
        assert isinstance(face.failure, ConfigError)
        assert "CREATE TABLE IF NOT EXISTS incumbent_progress" in str(face.failure)
        wrong = server.url(user="poor", password="wrong")
        other = Face(face.name)
        other.start(consumer(other, queue.source, memory, queue.write, effects=wrong))
        other.join()
        assert "password authentication failed" in str(other.failure)
    finally:
        server.execute("DROP USER poor")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("", "which queue"),
        ("?queue=a&table=b%20c", "up to 50 of"),
        ("?queue=a&poll_s=0", "above 0"),
        ("?queue=a&nonsense=1", "nonsense"),
    ],
)
def test_urls_that_cannot_be_meant(memory: MemoryStore, options: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        consumer(Face("sync"), f"postgresql://h/d{options}", memory, lambda item: None)


def test_two_at_once_in_one_process_follow_one_another(memory: MemoryStore, queue: Queue) -> None:
    """Whoever is not elected does not touch the queue."""
    queue.put(*names(30))
    half = threading.Event()
    faces = [Face("sync"), Face("aio")]

    def handle(item: Item, db: Any) -> Any:
        if item.id == "i15":
            half.set()
        return queue.write(item, db)

    for face in faces:
        store = testing.memory_store(beside=memory)
        made = consumer(face, queue.source, store, handle, effects=queue.effects, ttl_s=2)
        face.start(made)
    assert half.wait(20)
    leading = next(face for face in faces if face._work.election.leads)
    leading.step_down()
    queue.until_empty()
    for face in faces:
        face.stop()
    assert queue.rows() == names(30)
