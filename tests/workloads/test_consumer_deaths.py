"""An item that kills whoever handles it is given up in the end, and no other one is."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from incumbent.errors import ConfigError, StaleToken
from incumbent.fencing.both import through
from incumbent.fencing.progress import database, tables
from incumbent.stores.memory import MemoryStore
from incumbent.sync.consumer import Consumer
from incumbent.testing.terms import elected_term
from incumbent.workloads.consumer.begun import Begun, Deadly
from incumbent.workloads.sources.api import Item
from incumbent.workloads.sources.memory import Shelf
from tests.servers.postgresql import Postgres
from tests.workloads.consuming import Effects, consumer, until
from tests.workloads.deadly import DIED
from tests.workloads.faces import FACES, LIMIT_S, Face
from tests.workloads.queues import Queue, names

ROOT = Path(__file__).parents[2]
NOTE = "SELECT checkpoint FROM incumbent_progress WHERE work = 'begun:orders'"


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Face:
    return Face(request.param)


@pytest.fixture
def memory() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def shelf() -> Shelf:
    return Shelf([f"body {number}".encode() for number in range(1, 4)])


@pytest.fixture
def effects(tmp_path: Path) -> Effects:
    made = Effects(tmp_path / "effects.db")
    with closing(sqlite3.connect(made.path)) as db:
        for statement in tables("sqlite"):
            db.execute(statement)
    return made


@pytest.fixture
def queue(postgres: Postgres) -> Iterator[Queue]:
    made = Queue(postgres)
    yield made
    made.drop()


def noted(effects: Effects) -> tuple[str, int]:
    """Return which item is noted, and how many terms began with it."""
    ((item, terms, _),) = [json.loads(text) for text in effects.rows(NOTE)]
    return item, terms


def died(effects: Effects, item: str, terms: int) -> None:
    """Let so many terms have ended without a word."""
    with closing(sqlite3.connect(effects.path)) as db, db:
        row = ("begun:orders", 0, json.dumps([item, terms, 0]), 0)
        db.execute("INSERT INTO incumbent_progress VALUES (?, ?, ?, ?)", row)


@pytest.mark.parametrize(("batch", "deaths"), [(1, 3), (4, 4)])
def test_what_kills_its_process_is_a_dead_letter_in_the_end(
    queue: Queue, tmp_path: Path, batch: int, deaths: int
) -> None:
    """Real processes. In a batch the first one is innocent, and is not blamed."""
    queue.put(*names(8))
    words = (f"sqlite://{tmp_path}/elections.db", queue.source, queue.effects, "i2", str(batch))
    argv = [sys.executable, "-m", "tests.workloads.deadly", *words]
    for _ in range(deaths):
        with (tmp_path / "log").open("w") as log:
            done = subprocess.run(argv, cwd=ROOT, stderr=log, timeout=LIMIT_S, check=False)
        assert done.returncode == DIED, (tmp_path / "log").read_text()
    last = subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.DEVNULL)
    with last:
        try:
            queue.until_empty()
        finally:
            last.kill()
    assert queue.rows() == [item for item in names(8) if item != "i2"]
    (letter,) = queue.server.execute("SELECT item, reason, attempts FROM incumbent_dead")
    reason = "Deadly: 2 terms in a row ended without a word that had begun with it"
    assert letter == ("i2", reason, 2)


def test_one_note_for_each_term(
    face: Face, memory: MemoryStore, shelf: Shelf, effects: Effects
) -> None:
    face.start(consumer(face, shelf, memory, effects.write, effects=effects.url))
    until(lambda: not shelf.waiting, "all are told")
    assert noted(effects) == ("1", 1)
    face.step_down()
    until(lambda: shelf.opened > 1, "another term")
    shelf.put(b"4")
    shelf.put(b"5")
    until(lambda: not shelf.waiting, "all are told")
    face.stop()
    assert noted(effects) == ("4", 1)


def test_terms_that_end_in_order_count_for_nothing(
    face: Face, memory: MemoryStore, shelf: Shelf, effects: Effects
) -> None:
    """A slow item, and a rollout that takes one holder after the other."""
    begun: list[int | None] = []

    def handle(item: Item, db: Any) -> Any:
        begun.append(item.token)
        if len(begun) > 2:
            return effects.write(item, db)
        face.step_down()
        if face.name == "aio":
            return asyncio.sleep(LIMIT_S)  # sleep: the handler is the one that waits
        assert item.term is not None
        assert item.term.lost.wait(LIMIT_S)
        raise ValueError("it was to end")

    settings = {"effects": effects.url, "deaths": 1, "retries": 9}
    face.start(consumer(face, shelf, memory, handle, ttl_s=1, **settings))
    until(lambda: not shelf.waiting, "all are told")
    face.stop()
    assert len(set(begun[:3])) == 3
    assert effects.rows() == ["1", "2", "3"]
    assert effects.rows("SELECT item FROM incumbent_dead") == []


def test_so_many_deaths_are_borne_and_no_more(
    face: Face, memory: MemoryStore, shelf: Shelf, effects: Effects
) -> None:
    died(effects, "1", 4)
    face.start(consumer(face, shelf, memory, effects.write, effects=effects.url))
    until(lambda: not shelf.waiting, "all are told")
    face.stop()
    assert effects.rows() == ["1", "2", "3"]
    assert noted(effects) == ("1", 5)


@pytest.mark.parametrize(("deaths", "committed"), [(1, [0, 1, 2]), (0, [0, 0, 0])])
def test_after_a_death_items_share_no_transaction(
    face: Face,
    memory: MemoryStore,
    shelf: Shelf,
    effects: Effects,
    deaths: int,
    committed: list[int],
) -> None:
    """What is innocent is done by itself, and the next term begins with another."""
    died(effects, "1", deaths)
    seen: list[int] = []

    def handle(item: Item, db: Any) -> None:
        seen.append(len(effects.rows()))
        effects.write(item, db)

    face.start(consumer(face, shelf, memory, handle, effects=effects.url, batch=3))
    until(lambda: not shelf.waiting, "all are told")
    face.stop()
    assert seen == committed


@pytest.mark.parametrize("place", [None, "elsewhere"])
def test_five_deaths_are_too_many_unless_more_are_asked_for(
    face: Face, memory: MemoryStore, shelf: Shelf, effects: Effects, place: str | None
) -> None:
    died(effects, "1", 5)
    settings = {"effects": effects.url, "dead_letter": place}
    face.start(consumer(face, shelf, memory, effects.write, **settings))
    until(lambda: not shelf.waiting, "all are told")
    face.stop()
    assert effects.rows() == ["2", "3"]
    assert effects.rows("SELECT item FROM incumbent_dead") == ([] if place else ["1"])
    assert [item for item, *_ in shelf.dead] == (["1"] if place else [])


@pytest.mark.parametrize("deaths", [0, 6])
def test_what_is_borne_is_for_the_user_to_say(
    memory: MemoryStore, shelf: Shelf, effects: Effects, deaths: int
) -> None:
    died(effects, "1", 5)
    face = Face("sync")
    settings = {"effects": effects.url, "deaths": deaths}
    face.start(consumer(face, shelf, memory, effects.write, **settings))
    until(lambda: not shelf.waiting, "all are told")
    face.stop()
    assert effects.rows() == ["1", "2", "3"]


def test_what_is_done_and_comes_again_is_not_blamed(
    face: Face, memory: MemoryStore, shelf: Shelf, effects: Effects
) -> None:
    """The broker has not heard of it. It is neither buried nor what the term begins with."""
    died(effects, "1", 9)
    with closing(sqlite3.connect(effects.path)) as db, db:
        db.execute("INSERT INTO incumbent_progress VALUES ('orders', 0, '', 1)")
        db.execute("INSERT INTO incumbent_done VALUES ('orders', '1', 1)")
    settings = {"effects": effects.url, "dead_letter": "elsewhere"}
    face.start(consumer(face, shelf, memory, effects.write, **settings))
    until(lambda: not shelf.waiting, "all are told")
    face.stop()
    assert shelf.dead == []
    assert effects.rows() == ["2", "3"]
    assert noted(effects) == ("2", 1)


def test_with_raise_it_ends_each_run_and_is_not_begun(
    face: Face, memory: MemoryStore, shelf: Shelf, effects: Effects
) -> None:
    died(effects, "1", 5)
    for _ in range(2):
        one = Face(face.name)
        settings = {"effects": effects.url, "errors": "raise"}
        one.start(consumer(one, shelf, memory, effects.write, **settings))
        one.join()
        assert isinstance(one.failure, Deadly)
    assert effects.rows() == []
    assert noted(effects) == ("1", 5)


def test_a_former_holder_changes_nothing_and_the_same_term_counts_once(effects: Effects) -> None:
    with closing(sqlite3.connect(effects.path)) as connection:
        db = database(connection)

        def begun(token: int) -> Begun:
            term = elected_term("orders", token=token)
            return Begun(term, term.fence("orders"))

        former, later = begun(1), begun(2)
        assert through(former.begin(db, "7")) == 0
        assert through(former.begin(db, "7")) == 0
        assert through(later.begin(db, "7")) == 1
        assert through(later.begin(db, "7")) == 1
        for late in (former.begin, former.take_back):
            with pytest.raises(StaleToken):
                through(late(db, "7"))
        connection.commit()
        assert noted(effects) == ("7", 2)
        through(later.take_back(db, "7"))
        through(later.take_back(db, "7"))
        connection.commit()
        through(elected_term("orders", token=3).fence("orders").checkpoint_in(db))
        for late in (later.begin, later.take_back):
            with pytest.raises(StaleToken):
                through(late(db, "8"))
        connection.commit()
    assert noted(effects) == ("7", 1)


def test_without_a_database_there_is_nowhere_to_count(memory: MemoryStore) -> None:
    with pytest.raises(ConfigError, match="deaths= is counted beside the effects"):
        Consumer("orders", "memory://x", store=memory, deaths=3)
    with pytest.raises(ConfigError, match="deaths=-1 has to be at least 0"):
        Consumer("orders", "memory://x", store=memory, deaths=-1)
