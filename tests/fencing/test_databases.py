"""Seal and check in transactions of real database servers, beside `test_sql`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import psycopg
import pymysql
import pytest
import sqlalchemy
import sqlalchemy.ext.asyncio

from incumbent.errors import ConfigError, StaleToken
from incumbent.fencing import Fence
from incumbent.fencing.sql import TABLE
from tests.servers.mariadb import MariaDb
from tests.servers.postgresql import Postgres

Connect = Callable[[], Any]


def fence(token: int) -> Fence:
    return Fence("ledger", token, lambda: None)


@pytest.fixture(params=["psycopg", "pymysql"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Make connections on which a transaction begins by itself."""
    made: list[Any] = []

    def new() -> Any:
        if request.param == "psycopg":
            server: Postgres = request.getfixturevalue("postgres")
            made.append(psycopg.connect(server.url()))
        else:
            mariadb: MariaDb = request.getfixturevalue("mariadb")
            made.append(mariadb.connect(autocommit=False))
        return made[-1]

    first = new()
    with first.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS incumbent_fence")
        cursor.execute("DROP TABLE IF EXISTS entry")
        cursor.execute(TABLE)
        cursor.execute("CREATE TABLE entry (amount INTEGER NOT NULL)")
    first.commit()
    yield new
    for connection in made:
        connection.close()


def write(connection: Any, token: int) -> None:
    try:
        with connection.cursor() as cursor:
            fence(token).sql(connection)
            cursor.execute("INSERT INTO entry VALUES (%s)", (token,))
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def amounts(connection: Any) -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT amount FROM entry ORDER BY amount")
        found = [amount for (amount,) in cursor.fetchall()]
    connection.rollback()
    return found


def test_a_later_leader_is_let_in_and_an_earlier_one_is_not(connect: Connect) -> None:
    old, new = connect(), connect()
    write(old, 5)
    write(new, 7)
    with pytest.raises(StaleToken, match="has seen token 7, and this term has 5"):
        write(old, 5)
    write(new, 7)
    assert amounts(new) == [5, 7, 7]


def test_a_seal_waits_for_the_transaction_that_has_sealed(connect: Connect) -> None:
    """The old leader is in the middle of its write: the new one reads what it has written."""
    old, new = connect(), connect()
    write(old, 1)
    fence(1).sql(old)
    with old.cursor() as cursor:
        cursor.execute("INSERT INTO entry VALUES (10)")
    seen: list[list[int]] = []
    begun = threading.Event()

    def lead() -> None:
        begun.set()
        fence(2).sql(new)
        with new.cursor() as cursor:
            cursor.execute("SELECT amount FROM entry ORDER BY amount FOR UPDATE")
            seen.append([amount for (amount,) in cursor.fetchall()])
        new.commit()

    thread = threading.Thread(target=lead)
    thread.start()
    begun.wait()
    assert not seen
    old.commit()
    thread.join()
    assert seen == [[1, 10]]
    with pytest.raises(StaleToken):
        write(old, 1)


def test_what_commits_each_statement_by_itself_is_refused(connect: Connect) -> None:
    connection = connect()
    if isinstance(connection, pymysql.connections.Connection):
        connection.autocommit(True)
    else:
        connection.autocommit = True
    with pytest.raises(ConfigError, match="begin a transaction before"):
        fence(1).sql(connection)


def test_asynchronously_on_psycopg(connect: Connect, postgres: Postgres) -> None:
    async def main() -> None:
        async with await psycopg.AsyncConnection.connect(postgres.url()) as connection:
            await connection.execute("DROP TABLE IF EXISTS incumbent_fence")
            await connection.execute(TABLE)
            await fence(4).sql_async(connection)
            await connection.commit()
            with pytest.raises(StaleToken):
                await fence(3).sql_async(connection)
            await connection.rollback()

    asyncio.run(main())


@pytest.mark.parametrize("autocommit", [False, True])
def test_asynchronously_by_sqlalchemy(postgres: Postgres, autocommit: bool) -> None:
    postgres.execute("DROP TABLE IF EXISTS incumbent_fence")
    postgres.execute(TABLE)
    url = postgres.url().replace("postgresql:", "postgresql+psycopg_async:")
    level = "AUTOCOMMIT" if autocommit else "READ COMMITTED"
    begin = "begin a transaction before"

    async def main() -> None:
        engine = sqlalchemy.ext.asyncio.create_async_engine(url, isolation_level=level)
        async with engine.connect() as connection:
            with pytest.raises(ConfigError, match=begin) if autocommit else nullcontext():
                await fence(4).sql_async(connection)
            await connection.commit()
        async with sqlalchemy.ext.asyncio.AsyncSession(engine) as session:
            with pytest.raises(ConfigError, match=begin) if autocommit else nullcontext():
                await fence(5).sql_async(session)
            await session.commit()
            with pytest.raises(ConfigError if autocommit else StaleToken):
                await fence(4).sql_async(session)
        await engine.dispose()

    asyncio.run(main())


def test_by_sqlalchemy(connect: Connect, postgres: Postgres) -> None:
    connect()
    engine = sqlalchemy.create_engine(postgres.url().replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("DROP TABLE IF EXISTS incumbent_fence"))
        connection.execute(sqlalchemy.text(TABLE))
        fence(4).sql(connection)
    with pytest.raises(StaleToken), engine.begin() as connection:
        fence(3).sql(connection)
    engine.dispose()
