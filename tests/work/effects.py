"""What the work leaves behind: rows of one table, which the checker reads.

There is no unique constraint: what is committed twice is to be seen. The sequence is drawn in the
transaction of the effect, behind the lock of the fence, so that it is the order of the commits.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import Any

import psycopg

from incumbent.fencing.progress import tables
from incumbent.fencing.sql import TABLE as FENCE

__all__ = ["INSERT", "QUEUE", "Effects", "Last"]

QUEUE = "work"
"""The name of the table, queue, stream or topic of the items."""

_TABLE = """\
CREATE TABLE effect (
    sequence BIGSERIAL PRIMARY KEY,
    lane TEXT NOT NULL,
    position BIGINT NOT NULL,
    item TEXT NOT NULL,
    token BIGINT NOT NULL,
    replica TEXT NOT NULL
)
"""

INSERT = """\
INSERT INTO effect (lane, position, item, token, replica) VALUES (%s, %s, %s, %s, %s)
"""
_LAST = """\
SELECT sequence, position, token, replica, (SELECT count(DISTINCT item) FROM effect)
FROM effect ORDER BY sequence DESC LIMIT 1
"""
_ROWS = "SELECT sequence, lane, position, item, token, replica FROM effect ORDER BY sequence"


@dataclass(frozen=True, slots=True)
class Last:
    """The latest effect, and how many items there are: one that is there twice counts once."""

    sequence: int
    position: int
    token: int
    replica: str
    count: int


class Effects:
    """The table, as the one who looks on sees it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[Any] | None = None

    def create(self) -> None:
        """Make the tables, and no others: that of the effects, and those of the fences."""
        with psycopg.connect(self._url) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
            for statement in (_TABLE, FENCE, *tables("postgresql")):
                connection.execute(statement)

    def last(self) -> Last | None:
        """Return the latest effect; None if there is none, or the database does not answer."""
        try:
            if self._connection is None:
                self._connection = psycopg.connect(self._url, autocommit=True)
            found = self._connection.execute(_LAST).fetchone()
        except psycopg.OperationalError:
            self.close()
            return None
        return None if found is None else Last(*found)

    def written(self) -> str:
        """Return all rows, as lines of `committed.log`."""
        with psycopg.connect(self._url) as connection:
            rows = connection.execute(_ROWS).fetchall()
        return "".join(" ".join(map(str, row)) + "\n" for row in rows)

    def dead(self) -> list[tuple[str, int, str]]:
        """Return lane, position and name of what lies among the dead letters."""
        with psycopg.connect(self._url) as connection:
            rows = connection.execute("SELECT body FROM incumbent_dead").fetchall()
        bodies = [json.loads(bytes(body)) for (body,) in rows]
        return [(body["lane"], body["position"], body["item"]) for body in bodies]

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None
