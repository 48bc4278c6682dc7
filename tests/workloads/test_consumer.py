"""The machine of the consumers, over a source in memory and effects in SQLite."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from incumbent import ConfigError, StaleToken
from incumbent.errors import SourceUnavailable, Withdrawn
from incumbent.stores.memory import MemoryStore
from incumbent.sync.consumer import Consumer
from incumbent.workloads.sources.api import Item
from incumbent.workloads.sources.memory import MemorySource, Shelf
from tests.workloads.consuming import Effects, consumer, until
from tests.workloads.faces import FACES, Face

NINE = [str(number) for number in range(1, 10)]


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Face:
    return Face(request.param)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf([f"body {number}".encode() for number in NINE])


@pytest.fixture
def effects(tmp_path: Path) -> Effects:
    return Effects(tmp_path / "effects.db")


@pytest.mark.parametrize("batch", [1, 4])
def test_items_are_handled_in_order_and_told_after_the_commit(
    face: Face, memory: MemoryStore, shelf: Shelf, effects: Effects, batch: int
) -> None:
    told: list[list[str]] = []

    def handle(item: Item, db: Any) -> None:
        assert item.text == f"body {item.id}"
        assert item.attempt == 1
        told.append(list(shelf.told))
        effects.write(item, db)

    face.start(consumer(face, shelf, memory, handle, effects=effects.url, batch=batch, prefetch=4))
    until(lambda: shelf.told == NINE, "all are told")
    face.stop()
    assert effects.rows() == NINE
    assert effects.rows("SELECT item FROM incumbent_done ORDER BY number") == NINE
    assert all(len(before) <= number for number, before in enumerate(told))
    assert isinstance(face.failure, Withdrawn)


def test_what_the_broker_did_not_hear_is_not_done_again(
    face: Face, memory: MemoryStore, shelf: Shelf, effects: Effects, caplog: Any
) -> None:
    """The commit was there, and the broker went before it was told."""

    def handle(item: Item, db: Any) -> None:
        effects.write(item, db)
        if item.id == "3" and shelf.opened == 1:
            shelf.broken = True

    face.start(consumer(face, shelf, memory, handle, effects=effects.url, prefetch=3))
    until(lambda: "the shelf is broken" in caplog.text, "it was not heard")
    shelf.broken = False
    until(lambda: not shelf.waiting, "all are told")
    face.stop()
    assert effects.rows() == NINE
    assert shelf.opened > 1


def test_a_successor_begins_with_what_was_in_hand(
    face: Face, memory: MemoryStore, shelf: Shelf, effects: Effects
) -> None:
    shelf.handed = {"2", "3"}
    seen: list[str] = []

    def handle(item: Item, db: Any) -> None:
        seen.append(item.id)
        effects.write(item, db)

    face.start(consumer(face, shelf, memory, handle, effects=effects.url))
    until(lambda: not shelf.waiting, "all are told")
    face.stop()
    assert seen == ["2", "3", "1", "4", "5", "6", "7", "8", "9"]


def test_a_position_is_committed_with_the_effect(
    face: Face, memory: MemoryStore, shelf: Shelf, effects: Effects
) -> None:
    settings = {"effects": effects.url, "positions": True, "prefetch": 1, "remember": 2}
    face.start(consumer(face, shelf, memory, effects.write, **settings))
    until(lambda: len(effects.rows()) == 9, "all are done")
    face.stop()
    assert effects.rows("SELECT checkpoint FROM incumbent_progress WHERE work = 'orders'") == ["9"]
    again = Shelf([b""] * 11)
    second = Face(face.name)
    second.start(consumer(second, again, memory, effects.write, **settings))
    until(lambda: len(effects.rows()) == 11, "the rest is done")
    second.stop()
    assert effects.rows() == [*NINE, "10", "11"]


def test_without_a_database_the_position_is_a_checkpoint_of_the_election(
    face: Face, memory: MemoryStore, shelf: Shelf
) -> None:
    seen: list[str] = []
    face.start(consumer(face, shelf, memory, lambda item: seen.append(item.id), positions=True))
    until(lambda: not shelf.waiting, "all are told")
    face.stop()
    assert seen == NINE
    assert memory.shelf.checkpoints["orders", "consumer"].value == b"9"


def test_what_fails_is_tried_again_then_buried_and_the_rest_goes_on_in_order(
    face: Face, memory: MemoryStore, shelf: Shelf, effects: Effects
) -> None:
    attempts: list[tuple[str, int]] = []

    def handle(item: Item, db: Any) -> None:
        attempts.append((item.id, item.attempt))
        effects.write(item, db)
        if item.id in ("4", "7") and (item.id == "4" or item.attempt < 3):
            raise ValueError(f"cannot do {item.id}")

    face.start(consumer(face, shelf, memory, handle, effects=effects.url, retries=2))
    until(lambda: not shelf.waiting, "all are told")
    face.stop()
    assert effects.rows() == [number for number in NINE if number != "4"]
    assert attempts == [
        *(("1", 1), ("2", 1), ("3", 1), ("4", 1), ("4", 2), ("4", 3), ("5", 1), ("6", 1)),
        *(("7", 1), ("7", 2), ("7", 3), ("8", 1), ("9", 1)),
    ]
    assert effects.rows("SELECT body FROM incumbent_dead") == [b"body 4"]
    assert effects.rows("SELECT reason FROM incumbent_dead") == ["ValueError: cannot do 4"]
    assert shelf.told == NINE


def test_one_of_a_batch_that_fails_does_not_take_the_others_along(
    face: Face, memory: MemoryStore, shelf: Shelf, effects: Effects
) -> None:
    def handle(item: Item, db: Any) -> None:
        effects.write(item, db)
        if item.id == "4":
            raise ValueError("cannot do it")

    settings: dict[str, Any] = {"effects": effects.url, "retries": 1, "batch": 9}
    face.start(consumer(face, shelf, memory, handle, **settings))
    until(lambda: not shelf.waiting, "all are told")
    face.stop()
    assert effects.rows() == [number for number in NINE if number != "4"]
    assert effects.rows("SELECT item FROM incumbent_dead") == ["4"]


def test_the_dead_letters_may_be_the_sources(
    face: Face, memory: MemoryStore, shelf: Shelf, effects: Effects
) -> None:
    def handle(item: Item, db: Any) -> None:
        if item.id == "2":
            assert item.attempt == 0, "no attempt is good enough"
        effects.write(item, db)

    settings: dict[str, Any] = {"effects": effects.url, "retries": 0, "dead_letter": "there"}
    face.start(consumer(face, shelf, memory, handle, **settings))
    until(lambda: not shelf.waiting, "all are told")
    face.stop()
    assert [(item, place) for item, place, _ in shelf.dead] == [("2", "there")]
    assert effects.rows("SELECT item FROM incumbent_dead") == []
    assert effects.rows("SELECT item FROM incumbent_done ORDER BY number") == NINE


def test_an_exception_may_end_the_run(face: Face, memory: MemoryStore, shelf: Shelf) -> None:
    seen: list[str] = []

    def handle(item: Item) -> None:
        seen.append(item.id)
        if item.id == "2":
            raise KeyError("k")

    face.start(consumer(face, shelf, memory, handle, retries=0, errors="raise"))
    face.join()
    assert isinstance(face.failure, KeyError)
    assert seen == ["1", "2"]
    assert shelf.told == ["1"]
    assert not memory.shelf.records["orders"].session, "it was released"


def test_a_later_token_ends_the_run_and_nothing_is_committed(
    face: Face, memory: MemoryStore, shelf: Shelf, effects: Effects
) -> None:
    def handle(item: Item, db: Any) -> None:
        effects.write(item, db)

    made = consumer(face, shelf, memory, handle, effects=effects.url)
    with closing(sqlite3.connect(effects.path)) as db, db:
        from incumbent.fencing import Fence
        from incumbent.fencing.progress import tables

        for statement in tables("sqlite"):
            db.execute(statement)
        Fence("orders", 2**62, lambda: None).checkpoint(db)
    face.start(made)
    face.join()
    assert isinstance(face.failure, StaleToken)
    assert effects.rows() == []


def test_a_handler_that_outlives_its_term_commits_nothing(
    face: Face, memory: MemoryStore, shelf: Shelf, effects: Effects
) -> None:
    """As after a pause: the term is over when the handler returns, and nobody follows yet."""

    voided: list[str] = []

    def handle(item: Item, db: Any) -> None:
        effects.write(item, db)
        if item.id == "3" and not voided:
            voided.append(item.id)
            assert item.term is not None
            item.term.void("it was paused")

    face.start(consumer(face, shelf, memory, handle, effects=effects.url, ttl_s=1))
    until(lambda: not shelf.waiting, "all are told")
    face.stop()
    assert effects.rows() == NINE
    first, *_, last = effects.rows("SELECT token FROM effect ORDER BY rowid")
    assert effects.rows("SELECT token FROM effect WHERE item IN ('2', '3')") == [first, last]


def test_a_planned_handover_tells_what_is_done_and_hands_the_rest_on(
    face: Face, memory: MemoryStore, shelf: Shelf
) -> None:
    """Without a database: nothing is handled twice but by misfortune."""
    seen: list[int] = []

    def handle(item: Item) -> None:
        seen.append(int(item.id))
        if item.id == "3":
            face.step_down()
            if face.name == "sync":
                until(lambda: item.term is not None and item.term.ended, "the term is to end")
                time.sleep(0.05)  # sleep: that the machine was cancelled has no event
        if shelf.opened == 1:
            shelf.put(b"one more, until the next term")

    face.start(consumer(face, shelf, memory, handle, ttl_s=2))
    until(lambda: not shelf.waiting, "all are told")
    face.stop()
    assert shelf.opened > 1
    assert seen == list(range(1, len(seen) + 1))


def test_a_database_that_is_away_is_no_fault_of_the_item(
    face: Face, memory: MemoryStore, shelf: Shelf, effects: Effects
) -> None:
    attempts: set[int] = set()

    def handle(item: Item, db: Any) -> None:
        attempts.add(item.attempt)
        effects.write(item, db)
        if item.id == "3" and len(failed) < 2:
            failed.append(item.id)
            raise lost

    failed: list[str] = []
    lost = sqlite3.OperationalError("disk I/O error")
    lost.sqlite_errorcode = sqlite3.SQLITE_IOERR
    face.start(consumer(face, shelf, memory, handle, effects=effects.url, retries=0))
    until(lambda: not shelf.waiting, "all are told")
    face.stop()
    assert failed == ["3", "3"]
    assert attempts == {1}
    assert effects.rows() == NINE


def test_a_commit_of_which_nobody_heard_is_asked_about(
    face: Face, memory: MemoryStore, shelf: Shelf, effects: Effects, monkeypatch: Any
) -> None:
    """Whether it was carried out or not, the effect is there once."""
    from incumbent.workloads.consumer.places.sqlite import SqlitePlace

    fates = Random(7)
    commit = SqlitePlace.commit

    async def unheard(self: SqlitePlace, connection: Any, begun: Any, held: str) -> None:
        fate = fates.choice(["heard", "heard", "unheard", "lost"])
        if fate != "lost":
            await commit(self, connection, begun, held)
        if fate != "heard":
            raise SourceUnavailable("nobody knows")

    monkeypatch.setattr(SqlitePlace, "commit", unheard)
    face.start(consumer(face, shelf, memory, effects.write, effects=effects.url))
    until(lambda: not shelf.waiting, "all are told")
    face.stop()
    assert effects.rows() == NINE
    assert effects.rows("SELECT item FROM incumbent_done ORDER BY number") == NINE


def test_a_handler_that_commits_is_told_so(
    face: Face, memory: MemoryStore, shelf: Shelf, effects: Effects
) -> None:
    def handle(item: Item, db: Any) -> None:
        effects.write(item, db)
        db.commit()

    face.start(consumer(face, shelf, memory, handle, effects=effects.url))
    face.join()
    assert isinstance(face.failure, ConfigError)
    assert "The consumer commits" in str(face.failure)
    assert effects.rows() == []


def test_a_handler_of_the_wrong_kind_is_refused(memory: MemoryStore, effects: Effects) -> None:
    made = Consumer("orders", "memory://", store=memory, effects=effects.url)

    async def waits(item: Item, db: Any) -> None: ...

    with pytest.raises(TypeError, match=r"of incumbent\.sync needs a function"):
        made.handler(waits)
    with pytest.raises(TypeError, match=r"has to take \(item, db\): .* with effects="):
        made.handler(lambda item: None)
    with pytest.raises(ConfigError, match="has no handler"):
        made.run()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"retries": -1}, "retries=-1 has to be at least 0"),
        ({"batch": 5}, "there is none: add effects="),
        ({"batch": 500, "effects": "sqlite:///x"}, "so many are never there"),
        ({"remember": 150}, "at least twice as many"),
        ({"errors": "ignore"}, "use 'bury' or 'raise'"),
        ({"effects": "sqlite://x"}, "with three slashes"),
        ({"effects": "mysql://h/d"}, "or a function that"),
        ({"source": "nats://h"}, "no source answers to nats://"),
        ({"source": "memory://a?b=c"}, "does not know the option 'b'"),
    ],
)
def test_settings_that_cannot_work(
    memory: MemoryStore, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        Consumer("orders", **{"source": "memory://", "store": memory, **settings})


def test_every_item_is_handled_in_the_thread_that_leads(
    memory: MemoryStore, shelf: Shelf, effects: Effects
) -> None:
    threads: set[int] = set()

    def handle(item: Item, db: Any) -> None:
        threads.add(threading.get_ident())
        if item.id == "9":
            raise KeyboardInterrupt

    made = Consumer(
        "orders", lambda: MemorySource(shelf), store=memory, effects=effects.url, deadman=False
    )
    made.handler(handle)
    with pytest.raises(KeyboardInterrupt):
        made.run()
    assert threads == {threading.get_ident()}
    assert effects.rows("SELECT count(*) FROM incumbent_done") == [8]
