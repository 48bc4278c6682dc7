"""Seal and check in the user's own transaction, on real databases."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy
import sqlalchemy.orm

import incumbent
from incumbent.errors import ConfigError, LeadershipLost, StaleToken
from incumbent.fencing import Fence
from incumbent.fencing.sql import TABLE

NAME = "ledger"


def fence(token: int | None, resource: str = NAME) -> Fence:
    return Fence(resource, token, lambda: None)


def over() -> None:
    raise LeadershipLost("the term is over")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users.db"


@pytest.fixture
def db(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path)
    connection.execute(TABLE)
    connection.execute("CREATE TABLE entry (amount INTEGER NOT NULL)")
    yield connection
    connection.close()


def rows(path: Path, query: str = "SELECT amount FROM entry") -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return [value for (value,) in connection.execute(query)]
    finally:
        connection.close()


def test_a_later_leader_is_let_in_and_an_earlier_one_is_not(
    db: sqlite3.Connection, path: Path
) -> None:
    for token in (5, 5, 7):
        with db:
            fence(token).sql(db)
            db.execute("INSERT INTO entry VALUES (?)", (token,))
    db.execute("INSERT INTO entry VALUES (6)")
    with pytest.raises(StaleToken, match=r"'ledger' has seen token 7, and this term has 6"), db:
        fence(6).sql(db)
    assert rows(path) == [5, 5, 7]
    assert rows(path, "SELECT token FROM incumbent_fence") == [7]


def test_resources_are_apart(db: sqlite3.Connection) -> None:
    with db:
        fence(9, "one").sql(db)
        fence(3, "other").sql(db)
    with pytest.raises(StaleToken), db:
        fence(3, "one").sql(db)


def test_a_seal_waits_for_the_transaction_that_has_sealed(
    db: sqlite3.Connection, path: Path
) -> None:
    """The old leader is in the middle of its write: the new one reads what it has written."""
    fence(1).sql(db)
    db.execute("INSERT INTO entry VALUES (1)")
    seen: list[int] = []
    begun = threading.Event()

    def lead() -> None:
        other = sqlite3.connect(path, timeout=30)
        begun.set()
        with other:
            fence(2).sql(other)
            seen.extend(amount for (amount,) in other.execute("SELECT amount FROM entry"))
        other.close()

    thread = threading.Thread(target=lead)
    thread.start()
    begun.wait()
    db.commit()
    thread.join()
    assert seen == [1]
    with pytest.raises(StaleToken), db:
        fence(1).sql(db)


def test_what_commits_each_statement_by_itself_is_refused(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(TABLE)
    with pytest.raises(ConfigError, match="begin a transaction before"):
        fence(1).sql(connection)
    connection.execute("BEGIN")
    fence(1).sql(connection)
    connection.execute("COMMIT")
    connection.close()


def test_a_term_that_is_over_does_not_even_ask(db: sqlite3.Connection, path: Path) -> None:
    with pytest.raises(LeadershipLost), db:
        Fence(NAME, 8, over).sql(db)
    assert rows(path, "SELECT token FROM incumbent_fence") == []


def test_sqlalchemy_by_connection_and_by_session(path: Path) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(TABLE))
        fence(4).sql(connection)
    with sqlalchemy.orm.Session(engine) as session, session.begin():
        fence(5).sql(session)
    with pytest.raises(StaleToken), engine.begin() as connection:
        fence(4).sql(connection)
    engine.dispose()


def test_sqlalchemy_that_commits_each_statement_by_itself_is_refused(path: Path) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{path}", isolation_level="AUTOCOMMIT")
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(TABLE))
        with pytest.raises(ConfigError, match="begin a transaction before"):
            fence(4).sql(connection)
    refused = pytest.raises(ConfigError, match="begin a transaction before")
    with refused, sqlalchemy.orm.Session(engine) as session, session.begin():
        fence(4).sql(session)
    engine.dispose()


class OwnConnection(sqlite3.Connection):
    """Applications derive from what they use."""


def test_a_class_of_ones_own_is_known_by_what_it_is_made_from(path: Path) -> None:
    connection = sqlite3.connect(path, factory=OwnConnection)
    connection.execute(TABLE)
    with connection:
        fence(1).sql(connection)
    connection.close()


def test_what_is_no_connection_is_named() -> None:
    with pytest.raises(ConfigError, match=r"SimpleNamespace cannot be fenced here: give a conn"):
        fence(1).sql(SimpleNamespace())


@pytest.mark.parametrize("resource", ["", "x" * 201])
def test_a_name_that_no_column_holds(resource: str) -> None:
    with pytest.raises(ConfigError, match="use 1 to 200 characters"):
        fence(1, resource)


def test_a_store_without_tokens() -> None:
    with pytest.raises(ConfigError, match='require="token"'):
        fence(None)


def test_a_term_makes_one(db: sqlite3.Connection, tmp_path: Path) -> None:
    election = incumbent.Election("books", store=f"sqlite://{tmp_path / 'elections.db'}")
    with election.hold() as term:
        protected = term.fence(NAME)
        assert protected.token == term.token
        with db:
            protected.sql(db)
    with pytest.raises(LeadershipLost), db:
        protected.sql(db)
