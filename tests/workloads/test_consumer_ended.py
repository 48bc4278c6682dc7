"""A handler that ends the transaction of its item, in each kind of database: nothing is guessed."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
import sqlalchemy

from incumbent import ConfigError
from incumbent.fencing.progress import tables
from incumbent.stores.memory import MemoryStore
from incumbent.workloads.consumer.places import Ended, dead
from incumbent.workloads.sources.api import Item
from incumbent.workloads.sources.memory import Shelf
from tests.servers.mariadb import MariaDb
from tests.servers.postgresql import Postgres
from tests.workloads.consuming import consumer, until
from tests.workloads.faces import Face

LIMIT_S = 20.0
TABLES = (
    *("ended_effect", "ended_other"),
    *("incumbent_progress", "incumbent_done", "incumbent_dead"),
)


class Place:
    """A database of one kind: how a consumer gets there, and what it has left."""

    def __init__(self, effects: Any, connect: Callable[[], Any], dialect: str) -> None:
        self.effects = effects
        self.connect = connect
        self.change(
            "CREATE TABLE IF NOT EXISTS ended_effect (item VARCHAR(40), what VARCHAR(40))",
            "CREATE TABLE IF NOT EXISTS ended_other (id INTEGER PRIMARY KEY, v INTEGER)",
            *tables(dialect),
            dead(dialect),
            *(f"DELETE FROM {table}" for table in TABLES),
        )

    def change(self, *statements: str) -> None:
        """Carry them out, and commit."""
        with closing(self.connect()) as db:
            for statement in statements:
                db.cursor().execute(statement)
            db.commit()

    def rows(self, query: str) -> list[str]:
        """Return the first column."""
        with closing(self.connect()) as db:
            cursor = db.cursor()
            cursor.execute(query)
            return sorted(row[0] for row in cursor.fetchall())

    def write(self, db: Any, item: Item, what: str) -> None:
        """Have an effect."""
        statement = f"INSERT INTO ended_effect VALUES ('{item.id}', '{what}')"
        if isinstance(db, sqlalchemy.Connection):
            db.execute(sqlalchemy.text(statement))
        else:
            db.cursor().execute(statement)

    def said(self) -> tuple[list[str], list[str], list[str]]:
        """Return of which items there are effects, ids and dead letters."""
        return (
            self.rows("SELECT item FROM ended_effect"),
            self.rows("SELECT item FROM incumbent_done"),
            self.rows("SELECT item FROM incumbent_dead"),
        )


@pytest.fixture(params=["sqlite", "function", "postgresql", "psycopg", "pymysql", "sqlalchemy"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    kind = request.param
    path = tmp_path / "e.db"

    def file() -> Any:
        return sqlite3.connect(path, timeout=LIMIT_S, check_same_thread=False)

    if kind == "sqlite":
        yield Place(f"sqlite://{path}", file, "sqlite")
    elif kind == "function":
        yield Place(file, file, "sqlite")
    elif kind == "pymysql":
        mariadb: MariaDb = request.getfixturevalue("mariadb")

        def connect() -> Any:
            return mariadb.connect(autocommit=False)

        yield Place(connect, connect, "mysql")
    else:
        server: Postgres = request.getfixturevalue("postgres")
        url = server.url()
        engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
        effects = {
            "postgresql": url,
            "psycopg": lambda: psycopg.connect(url),
            "sqlalchemy": engine.connect,
        }
        yield Place(effects[kind], lambda: psycopg.connect(url), "postgresql")
        engine.dispose()


def end(db: Any, statement: str) -> None:
    """End the transaction of `db`, by a method or, where that is refused, by a statement."""
    if isinstance(db, psycopg.Connection | sqlite3.Connection):
        db.execute(statement)
    else:
        getattr(db, statement.lower())()


def consume(place: Place, memory: MemoryStore, handle: Any, shelf: Shelf, **settings: Any) -> Any:
    face = Face("sync")
    face.start(consumer(face, shelf, memory, handle, effects=place.effects, retries=1, **settings))
    face.join()
    return face.failure


@pytest.mark.parametrize(("batch", "statement"), [(1, "COMMIT"), (3, "COMMIT"), (1, "ROLLBACK")])
def test_what_follows_the_end_of_the_transaction_is_not_committed(
    place: Place, memory: MemoryStore, statement: str, batch: int
) -> None:
    def handle(item: Item, db: Any) -> None:
        seen.append(item.id)
        place.write(db, item, "before")
        if item.id == "2":
            with suppress(sqlite3.DatabaseError):
                end(db, statement)
                place.write(db, item, "after")

    seen: list[str] = []
    shelf = Shelf([b"x"] * 3)
    assert isinstance(consume(place, memory, handle, shelf, batch=batch), Ended)
    assert seen == ["1", "2"]
    effects, done, dead = place.said()
    committed = statement == "COMMIT" and not str(place.effects).startswith("sqlite:")
    first = ["1"] if batch == 1 or committed else []
    assert effects == done == first + ["2"] * committed
    assert dead == (effects if batch > 1 else ["2"] * committed)
    assert place.rows("SELECT what FROM ended_effect WHERE what = 'after'") == []


def test_an_item_of_which_a_part_is_committed_is_neither_done_nor_tried_again(
    place: Place, memory: MemoryStore
) -> None:
    def handle(item: Item, db: Any) -> None:
        seen.append(item.id)
        place.write(db, item, "before")
        end(db, "COMMIT")
        raise ValueError("the second half fails")

    seen: list[str] = []
    shelf = Shelf([b"x"] * 2)
    assert isinstance(consume(place, memory, handle, shelf), Ended)
    assert seen == ["1"]
    assert shelf.told == []
    refused = str(place.effects).startswith("sqlite:")
    assert place.said() == (([], [], []) if refused else (["1"], ["1"], ["1"]))


@pytest.mark.parametrize("batch", [1, 2])
def test_a_transaction_that_a_handler_begins_is_not_taken_for_ours(
    place: Place, memory: MemoryStore, batch: int
) -> None:
    def handle(item: Item, db: Any) -> None:
        if item.id == "1":
            end(db, "ROLLBACK")
            if isinstance(db, psycopg.Connection | sqlite3.Connection):
                db.execute("BEGIN")
        place.write(db, item, "unsealed")

    shelf = Shelf([b"x"] * batch)
    assert isinstance(consume(place, memory, handle, shelf, batch=batch), Ended)
    assert place.said() == ([], [], [])


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
@pytest.mark.parametrize("how", ["with", "script", "method"])
def test_sqlite_refuses_it_before_it_happens(place: Place, memory: MemoryStore, how: str) -> None:
    def handle(item: Item, db: Any) -> None:
        if how == "with":
            with db:
                place.write(db, item, "half")
        elif how == "script":
            db.executescript("INSERT INTO ended_effect VALUES ('1', 'by script')")
        else:
            place.write(db, item, "half")
            with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
                db.commit()

    assert isinstance(consume(place, memory, handle, Shelf([b"x"])), Ended)
    assert place.said() == ([], [], [])


@pytest.mark.parametrize("place", ["pymysql"], indirect=True)
def test_a_statement_of_mysql_that_commits_by_itself_is_noticed(
    place: Place, memory: MemoryStore
) -> None:
    def handle(item: Item, db: Any) -> None:
        db.cursor().execute("TRUNCATE TABLE ended_other")
        raise ValueError("fails after it")

    assert isinstance(consume(place, memory, handle, Shelf([b"x"])), Ended)
    assert place.said() == ([], ["1"], ["1"])


@pytest.mark.parametrize("place", ["pymysql"], indirect=True)
@pytest.mark.parametrize("goes_on", [True, False])
def test_a_deadlock_of_mysql_undoes_all_of_it(
    place: Place, memory: MemoryStore, goes_on: bool
) -> None:
    """Who raises it is tried again; who repeats the statements alone has lost the seal."""
    place.change("INSERT INTO ended_other VALUES (1, 0), (2, 0)")
    blocked = threading.Event()

    def rival() -> None:
        with closing(place.connect()) as db:
            cursor = db.cursor()
            # More rows than the handler's, so InnoDB chooses the handler's transaction.
            cursor.execute("INSERT INTO ended_effect SELECT 'rival', 'x' FROM seq_1_to_500")
            cursor.execute("UPDATE ended_other SET v = v + 1 WHERE id = 2")
            blocked.set()
            cursor.execute("UPDATE ended_other SET v = v + 1 WHERE id = 1")
            db.rollback()

    threads: list[threading.Thread] = []
    undone: list[int] = []

    def handle(item: Item, db: Any) -> None:
        def all_of_it() -> None:
            place.write(db, item, "credit")
            db.cursor().execute("UPDATE ended_other SET v = v + 1 WHERE id = 1")
            if not threads:
                threads.append(threading.Thread(target=rival))
                threads[0].start()
                assert blocked.wait(LIMIT_S)
            db.cursor().execute("UPDATE ended_other SET v = v + 1 WHERE id = 2")

        try:
            all_of_it()
        except pymysql.err.OperationalError as error:
            undone.append(error.args[0])
            if not goes_on:
                raise
            all_of_it()

    shelf = Shelf([b"x"] * 2)
    face = Face("sync")
    face.start(consumer(face, shelf, memory, handle, effects=place.effects, retries=1))
    if goes_on:
        face.join()
        assert isinstance(face.failure, Ended)
        assert place.said() == ([], [], [])
    else:
        until(lambda: not shelf.waiting, "all are told")
        face.stop()
        assert place.said() == (["1", "2"], ["1", "2"], [])
    threads[0].join()
    assert undone == [1213]


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
def test_what_uses_a_connection_that_was_kept_has_no_effect(
    place: Place, memory: MemoryStore
) -> None:
    kept: list[Any] = []

    def handle(item: Item, db: Any) -> None:
        kept.append(db)
        place.write(db, item, "in its transaction")

    shelf = Shelf([b"x"])
    face = Face("sync")
    face.start(consumer(face, shelf, memory, handle, effects=place.effects))
    until(lambda: not shelf.waiting, "it is told")
    kept[0].execute("INSERT INTO ended_effect VALUES ('later', '')")
    shelf.put(b"y")
    face.join()
    assert isinstance(face.failure, ConfigError)
    assert "was used when its item was over" in str(face.failure)
    assert place.said() == (["1"], ["1"], [])


@pytest.mark.parametrize("place", ["sqlite", "psycopg"], indirect=True)
def test_a_handler_that_asks_for_the_id_of_its_item_is_told_that_it_is_there(
    place: Place, memory: MemoryStore
) -> None:
    """It would be False for every item, and so nothing would be done for any."""

    def handle(item: Item, db: Any) -> None:
        assert item.term is not None
        assert item.term.fence("of the handler").once(db, item.id)
        if item.term.fence("orders").once(db, item.id):
            place.write(db, item, "never")

    failure = consume(place, memory, handle, Shelf([b"x"]))
    assert isinstance(failure, ConfigError)
    assert "notes its items and its checkpoint itself" in str(failure)
    assert place.said() == ([], [], [])
