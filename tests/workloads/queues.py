"""A queue in a table of PostgreSQL, with effects beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from incumbent.workloads.sources.api import Item
from incumbent.workloads.sources.postgresql import schema
from tests.servers.postgresql import Postgres
from tests.workloads.consuming import until

__all__ = ["Queue", "add", "names"]

_TABLES = (
    *("effect", "incumbent_progress", "incumbent_done", "incumbent_dead"),
    *("incumbent_queue", "incumbent_queue_dead"),
)


class Queue:
    """A queue with a table of effects beside it."""

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self.effects = server.url()
        self.source = f"{server.url()}?queue=orders&poll_s=0.5"
        self.drop()
        self.server.execute(schema())
        self.server.execute(
            "CREATE TABLE effect (n BIGSERIAL, item TEXT NOT NULL, token BIGINT NOT NULL)"
        )

    def drop(self) -> None:
        """Leave nothing of it."""
        self.server.execute(f"DROP TABLE IF EXISTS {', '.join(_TABLES)}")

    def put(self, *items: str) -> None:
        """Produce some, in one transaction."""
        with self.server.transaction() as connection:
            add(connection, *items)

    def write(self, item: Item, db: Any) -> Any:
        """Be a handler; what is returned may have to be awaited."""
        return db.execute("INSERT INTO effect (item, token) VALUES (%s, %s)", [item.id, item.token])

    def rows(self, query: str = "SELECT item FROM effect ORDER BY n") -> list[Any]:
        """Return the first column."""
        return [row[0] for row in self.server.execute(query)]

    def end_sessions(self) -> None:
        """End those of the consumers."""
        self.server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name LIKE 'incumbent/%'"
        )

    def until_empty(self) -> None:
        """Wait until everything is handled."""
        until(lambda: not self.rows("SELECT 1 FROM incumbent_queue LIMIT 1"), "it is empty")


def add(connection: Any, *items: str) -> None:
    """Produce some."""
    for item in items:
        connection.execute(
            "INSERT INTO incumbent_queue (queue, item, body) VALUES ('orders', %s, %s)",
            [item, f"body {item}".encode()],
        )
    connection.execute("SELECT pg_notify('incumbent_queue', 'orders')")


def names(count: int, begin: int = 0) -> Sequence[str]:
    """Return some."""
    return [f"i{number}" for number in range(begin, begin + count)]
