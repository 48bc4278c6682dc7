"""The embedded store in a history: the production store, over the twin of the machine.

`incumbent.stores.sqlite` runs unchanged, on a real SQLite file: the store's logic, its tables and
its lock files. See `machine` for what is replaced. All candidates are processes of one machine, but
each has clocks of its own: that is more than life asks of this store.

A process that dies may leave an *orphan*: a child that inherited the locks and goes on working. Of
work that is armed, the tree's init has the deadline, too, and ends it in time.

Warnings
--------
1. A record, or the whole database, that somebody deletes under a live holder is vacant to a
   *newcomer*, who has never seen it: the store says so. What a newcomer takes then excuses the
   election (see `judge`). Whoever had seen the record waits it out, and is not excused.
2. An absence has no version: who saw it before a record came and was deleted takes it, too.
3. Both excuses end when the trust of whoever led before must have run out: by then it has noticed.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from incumbent.core.events import Evidence, Seen
from incumbent.core.records import Claim, Held, Holding, Lease, Snapshot, StepDownRequest
from incumbent.core.table import State
from incumbent.errors import Refused
from incumbent.stores.api import Sink, Store
from incumbent.stores.sqlite.store import SqliteStore
from incumbent.stores.sqlite.tables import Tables
from incumbent.testing.simulator.judge import Judge, Work
from incumbent.testing.simulator.machine import Inheritance, Kernel, TwinMachine
from incumbent.testing.simulator.process import Process
from incumbent.testing.simulator.world import HostClock

if TYPE_CHECKING:
    from incumbent.testing.simulator.history import History

__all__ = ["SqliteBench", "TwinStore", "TwinTables"]

_SIDE = ("", "-wal", "-shm", "-bell")


def _folder() -> Path:
    """Return a folder of this process, in memory if the machine has such a thing."""
    memory = Path("/dev/shm")
    base = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    return base / f"incumbent-simulator-{os.getpid()}"


class Orphan:
    """What is left of a process that died: a child with its locks, at work."""

    frozen = False

    def __init__(self, process: Process, locks: Inheritance) -> None:
        self.label = f"{process.label}'s child"
        self.clock: HostClock = process.clock
        self.alive = True
        self._locks = locks
        self._world = process.world

    def work_on(self, works: list[Work], for_s: float) -> None:
        """Go on with the works of the process, for a while."""
        for work in works:
            work.actor = self
            work.free = work.free or not work.armed
        self._world.write(self.label, f"lives on, for {for_s:.2f} s")
        self._world.after(for_s, self._die)

    def _die(self) -> None:
        self._world.write(self.label, "ends")
        self.alive = False
        self._locks.close()


class TwinTables(Tables):
    """The real tables; each request may fail on either side, and is reported to the judge."""

    def __init__(self, bench: SqliteBench, machine: TwinMachine, path: Path, opener: str) -> None:
        super().__init__(path, opener, machine.kernel.wall)
        self._bench = bench
        self._machine = machine

    def read(self, name: str) -> Snapshot:
        """Return one election."""
        self._machine.before(writes=False)
        return super().read(name)

    def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        """Become the holder; whoever was it before must have nothing left to lose."""
        self._machine.before(writes=True)
        before = super().read(name)
        held = super().take(name, claim, over)
        self._bench.taken(self._machine.process, before, over, claim)
        self._machine.after()
        return held

    def renew(self, lease: Lease) -> Lease:
        """Move the session's beat."""
        self._machine.before(writes=True)
        renewed = super().renew(lease)
        self._machine.after()
        return renewed

    def release(self, held: Held, successor: str) -> Snapshot:
        """Give up a term, none of whose work may run any more."""
        self._machine.before(writes=True)
        before = super().read(held.name)
        snapshot = super().release(held, successor)
        if before.holding is Holding.HELD and snapshot.holding is Holding.VACANT:
            self._bench.judge.freed(held.name, before.term)
        self._machine.after()
        return snapshot

    def open_session(self, key: str, owner: str, ttl_s: float) -> Lease:
        """Write a session."""
        self._machine.before(writes=True)
        self._bench.opened(key, self._machine.process)
        lease = super().open_session(key, owner, ttl_s)
        self._machine.after(news=False)
        return lease

    def close_session(self, key: str) -> None:
        """End a session, under which no work may run any more."""
        self._machine.before(writes=True)
        self._bench.judge.session_closed(key)
        super().close_session(key)
        self._machine.after()


class TwinStore(SqliteStore):
    """The production store of one process; tells the judge, and names its jobs."""

    def __init__(self, bench: SqliteBench, machine: TwinMachine) -> None:
        super().__init__(bench.path, machine)
        self.known: set[str] = set()
        """The elections of which the process has seen a record."""
        self.machine = machine
        self._bench = bench
        self._hearing: dict[tuple[str, Sink], Sink] = {}

    async def read(self, name: str) -> Snapshot:
        """Return the record as it is now."""
        self._next_is("read")
        snapshot = await super().read(name)
        self._know(snapshot)
        return snapshot

    async def read_back(self, name: str, claim: Claim) -> Held | Snapshot:
        """Find out whether the take of `claim` happened."""
        self._next_is("read back")
        found = await super().read_back(name, claim)
        self._know(found.snapshot if isinstance(found, Held) else found)
        return found

    async def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        """Become the holder."""
        self._next_is("take")
        try:
            held = await super().take(name, claim, over)
        except Refused as refusal:
            self._know(refusal.snapshot)
            raise
        self._know(held.snapshot)
        return held

    async def renew(self, lease: Lease) -> Lease:
        """Confirm the session."""
        self._next_is("renew")
        return await super().renew(lease)

    async def release(self, held: Held, lease: Lease, successor: str) -> Snapshot:
        """Give up a term."""
        self._bench.judge.releasing(held.name, held.term)
        self._next_is("release")
        return await super().release(held, lease, successor)

    async def open_session(self, owner: str, ttl_s: float) -> Lease:
        """Open a session."""
        self._next_is("open session")
        return await super().open_session(owner, ttl_s)

    async def close_session(self, lease: Lease) -> None:
        """End a session."""
        self._bench.judge.session_closed(lease.key)
        self._next_is("close session")
        await super().close_session(lease)

    def follow(self, name: str, sink: Sink) -> None:
        """Report the record now and after each change."""

        def hear(event: Seen | Evidence) -> None:
            if isinstance(event, Seen):
                self._know(event.snapshot)
            else:
                self._bench.proven(event.lease_key)
            sink(event)

        self._hearing[name, sink] = hear
        super().follow(name, hear)

    def unfollow(self, name: str, sink: Sink) -> None:
        """Report no more."""
        super().unfollow(name, self._hearing.pop((name, sink)))

    def live_sessions(self) -> set[str]:
        """Return the keys of the sessions that are not over."""
        return self._records.sessions() if self._records is not None else set()

    def _know(self, snapshot: Snapshot) -> None:
        if snapshot.holding is not Holding.ABSENT:
            self.known.add(snapshot.name)

    def _next_is(self, verb: str) -> None:
        for thread in self.machine.threads:
            thread.verb = verb


class SqliteBench:
    """What a history needs of the embedded store."""

    def __init__(self, history: History) -> None:
        self.judge: Judge = history.judge
        self.world = history.world
        self.rho = history.rho
        self.kernel = Kernel(history.world)
        self.folder = _folder()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(mode=0o700)
        self.path = self.folder / "incumbent.db"
        self._orphans = history.rng.choice((0.0, 0.3, 0.6))
        self._stores: dict[str, TwinStore] = {}
        self._trees: dict[str, Process | Orphan] = {}
        self._left: list[Inheritance] = []
        self._deleted: dict[str, int] = {}
        self._elections = history.elections
        self._slow = history.slow
        # One thread does one thing after the other: were it so slow for each, nobody could lead.
        history.network.fair.delay_s /= 1 + len(history.elections)
        self._longest_s = history.ttl_s * 2
        """What was trusted before a deletion is not any more, so long after."""

    async def store(self, process: Process) -> Store:
        """Return the production store over the twin of the machine."""
        machine = TwinMachine(self.kernel, process, partial(TwinTables, self))
        store = self._stores[process.label] = TwinStore(self, machine)
        assert machine.held is not None
        machine.held.is_over = lambda key: key not in store.live_sessions() or self._revived(key)
        await store.open()
        return store

    def forget(self, process: Process) -> None:
        """Let the kernel take a process apart; a child of it may have its locks."""
        store = self._stores.get(process.label)
        if store is None:
            return
        machine = store.machine
        machine.gone = True
        for instance in list(self.kernel.watching):
            if instance.of(process):
                instance.close()
        if machine.held is None:
            return
        self.kernel.closed(self.path)
        works = self.judge.running(process)
        for_s = self._goes_on_for(process, works)
        inherited, others = machine.held.leave(to_child=for_s > 0.0)
        self._left += (inherited, others)
        others.close()
        if for_s > 0.0:
            orphan = Orphan(process, inherited)
            keys = [key for key, tree in self._trees.items() if tree is process]
            self._trees.update(dict.fromkeys(keys, orphan))
            orphan.work_on(works, for_s)

    def _goes_on_for(self, process: Process, works: list[Work]) -> float:
        """Return how long a child of a dead process goes on; 0 if there is none."""
        rng = self.world.rng
        if not works or rng.random() >= self._orphans:
            return 0.0
        for_s = process.host.timing.ttl_s * rng.choice((0.05, 0.3, 0.8, 1.5, 3.0)) * rng.random()
        for work in works:
            if work.armed:
                left_s = work.trusted_until - process.clock.boot()
                for_s = min(for_s, left_s / (1 + self.rho))  # Whatever rate its clock will have.
        return for_s

    def prove_dead(self, process: Process) -> None:
        """Do nothing: the locks do that."""

    # -- what the twins report --------------------------------------------------------------------

    def opened(self, key: str, process: Process) -> None:
        """Note whose tree has the lock of a session."""
        self._trees[key] = process

    def _revived(self, key: str) -> bool:
        """Tell whether only a store that lost its memory can still hold a session for going on.

        Whoever voided it may not have removed its file yet, and nobody is left to need it.
        """
        tree = self._trees.get(key)
        return self.judge.excused and (tree is None or not tree.alive)

    def proven(self, key: str) -> None:
        """Note that somebody believes that everything with the lock of a session is gone."""
        tree = self._trees.get(key)
        if tree is not None and tree.alive:
            self.judge.disproved(tree)

    def taken(self, process: Process, before: Snapshot, over: Snapshot, claim: Claim) -> None:
        """Note a take that happened."""
        name = before.name
        if before.holding is Holding.ABSENT and name in self._deleted:
            newcomer = name not in self._stores[process.label].known
            if newcomer or over.serial < self._deleted[name]:
                self.judge.excuse(name, self._longest_s)
        if claim.session is not None:
            self.judge.taken(name, before.term, claim.term, claim.session.key)

    # -- hands ------------------------------------------------------------------------------------

    def ask(self, name: str, term: str, to: str) -> None:
        """Leave a request to step down, as `incumbent step-down` does."""
        with closing(Tables(self.path, "hand", self.kernel.wall)) as tables:
            try:
                tables.ask(name, StepDownRequest(term, to))
            except Refused:
                return
        self.kernel.closed(self.path)
        self._ring()

    def delete(self, name: str) -> None:
        """Delete a row, with or without a word to anybody."""
        self._by_hand("DELETE FROM election WHERE name = ?", name)
        ((self._deleted[name],),) = self._by_hand("SELECT serial FROM counter")
        self._perhaps_ring()

    def scribble(self, name: str) -> None:
        """Write over a row what nobody understands."""
        change = "UPDATE election SET format = 999, serial = (SELECT serial FROM counter) "
        self._by_hand(change + "WHERE name = ?", name)
        self._perhaps_ring()

    def wipe(self) -> None:
        """Delete what is foreign, free space on the disk, and leave no child alive any more."""
        self.kernel.full = False
        self.kernel.latest_drop_s = 0.0
        self._orphans = 0.0
        for (name,) in self._by_hand("SELECT name FROM election WHERE format = 999"):
            self.delete(name)

    def delete_files(self) -> None:
        """Delete the database under everybody."""
        for name in self._elections:
            self._deleted[name] = 0
        for end in _SIDE:
            self.kernel.unlink(self.path.with_name(self.path.name + end))

    def back_up(self) -> None:
        """Keep a copy."""
        self._copy(self.path, self.folder / "backup.db")

    def restore(self) -> bool:
        """Go back to the copy: over the file, or in its place."""
        backup = self.folder / "backup.db"
        if not backup.exists():
            return False
        if self.world.rng.random() < 0.5:
            self._copy(backup, self.path)
            return True
        for end in _SIDE:
            self.kernel.unlink(self.path.with_name(self.path.name + end))
        shutil.copyfile(backup, self.path)
        return True

    def overflow(self, process: Process) -> None:
        """Have the kernel lose count of what it has to tell a process."""
        for instance in self.kernel.watching:
            if instance.of(process):
                instance.overflow()

    def hindered(self, processes: Sequence[Process], since: float) -> bool:
        """Tell whether any is not open yet, is slow, or hears late what was said before."""
        if self._slow:
            return True
        stores = [self._stores[process.label] for process in processes]
        return any(store._records is None or store.machine.hindered(since) for store in stores)

    def up_to_date(self, processes: Sequence[Process]) -> bool:
        """Tell whether every standby watches the record as it is."""
        tables = self._stores[processes[0].label]._records
        for process in processes:
            for name, worker in process.workers.items():
                watched = worker.driver.watched
                if tables is None or worker.driver.state is not State.STANDBY or watched is None:
                    continue
                if watched.watched != tables._read(name).watched:
                    return False
        return True

    def end(self) -> None:
        """Close every file, and remove them."""
        for store in self._stores.values():
            store.machine.gone = True
            store._disconnect()
            if store.machine.held is not None:
                self._left += store.machine.held.leave(to_child=False)
        for locks in self._left:
            locks.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _by_hand(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        with closing(Tables(self.path, "hand", self.kernel.wall)) as tables:
            rows = tables._db.execute(statement, values).fetchall()
        self.kernel.closed(self.path)
        return rows

    def _perhaps_ring(self) -> None:
        if self.world.rng.random() < 0.7:
            self._ring()

    def _ring(self) -> None:
        bell = self.path.with_name(self.path.name + "-bell")
        if bell.exists():
            self.kernel.rung(bell)

    def _copy(self, source: Path, target: Path) -> None:
        with closing(sqlite3.connect(source)) as read, closing(sqlite3.connect(target)) as written:
            read.backup(written)
