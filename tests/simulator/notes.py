"""Histories of a few checkpoints: terms that follow one another, and former holders that go on.

The store, the swaps and `Progress` are those of production; what is between a process and its store
is played. A request takes its time, is lost, arrives after its sender has given it up, or arrives
twice; an answer is lost or late; a process stops anywhere. And no term ever knows by itself that it
is over: only the checkpoint says so, which is less than any holder has.

Each term notes for each part the number after the one that it found, again and again, for all parts
at once: so what is noted while a request is under way goes in groups, which are lost, late and
repeated as a whole where the store carries them out as a whole, and else one by one. No part waits
for another, nor ends with it. So what is right is plain, of each part:

1. What stands there never becomes less, nor does its token.
2. Whoever opens finds at least what was confirmed to anybody before.
3. What is confirmed to a former holder, the one who followed has found.

A seed decides everything. Time is the turns of the event loop: nothing here waits for a clock.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from incumbent.core.records import Advance, Checkpoint
from incumbent.errors import (
    LeadershipLost,
    OutcomeUnknown,
    StaleToken,
    StoreError,
    StoreUnavailable,
)
from incumbent.runtime.checkpoints import Answer, Archive
from incumbent.runtime.settings import Settings
from incumbent.runtime.term import Term
from incumbent.stores.api import Store
from incumbent.stores.file.records import FileRecords
from incumbent.stores.keeping import KeepingStore
from incumbent.stores.kubernetes.api import Listing
from incumbent.stores.kubernetes.checkpoints import LeaseCheckpoints
from incumbent.stores.kubernetes.resource import LEASES
from incumbent.stores.kv.api import Conditions, Entry, Writes
from incumbent.stores.kv.checkpoints import KeyedCheckpoints
from incumbent.stores.local.store import Checkpoints as LocalCheckpoints
from incumbent.stores.memory import MemoryStore
from incumbent.stores.sql.api import Rows
from incumbent.stores.sql.checkpoints import SqlCheckpoints
from incumbent.stores.sqlite.checkpoints import TableCheckpoints
from incumbent.stores.sqlite.tables import Tables
from incumbent.testing import depose, elected_term
from incumbent.testing.database import Database, MemoryServer
from incumbent.testing.keyvalue import MemoryKeyValue, Shelf
from incumbent.testing.simulator.kubernetes import ApiServer

__all__ = ["KINDS", "Wrong", "play"]

T = TypeVar("T")

TERMS = 5
MOST_TURNS = 12
"""How long a request is on its way, at most; one that is late takes `LATE` times as long."""
LATE = 10
NAME = "e"
PARTS = ("a", "b", "c")

_SETTINGS = Settings.resolve(NAME, store=MemoryStore())
_AT_ONCE = replace(_SETTINGS, timing=replace(_SETTINGS.timing, retry_every_s=0.0))


class Wrong(AssertionError):
    """A rule was broken."""


class Net:
    """What lies between one process and its store."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.under_way: set[asyncio.Task[None]] = set()

    def chance(self, count: int) -> str:
        """Return so many random bytes."""
        return self.rng.randbytes(count).hex()

    async def turns(self, most: int = MOST_TURNS) -> None:
        for _ in range(self.rng.randrange(most)):
            await asyncio.sleep(0)

    async def read(self, effect: Callable[[], Awaitable[T]]) -> T:
        """Ask; who hears nothing asks again."""
        await self.turns()
        if self.rng.random() < 0.1:
            raise StoreUnavailable("nothing was heard")
        found = await effect()
        await self.turns()
        return found

    async def write(self, effect: Callable[[], Awaitable[T]]) -> T:
        """Send a write. It has its effect once, twice, later or never."""
        fate = self.rng.random()
        if fate < 0.08:
            raise StoreUnavailable("not sent")
        await self.turns()
        if fate < 0.18:
            raise OutcomeUnknown("lost on its way")
        if fate < 0.34:
            self._later(effect)
            raise OutcomeUnknown("late on its way")
        if fate < 0.42:
            self._later(effect)
        done = await effect()
        await self.turns()
        if fate < 0.58:
            raise OutcomeUnknown("its answer was lost")
        return done

    def _later(self, effect: Callable[[], Awaitable[Any]]) -> None:
        async def arrive() -> None:
            await self.turns(LATE * MOST_TURNS)
            with suppress(Exception):  # Whatever the answer is, nobody hears it.
                await effect()

        task = asyncio.get_running_loop().create_task(arrive())
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)


class Kept(KeepingStore):
    """A store of checkpoints alone."""

    def __init__(self, checkpoints: Any) -> None:
        self._checkpoints = checkpoints


# -- what is behind the net, and where it is cut ---------------------------------------------------


class Whole:
    """Each verb is one request."""

    def __init__(self, store: Any, net: Net) -> None:
        self._store = store
        self._net = net

    async def read(self, name: str, part: str) -> Checkpoint:
        return await self._net.read(lambda: self._store.checkpoint(name, part))

    async def listed(self, name: str) -> list[Checkpoint]:
        return await self._net.read(lambda: self._store.checkpoints(name))

    async def advance(self, over: Checkpoint, value: bytes, token: int) -> Checkpoint:
        return await self._net.write(lambda: self._store.advance(over, value, token))


class WholeGroups(Whole):
    """So is a group."""

    async def advance_all(self, advances: Sequence[Advance]) -> list[Checkpoint | StoreError]:
        return await self._net.write(lambda: self._store.advance_all(advances))


class Local:
    """The records of a host's disk, whose thread carries out what nobody waits for any more."""

    def __init__(self, checkpoints: LocalCheckpoints) -> None:
        self._checkpoints = checkpoints

    async def checkpoint(self, name: str, part: str) -> Checkpoint:
        return self._checkpoints.read(name, part)

    async def advance(self, over: Checkpoint, value: bytes, token: int) -> Checkpoint:
        return self._checkpoints.advance(over, value, token)

    async def checkpoints(self, name: str) -> list[Checkpoint]:
        return self._checkpoints.listed(name)


class Table(Local):
    """The same, of the embedded store."""

    def __init__(self, checkpoints: TableCheckpoints) -> None:
        super().__init__(checkpoints)
        self._table = checkpoints

    async def advance_all(self, advances: Sequence[Advance]) -> list[Checkpoint | StoreError]:
        return self._table.advance_all(advances)


class Keys(MemoryKeyValue):
    def __init__(self, shelf: Shelf, net: Net) -> None:
        super().__init__(shelf)
        self._net = net

    async def get(self, key: str, *, urgent: bool = False) -> tuple[Entry | None, int]:
        return await self._net.read(lambda: MemoryKeyValue.get(self, key))

    async def entries(self, folder: str) -> list[Entry]:
        return await self._net.read(lambda: MemoryKeyValue.entries(self, folder))

    async def swap(self, conditions: Conditions, writes: Writes, *, urgent: bool = False) -> Any:
        return await self._net.write(lambda: MemoryKeyValue.swap(self, conditions, writes))


class Rest:
    namespace, url, resource = "n", "played", LEASES

    def __init__(self, server: ApiServer, net: Net) -> None:
        self._server = server
        self._net = net

    async def get(self, name: str) -> Any:
        return await self._net.read(lambda: _soon(self._server.get, name))

    async def list(self, selector: str = "") -> Listing:
        return await self._net.read(lambda: _soon(self._server.list, selector))

    async def create(self, obj: Any) -> Any:
        return await self._net.write(lambda: _soon(self._server.create, obj))

    async def replace(self, obj: Any) -> Any:
        return await self._net.write(lambda: _soon(self._server.replace, obj))


class Sql(MemoryServer):
    def __init__(self, database: Database, net: Net) -> None:
        super().__init__(database, [])
        self._net = net

    async def look(self, statements: Any, *, urgent: bool = False) -> list[Rows]:
        return await self._net.read(lambda: MemoryServer.look(self, statements))

    async def write(self, statements: Any, limit_s: float, *, urgent: bool = False) -> list[Rows]:
        return await self._net.write(lambda: MemoryServer.write(self, statements, limit_s))


async def _soon(call: Callable[..., T], *words: Any) -> T:
    return call(*words)


Maker = Callable[[Net], Any]
"""Makes what a process has of a store behind its net."""


@contextmanager
def _memory() -> Iterator[Maker]:
    store = MemoryStore()
    yield lambda net: WholeGroups(store, net)


@contextmanager
def _sqlite() -> Iterator[Maker]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        tables = Tables(Path(folder) / "i.db", "me")
        yield lambda net: WholeGroups(Table(tables.checkpoints), net)
        tables.close()


@contextmanager
def _files() -> Iterator[Maker]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        records = FileRecords(Path(folder) / "f")
        yield lambda net: Whole(Local(records.checkpoints), net)
        records.close()


@contextmanager
def _keys() -> Iterator[Maker]:
    shelf = Shelf()
    yield lambda net: KeyedCheckpoints(Keys(shelf, net))


@contextmanager
def _leases() -> Iterator[Maker]:
    server = ApiServer()
    yield lambda net: LeaseCheckpoints(Rest(server, net), net.chance)  # type: ignore[arg-type]


@contextmanager
def _sql() -> Iterator[Maker]:
    database = Database()
    yield lambda net: SqlCheckpoints(Sql(database, net), net.chance)
    database.close()


KINDS = {
    "memory": _memory,
    "sqlite": _sqlite,
    "file": _files,
    "key-value": _keys,
    "kubernetes": _leases,
    "sql": _sql,
}


# -- a history -------------------------------------------------------------------------------------


class Desk(Archive):
    """The archive of one process, without a thread of its own."""

    def __init__(self, store: Store) -> None:
        super().__init__(_AT_ONCE)
        self._store = store
        self.groups = 0

    async def _write_all(self, advances: Sequence[Advance]) -> Sequence[Answer]:
        self.groups += len(advances) > 1
        return await super()._write_all(advances)

    async def _ask(self, request: Callable[[Store], Awaitable[T]]) -> T:
        return await request(self._store)


class History:
    """A few checkpoints, and what became of them.

    Attributes:
        saves: how many were confirmed.
        groups: how many requests were for several.
        followed: how often a term was opened after another one.
    """

    def __init__(self, seed: int, make: Maker) -> None:
        self.rng = random.Random(seed)
        self._make = make
        self.found: dict[str, dict[int, int]] = {part: {} for part in PARTS}
        self.confirmed: dict[str, dict[int, int]] = {part: {} for part in PARTS}
        self.saves = 0
        self.groups = 0
        self.followed = 0
        self.highest = dict.fromkeys(PARTS, (0, 0))
        self.nets: list[Net] = []

    async def play(self) -> None:
        terms = [asyncio.create_task(self._term(token)) for token in range(1, TERMS + 1)]
        watching = asyncio.create_task(self._watch())
        try:
            await asyncio.gather(*terms)
            for net in self.nets:
                while net.under_way:
                    await asyncio.wait(set(net.under_way))
            await self._check_now()
        finally:
            watching.cancel()
            for task in terms:
                task.cancel()

    async def _watch(self) -> None:
        while True:
            await self._check_now()
            await asyncio.sleep(0)

    async def _check_now(self) -> None:
        for at in await self._peek():
            now, before = (int(at.value or b"0"), at.token), self.highest[at.part]
            if now[0] < before[0] or now[1] < before[1]:
                raise Wrong(f"{at.part} went back from {before} to {now}")
            self.highest[at.part] = now

    async def _peek(self) -> list[Checkpoint]:
        """Look without a net."""
        found: list[Checkpoint] = await self._make(_Straight()).listed(NAME)
        return found

    async def _term(self, token: int) -> None:
        net = Net(self.rng)
        self.nets.append(net)
        for _ in range(token * 60 + self.rng.randrange(120)):
            await asyncio.sleep(0)
        term = elected_term(NAME, token=token, ttl_s=3600.0)
        desk = Desk(Kept(self._make(net)))  # type: ignore[arg-type]
        await asyncio.gather(*(self._work(desk, net, term, token, part) for part in PARTS))
        self.groups += desk.groups

    async def _work(self, desk: Desk, net: Net, term: Term, token: int, part: str) -> None:
        progress = desk.progress(term, part)
        with suppress(StaleToken, LeadershipLost):
            number = int(await progress.open() or b"0")
            self._opened(part, token, number)
            for _ in range(self.rng.randrange(3, 9)):
                await net.turns(3 * MOST_TURNS)  # It is at work, or was stopped.
                if self.rng.random() < 0.01:
                    depose(term)
                number += 1
                await progress.save(b"%d" % number)
                self._confirmed(part, token, number)

    def _opened(self, part: str, token: int, number: int) -> None:
        self.followed += bool(self.found[part])
        before = [n for t, n in self.confirmed[part].items() if t < token]
        if before and number < max(before):
            raise Wrong(f"term {token} has found {number}, and {max(before)} was confirmed")
        self._not_after(part, token, number)
        self.found[part][token] = number

    def _confirmed(self, part: str, token: int, number: int) -> None:
        self.saves += 1
        self._not_after(part, token, number)
        self.confirmed[part][token] = number

    def _not_after(self, part: str, token: int, number: int) -> None:
        for later, found in self.found[part].items():
            if later > token and number > found:
                raise Wrong(f"{number} of term {token} is confirmed; term {later} found {found}")


class _Straight(Net):
    """No net."""

    def __init__(self) -> None:
        super().__init__(random.Random(0))

    async def read(self, effect: Callable[[], Awaitable[T]]) -> T:
        return await effect()


def play(kind: str, seed: int) -> History:
    """Play one history, and return what came of it.

    Raises:
        Wrong: a rule was broken.
    """

    async def main() -> History:
        with KINDS[kind]() as make:
            history = History(seed, make)
            await history.play()
            return history

    return asyncio.run(main())
