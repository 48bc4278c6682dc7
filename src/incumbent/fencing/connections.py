"""Connections of the SQL libraries that are known here: which one it is, and how to ask it.

A connection of a class that was made from a known one is known as well.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from incumbent.errors import ConfigError

__all__ = [
    "KNOWN",
    "bound_dialect",
    "cursor_of",
    "library_of",
    "mark_and_dialect",
    "names",
    "refuse_autocommit",
    "refuse_autocommit_below",
    "unknown",
    "values_of",
]

_DIALECTS = {
    "sqlite3": "sqlite",
    "psycopg": "postgresql",
    "psycopg2": "postgresql",
    "pymysql": "mysql",
    "MySQLdb": "mysql",
    "mysql": "mysql",
    "mariadb": "mysql",
}
KNOWN = {"sqlite", "postgresql", "mysql", "mariadb"}


def library_of(connection: Any) -> str:
    """Return the top package of the class, or of the one that it was made from."""
    library = _known_library(connection)
    if not library:
        raise unknown(connection)
    return library


def _known_library(connection: Any) -> str:
    kind: Any = type(connection)
    return _library_of_class(kind)


@lru_cache(maxsize=64)
def _library_of_class(kind: type[Any]) -> str:
    for each in kind.__mro__:
        library: str = each.__module__.partition(".")[0]
        if library in _DIALECTS or library == "sqlalchemy":
            return library
    return ""


def mark_and_dialect(connection: Any) -> tuple[str, str]:
    """Return how a driver writes the place of a value, and which SQL its server speaks."""
    library = library_of(connection)
    mark = "?" if sys.modules[library].__dict__.get("paramstyle") == "qmark" else "%s"
    return mark, _DIALECTS[library]


def cursor_of(connection: Any) -> Any:
    """Return a cursor; one of psycopg has tuples for rows, whatever its user has chosen for his."""
    if library_of(connection) != "psycopg":
        return connection.cursor()
    return connection.cursor(row_factory=sys.modules["psycopg.rows"].tuple_row)


def values_of(row: Any) -> tuple[Any, ...]:
    """Return what a row has, in the order of the columns, whatever the user has rows made of."""
    return tuple(row.values() if isinstance(row, Mapping) else row)


def bound_dialect(connection: Any) -> str:
    """Return which SQL the server of a connection or session of SQLAlchemy speaks."""
    bound = connection if hasattr(connection, "dialect") else connection.get_bind()
    dialect: str = bound.dialect.name
    if dialect not in KNOWN:
        raise ConfigError(f"fencing in {dialect!r} is not known here: use one of {names()}")
    return dialect


def refuse_autocommit(connection: Any) -> None:
    """Raise if the seal was committed by itself: what follows would not be under it."""
    if not _in_transaction(connection):
        raise ConfigError(
            "this connection commits each statement by itself, so the seal would protect nothing "
            "that follows: begin a transaction before"
        )


def refuse_autocommit_below(connection: Any) -> None:
    """Do so for what SQLAlchemy uses: it says of itself that it is in a transaction, in any case.

    Of a driver that is unknown here nothing is known.
    """
    used = connection.connection.driver_connection
    if _known_library(used):
        refuse_autocommit(used)


def _in_transaction(connection: Any) -> bool:
    match library_of(connection):
        case "sqlite3":
            return bool(connection.in_transaction)
        case "psycopg":
            return int(connection.pgconn.transaction_status) != 0
        case "psycopg2":
            return int(connection.get_transaction_status()) != 0
    # The servers of the MySQL family tell with each answer whether a transaction is open.
    told = getattr(connection, "server_status", None)
    if told is not None:
        return bool(told & 1)
    found = getattr(connection, "in_transaction", None)
    if found is not None:
        return bool(found() if callable(found) else found)
    autocommit = getattr(connection, "get_autocommit", None)
    return autocommit is None or not autocommit()


def unknown(connection: Any) -> ConfigError:
    """Return what is said of a connection that is none of these."""
    kind = type(connection)
    return ConfigError(
        f"a {kind.__module__}.{kind.__qualname__} cannot be fenced here: give a connection of "
        f"{names()}, or one of SQLAlchemy's"
    )


def names() -> str:
    """Return the known ones, for messages."""
    return ", ".join(sorted(_DIALECTS))
