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

from typing import Any

from incumbent.fencing.connections import (
    bound_dialect,
    cursor_of,
    library_of,
    mark_and_dialect,
    refuse_autocommit,
    refuse_autocommit_below,
    unknown,
    values_of,
)

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


def seal(connection: Any, resource: str, token: int) -> int:
    """Raise the token of a resource, and return the greatest that it has seen."""
    if library_of(connection) == "sqlalchemy":
        raise_it, read = _for_sqlalchemy(connection)
        values = {"resource": resource, "token": token}
        connection.execute(raise_it, values)
        highest = connection.execute(read, {"resource": resource}).scalar_one()
        used = connection if hasattr(connection, "dialect") else connection.connection()
        refuse_autocommit_below(used)
        return int(highest)
    raise_it, read = _for_driver(connection)
    cursor = cursor_of(connection)
    try:
        cursor.execute(raise_it, (resource, token))
        cursor.execute(read, (resource,))
        (highest,) = values_of(cursor.fetchone())
    finally:
        cursor.close()
    refuse_autocommit(connection)
    return int(highest)


async def seal_async(connection: Any, resource: str, token: int) -> int:
    """Raise the token of a resource, and return the greatest that it has seen."""
    if library_of(connection) == "sqlalchemy":
        raise_it, read = _for_sqlalchemy(connection)
        values = {"resource": resource, "token": token}
        await connection.execute(raise_it, values)
        highest = (await connection.execute(read, {"resource": resource})).scalar_one()
        used = connection if hasattr(connection, "dialect") else await connection.connection()
        refuse_autocommit_below(used.sync_connection)
        return int(highest)
    if library_of(connection) != "psycopg":
        raise unknown(connection)
    raise_it, read = _for_driver(connection)
    async with cursor_of(connection) as cursor:
        await cursor.execute(raise_it, (resource, token))
        await cursor.execute(read, (resource,))
        (highest,) = await cursor.fetchone()
    refuse_autocommit(connection)
    return int(highest)


def _for_driver(connection: Any) -> tuple[str, str]:
    mark, dialect = mark_and_dialect(connection)
    return _statements(dialect, mark, mark)


def _for_sqlalchemy(connection: Any) -> tuple[Any, Any]:
    from sqlalchemy import text

    raise_it, read = _statements(bound_dialect(connection), ":resource", ":token")
    return text(raise_it), text(read)


def _statements(dialect: str, resource: str, token: str) -> tuple[str, str]:
    upsert = _UPSERT_MYSQL if dialect in ("mysql", "mariadb") else _UPSERT
    locking = "" if dialect == "sqlite" else " FOR UPDATE"
    return upsert.format(resource, token), _READ.format(resource) + locking
