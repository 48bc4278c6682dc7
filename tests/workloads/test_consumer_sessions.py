"""Sessions of PostgreSQL of every kind: behind a pooler, limited, in odd encodings, left open."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from incumbent.stores.memory import MemoryStore
from incumbent.workloads.sources.api import Item
from incumbent.workloads.sources.memory import Shelf
from tests.servers.postgresql import PgBouncer
from tests.workloads.consuming import consumer, until
from tests.workloads.faces import FACES, Face
from tests.workloads.queues import Queue, names

Handler = Callable[[Item, Any], Any]


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Face:
    return Face(request.param)


def consumed(
    face: Face, memory: MemoryStore, queue: Queue, func: Handler, options: str = "", **settings: Any
) -> None:
    """Have all items of the queue handled."""
    settings["effects"] = settings.pop("effects", queue.effects) + options
    face.start(consumer(face, queue.source, memory, func, **settings))
    queue.until_empty()
    face.stop()


def dead(queue: Queue) -> dict[str, str]:
    rows = queue.server.execute("SELECT item, reason FROM incumbent_dead ORDER BY item")
    return dict(rows)


def test_behind_a_pooler_nothing_is_prepared(
    face: Face, memory: MemoryStore, queue: Queue, pgbouncer: PgBouncer
) -> None:
    """It would stay in a session of the server that another client is lent next."""
    queue.put(*names(8))
    direct, seen = psycopg.connect(queue.effects), []
    assert direct.prepare_threshold is not None
    direct.close()

    def handle(item: Item, db: Any) -> Any:
        seen.append(db.prepare_threshold)
        return queue.write(item, db)

    consumed(face, memory, queue, handle, effects=pgbouncer.url)
    assert seen == [None] * 8
    assert queue.rows() == names(8)


@pytest.mark.parametrize("batch", [1, 4])
def test_what_fails_at_the_commit_is_the_handlers(
    face: Face, memory: MemoryStore, queue: Queue, batch: int
) -> None:
    """Of items that share a transaction the others are done, each in one of its own."""
    queue.server.execute(
        "ALTER TABLE effect ADD CONSTRAINT once UNIQUE (item) DEFERRABLE INITIALLY DEFERRED"
    )
    queue.server.execute("INSERT INTO effect (item, token) VALUES ('i2', 0)")
    queue.put(*names(8))
    consumed(face, memory, queue, queue.write, batch=batch, retries=1)
    assert queue.rows() == ["i2", "i0", "i1", *names(5, 3)]
    assert list(dead(queue)) == ["i2"]
    assert "once" in dead(queue)["i2"]


def test_who_stands_still_in_a_transaction_that_is_shared_fails_alone(
    face: Face, memory: MemoryStore, queue: Queue
) -> None:
    queue.put(*names(6))

    def handle(item: Item, db: Any) -> Any:
        if item.id == "i1":
            time.sleep(0.4)  # sleep: a handler that does something else for longer than is allowed
        return queue.write(item, db)

    options = "?options=-cidle_in_transaction_session_timeout%3D100"
    consumed(face, memory, queue, handle, options, batch=3, retries=0)
    assert queue.rows() == ["i0", *names(4, 2)]
    assert list(dead(queue)) == ["i1"]


def test_a_statement_of_ours_that_takes_too_long_is_tried_again(
    face: Face, memory: MemoryStore, queue: Queue
) -> None:
    """Whoever holds the row that is to be sealed lets it go in the end."""
    queue.put("i0")
    options = "?options=-cstatement_timeout%3D100"
    consumed(face, memory, queue, queue.write, options)
    queue.put("i1")
    effects = queue.effects + options
    with queue.server.transaction() as held:
        held.execute("SELECT 1 FROM incumbent_progress FOR UPDATE")
        face.start(consumer(face, queue.source, memory, queue.write, effects=effects))
        ended = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        until(lambda: queue.rows(ended), "it waits for the row")
        until(lambda: not queue.rows(ended), "the server has had enough of that")
    queue.until_empty()
    face.stop()
    assert queue.rows() == ["i0", "i1"]


def test_a_handlers_statement_that_takes_too_long_is_a_failed_attempt(
    face: Face, memory: MemoryStore, queue: Queue
) -> None:
    queue.put(*names(2))
    calls: list[str] = []

    def handle(item: Item, db: Any) -> Any:
        calls.append(item.id)
        return db.execute("SELECT pg_sleep(5)") if item.id == "i0" else queue.write(item, db)

    consumed(face, memory, queue, handle, "?options=-cstatement_timeout%3D50", retries=1)
    assert calls == ["i0", "i0", "i1"]
    assert list(dead(queue)) == ["i0"]


def test_a_reason_is_written_in_the_encoding_of_the_session(
    face: Face, memory: MemoryStore, queue: Queue
) -> None:
    queue.put(*names(2))

    def handle(item: Item, db: Any) -> Any:
        if item.id == "i0":
            raise ValueError("5 €, and ü")
        return queue.write(item, db)

    consumed(face, memory, queue, handle, "?client_encoding=LATIN1", retries=0)
    assert dead(queue) == {"i0": "ValueError: 5 \\u20ac, and ü"}
    assert queue.rows() == ["i1"]


def test_a_database_may_have_no_encoding(face: Face, memory: MemoryStore, queue: Queue) -> None:
    queue.server.execute(
        "CREATE DATABASE plain ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )
    try:
        url = queue.effects.rpartition("/")[0] + "/plain"
        shelf, texts = Shelf([b"a", b"b"]), []

        def handle(item: Item, db: Any) -> Any:
            texts.append(db.info.encoding)
            return db.execute("SELECT 'ü'")

        face.start(consumer(face, shelf, memory, handle, effects=url))
        until(lambda: len(shelf.told) == 2, "both are done")
        face.stop()
        assert texts == ["utf-8"] * 2
    finally:
        queue.server.execute("DROP DATABASE plain WITH (FORCE)")


def left_pipeline(db: psycopg.Connection[Any]) -> Any:
    entered = db.pipeline()
    entered.__enter__()
    db.execute("SELECT 1")
    return entered


def left_copy(db: psycopg.Connection[Any]) -> Any:
    entered = db.cursor().copy("COPY effect (item, token) FROM STDIN")
    entered.__enter__()
    return entered


@pytest.mark.parametrize("leave", [left_pipeline, left_copy])
def test_what_a_handler_leaves_open_is_a_failure_of_it(
    memory: MemoryStore, queue: Queue, leave: Callable[[psycopg.Connection[Any]], Any]
) -> None:
    queue.put(*names(3))
    calls: list[str] = []
    left: list[Any] = []

    def handle(item: Item, db: psycopg.Connection[Any]) -> None:
        calls.append(item.id)
        queue.write(item, db)
        if item.id == "i1":
            left.append(leave(db))

    consumed(Face("sync"), memory, queue, handle, retries=1)
    assert queue.rows() == ["i0", "i2"]
    assert calls == ["i0", "i1", "i1", "i2"]
    assert "the handler has left" in dead(queue)["i1"]
