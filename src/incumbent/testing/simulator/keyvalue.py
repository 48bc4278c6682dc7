"""The twin of a key-value server, under the production logic for all stores of that kind.

`incumbent.stores.kv` runs unchanged; what is replaced is the driver, `KeyValue`. The server is the
reference shelf of `testing.keyvalue`: keys at revisions, swaps of several at once.

Reports are a stream: what a stall holds back comes later, in order. If the server stops, or goes
back in time, every stream breaks, and its follower reads anew and says that there is a gap.

A hand that deletes something takes the record one time and the session that it names the next: who
holds under a session that is gone has lost nothing yet but the means to renew.

Warning: an absence is taken over while it stands as far as is heard. If a record is made, held and
deleted by hand before the taker has heard of any of it (its stream is behind, or it was stopped),
it robs whoever held it; the store says so. Such a take excuses the election (see `judge`).
"""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import TypeVar

from incumbent.core.records import StepDownRequest
from incumbent.errors import OutcomeUnknown, StoreUnavailable
from incumbent.stores.api import Finding, Store
from incumbent.stores.kv import wire
from incumbent.stores.kv.api import Conditions, Entry, Report, Sink, Writes
from incumbent.stores.kv.store import KeyValueStore
from incumbent.stores.memory import CAPABILITIES
from incumbent.testing.keyvalue import MemoryKeyValue, Shelf
from incumbent.testing.simulator.bench import BenchDefaults
from incumbent.testing.simulator.judge import Judge
from incumbent.testing.simulator.network import Link, Network, Subscription
from incumbent.testing.simulator.process import Process
from incumbent.testing.simulator.twin import finish

__all__ = ["KeyValueBench", "TwinKeyValue"]

T = TypeVar("T")

_CAPABILITIES = replace(CAPABILITIES, absent_is_vacant=False)
_FOREIGN = b"moo"


class _Stream:
    """One who follows a key."""

    def __init__(self, server: KeyValueBench, process: Process, key: str, sink: Sink) -> None:
        self.process = process
        self.sink = sink
        self._shelf = server.shelf
        self._key = key
        self._subscription: Subscription[Report] = Subscription(None, sink)
        process.link.subscriptions.append(self._subscription)
        self._shelf.sinks.setdefault(key, []).append(self.tell)
        self.begin()

    def begin(self) -> None:
        """Report what is there now; what was on its way is lost."""
        self._subscription.catch_up()
        self.tell(self._shelf.report(self._key, gap=True))

    def tell(self, report: Report) -> None:
        """Send a report on its way."""
        self.process.link.notify(self._subscription, report)

    def close(self) -> None:
        """Send nothing more."""
        self._subscription.alive = False
        self._shelf.sinks[self._key].remove(self.tell)
        self.process.link.subscriptions.remove(self._subscription)


class TwinKeyValue:
    """The server as one process has it. See `incumbent.stores.kv.api.KeyValue`."""

    def __init__(self, bench: KeyValueBench, process: Process) -> None:
        self._bench = bench
        self._process = process
        self._link: Link = process.link
        self._judge = process.judge
        self._server = MemoryKeyValue(bench.shelf)
        self._streams: dict[tuple[str, Sink], _Stream] = {}
        self._heard: dict[str, int] = {}

    async def open(self, *, create: bool) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    async def connect(self) -> None:
        """Do nothing: the way is always open."""

    async def get(self, key: str, *, urgent: bool = False) -> tuple[Entry | None, int]:
        """Read a key."""
        found = await self._read("read", lambda: finish(self._server.get(key)), key)
        self._hear(key, found[1])
        return found

    async def entries(self, folder: str) -> list[Entry]:
        """Read a folder."""
        return await self._read("list", lambda: finish(self._server.entries(folder)), folder)

    async def swap(
        self, conditions: Conditions, writes: Writes, *, urgent: bool = False
    ) -> Mapping[str, Entry]:
        """Write if all conditions are met."""
        verb, about = self._announce(conditions, writes)
        heard = {key: self._heard.get(key, 0) for key in writes}

        def effect() -> Mapping[str, Entry]:
            before = {key: self._bench.shelf.entries.get(key) for key in writes}
            written = finish(self._server.swap(conditions, writes))
            for key, entry in written.items():
                self._bench.judge_write(self._judge, verb, entry, before[key], heard[key])
            return written

        return await self._link.call(verb, effect, about)

    async def remove(self, key: str, version: Hashable) -> None:
        """Delete garbage."""
        await self._link.call("sweep", lambda: finish(self._server.remove(key, version)), key)

    def follow(self, key: str, sink: Sink) -> None:
        """Report the key now and after each change."""

        def hear(report: Report) -> None:
            self._hear(key, report.revision)
            sink(report)

        self._streams[key, sink] = _Stream(self._bench, self._process, key, hear)
        self._bench.streams.append(self._streams[key, sink])

    def unfollow(self, key: str, sink: Sink) -> None:
        """Report no more."""
        stream = self._streams.pop((key, sink))
        if stream in self._bench.streams:
            self._bench.streams.remove(stream)
            stream.close()

    async def examine(self) -> list[Finding]:
        """Find nothing."""
        return []

    def _hear(self, key: str, revision: int) -> None:
        self._heard[key] = max(self._heard.get(key, 0), revision)

    def _announce(self, conditions: Conditions, writes: Writes) -> tuple[str, str]:
        """Return the verb, and what it is about; tell the judge of what gives something up."""
        for key, value in writes.items():
            folder, _, name = key.partition("/")
            if folder != "elections":
                continue
            record = wire.parse_election(value)
            assert isinstance(record, dict)
            if not record["session"]:
                self._judge.releasing(name, record["term"])
                return "release", name
            return ("ask" if record["request"] else "take"), name
        ((key, value),) = writes.items()
        session, name = wire.parse_session(value), key.partition("/")[2]
        assert isinstance(session, dict)
        if session["void"]:
            self._judge.session_closed(name)
            return "close session", name
        return ("renew" if conditions[key].__class__ is int else "open session"), name

    async def _read(self, verb: str, effect: Callable[[], T], about: str) -> T:
        try:
            return await self._link.call(verb, effect, about)
        except OutcomeUnknown as error:
            raise StoreUnavailable(str(error)) from error


class KeyValueBench(BenchDefaults):
    """What a history needs of such a server."""

    def __init__(self, judge: Judge, network: Network) -> None:
        self.shelf = Shelf()
        self.streams: list[_Stream] = []
        self._deleted: dict[str, int] = {}
        self._backup: tuple[dict[str, Entry], int] | None = None
        self._hand = itertools.cycle((False, True))
        self._random = random.Random(network.world.rng.getrandbits(32))
        network.on_restart.append(self._break_streams)

    def judge_write(
        self, judge: Judge, verb: str, entry: Entry, before: Entry | None, heard: int
    ) -> None:
        """Tell the judge what has become of an election."""
        folder, _, name = entry.key.partition("/")
        now = wire.parse_election(entry.value)
        if folder != "elections" or not isinstance(now, dict):
            return
        was = wire.parse_election(before.value) if before is not None else {}
        old_term = was["term"] if isinstance(was, dict) and was else ""
        if verb == "take":
            if before is None and self._deleted.get(entry.key, 0) > heard:
                judge.excuse(name)
            judge.taken(name, old_term, now["term"], now["session"])
        elif verb == "release":
            judge.freed(name, old_term)

    def _break_streams(self) -> None:
        for stream in list(self.streams):
            stream.begin()

    async def store(self, process: Process) -> Store:
        """Return the production logic over a twin of the driver."""
        return KeyValueStore(
            TwinKeyValue(self, process),
            "memory://twin",
            _CAPABILITIES,
            lambda count: self._random.randbytes(count).hex(),
        )

    def forget(self, process: Process) -> None:
        """Report nothing more to a process that is gone."""
        for stream in [s for s in self.streams if s.process is process]:
            self.streams.remove(stream)
            stream.close()

    def prove_dead(self, process: Process) -> None:
        """Do nothing: no key proves anybody dead."""

    def ask(self, name: str, term: str, to: str) -> None:
        """Leave a request to step down."""
        entry = self.shelf.entries.get(f"elections/{name}")
        if entry is None:
            return
        record = wire.parse_election(entry.value)
        if isinstance(record, dict) and record["term"] == term and record["session"]:
            token, request = wire.token_of(record, entry), StepDownRequest(term, to)
            self.shelf.write(entry.key, wire.encode(wire.asked(record, token, request)))

    def delete(self, name: str) -> None:
        """Delete a record, or the session that it names."""
        key = f"elections/{name}"
        entry = self.shelf.entries.get(key)
        if entry is None:
            return
        record = wire.parse_election(entry.value)
        if isinstance(record, dict) and record["session"] and next(self._hand):
            key = f"sessions/{record['session']}"
        if key in self.shelf.entries:
            self.shelf.delete(key)
            self._deleted[key] = self.shelf.revision

    def scribble(self, name: str) -> None:
        """Write something foreign over a record."""
        self.shelf.write(f"elections/{name}", _FOREIGN)

    def wipe(self) -> None:
        """Delete what is foreign."""
        for key in [k for k, entry in self.shelf.entries.items() if entry.value == _FOREIGN]:
            self.shelf.delete(key)
            self._deleted[key] = self.shelf.revision

    def back_up(self) -> None:
        """Keep a copy."""
        self._backup = (copy.copy(self.shelf.entries), self.shelf.revision)

    def restore(self) -> bool:
        """Go back to the copy."""
        if self._backup is None:
            return False
        entries, self.shelf.revision = self._backup
        self.shelf.entries = copy.copy(entries)
        self._break_streams()
        return True
