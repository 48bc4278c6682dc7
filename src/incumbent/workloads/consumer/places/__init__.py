"""Where effects lie: which database, and how it is named. A module for each kind.

A place knows how to connect, how a transaction begins and ends there, and what an error says of the
server. One place serves both faces: what its driver returns is awaited if it can be.

    postgresql://…    psycopg: the handler gets a Connection; with asyncio an AsyncConnection
    sqlite:///PATH    sqlite3, with either face
    a function        that returns a new connection of any library that `fence.sql` knows
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from incumbent.errors import ConfigError
from incumbent.fencing.progress import Database, Noted
from incumbent.runtime.term import Term
from incumbent.stores.api import StoreURL, redact

__all__ = ["Ended", "Place", "dead", "open_place"]

_DEAD = """\
CREATE TABLE IF NOT EXISTS incumbent_dead (
    work VARCHAR(200){exact} NOT NULL,
    item VARCHAR(200){exact} NOT NULL,
    body {blob} NOT NULL,
    headers {text} NOT NULL,
    reason {text} NOT NULL,
    attempts INTEGER NOT NULL,
    token BIGINT NOT NULL,
    PRIMARY KEY (work, item)
)
"""
_KINDS = {
    "postgresql": ("BYTEA", "TEXT", ""),
    "sqlite": ("BLOB", "TEXT", ""),
    "mysql": ("LONGBLOB", "LONGTEXT{0}", " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"),
}


class Ended(ConfigError):
    """A handler has ended the transaction of its item, or has tried to."""

    def __init__(self) -> None:
        super().__init__(
            "a handler has ended the transaction that it was given. The consumer commits, "
            "when the handler has returned: leave commit, rollback, `with db:` and whatever else "
            "ends a transaction out (in MySQL also CREATE, ALTER, TRUNCATE), and do not go on "
            "after an error with which the server ends one, as MySQL does at a deadlock: raise it"
        )


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

    async def hold(self, db: Database, noted: Noted, held: str) -> str:
        """Return what tells the open transaction, which was sealed just now, from all others.

        Args:
            db: of the connection.
            noted: by the seal.
            held: what this has returned in the same transaction before; "" if nothing.

        Raises:
            Ended: it is another transaction than the one of `held`.
        """
        ...

    async def whole(self, connection: Any, db: Database, held: str) -> None:
        """Return if the transaction of `held` is open, and no statement of it has failed.

        What only a way to the server can tell may be left to `commit`.

        Raises:
            Ended: it is not.
        """
        ...

    def refused(self, connection: Any) -> bool:
        """Tell whether the handler was kept from ending the transaction."""
        ...

    async def commit(self, connection: Any, begun: Any, held: str) -> None:
        """Commit. Whatever this raises, the connection is closed afterwards.

        Raises:
            Ended: the transaction is not the one of `held`, and was not committed.
        """
        ...

    async def commit_and_begin(self, connection: Any, begun: Any, held: str) -> Any:
        """Commit, and begin the next transaction if that saves a way to the server; else None.

        Returns what `begin` does. Whatever this raises, the connection is closed afterwards.

        Raises:
            Ended: see `commit`.
        """
        ...

    async def rollback(self, connection: Any, begun: Any, error: BaseException) -> None:
        """Undo everything, because of `error`."""
        ...

    def database(self, connection: Any) -> Database:
        """Return what our own statements go through."""
        ...

    async def close(self, connection: Any) -> None:
        """Disconnect, in any state."""
        ...

    def lost(self, error: BaseException, connection: Any, *, theirs: bool) -> str:
        """Return why the database is not there for us, or "" for an error of another kind.

        `theirs`: a statement of the handler has met it.
        """
        ...

    def stood_still(self, error: BaseException) -> bool:
        """Tell whether the server has ended a transaction because nothing was done in it."""
        ...

    def written(self, text: str, connection: Any) -> str:
        """Return a text as the database can keep it."""
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


def dead(dialect: str) -> str:
    """Return the statement that makes the table of the dead letters, beside the effects."""
    blob, text, exact = _KINDS["mysql" if dialect == "mariadb" else dialect]
    return _DEAD.format(blob=blob, text=text.format(exact), exact=exact)
