"""What a driver of one SQL database must write, besides `stores.sql.api`, to join another's lock.

Times are of the database's clock, without a zone, in UTC: so both libraries have them.
"""

from __future__ import annotations

from typing import Protocol

from incumbent.stores.sql.api import Dialect, Server

__all__ = ["Clocked", "ClockedServer"]


class Clocked(Dialect, Protocol):
    """A dialect that has times."""

    @property
    def family(self) -> str:
        """Which database: "postgresql", "mysql"."""
        ...

    @property
    def form(self) -> str:
        """What stands behind the definition of a table."""
        ...

    @property
    def now(self) -> str:
        """The database's time."""
        ...

    @property
    def latest(self) -> str:
        """A time that nobody's clock comes to, and that their columns can have."""
        ...

    def after(self, ttl_s: float) -> str:
        """Return the time that is so much later, or by a rounding of the column more."""
        ...

    def seconds(self, since: str, until: str) -> str:
        """Return the time between two columns, in seconds."""
        ...

    def written(self, time: str) -> str:
        """Return a time as text: two are the same if their texts are."""
        ...


class ClockedServer(Server, Protocol):
    """A server with such a dialect."""

    @property
    def dialect(self) -> Clocked:
        """How it writes SQL."""
        ...
