"""Up to which key of a table nothing can appear any more: the gap into which cursors fall.

Keys of a sequence are handed out before the commit. A transaction that has 5 may commit after the
one that has 6; whoever has read 6 and goes on after it never sees 5. So a key is taken for the
*edge* first, the greatest that is there, and rows up to it are read when all that was under way is
known to have ended:

- **PostgreSQL**: whoever inserts has a lock on the table (ROW EXCLUSIVE) from before the key is
  handed out until after its rows are visible, and `pg_locks` shows it. So those who hold it after
  the edge was read are all that can still commit a smaller key. When the last of them has gone,
  what is up to the edge is complete. Nothing is locked, and no writer waits.
- **MySQL, MariaDB**: rows are read with a shared lock, which waits for whoever has inserted one and
  has not committed. The session reads what is committed, so there are no locks on gaps, and no
  writer of another row waits. A key that was handed out to a row that is not inserted yet is not
  seen, for which `settle_s` is there.
- **SQLite** has one writer at a time, so keys that it hands out are committed in order.

All of this is for keys that are handed out *in the inserting statement*. Who asks a sequence
earlier, lets sessions keep a stock of keys (`CACHE`), or takes a clock for one, has to say for how
long a key may be under way: rows are read `settle_s` after the edge was seen.
"""

from __future__ import annotations

from incumbent.clock import boottime
from incumbent.errors import ConfigError
from incumbent.fencing.progress import Database

__all__ = ["Horizon", "horizon_of"]

LOOK_AGAIN_S = 0.02

_WRITERS = """\
SELECT DISTINCT virtualtransaction FROM pg_locks
WHERE locktype = 'relation' AND granted AND mode = 'RowExclusiveLock'
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND (relation = to_regclass(:named)
     OR relation IN (SELECT relid FROM pg_partition_tree(to_regclass(:named))))
"""
_KIND = """\
SELECT relkind::text, EXISTS (SELECT 1 FROM pg_inherits WHERE inhparent = pg_class.oid)
FROM pg_class WHERE oid = to_regclass(:named)
"""


class Horizon:
    """Whether what was there when an edge was seen is all of it by now.

    Attributes:
        locking: what a statement that reads rows has to end with.
    """

    locking = ""

    def __init__(self, table: str, settle_s: float) -> None:
        self._table = table
        self._settle_s = settle_s
        self._since_s = 0.0

    async def open(self, db: Database) -> None:
        """Prepare the session.

        Raises:
            ConfigError: nothing can be said of such a table.
        """

    async def seen(self, db: Database) -> None:
        """Begin with an edge that was read just now, in an earlier statement."""
        self._since_s = boottime()

    async def wait_s(self, db: Database) -> float:
        """Return for how long to wait, and then to ask again; 0 when it is complete."""
        return max(0.0, self._since_s + self._settle_s - boottime())


class _Postgres(Horizon):
    """By the locks of those who write."""

    def __init__(self, table: str, settle_s: float) -> None:
        super().__init__(table, settle_s)
        self._writers: set[str] = set()

    async def open(self, db: Database) -> None:
        found = await db.run(_KIND, {"named": self._table})
        if found and found[0][0] not in ("r", "p"):
            raise ConfigError(
                f"{self._table} is no table, so nobody can be seen to write to it: name the table"
            )
        if found and found[0] == ("r", True):
            raise ConfigError(
                f"other tables inherit from {self._table}, so its key is not unique, and nobody "
                "can be seen to write to them: make partitions of them, or name each table"
            )

    async def seen(self, db: Database) -> None:
        await super().seen(db)
        self._writers = await self._now(db)

    async def wait_s(self, db: Database) -> float:
        if wait_s := await super().wait_s(db):
            return wait_s
        if self._writers:
            self._writers &= await self._now(db)
        return LOOK_AGAIN_S if self._writers else 0.0

    async def _now(self, db: Database) -> set[str]:
        return {str(writer) for (writer,) in await db.run(_WRITERS, {"named": self._table})}


class _MySQL(Horizon):
    """By locks of our own on the rows that are read."""

    locking = " LOCK IN SHARE MODE"

    async def open(self, db: Database) -> None:
        await db.run("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", {})
        await db.run("SET SESSION innodb_lock_wait_timeout = 1", {})


def horizon_of(dialect: str, table: str, settle_s: float | None) -> Horizon:
    """Return what is known in a database of this kind.

    Args:
        dialect: which SQL it speaks.
        table: that the rows are in.
        settle_s: for how long a key may be under way; None for what suffices mostly.
    """
    if dialect in ("mysql", "mariadb"):
        return _MySQL(table, 1.0 if settle_s is None else settle_s)
    kind = _Postgres if dialect == "postgresql" else Horizon
    return kind(table, settle_s or 0.0)
