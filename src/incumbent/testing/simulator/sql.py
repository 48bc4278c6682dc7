"""The twin of a database server, under the production logic for stores in SQL.

`incumbent.stores.sql` runs unchanged, its statements included: they are carried out by SQLite in
memory, of which the twin has one for all. What is replaced is the driver, `Server`: one message is
one transaction, which takes effect in no time, and is lost, late or doubled on its way.

What is *said* at a commit is a stream, in order, as NOTIFY is; in some histories nothing is ever
said, and standbys look again and again, as they do on MySQL and behind a pooler. When the server
stops or goes back in time, listeners are told that they may have missed something.

A hand that deletes something takes the election's row one time and its session's the next. The
counter is left: what somebody does who drops it, too, is stated as a limit of the store.

Warning: locks are not imitated. SQLite carries out one transaction at a time, so what deadlocks, or
sees half of another one, is found on the real servers only.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from incumbent.core.records import FORMAT, Held, Lease, Snapshot
from incumbent.errors import OutcomeUnknown, StoreUnavailable
from incumbent.stores.api import Finding, Store
from incumbent.stores.memory import CAPABILITIES
from incumbent.stores.sql.api import Dialect, Heard, Rows
from incumbent.stores.sql.store import SqlStore
from incumbent.testing.database import Database, SqliteDialect
from incumbent.testing.simulator.bench import BenchDefaults
from incumbent.testing.simulator.judge import Judge
from incumbent.testing.simulator.network import Network, Subscription
from incumbent.testing.simulator.process import Process

__all__ = ["Base", "SqlBench", "TwinServer"]

_CAPABILITIES = replace(CAPABILITIES, absent_is_vacant=True)
_FOREIGN = 999

Verbs = Sequence[tuple[str, str]]
"""What a transaction is for, by how one of its statements begins; the first that fits."""

_VERBS: Verbs = (
    ("INSERT INTO incumbent_session", "open session"),
    ("INSERT OR IGNORE INTO incumbent_counter", "take"),
    ("UPDATE incumbent_session SET beat = beat + 1", "renew"),
    ("UPDATE incumbent_session", "close session"),
    ("UPDATE incumbent_election SET session", "release"),
    ("UPDATE incumbent_election SET request_term", "ask"),
    ("DELETE", "sweep"),
)


D = TypeVar("D", bound=Dialect)


class Base(Protocol):
    """What is common to all processes."""

    speaks: bool
    database: Database

    def write(self, judge: Judge, statements: Sequence[str]) -> list[Rows]:
        """Carry out a transaction, and tell whoever has to know."""
        ...

    def listen(self, process: Process, heard: Heard) -> None:
        """Tell a process from now on."""
        ...


class TwinServer(Generic[D]):
    """The server as one process has it. See `incumbent.stores.sql.api.Server`."""

    def __init__(self, dialect: D, bench: Base, process: Process, verbs: Verbs) -> None:
        self.dialect = dialect
        self.listens = bench.speaks
        self._bench = bench
        self._process = process
        self._verbs = verbs

    async def open(self, *, create: bool) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    async def connect(self) -> None:
        """Do nothing: the way is always open."""

    async def look(self, statements: Sequence[str], *, urgent: bool = False) -> list[Rows]:
        """Return what each of some SELECTs finds."""
        try:
            look = self._bench.database.look
            return await self._process.link.call(
                "read", lambda: [look(statement) for statement in statements]
            )
        except OutcomeUnknown as error:
            raise StoreUnavailable(str(error)) from error

    async def write(
        self, statements: Sequence[str], limit_s: float, *, urgent: bool = False
    ) -> list[Rows]:
        """Carry out a transaction."""
        verb = next(
            verb
            for start, verb in self._verbs
            if any(text.startswith(start) for text in statements)
        )
        judge = self._process.judge
        return await self._process.link.call(verb, lambda: self._bench.write(judge, statements))

    def listen(self, heard: Heard) -> None:
        """Report what others say."""
        self._bench.listen(self._process, heard)

    async def examine(self) -> list[Finding]:
        """Find nothing."""
        return []


class _TwinStore(SqlStore):
    """The store, which tells the judge of what it gives up."""

    def __init__(self, bench: SqlBench, process: Process) -> None:
        super().__init__(
            TwinServer(bench.dialect, bench, process, _VERBS),
            "memory://twin",
            _CAPABILITIES,
            chance=bench.chance,
            wall=process.clock.wall,
        )
        self._judge = process.judge
        self._process = process

    async def release(self, held: Held, lease: Lease, successor: str) -> Snapshot:
        """Give up a term."""
        self._judge.releasing(held.name, held.term)
        return await super().release(held, lease, successor)

    async def close_session(self, lease: Lease) -> None:
        """Give up a session."""
        self._judge.session_closed(lease.key)
        await super().close_session(lease)

    def _complain(self, text: str) -> None:
        self._process.world.write(self._process.label, f"cannot follow: {text}")


class SqlBench(BenchDefaults):
    """What a history needs of such a server."""

    def __init__(self, judge: Judge, network: Network) -> None:
        rng = network.world.rng
        self.speaks = rng.random() < 0.6
        self.dialect = SqliteDialect(speaks=self.speaks)
        self.database = Database()
        self._judge = judge
        self._random = random.Random(rng.getrandbits(32))
        self._listeners: dict[str, tuple[Process, Subscription[str]]] = {}
        self._backup: bytes | None = None
        self._hand = itertools.cycle((False, True))
        network.on_restart.append(self._break_streams)

    def chance(self, count: int) -> str:
        """Return random bytes as text."""
        return self._random.randbytes(count).hex()

    def write(self, judge: Judge, statements: Sequence[str]) -> list[Rows]:
        """Carry out a transaction, and tell whoever has to know."""
        before = self.database.elections()
        done = self.database.carry_out(statements)
        for name, (term, session) in self.database.elections().items():
            old_term, old_session = before.get(name, ("", ""))
            if term != old_term:
                judge.taken(name, old_term, term, session)
            elif old_session and not session:
                judge.freed(name, term)
        for text in tuple(self.database.said):
            for process, subscription in self._listeners.values():
                process.link.notify(subscription, text)
        return done

    def listen(self, process: Process, heard: Heard) -> None:
        """Tell a process from now on."""
        if self.speaks:
            subscription: Subscription[str] = Subscription(None, heard)
            process.link.subscriptions.append(subscription)
            self._listeners[process.label] = process, subscription
            process.link.notify(subscription, "")

    def _break_streams(self) -> None:
        for process, subscription in self._listeners.values():
            subscription.catch_up()
            process.link.notify(subscription, "")

    async def store(self, process: Process) -> Store:
        """Return the production logic over a twin of the driver."""
        store = _TwinStore(self, process)
        await store.open()
        return store

    def forget(self, process: Process) -> None:
        """Tell nothing more to a process that is gone."""
        _, subscription = self._listeners.pop(process.label, (process, None))
        if subscription is not None:
            subscription.alive = False
            process.link.subscriptions.remove(subscription)

    def prove_dead(self, process: Process) -> None:
        """Do nothing: no row proves anybody dead."""

    def ask(self, name: str, term: str, to: str) -> None:
        """Leave a request to step down."""
        self.database.look(
            "UPDATE incumbent_election SET request_term = ?2, request_to = ?3, serial = serial + 1 "
            "WHERE name = ?1 AND term = ?2 AND session <> '' AND format = ?4",
            *(name, term, to, FORMAT),
        )

    def delete(self, name: str) -> None:
        """Delete the row of an election, or that of its session."""
        row = self.database.elections().get(name)
        if row is None:
            return
        if row[1] and next(self._hand):
            self.database.look("DELETE FROM incumbent_session WHERE id = ?", row[1])
        else:
            self.database.look("DELETE FROM incumbent_election WHERE name = ?", name)

    def scribble(self, name: str) -> None:
        """Give a row a format that nobody knows."""
        self.database.look(
            "UPDATE incumbent_election SET format = ?2 WHERE name = ?1", name, _FOREIGN
        )

    def wipe(self) -> None:
        """Delete what is foreign."""
        self.database.look("DELETE FROM incumbent_election WHERE format = ?", _FOREIGN)

    def back_up(self) -> None:
        """Keep a copy."""
        self._backup = self.database.dump()

    def restore(self) -> bool:
        """Go back to the copy."""
        if self._backup is None:
            return False
        self.database.load(self._backup)
        self._break_streams()
        return True

    def end(self) -> None:
        """Forget everything."""
        self.database.close()
