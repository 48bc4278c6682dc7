"""The twin of a database in which another library has a lock table, with a member of it.

`incumbent.stores.sql.joined` runs unchanged over the driver of `sql`; what is new is the database's
clock. Its rate is off by up to rho, as every host's, and in some histories people set it. That may
do harm between a member of theirs and ours, which the store declares, and never among ours.

Their table is ShedLock's in one half of the histories, and Spring's in the other. A member goes by
the database's clock, or by one of its own that is behind by less than the patience of the store.
What ends its good behaviour is a fault by name: `robbery` is what a clock ahead of the database's
does. The unlock of a ShedLock with a clock of its own names no owner.

Tokens go on from the wall clock of the taker where our row was deleted. So in histories in which
people delete, these clocks agree; that they must is a limit of the store.

Warning: where our row is gone, theirs alone tells that one of ours may hold. Whoever then robs that
lock, or deletes it as well, has left nothing that could tell. Such an election is excused while a
term may be trusted.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from incumbent.core.records import FORMAT, Held, Lease, Snapshot
from incumbent.errors import StoreUnavailable
from incumbent.stores.api import Store
from incumbent.stores.recipes import LockName
from incumbent.stores.sql.api import Heard, Rows
from incumbent.stores.sql.joined import JoinedStore, capabilities
from incumbent.stores.sql.joined.rows import PATIENCE_S
from incumbent.stores.sql.joined.statements import create
from incumbent.stores.sql.joined.tables import LockTable, shedlock, spring
from incumbent.testing.database import ClockedSqliteDialect, Database
from incumbent.testing.simulator.bench import BenchDefaults
from incumbent.testing.simulator.judge import Judge
from incumbent.testing.simulator.members import Member
from incumbent.testing.simulator.process import Process
from incumbent.testing.simulator.sql import TwinServer
from incumbent.testing.simulator.world import HostClock

if TYPE_CHECKING:
    from incumbent.testing.simulator.history import History

__all__ = ["JoinedBench"]

_VERBS = (
    ("INSERT OR IGNORE INTO incumbent_lock", "take"),
    ("UPDATE incumbent_lock SET serial", "renew"),
    ("UPDATE incumbent_lock SET held = 0", "release"),
    ("UPDATE incumbent_lock SET request_term", "ask"),
)
_TURNS = ("UPDATE incumbent_lock SET token", "UPDATE incumbent_lock SET held")
"""What begins or ends a term."""
_FOREIGN = 999
_OPEN_S = 5.0
_TABLES = {
    "shedlock": "CREATE TABLE shedlock (name TEXT PRIMARY KEY, lock_until INTEGER NOT NULL, "
    "locked_at INTEGER NOT NULL, locked_by TEXT NOT NULL)",
    "spring": "CREATE TABLE INT_LOCK (LOCK_KEY TEXT, REGION TEXT, CLIENT_ID TEXT, "
    "CREATED_DATE INTEGER NOT NULL, EXPIRED_AFTER INTEGER NOT NULL, "
    "PRIMARY KEY (LOCK_KEY, REGION))",
}


class _TwinStore(JoinedStore):
    """The store, which tells the judge of what it gives up."""

    def __init__(self, bench: JoinedBench, process: Process) -> None:
        super().__init__(
            TwinServer(bench.dialect, bench, process, _VERBS),
            bench.table,
            LockName(),
            "memory://twin",
            capabilities("memory", bench.table.recipe),
            wall=bench.wall_of(process),
        )
        self._judge = process.judge
        self._process = process

    async def release(self, held: Held, lease: Lease, successor: str) -> Snapshot:
        """Give up a term."""
        self._judge.releasing(held.name, held.term)
        return await super().release(held, lease, successor)

    def _complain(self, text: str) -> None:
        self._process.world.write(self._process.label, f"cannot follow: {text}")


class JoinedBench(BenchDefaults):
    """What a history needs of such a database."""

    speaks = False

    def __init__(self, history: History) -> None:
        rng = history.rng
        self.dialect = ClockedSqliteDialect()
        self.table: LockTable = rng.choice((shedlock, spring))()
        self.clock = HostClock(history.world, history.some_rate(), rng.uniform(1.0, 1e5))
        script = [*create(self.dialect), _TABLES[self.table.recipe]]
        self.database = Database(";\n".join(script), self._micros)
        self._history = history
        self._judge = history.judge
        self._behind_s = 0.0
        """By how much a member's own clock is behind; 0 for one that goes by the database's."""
        if rng.random() < 0.4:
            self._behind_s = rng.uniform(0.01, 0.5)
        self._backup: bytes | None = None
        self._hand = itertools.cycle((False, True))
        self._ours_gone: dict[str, float] = {}
        self._shaken: dict[str, float] = {}
        history.on_peace.append(self._make_peace)
        if rng.random() < 0.5:
            Member(history, self)

    @property
    def _longest_s(self) -> float:
        """For how long a term may be trusted, and a lock of a member last, with room to spare."""
        return 3 * self._history.ttl_s

    def wall_of(self, process: Process) -> Callable[[], float]:
        """Return the wall clock of a process; see the head of this module."""
        world = self._history.world
        return (lambda: 1.7e9 + world.now) if self._history.tampering else process.clock.wall

    def _micros(self) -> int:
        return int(self.clock.wall() * 1e6)

    # -- what processes do ------------------------------------------------------------------------

    async def store(self, process: Process) -> Store:
        """Return the production logic over a twin of the driver."""
        store = _TwinStore(self, process)
        try:
            async with asyncio.timeout(_OPEN_S):  # As connections of real drivers have one.
                await store.open()
        except TimeoutError:
            raise StoreUnavailable("no answer in time") from None
        return store

    def write(self, judge: Judge, statements: Sequence[str]) -> list[Rows]:
        """Carry out a transaction, and tell the judge what it has done."""
        if not any(text.startswith(_TURNS) for text in statements):
            return self.database.carry_out(statements)
        before = self._terms()
        done = self.database.carry_out(statements)
        for name, (term, lives) in self._terms().items():
            old_term, lived = before.get(name, ("", 0))
            if term != old_term:
                judge.taken(name, old_term, term, "")
            elif lived and not lives:
                judge.freed(name, term)
        return done

    def listen(self, process: Process, heard: Heard) -> None:
        """Do nothing: members of theirs tell nobody what they do, so all of ours look."""

    def forget(self, process: Process) -> None:
        """Do nothing."""

    def prove_dead(self, process: Process) -> None:
        """Do nothing: no row proves anybody dead."""

    def _terms(self) -> dict[str, tuple[str, int]]:
        found = self.database.look(
            "SELECT election, term, held FROM incumbent_lock WHERE token > 0"
        )
        return {name: (term, lives) for name, term, lives in found}

    # -- what a member of theirs does -------------------------------------------------------------

    @property
    def rate(self) -> float:
        """The rate of the clock that members go by."""
        return self.clock.rate

    def _member_now(self, for_s: float = PATIENCE_S) -> int:
        behind_s = self._behind_s * min(for_s, PATIENCE_S)
        return self._micros() - math.floor(behind_s * 1e6)

    def take(self, name: str, owner: str, for_s: float) -> bool:
        """Take the lock, if its time has passed by the member's clock, or there is no row."""
        table, now = self.table, self._member_now(for_s)
        until = now + math.floor(for_s * 1e6)
        since = f", {table.since} = {now}" if table.keeps else ""
        where = f"{self._key(name)} AND {table.until} {'<=' if table.keeps else '<'} {now}"
        self.database.look(
            f"UPDATE {table.table} SET {table.owner} = ?, {table.until} = {until}{since} "
            f"WHERE {where}",
            owner,
        )
        key = table.key(name)
        columns = ", ".join((*key, table.owner, table.since, table.until))
        marks = ", ".join("?" for _ in key)
        self.database.look(
            f"INSERT OR IGNORE INTO {table.table} ({columns}) VALUES ({marks}, ?, {now}, {until})",
            *(*key.values(), owner),
        )
        return self._owner(name) == owner

    def extend(self, name: str, owner: str, for_s: float) -> bool:
        """Set the lock's time anew."""
        now = self._member_now(for_s)
        self.database.look(
            f"UPDATE {self.table.table} SET {self.table.until} = {now + math.floor(for_s * 1e6)} "
            f"WHERE {self._key(name)} AND {self.table.owner} = ? AND {self.table.until} > {now}",
            owner,
        )
        return self._owner(name) == owner

    def free(self, name: str, owner: str) -> None:
        """Give the lock up."""
        if self.table.keeps and self._behind_s and self._owner(name) != owner:
            self.unlock(name)
            return
        self._free(f"{self._key(name)} AND {self.table.owner} = '{owner}'")

    def _free(self, where: str) -> None:
        table = self.table
        if table.keeps:
            self.database.look(
                f"UPDATE {table.table} SET {table.until} = {self._micros()} WHERE {where}"
            )
        else:
            self.database.look(f"DELETE FROM {table.table} WHERE {where}")

    def _key(self, name: str) -> str:
        """Return the condition that finds their row; no name of ours has a quote."""
        key = self.table.key(name)
        return " AND ".join(f"{column} = '{value}'" for column, value in key.items())

    def _owner(self, name: str) -> str | None:
        found = self.database.look(
            f"SELECT {self.table.owner} FROM {self.table.table} WHERE {self._key(name)}"
        )
        return found[0][0] if found else None

    # -- what they break --------------------------------------------------------------------------

    def unlock(self, name: str) -> None:
        """Free the lock whoever has it, as a late unlock of ShedLock does by its own clock."""
        self._shake(name)
        self._free(self._key(name))

    def rob(self, name: str, owner: str, for_s: float) -> None:
        """Take the lock whoever has it, as a clock does that is ahead."""
        self._shake(name)
        now = self._micros()
        until = now + math.floor(for_s * 1e6)
        key, table = self.table.key(name), self.table
        since = f"SELECT {table.since} FROM {table.table} WHERE {self._key(name)}"
        since = "?" if table.keeps else f"coalesce(({since}), ?)"
        columns = ", ".join((*key, table.owner, table.since, table.until))
        marks = ", ".join("?" for _ in key)
        self.database.look(
            f"INSERT OR REPLACE INTO {table.table} ({columns}) VALUES ({marks}, ?, {since}, ?)",
            *(*key.values(), owner, now, until),
        )

    def step_clock(self, by_s: float) -> None:
        """Set the database's clock."""
        for name in self._history.elections:
            self._shake(name, math.inf if self._behind_s else self._longest_s)
        self.clock.step_wall(by_s)

    def _shake(self, name: str, for_s: float = 0.0) -> None:
        """Note that a lock was treated against the rules, so that they and ours may meet."""
        now, longest_s = self._history.world.now, self._longest_s
        self._judge.excuse_theirs(name, for_s or longest_s)
        self._shaken[name] = now
        if now < self._ours_gone.get(name, -math.inf) + longest_s:
            self._judge.excuse(name, longest_s)

    # -- what people do ---------------------------------------------------------------------------

    def ask(self, name: str, term: str, to: str) -> None:
        """Leave a request to step down."""
        self.database.look(
            "UPDATE incumbent_lock SET request_term = ?2, request_to = ?3, serial = serial + 1 "
            "WHERE election = ?1 AND term = ?2 AND held = 1 AND format = ?4",
            *(name, term, to, FORMAT),
        )

    def delete(self, name: str) -> None:
        """Delete their row, or ours."""
        if not next(self._hand):
            self._shake(name)
            self.database.look(f"DELETE FROM {self.table.table} WHERE {self._key(name)}")
            return
        now, longest_s = self._history.world.now, self._longest_s
        self._ours_gone[name] = now
        if now < self._shaken.get(name, -math.inf) + longest_s:
            self._judge.excuse(name, longest_s)
        self.database.look("DELETE FROM incumbent_lock WHERE election = ?", name)

    def scribble(self, name: str) -> None:
        """Give our row a format that nobody knows."""
        self.database.look(
            "UPDATE incumbent_lock SET format = ?2, serial = serial + 1 WHERE election = ?1",
            *(name, _FOREIGN),
        )

    def wipe(self) -> None:
        """Mend what is foreign."""
        self.database.look(
            "UPDATE incumbent_lock SET format = ?1, serial = serial + 1 WHERE format = ?2",
            *(FORMAT, _FOREIGN),
        )

    def _make_peace(self) -> None:
        """Free what is of no term of ours: dead members have left it, or our row is gone.

        The clock may have been set back, so that it would last for hours.
        """
        self._free(f"NOT EXISTS (SELECT 1 FROM incumbent_lock WHERE mark = {self.table.owner})")

    def back_up(self) -> None:
        """Keep a copy."""
        self._backup = self.database.dump()

    def restore(self) -> bool:
        """Go back to the copy."""
        if self._backup is None:
            return False
        self.database.load(self._backup)
        return True

    def end(self) -> None:
        """Forget everything."""
        self.database.close()
