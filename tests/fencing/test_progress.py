"""Items and checkpoints in the user's own transaction, on real databases."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
import sqlalchemy
import sqlalchemy.ext.asyncio

from incumbent.errors import ConfigError, LeadershipLost, StaleToken
from incumbent.fencing import Fence
from incumbent.fencing.both import through
from incumbent.fencing.progress import database, tables
from incumbent.fencing.sql import TABLE
from tests.servers.postgresql import Postgres

Connect = Callable[[], Any]

LIMIT_S = 20.0


def fence(token: int, work: str = "orders") -> Fence:
    return Fence(work, token, lambda: None)


@pytest.fixture(params=["sqlite3", "psycopg", "pymysql"])
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connect]:
    """Make connections on which a transaction begins by itself, to a database with our tables."""
    made: list[Any] = []

    def new() -> Any:
        if request.param == "sqlite3":
            path = tmp_path / "p.db"
            made.append(sqlite3.connect(path, timeout=LIMIT_S, check_same_thread=False))
        elif request.param == "psycopg":
            made.append(psycopg.connect(request.getfixturevalue("postgres").url()))
        else:
            made.append(request.getfixturevalue("mariadb").connect(autocommit=False))
        return made[-1]

    dialect = {"sqlite3": "sqlite", "psycopg": "postgresql", "pymysql": "mysql"}[request.param]
    first = new()
    cursor = first.cursor()
    for table in ("incumbent_progress", "incumbent_done", "effect"):
        cursor.execute(f"DROP TABLE IF EXISTS {table}")
    for statement in (*tables(dialect), "CREATE TABLE effect (item VARCHAR(40) NOT NULL)"):
        cursor.execute(statement)
    first.commit()
    yield new
    for connection in made:
        connection.close()


def do(connection: Any, token: int, item: str, checkpoint: str = "", **settings: Any) -> bool:
    """Handle an item as a consumer would: what it did is there with its id, or not at all."""
    try:
        first = fence(token).once(connection, item, checkpoint=checkpoint, **settings)
        if first:
            mark = "?" if isinstance(connection, sqlite3.Connection) else "%s"
            connection.cursor().execute(f"INSERT INTO effect VALUES ({mark})", (item,))
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return first


def rows(connection: Any, query: str) -> list[Any]:
    cursor = connection.cursor()
    cursor.execute(query)
    found = list(cursor.fetchall())
    connection.rollback()
    return found


def effects(connection: Any) -> list[str]:
    return sorted(item for (item,) in rows(connection, "SELECT item FROM effect"))


def test_an_item_is_done_once_whoever_does_it(connect: Connect) -> None:
    old, new = connect(), connect()
    assert do(old, 5, "a")
    assert not do(old, 5, "a")
    assert do(new, 7, "b")
    assert not do(new, 7, "a")
    with pytest.raises(StaleToken, match="'orders' has seen token 7, and this term has 5"):
        do(old, 5, "c")
    assert effects(new) == ["a", "b"]


def test_rows_are_made_of_whatever_the_user_likes(connect: Connect) -> None:
    db: Any = connect()
    if isinstance(db, sqlite3.Connection):
        db.row_factory = lambda cursor, row: {
            column[0]: value for column, value in zip(cursor.description, row, strict=True)
        }
    elif isinstance(db, psycopg.Connection):
        db.row_factory = psycopg.rows.dict_row
    else:
        db.cursorclass = pymysql.cursors.DictCursor
    assert do(db, 5, "a", "1")
    assert not do(db, 5, "a")
    assert fence(6).checkpoint(db) == "1"
    db.cursor().execute(TABLE)
    db.commit()
    fence(7, "rows").sql(db)
    with pytest.raises(StaleToken, match="'rows' has seen token 7, and this term has 6"):
        fence(6, "rows").sql(db)


def test_what_was_rolled_back_was_not_done(connect: Connect) -> None:
    db = connect()
    assert fence(1).once(db, "a", checkpoint="9")
    db.rollback()
    assert fence(1).checkpoint(db) == ""
    db.rollback()
    assert do(db, 1, "a")


def test_the_checkpoint_is_moved_by_what_is_done_now_alone(connect: Connect) -> None:
    db = connect()
    do(db, 1, "a", checkpoint="1")
    do(db, 1, "b", checkpoint="2")
    assert not do(db, 1, "a", checkpoint="1"), "it comes again"
    assert fence(2).checkpoint(db) == "2"
    db.commit()
    with pytest.raises(StaleToken):
        fence(1).advance(db, "3")
    db.rollback()
    fence(2).advance(db, "4")
    db.commit()
    assert fence(2).checkpoint(db) == "4"
    db.rollback()


def test_what_is_not_there_to_be_taken_moves_nothing(connect: Connect) -> None:
    db = connect()
    cursor = db.cursor()
    cursor.execute("INSERT INTO effect VALUES ('row')")
    used = database(db)
    taking = ("DELETE FROM effect WHERE item = :row", {"row": "row"})
    found = [
        through(fence(1).once_in(used, item, checkpoint, taking=taking))
        for item, checkpoint in (("a", "1"), ("b", "2"), ("a", "3"))
    ]
    assert found == [True, False, False]
    assert fence(1).checkpoint(db) == "1"
    db.commit()
    assert effects(db) == []


@pytest.mark.parametrize("item", ["b", "c"])
def test_a_successor_waits_for_the_transaction_that_is_open(
    connect: Connect, request: pytest.FixtureRequest, item: str
) -> None:
    """The old holder is before its commit: the new one must not do the item beside it.

    Nor give its own one the number that the other's has.
    """
    old, new = connect(), connect()
    do(old, 1, "a")
    assert fence(1).once(old, "b", checkpoint="b")
    begun = threading.Event()
    found: list[Any] = []

    def succeed() -> None:
        begun.set()
        found.append(fence(2).once(new, item))
        found.append(fence(2).checkpoint(new))
        new.commit()

    thread = threading.Thread(target=succeed)
    thread.start()
    assert begun.wait(LIMIT_S)
    if isinstance(old, psycopg.Connection):
        postgres: Postgres = request.getfixturevalue("postgres")
        deadline_s = time.monotonic() + LIMIT_S
        while not postgres.waiting():
            assert time.monotonic() < deadline_s, "it does not wait"
    assert not found
    old.commit()
    thread.join(LIMIT_S)
    assert found == [item == "c", "b"]


def test_ids_are_kept_as_they_were_meant(connect: Connect) -> None:
    db = connect()
    odd = ["a", "A", "a ", " a", "x" * 200, "x" * 201, "x" * 202, "ä\n", "", "\0", "sha256:1", "ﬁ"]
    for item in odd:
        assert fence(1).once(db, item), repr(item)
    assert [fence(1).once(db, item) for item in odd] == [False] * len(odd)
    db.commit()


def test_ids_of_the_last_items_are_kept_and_no_more(connect: Connect) -> None:
    db = connect()
    for number in range(60):
        assert fence(1).once(db, f"i{number}", keep=20)
        fence(1).checkpoint(db)
        assert fence(1, "other").once(db, f"i{number}")
    db.commit()
    ((kept,),) = rows(db, "SELECT count(*) FROM incumbent_done WHERE work = 'orders'")
    assert 20 <= kept <= 22
    assert not fence(1).once(db, "i40", keep=20)
    assert not fence(1, "other").once(db, "i0")
    db.rollback()


def test_what_comes_again_and_again_is_known_all_the_while(connect: Connect) -> None:
    """A broker that does not hear what is done delivers the same items over and over."""
    db = connect()
    for number in range(20):
        assert fence(1).once(db, f"i{number}", keep=20)
    for _ in range(5):
        for number in range(20):
            assert not fence(1).once(db, f"i{number}", keep=20)
    db.commit()


def test_works_are_apart(connect: Connect) -> None:
    db = connect()
    assert fence(9, "one").once(db, "a", checkpoint="9")
    assert fence(3, "other").once(db, "a")
    assert fence(3, "other").checkpoint(db) == ""
    db.commit()


def test_what_commits_each_statement_by_itself_is_refused(connect: Connect) -> None:
    db = connect()
    if isinstance(db, sqlite3.Connection):
        db.isolation_level = None
    elif isinstance(db, pymysql.connections.Connection):
        db.autocommit(True)
    else:
        db.autocommit = True
    with pytest.raises(ConfigError, match="begin a transaction before"):
        fence(1).once(db, "a")


def test_a_term_that_is_over_does_not_even_ask(connect: Connect) -> None:
    def over() -> None:
        raise LeadershipLost("the term is over")

    db = connect()
    with pytest.raises(LeadershipLost):
        Fence("orders", 8, over).once(db, "a")
    assert rows(db, "SELECT token FROM incumbent_progress") == []


@pytest.mark.parametrize("kind", ["psycopg", "sqlalchemy"])
def test_asynchronously(kind: str, postgres: Any) -> None:
    for statement in tables("postgresql"):
        postgres.execute(statement)
    postgres.execute("TRUNCATE incumbent_progress, incumbent_done")

    async def use(db: Any) -> None:
        assert await fence(4).once_async(db, "a", checkpoint="1")
        await db.commit()
        assert not await fence(4).once_async(db, "a")
        await fence(4).advance_async(db, "2")
        await db.commit()
        assert await fence(5).checkpoint_async(db) == "2"
        await db.commit()
        with pytest.raises(StaleToken):
            await fence(4).once_async(db, "b")
        await db.rollback()

    async def main() -> None:
        if kind == "psycopg":
            async with await psycopg.AsyncConnection.connect(postgres.url()) as connection:
                await use(connection)
            return
        url = postgres.url().replace("postgresql:", "postgresql+psycopg_async:")
        engine = sqlalchemy.ext.asyncio.create_async_engine(url)
        async with sqlalchemy.ext.asyncio.AsyncSession(engine) as session:
            await use(session)
        await engine.dispose()

    asyncio.run(main())


def test_by_sqlalchemy(tmp_path: Path) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/s.db")
    with engine.begin() as connection:
        for statement in tables("sqlite"):
            connection.execute(sqlalchemy.text(statement))
        assert fence(4).once(connection, "a", checkpoint="1")
    with engine.begin() as connection:
        assert not fence(4).once(connection, "a")
        assert fence(4).checkpoint(connection) == "1"
    engine.dispose()
