"""What a driver of one SQL database must do, so that `SqlStore` makes elections of it.

Rules
-----
1. **A transaction is one message.** Its statements are sent together, the commit included, and are
   executed without us: a client that stands still in the middle holds no lock.
2. **READ COMMITTED**: each statement sees what was committed before it, so whoever has waited for
   a lock sees what was done under it.
3. **A commit is durable** when it is confirmed: for as long as the database is set up to keep one.
4. **Say what you know.** An error that the server reports for a statement has undone all of them:
   `StoreUnavailable`, `PermissionDenied`, `StoreUnusable`, `StoreFull`. A connection that is lost
   after the message was begun is `OutcomeUnknown`; for `look`, which changes nothing,
   `StoreUnavailable`. A driver repeats nothing by itself.
5. **A look is answered by the server that takes the writes**, and not by a replica of it.
6. **Cancelled is closed**: a request whose caller stopped waiting ends its connection at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from incumbent.stores.api import Finding

__all__ = ["NEEDED", "Dialect", "Heard", "Rows", "Server", "Tables"]

NEEDED = {
    "incumbent_counter": ("SELECT", "INSERT", "UPDATE"),
    "incumbent_session": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "incumbent_election": ("SELECT", "INSERT", "UPDATE"),
}
"""The tables, and what a candidate does in each."""


@dataclass(frozen=True, slots=True)
class Tables:
    """What must be in a database for one way to keep elections there.

    Attributes:
        format_in: the table in which the row named "" has the format as its serial.
        create: the statements that make our tables; several candidates may send them at once.
        needed: what a candidate does in each table, theirs included.
        theirs: tables that others make, with what is said where one is missing.
        columns: of each table that is not of our own format, with a literal of their type.
    """

    format_in: str
    create: Sequence[str]
    needed: Mapping[str, tuple[str, ...]]
    theirs: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


Rows = list[tuple[Any, ...]]
"""What one statement returned. Numbers may come as text."""

Heard = Callable[[str], None]
"""Receives what some process said (`Dialect.say`), or "" if something may have been missed."""


class Dialect(Protocol):
    """How one database writes what SQL leaves open."""

    @property
    def prefix(self) -> str:
        """What stands before the name of each table: a schema and a dot, or nothing."""
        ...

    def text(self, value: str) -> str:
        """Return a literal."""
        ...

    def names(self, names: Sequence[str]) -> str:
        """Return a table expression with one column, `name`."""
        ...

    def ensure_counter(self, name: str) -> str:
        """Return a statement that inserts a counter at 0 if there is none."""
        ...

    def insert_new(self, table: str, columns: Sequence[str], source: str) -> str:
        """Return an INSERT that does nothing if there is a row with that key."""
        ...

    def is_there(self, table: str) -> str:
        """Return what finds a value that is not NULL if there is such a table of ours."""
        ...

    def make_checkpoints(self) -> Sequence[str]:
        """Return what makes the table of the checkpoints; several may send it at once."""
        ...

    def say(self, text: str, source: str) -> Sequence[str]:
        """Return what tells every listener, at the commit, an SQL expression over some rows.

        Nothing, if this database has no listeners.
        """
        ...


class Server(Protocol):
    """One database."""

    @property
    def dialect(self) -> Dialect:
        """How it writes SQL."""
        ...

    @property
    def listens(self) -> bool:
        """Whether what is said at this moment is heard; else somebody has to look."""
        ...

    async def open(self, *, create: bool) -> None:
        """Connect, and create what must exist; raises what `Store.open` does."""
        ...

    async def close(self) -> None:
        """Give back every resource."""
        ...

    async def connect(self) -> None:
        """Have a connection ready for a transaction that is due in a moment."""
        ...

    async def look(self, statements: Sequence[str], *, urgent: bool = False) -> list[Rows]:
        """Return what each of some SELECTs finds; see `write`."""
        ...

    async def write(
        self, statements: Sequence[str], limit_s: float, *, urgent: bool = False
    ) -> list[Rows]:
        """Carry out a transaction; return what each statement returned.

        Args:
            statements: what to do.
            limit_s: for how long the server may try if we are cut off from it.
            urgent: do not wait behind other requests of ours.
        """
        ...

    def listen(self, heard: Heard) -> None:
        """Begin to report what others say, until `close`; the first report is ""."""
        ...

    async def examine(self) -> list[Finding]:
        """Look for what could break the promise here; also where `open` has failed."""
        ...
