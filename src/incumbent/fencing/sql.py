"""Seal and check in SQL: one row for each resource, in the user's database and transaction.

The table is `incumbent_fence`; `TABLE` makes it. It is not made by us in passing: that would need
rights that the application should not have, and MySQL ends a transaction at each such statement.

One statement raises the row's token to ours, or leaves it; either way it holds the row's lock until
the transaction ends. A second reads what stands there now.

Isolation: at READ COMMITTED, at MySQL's REPEATABLE READ, and in SQLite, a seal that has to wait for
another one sees its token afterwards. At REPEATABLE READ and SERIALIZABLE of PostgreSQL it fails
with that database's serialization error instead: nothing was written either.
"""

from __future__ import annotations

import sys
from typing import Any

from incumbent.errors import ConfigError

__all__ = ["TABLE", "seal", "seal_async"]

TABLE = """\
CREATE TABLE IF NOT EXISTS incumbent_fence (
    resource VARCHAR(200) NOT NULL PRIMARY KEY,
    token BIGINT NOT NULL
)
"""

_UPSERT = """\
INSERT INTO incumbent_fence (resource, token) VALUES ({0}, {1})
ON CONFLICT (resource) DO UPDATE
SET token = CASE WHEN incumbent_fence.token < excluded.token THEN excluded.token
            ELSE incumbent_fence.token END
"""
_UPSERT_MYSQL = """\
INSERT INTO incumbent_fence (resource, token) VALUES ({0}, {1})
ON DUPLICATE KEY UPDATE token = GREATEST(token, VALUES(token))
"""
_READ = "SELECT token FROM incumbent_fence WHERE resource = {0}"

_DIALECTS = {
    "sqlite3": "sqlite",
    "psycopg": "postgresql",
    "psycopg2": "postgresql",
    "pymysql": "mysql",
    "MySQLdb": "mysql",
    "mysql": "mysql",
    "mariadb": "mysql",
}
_KNOWN = {"sqlite", "postgresql", "mysql", "mariadb"}


def seal(connection: Any, resource: str, token: int) -> int:
    """Raise the token of a resource, and return the greatest that it has seen."""
    if _library(connection) == "sqlalchemy":
        raise_it, read = _for_sqlalchemy(connection)
        values = {"resource": resource, "token": token}
        connection.execute(raise_it, values)
        highest = connection.execute(read, {"resource": resource}).scalar_one()
        used = connection if hasattr(connection, "dialect") else connection.connection()
        _refuse_autocommit_below(used)
        return int(highest)
    raise_it, read = _for_driver(connection)
    cursor = connection.cursor()
    try:
        cursor.execute(raise_it, (resource, token))
        cursor.execute(read, (resource,))
        (highest,) = cursor.fetchone()
    finally:
        cursor.close()
    _refuse_autocommit(connection)
    return int(highest)


async def seal_async(connection: Any, resource: str, token: int) -> int:
    """Raise the token of a resource, and return the greatest that it has seen."""
    if _library(connection) == "sqlalchemy":
        raise_it, read = _for_sqlalchemy(connection)
        values = {"resource": resource, "token": token}
        await connection.execute(raise_it, values)
        highest = (await connection.execute(read, {"resource": resource})).scalar_one()
        used = connection if hasattr(connection, "dialect") else await connection.connection()
        _refuse_autocommit_below(used.sync_connection)
        return int(highest)
    if _library(connection) != "psycopg":
        raise _unknown(connection)
    raise_it, read = _for_driver(connection)
    async with connection.cursor() as cursor:
        await cursor.execute(raise_it, (resource, token))
        await cursor.execute(read, (resource,))
        (highest,) = await cursor.fetchone()
    _refuse_autocommit(connection)
    return int(highest)


def _library(connection: Any) -> str:
    """Return the top package of the class, or of the one that it was made from."""
    library = _known_library(connection)
    if not library:
        raise _unknown(connection)
    return library


def _known_library(connection: Any) -> str:
    for kind in type(connection).__mro__:
        library: str = kind.__module__.partition(".")[0]
        if library in _DIALECTS or library == "sqlalchemy":
            return library
    return ""


def _for_driver(connection: Any) -> tuple[str, str]:
    library = _library(connection)
    mark = "?" if sys.modules[library].__dict__.get("paramstyle") == "qmark" else "%s"
    return _statements(_DIALECTS[library], mark, mark)


def _for_sqlalchemy(connection: Any) -> tuple[Any, Any]:
    from sqlalchemy import text

    bound = connection if hasattr(connection, "dialect") else connection.get_bind()
    dialect = bound.dialect.name
    if dialect not in _KNOWN:
        raise ConfigError(f"fencing in {dialect!r} is not known here: use one of {_names()}")
    raise_it, read = _statements(dialect, ":resource", ":token")
    return text(raise_it), text(read)


def _statements(dialect: str, resource: str, token: str) -> tuple[str, str]:
    upsert = _UPSERT_MYSQL if dialect in ("mysql", "mariadb") else _UPSERT
    locking = "" if dialect == "sqlite" else " FOR UPDATE"
    return upsert.format(resource, token), _READ.format(resource) + locking


def _refuse_autocommit(connection: Any) -> None:
    """Raise if the seal was committed by itself: what follows would not be under it."""
    if not _in_transaction(connection):
        raise ConfigError(
            "this connection commits each statement by itself, so the seal would protect nothing "
            "that follows: begin a transaction before"
        )


def _refuse_autocommit_below(connection: Any) -> None:
    """Do so for what SQLAlchemy uses: it says of itself that it is in a transaction, in any case.

    Of a driver that is unknown here nothing is known.
    """
    used = connection.connection.driver_connection
    if _known_library(used):
        _refuse_autocommit(used)


def _in_transaction(connection: Any) -> bool:
    match _library(connection):
        case "sqlite3":
            return bool(connection.in_transaction)
        case "psycopg":
            return int(connection.info.transaction_status) != 0
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


def _unknown(connection: Any) -> ConfigError:
    kind = type(connection)
    return ConfigError(
        f"a {kind.__module__}.{kind.__qualname__} cannot be fenced here: give a connection of "
        f"{_names()}, or one of SQLAlchemy's"
    )


def _names() -> str:
    return ", ".join(sorted(_DIALECTS))
