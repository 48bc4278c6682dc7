"""The twin of a server with locks of another library, below our rules beside them, with a member.

`incumbent.stores.beside.store` runs unchanged; the driver below it is the reference of
`testing.locks`, whose locks end in one of three manners, by the history's chance: as those of
Redis, of Consul, or of a kernel. Its clock is the server's; where locks lapse by a wall clock,
people set it. That may do harm between a member of theirs and ours, which the stores declare, and
never among ours.

A session that is ended early (`end_session`) is no such case: the lock-delay is there for it.

What somebody wrote is told to whoever asked to hear of it, or may be lost with a watch that stalls;
so there is a look now and then.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from incumbent.core.records import Held, Lease, Snapshot, StepDownRequest
from incumbent.errors import OutcomeUnknown, StoreUnavailable
from incumbent.stores.api import Store
from incumbent.stores.beside import Deed, LockStore, State, wire
from incumbent.stores.beside.wire import Object
from incumbent.stores.memory import CAPABILITIES
from incumbent.testing.locks import OURS, STRANGE, Lock, Manner, MemoryLocks, Shelf
from incumbent.testing.simulator.bench import BenchDefaults
from incumbent.testing.simulator.members import Member
from incumbent.testing.simulator.network import Subscription
from incumbent.testing.simulator.process import Process
from incumbent.testing.simulator.twin import finish
from incumbent.testing.simulator.world import HostClock

if TYPE_CHECKING:
    from incumbent.testing.simulator.history import History

__all__ = ["BesideBench"]

T = TypeVar("T")

_LOOKS_PER_TTL = 4
_VERBS = {Deed.TAKE: "take", Deed.KEEP: "renew", Deed.FREE: "release", Deed.TOUCH: "ask"}


class _TwinLocks(MemoryLocks):
    """The locks as one process has them."""

    def __init__(self, bench: BesideBench, process: Process) -> None:
        super().__init__(bench.shelf)
        self._bench = bench
        self._process = process
        self._link = process.link
        self._news: dict[str, asyncio.Event] = {}
        self.subscription: Subscription[str] = Subscription(None, self._hear)

    async def read(self, lock: str, *, urgent: bool = False) -> State:
        """Return lock and record as they are."""
        try:
            async with asyncio.timeout(self._bench.look_s):  # As connections of real drivers have.
                return await self._link.call(
                    "read", lambda: finish(MemoryLocks.read(self, lock)), lock
                )
        except TimeoutError:
            raise StoreUnavailable("no answer in time") from None
        except OutcomeUnknown as error:
            raise StoreUnavailable(str(error)) from error

    async def swap(
        self, lock: str, over: State, record: Object, deed: Deed, *, urgent: bool = False
    ) -> State:
        """Write the record and do the deed."""

        def effect() -> State:
            return self._bench.swap(self._process, lock, over, record, deed)

        return await self._link.call(_VERBS[deed], effect, record["term"])

    async def changed(self, lock: str, state: State) -> None:
        """Return when somebody has said that it changed it, or when it is time to look."""
        news = self._news.setdefault(lock, asyncio.Event())
        try:
            async with asyncio.timeout(self._bench.look_s):
                await news.wait()
        except TimeoutError:
            return
        news.clear()

    def _hear(self, lock: str) -> None:
        if lock in self._news:
            self._news[lock].set()


class _TwinStore(LockStore):
    """The store, which tells the judge of what it gives up."""

    def __init__(self, bench: BesideBench, process: Process, locks: _TwinLocks) -> None:
        super().__init__(locks, "memory://twin", bench.capabilities)
        self._judge = process.judge

    async def release(self, held: Held, lease: Lease, successor: str) -> Snapshot:
        """Give up a term."""
        self._judge.releasing(held.name, held.term)
        return await super().release(held, lease, successor)


class BesideBench(BenchDefaults):
    """What a history needs of such a server."""

    def __init__(self, history: History, *, absent_is_vacant: bool) -> None:
        rng = history.rng
        clock = self.clock = HostClock(history.world, history.some_rate(), rng.uniform(1.0, 1e5))
        manner = rng.choice(tuple(Manner))
        # Sessions and processes do not end by a clock that people set.
        judged_by: Callable[[], float] = clock.wall if manner is Manner.LAPSES else clock.boot
        self.look_s = history.ttl_s / _LOOKS_PER_TTL
        self.shelf = Shelf(judged_by, manner, theirs_s=self.look_s)
        self.capabilities = replace(
            CAPABILITIES, sessions=False, bars=False, absent_is_vacant=absent_is_vacant
        )
        self._speaks = rng.random() < 0.7
        self._history = history
        self._judge = history.judge
        self._listeners: dict[str, tuple[Process, _TwinLocks]] = {}
        self._holders: dict[str, tuple[str, str]] = {}
        self._backup: dict[str, Lock] | None = None
        self._hand = itertools.cycle((False, True))
        history.on_peace.append(self._make_peace)
        if rng.random() < 0.5:
            Member(history, self)

    # -- what processes do ------------------------------------------------------------------------

    async def store(self, process: Process) -> Store:
        """Return the production logic over a twin of the driver."""
        locks = _TwinLocks(self, process)
        process.link.subscriptions.append(locks.subscription)
        self._listeners[process.label] = process, locks
        store = _TwinStore(self, process, locks)
        await store.open()
        return store

    def swap(self, process: Process, name: str, over: State, record: Object, deed: Deed) -> State:
        """Carry out a swap, and tell whoever has to know."""
        if self.shelf.manner is Manner.PROCESS and not process.alive:
            raise StoreUnavailable("who is dead locks nothing")
        before = self.shelf.at(name).record
        written = self.shelf.swap(name, over, record, deed)
        old_term = before["term"] if isinstance(before, dict) else ""
        if deed is Deed.TAKE:
            self._holders[name] = process.label, record["term"]
            process.judge.taken(name, old_term, record["term"], "")
        elif deed is Deed.FREE:
            process.judge.freed(name, old_term)
        self._tell(name)
        return written

    def _tell(self, name: str) -> None:
        if self._speaks:
            for process, locks in self._listeners.values():
                process.link.notify(locks.subscription, name)

    def forget(self, process: Process) -> None:
        """Tell nothing more to a process that is gone; what the kernel locked for it is free."""
        _, locks = self._listeners.pop(process.label, (process, None))
        if locks is not None:
            locks.subscription.alive = False
            process.link.subscriptions.remove(locks.subscription)
        if self.shelf.manner is Manner.PROCESS:
            for name, (label, term) in self._holders.items():
                if label == process.label and self.shelf.at(name).owner == OURS + term:
                    self.shelf.free(name)
                    self._tell(name)

    def prove_dead(self, process: Process) -> None:
        """Do nothing: a free lock proves it."""

    # -- what a member of theirs does -------------------------------------------------------------

    @property
    def rate(self) -> float:
        """The rate of the clock that members go by."""
        return self.clock.rate

    def take(self, name: str, owner: str, for_s: float) -> bool:
        """Take the lock, if it is free."""
        if not self.shelf.is_free(name):
            return False
        self.shelf.give(name, owner, for_s)
        self._tell(name)
        return True

    def extend(self, name: str, owner: str, for_s: float) -> bool:
        """Make it last."""
        if self.shelf.at(name).owner != owner:
            return False
        self.shelf.give(name, owner, for_s)
        return True

    def free(self, name: str, owner: str) -> None:
        """Give it up."""
        if self.shelf.at(name).owner == owner:
            self.shelf.free(name)
            self._tell(name)

    # -- what they break --------------------------------------------------------------------------

    def rob(self, name: str, owner: str, for_s: float) -> None:
        """Take the lock whoever has it: somebody has deleted it, or made the file anew."""
        self.unlock(name)
        self.shelf.give(name, owner, for_s)

    def unlock(self, name: str) -> None:
        """Delete the lock, whoever has it."""
        self._judge.excuse_theirs(name, 3 * self._history.ttl_s)
        self.shelf.free(name)
        self.shelf.at(name).file += 1
        self._tell(name)

    def step_clock(self, by_s: float) -> None:
        """Set the server's clock."""
        for name in self._history.elections:
            self._judge.excuse_theirs(name, 3 * self._history.ttl_s)
        self.clock.step_wall(by_s)

    def end_session(self, name: str) -> bool:
        """End the session of whoever has the lock; its lock-delay begins."""
        if self.shelf.manner is not Manner.SESSION or not self.shelf.at(name).owner:
            return False
        if not self.shelf.at(name).owner.startswith(OURS):
            self._judge.theirs(name, "")
        self.shelf.free(name, delayed=True)
        self._tell(name)
        return True

    # -- what people do ---------------------------------------------------------------------------

    def ask(self, name: str, term: str, to: str) -> None:
        """Leave a request to step down."""
        record = self.shelf.at(name).record
        if isinstance(record, dict) and record["term"] == term and not record["vacant"]:
            asked = wire.asked(record, record["token"], StepDownRequest(term, to))
            self.shelf.write(name, asked)
            self._tell(name)

    def delete(self, name: str) -> None:
        """Delete the record, or the lock."""
        if not next(self._hand):
            self.unlock(name)
        elif self.shelf.at(name).record is not None:
            self.shelf.remove(name)
        self._tell(name)

    def scribble(self, name: str) -> None:
        """Write something foreign over the record, or over the lock."""
        if next(self._hand):
            self.unlock(name)
            self.shelf.give(name, STRANGE, 1e9)
        else:
            self.shelf.write(name, "it says 'moo'")
        self._tell(name)

    def wipe(self) -> None:
        """Delete what is foreign."""
        for name, lock in self.shelf.locks.items():
            if lock.owner == STRANGE:
                self.shelf.free(name)
            if isinstance(lock.record, str):
                self.shelf.remove(name)
            self._tell(name)

    def _make_peace(self) -> None:
        """Free what is of no term of ours; the clock may have been set back by hours."""
        for name, lock in self.shelf.locks.items():
            term = lock.record["term"] if isinstance(lock.record, dict) else ""
            if lock.owner != OURS + term:
                self.shelf.free(name)

    def back_up(self) -> None:
        """Keep a copy."""
        self._backup = copy.deepcopy(self.shelf.locks)

    def restore(self) -> bool:
        """Go back to the copy."""
        if self._backup is None:
            return False
        self.shelf.locks = copy.deepcopy(self._backup)
        for name in self.shelf.locks:
            self._tell(name)
        return True
