"""The reference store: what every other store must look like from outside.

It keeps its records in this process, so it elects among the candidates of one process only, and it
is what `incumbent.testing` gives to users' own tests. It is also the specification in code: the
conformance suite, the simulator and the golden transcripts run on it first.

It has sessions, as most stores do: records name a session, and only the session is renewed.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from incumbent.core.events import Seen
from incumbent.core.records import (
    Bar,
    Checkpoint,
    Claim,
    Held,
    Holding,
    Lease,
    Snapshot,
    StepDownRequest,
    absent,
    barred,
)
from incumbent.errors import CheckpointMoved, ConfigError, Refused, SessionGone
from incumbent.stores.api import Capabilities, Finding, Grade, Sink, StoreDefaults, StoreURL

__all__ = ["MemoryStore", "open"]

CAPABILITIES = Capabilities(
    scheme="memory",
    sessions=True,
    token=True,
    judged_by="observers",
    confirmed_by="an assignment",
    wakes_by="a call",
    evidence="",
    absent_is_vacant=True,
    whole_seconds=False,
    one_host=True,
    grade=Grade.EXCLUSIVE_WITH_FENCING,
    assumes="all candidates live in this process",
    one_process=True,
    bars=True,
    checkpoints=True,
)


@dataclass(slots=True)
class _Record:
    serial: int
    holder: str = ""
    term: str = ""
    token: int = 0
    ttl_s: float = 0.0
    session: str = ""
    successor: str = ""
    request: StepDownRequest | None = None
    bar: Bar | None = None


@dataclass(slots=True)
class _Session:
    owner: str
    ttl_s: float
    beat: int = 0


@dataclass
class Shelf:
    """What the candidates share."""

    records: dict[str, _Record] = field(default_factory=dict)
    sessions: dict[str, _Session] = field(default_factory=dict)
    sinks: dict[str, list[Sink]] = field(default_factory=dict)
    checkpoints: dict[tuple[str, str], Checkpoint] = field(default_factory=dict)
    serial: int = 0


class MemoryStore(StoreDefaults):
    """A store in this process's memory. Stores that share a `Shelf` share their elections."""

    capabilities = CAPABILITIES

    def __init__(self, shelf: Shelf | None = None, name: str = "") -> None:
        self.shelf = shelf if shelf is not None else Shelf()
        self.url = f"memory://{name}"

    async def open(self, *, create: bool = True) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    async def read(self, name: str) -> Snapshot:
        """Return the record as it is now."""
        return self._snapshot(name)

    async def read_back(self, name: str, claim: Claim) -> Held | Snapshot:
        """Find out whether the take of `claim` happened."""
        snapshot = self._snapshot(name)
        record = self.shelf.records.get(name)
        if record is None or record.term != claim.term or snapshot.holding is not Holding.HELD:
            return snapshot
        return self._held(name, claim, record)

    async def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        """Become the holder, if the record is still exactly `over`."""
        shelf = self.shelf
        now = self._snapshot(name)
        session = claim.session.key if claim.session else ""
        if session not in shelf.sessions:
            raise SessionGone(f"session {session!r} was closed or voided")
        if now.watched != over.watched:
            raise Refused(now)
        if now.holding is Holding.FOREIGN:
            raise Refused(now)
        if over.lease_key != session:
            shelf.sessions.pop(over.lease_key, None)
        record = shelf.records.setdefault(name, _Record(serial=0))
        record.serial = self._next()
        record.token = record.serial
        record.holder, record.term, record.ttl_s = claim.identity, claim.term, claim.ttl_s
        record.session, record.successor, record.request = session, "", None
        self._tell(name)
        return self._held(name, claim, record)

    async def renew(self, lease: Lease) -> Lease:
        """Confirm the session."""
        session = self.shelf.sessions.get(lease.key)
        if session is None:
            raise Refused(absent("the session", self.shelf.serial))
        session.beat += 1
        for name, record in self.shelf.records.items():
            if record.session == lease.key:
                self._tell(name)
        return lease.at(session.beat)

    async def release(self, held: Held, lease: Lease, successor: str) -> Snapshot:
        """Give up exactly this term."""
        record = self.shelf.records.get(held.name)
        if record is not None and record.term == held.term and record.session:
            record.serial = self._next()
            record.session, record.successor, record.request = "", successor, None
            self._tell(held.name)
        return self._snapshot(held.name)

    async def ask(self, name: str, request: StepDownRequest) -> Snapshot:
        """Leave a request to step down."""
        record = self.shelf.records.get(name)
        if record is None or not record.session or record.term != request.term:
            raise Refused(self._snapshot(name))
        record.serial = self._next()
        record.request = request
        self._tell(name)
        return self._snapshot(name)

    async def bar(self, over: Snapshot, bar: Bar) -> Snapshot:
        """Make of the record one that nobody takes."""
        return self._swap_bar(over, bar)

    async def unbar(self, over: Snapshot) -> Snapshot:
        """Make the record vacant if it is exactly this bar."""
        return self._swap_bar(over, None)

    def _swap_bar(self, over: Snapshot, bar: Bar | None) -> Snapshot:
        now = self._snapshot(over.name)
        ours = now.holding is Holding.HELD is over.holding and now.term == over.term
        exact = now.bar is not None and now.version == over.version
        if not (ours and bar is not None) and not exact:
            raise Refused(now)
        record = self.shelf.records[over.name]
        record.serial = self._next()
        record.bar, record.session, record.successor, record.request = bar, "", "", None
        if bar is not None:
            record.holder = record.term = ""
        self._tell(over.name)
        return self._snapshot(over.name)

    async def checkpoint(self, name: str, part: str) -> Checkpoint:
        """Return a checkpoint as it is now."""
        return self.shelf.checkpoints.get((name, part), Checkpoint(name, part))

    async def checkpoints(self, name: str) -> list[Checkpoint]:
        """Return all checkpoints of an election."""
        kept = self.shelf.checkpoints
        return [kept[key] for key in sorted(kept) if key[0] == name]

    async def advance(self, over: Checkpoint, value: bytes, token: int) -> Checkpoint:
        """Write a checkpoint if it is still exactly `over`."""
        now = await self.checkpoint(over.name, over.part)
        if now.version != over.version:
            raise CheckpointMoved(now)
        written = Checkpoint(over.name, over.part, value, token, self._next())
        self.shelf.checkpoints[over.name, over.part] = written
        return written

    def follow(self, name: str, sink: Sink) -> None:
        """Report the record now and after each change."""
        self.shelf.sinks.setdefault(name, []).append(sink)
        sink(Seen(self._snapshot(name)))

    def unfollow(self, name: str, sink: Sink) -> None:
        """Report no more."""
        self.shelf.sinks[name].remove(sink)

    async def open_session(self, owner: str, ttl_s: float) -> Lease:
        """Open a session."""
        key = f"{owner}#{next(_SESSION_NUMBERS)}"
        self.shelf.sessions[key] = _Session(owner, ttl_s)
        return Lease(key=key, version=0, ttl_s=ttl_s, owner=owner)

    async def close_session(self, lease: Lease) -> None:
        """End a session; what is still held under it is free at once."""
        self.shelf.sessions.pop(lease.key, None)
        for name, record in self.shelf.records.items():
            if record.session == lease.key:
                record.serial = self._next()
                record.session = ""
                self._tell(name)

    async def elections(self) -> list[Snapshot]:
        """Return every election."""
        return [self._snapshot(name) for name in sorted(self.shelf.records)]

    async def examine(self) -> list[Finding]:
        """Say the one thing that can be wrong with it."""
        return [Finding("scope", None, "elects among the candidates of this process only")]

    def _next(self) -> int:
        self.shelf.serial += 1
        return self.shelf.serial

    def _tell(self, name: str) -> None:
        for sink in list(self.shelf.sinks.get(name, ())):
            sink(Seen(self._snapshot(name)))

    def _snapshot(self, name: str) -> Snapshot:
        record = self.shelf.records.get(name)
        if record is None:
            return absent(name, self.shelf.serial)
        if record.bar is not None:
            return barred(name, record.bar, record.serial, record.serial, record.token)
        session = self.shelf.sessions.get(record.session)
        return Snapshot(
            name=name,
            holding=Holding.HELD if session else Holding.VACANT,
            version=record.serial,
            serial=record.serial,
            holder=record.holder,
            term=record.term,
            token=record.token,
            ttl_s=record.ttl_s,
            lease_key=record.session,
            lease_version=session.beat if session else "void",
            successor=record.successor,
            request=record.request,
        )

    def _held(self, name: str, claim: Claim, record: _Record) -> Held:
        if claim.session is None:
            raise AssertionError("held without a session")
        return Held(name, claim.term, record.token, claim.session, self._snapshot(name))


_SHELVES: dict[str, Shelf] = {}
_SESSION_NUMBERS = itertools.count(1)


def open(url: StoreURL) -> MemoryStore:
    """Return the store of `memory://NAME`; equal names share their elections in this process."""
    url.take_options()
    if url.path not in ("", "/"):
        raise ConfigError("memory:// takes a name and no path: memory://NAME")
    return MemoryStore(_SHELVES.setdefault(url.host, Shelf()), url.host)
