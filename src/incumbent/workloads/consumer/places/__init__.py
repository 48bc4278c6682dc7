"""Where effects lie: which database, and how it is named. A module for each kind.

A place knows how to connect, how a transaction begins and ends there, and what an error says of the
server. One place serves both faces: what its driver returns is awaited if it can be.

    postgresql://…    psycopg: the handler gets a Connection; with asyncio an AsyncConnection
    sqlite:///PATH    sqlite3, with either face
    a function        that returns a new connection of any library that `fence.sql` knows
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import isawaitable
from typing import Any, Protocol

from incumbent.errors import ConfigError
from incumbent.runtime.term import Term
from incumbent.stores.api import StoreURL, redact

__all__ = ["DEAD", "Place", "open_place", "settled"]

DEAD = """\
CREATE TABLE IF NOT EXISTS incumbent_dead (
    work VARCHAR(200) NOT NULL,
    item VARCHAR(200) NOT NULL,
    body {blob} NOT NULL,
    headers TEXT NOT NULL,
    reason TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    token BIGINT NOT NULL,
    PRIMARY KEY (work, item)
)
"""
"""The dead letters of consumers whose effects lie in a database."""


class Place(Protocol):
    """One database, for effects.

    Attributes:
        name: for messages, without secrets.
        url: as it was given; "" if it was a function.
    """

    name: str
    url: str

    async def connect(self, term: Term, work: str, *, waits: bool) -> Any:
        """Return a connection without a transaction; our tables are there, predecessors are not."""
        ...

    async def begin(self, connection: Any) -> Any:
        """Begin a transaction, and return what `commit` and `rollback` want to have."""
        ...

    async def whole(self, connection: Any) -> None:
        """Raise unless a transaction is open in which no statement failed."""
        ...

    async def commit(self, connection: Any, begun: Any) -> None:
        """Commit. Whatever this raises, the connection is closed afterwards."""
        ...

    async def commit_and_begin(self, connection: Any, begun: Any) -> Any:
        """Commit, and begin the next transaction if that saves a way to the server; else None.

        Returns what `begin` does. Whatever this raises, the connection is closed afterwards.
        """
        ...

    async def rollback(self, connection: Any, begun: Any, error: BaseException) -> None:
        """Undo everything, because of `error`."""
        ...

    async def close(self, connection: Any) -> None:
        """Disconnect, in any state."""
        ...

    def lost(self, error: BaseException, connection: Any) -> str:
        """Return why the database is not there for us, or "" for an error of another kind."""
        ...


def open_place(effects: str | Callable[[], Any]) -> Place:
    """Return the place that a URL names, or a function connects to; nothing is sent yet.

    Raises:
        ConfigError: there is no such place.
        MissingExtra: its driver is not installed.
    """
    if not isinstance(effects, str):
        from incumbent.workloads.consumer.places.own import OwnPlace

        return OwnPlace(effects)
    scheme = StoreURL.parse(effects).scheme
    if scheme in ("postgresql", "postgres"):
        from incumbent.workloads.consumer.places.postgresql import PostgresPlace

        return PostgresPlace(effects)
    if scheme == "sqlite":
        from incumbent.workloads.consumer.places.sqlite import SqlitePlace

        return SqlitePlace(effects)
    raise ConfigError(
        f"effects={redact(effects)!r}: use postgresql://…, sqlite:///PATH, or a function that "
        "returns a new connection of another database"
    )


async def settled(result: Any) -> Any:
    """Return a result; await it first, if it is one of asyncio's."""
    return await result if isawaitable(result) else result
