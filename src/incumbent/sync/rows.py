"""Rows of a table for threads: the handler runs in the one thread that leads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from incumbent.errors import ConfigError
from incumbent.sync.poller import only_one_thread
from incumbent.sync.work import Work
from incumbent.workloads.consumer import Machine
from incumbent.workloads.polling.pace import Pace
from incumbent.workloads.polling.rows import Handler, Row, RowSource, Table
from incumbent.workloads.schedule import seconds_of

__all__ = ["Rows"]


class Rows(Work):
    """Handles the rows of a table, in one replica at a time, one after the other, each once.

    The handler is given a row, and the connection of the transaction in which that it was handled
    is written down: what it writes there is there exactly once.
    """

    def __init__(
        self,
        connect: str | Callable[[], Any],
        handler: Callable[[Row, Any], Any],
        *,
        name: str,
        table: str,
        key: str = "",
        columns: Sequence[str] = (),
        where: str = "",
        done: str = "",
        start: int | str | None = None,
        settle: str | float | None = None,
        every: str | float = "1s",
        max_every: str | float | None = None,
        jitter: float = 0.1,
        retries: int = 3,
        backoff: str | float = "1s",
        errors: str = "bury",
        batch: int = 1,
        deaths: int | None = None,
        **settings: Any,
    ) -> None:
        """Check the settings; nothing is touched yet.

        Args:
            connect: the database: postgresql://…, sqlite:///PATH, or a function that returns a new
                connection: a connection of sqlite3, psycopg, PyMySQL or SQLAlchemy.
            handler: is called with a `Row` and the connection.
            name: of the election, and of what is kept in the database.
            table: that the rows are in.
            key: the column in whose order they are handled: unique, and a number or text; "id".
            columns: what else is read of each row.
            where: a condition on rows; with a cursor, name the key, too.
            done: handle rows for which `where` holds, in place of those above a cursor, and set
                this with the effect, as in "state = 'done'"; or "DELETE".
            start: with a cursor: after which key to begin the first time.
            settle: with a cursor: how long a key may be under way from where it was made; see
                the page on pollers.
            every: how long to wait if nothing is found.
            max_every: up to which the wait doubles while nothing is found.
            jitter: by which share of it, at most, each wait is shortened at random.
            retries: how many more times a row is tried whose handler raised.
            backoff: the pause before the first of these; it doubles.
            errors: "bury" such a row in the table `incumbent_dead`, and go on; or "raise".
            batch: how many rows may share a transaction.
            deaths: how many terms in a row may end without a word (the process was killed, the host
                died) that had begun with the same row, before it is given up; 5, 0 for any number.
            **settings: what `Work` and `Election` take, besides.

        Raises:
            ConfigError: some setting cannot work; the message says what to change.
        """
        only_one_thread(settings)
        if errors not in ("bury", "raise"):
            raise ConfigError(f"errors={errors!r}: use 'bury' or 'raise'")
        rows = Table(
            table=table,
            key=key,
            columns=columns,
            where=where,
            done=done,
            start=start,
            settle_s=None if settle is None else seconds_of(settle),
            pace=Pace(every, max_every, jitter),
        )
        machine = Machine(
            partial(RowSource, rows, connect, waits=False),
            False,
            effects=connect,
            handler=Handler(rows, handler, waits=False),
            retries=retries,
            backoff_s=seconds_of(backoff),
            raises=errors == "raise",
            batch=batch,
            deaths=deaths,
        )
        super().__init__(name, machine, **settings)
