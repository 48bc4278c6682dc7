"""Elections over any `KeyValue`: the rules of `stores.api`, kept by compare-and-swap of keys.

How it holds. `elections/NAME` names a holder, its term, and the *session* under which it is held;
`sessions/KEY` is the session of one process, which a renewal writes anew. So a process renews once,
however many elections it holds, and an observer waits for a TTL in which neither key has changed.

What confirms a renewal: a swap of the session's key at the version that it had. Not a keep-alive
of the server's own: those are answered from the memory of one member, which may have been deposed
or cut off, and what they promise is then promised by nobody.

Who judges expiry: observers, as everywhere where we have the choice. A server that lets keys of
silent clients vanish would be quicker by nothing, since its TTL is as long as ours; but its word
could not be told from that of a person who deletes a key, and a deletion proves no death.

Theory: void, then take
-----------------------
A renewal touches the session and not the record, so a comparison of the record alone would not
notice one; and one may be on its way, late, while observers wait. So a takeover first *voids* the
session, at the version that stood still for the TTL, and then takes the record, at the version that
stood still. Most servers do both in one step. Nothing here depends on that:

- The void is refused if a renewal came before it, and every renewal that comes after it is refused.
  The last one that had its effect was sent before the observer saw its version, so the holder's
  trust (send + W, see `core.timing`) is over when the void is done. A void of unknown outcome, or
  one that is carried out late, compares the same version, and finds the same holder even longer
  gone.
- A void is final: nothing makes a session valid again, and its name is random. So whoever sees a
  record under a void session may take it at once, at the version seen: also if the one who voided
  it has stopped in between, or lost the race for the record.
- A take may have its effect late, when its own session is void or gone. Nobody holds by it. A term
  is trusted as long as its session is: until the send of the last confirmed renewal + W, counted
  before the take was sent. Whoever voided the session waited for longer than that, and who ends a
  session of ours (`close_session`) has ended our trust before. The comparison of our own session in
  rule 2 spares everybody such takes; nobody's safety rests on it.

Rules
-----
1. A takeover voids the session of the deposed before it takes the record, each at the version that
   was watched. What else the session held is vacant then.
2. A take under a session of ours compares that session as well: it was not voided meanwhile.
3. A session is over when it says so, in a value. One that is *gone* proves nothing: somebody
   deleted it, or the server lost it. Whatever names it counts as held and silent, for a TTL.
4. A record that is gone proves nothing either, and is waited out by everybody (`memory`).
5. A conflict is looked into before it is believed: it may be our own write, repeated on its way.
6. A release swaps what is known of its own record without reading it first: if that is not what is
   there, nothing is written, and it reads. What was heard may be of any age, so it is used only if
   it carries the very term that is given up.

The fencing token is the revision of the write that took the election.

What was followed last is followed on when nobody needs it: one election, one session. Who releases
takes again under the same session more often than not, as does who holds an election for moments;
to follow anew costs a read and on most servers a connection, twice what the term itself costs.
What is followed on is known as well as anything that is followed, so no rule has to know of it.

Warning: sessions of processes that died between opening one and taking something are left behind,
one small key each. What voids a session and what sweeps (`open_session`) removes all others.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from incumbent.core.events import Seen
from incumbent.core.records import (
    Bar,
    Claim,
    Held,
    Holding,
    Lease,
    Snapshot,
    StepDownRequest,
    absent,
)
from incumbent.errors import Refused, SessionGone, StoreError, StoreUnavailable
from incumbent.stores.api import Capabilities, Finding, Sink
from incumbent.stores.keeping import Checkpoints, KeepingStore
from incumbent.stores.kv import wire
from incumbent.stores.kv.api import ABSENT, Conflict, Entry, KeyValue, Report
from incumbent.stores.kv.checkpoints import KeyedCheckpoints
from incumbent.stores.kv.meaning import (
    GONE,
    absent_of,
    carries,
    election_key,
    has_ended,
    held_of,
    is_late,
    is_over,
    session_key,
    session_named,
    snapshot_of,
)
from incumbent.stores.kv.memory import Memory

__all__ = ["KeyValueStore"]

_ATTEMPTS = 5
"""How often a write that meets changes by third parties is tried at the new version."""

_SWEEP_LIMIT_S = 60.0


@dataclass(slots=True)
class _Election:
    """An election that somebody follows; `taken` is what our last take of it wrote."""

    sinks: list[Sink] = field(default_factory=list)
    report: Report | None = None
    taken: Entry | None = None
    hear: Callable[[Report], None] | None = None
    session: str = ""


@dataclass(slots=True)
class _Session:
    """A session that an election names which somebody follows."""

    names: set[str] = field(default_factory=set)
    report: Report | None = None
    hear: Callable[[Report], None] | None = None


class KeyValueStore(KeepingStore):
    """The elections in one key-value store.

    Args:
        driver: the server.
        url: for messages, without secrets.
        capabilities: what the store says of itself.
        chance: returns so many random bytes in hexadecimal, for the names of sessions.
        checkpoints: where those are, if not among the driver's keys.
    """

    def __init__(
        self,
        driver: KeyValue,
        url: str,
        capabilities: Capabilities,
        chance: Callable[[int], str] = secrets.token_hex,
        *,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self._checkpoints = checkpoints or KeyedCheckpoints(driver)
        self.capabilities = capabilities
        self.url = url
        self._driver = driver
        self._chance = chance
        self._memory = Memory()
        self._elections: dict[str, _Election] = {}
        self._sessions: dict[str, _Session] = {}
        self._own: dict[str, Lease] = {}
        self._spare_election = self._spare_session = ""
        self._sweeping: asyncio.Task[None] | None = None

    async def open(self, *, create: bool = True) -> None:
        """Connect."""
        await self._driver.open(create=create)

    async def close(self) -> None:
        """Give back every resource."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait([self._sweeping])
        self._forget_election(self._spare_election)
        self._forget_session(self._spare_session)
        await self._driver.close()

    async def connect(self) -> None:
        """Have a connection ready."""
        await self._driver.connect()

    # -- reading ----------------------------------------------------------------------------------

    async def read(self, name: str) -> Snapshot:
        """Return the record as it is now."""
        return (await self._read(name))[0]

    async def _read(self, name: str) -> tuple[Snapshot, Entry | None]:
        # An absence that was read before the record was written, and is answered after the stream
        # has told of it, would look like its deletion. What is asked for after that tells.
        while True:
            known = self._reported(name)
            entry, revision = await self._driver.get(election_key(name))
            if entry is not None or self._reported(name) is known:
                break
        session = None
        if entry is not None and (key := session_named(entry)):
            session, _ = await self._driver.get(session_key(key))
        return self._snapshot(name, entry, revision, session, gap=not self._is_absent(name)), entry

    def _reported(self, name: str) -> Report | None:
        """Return what was told last of an election that is followed."""
        election = self._elections.get(name)
        return None if election is None else election.report

    def _is_absent(self, name: str) -> bool:
        """Tell whether the election is followed, and absent as far as is known."""
        report = self._reported(name)
        return report is not None and report.entry is None

    async def read_back(self, name: str, claim: Claim) -> Held | Snapshot:
        """Find out whether the take of `claim` happened."""
        snapshot = await self.read(name)
        if snapshot.holding is Holding.HELD and snapshot.term == claim.term:
            return held_of(claim, snapshot)
        return snapshot

    async def elections(self) -> list[Snapshot]:
        """Return every election."""
        sessions = {entry.key: entry for entry in await self._driver.entries("sessions")}
        found = []
        for entry in await self._driver.entries("elections"):
            name, key = entry.key.partition("/")[2], session_named(entry)
            session = sessions.get(session_key(key)) if key else None
            found.append(snapshot_of(name, entry, entry.revision, session))
        return sorted(found, key=lambda snapshot: snapshot.name)

    # -- terms ------------------------------------------------------------------------------------

    async def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        """Become the holder, if the record is still exactly `over`."""
        if claim.session is None:
            raise AssertionError("a take without a session")
        if over.holding is Holding.FOREIGN:
            raise Refused(await self.read(name))
        record = election_key(name)
        own = claim.session.key
        conditions: dict[str, object] = {record: over.version}
        writes = {}
        if over.holding is Holding.ABSENT:
            if not self._memory.still_absent(name, over.lease_version):
                raise Refused(await self.read(name))
            conditions[record] = ABSENT
        if over.lease_key and over.lease_key != own:
            theirs = session_key(over.lease_key)
            conditions[theirs] = ABSENT if over.lease_version == GONE else over.lease_version
            if over.holding is Holding.HELD and over.lease_version != GONE:
                ended = wire.voided(wire.session(over.holder, over.ttl_s))
                writes[theirs] = wire.encode(ended)
        # After the void: a swap may end between the two.
        writes[record] = wire.encode(wire.taken(claim, own))
        for _ in range(_ATTEMPTS):
            lease = self._own.get(own, claim.session)
            if over.lease_key == own and over.lease_version != lease.version:
                raise Refused(await self.read(name))
            conditions[session_key(own)] = lease.version
            try:
                written = await self._driver.swap(conditions, writes)
            except Conflict:
                held = await self._looked_into(name, claim, over, lease)
                if held is not None:
                    return held
                continue
            entry = written[record]
            if name in self._elections:
                self._elections[name].taken = entry
            session = Entry(session_key(own), _LIVE, lease.version, 0)
            return held_of(claim, self._snapshot(name, entry, entry.revision, session))
        raise StoreUnavailable(f"session {own!r} was changed by others {_ATTEMPTS} times in a row")

    async def _looked_into(
        self, name: str, claim: Claim, over: Snapshot, lease: Lease
    ) -> Held | None:
        """Find out what was in the way; None if it was a renewal of our own, so that one may retry.

        An absence is not tried again: that it stands now does not say that it stood.

        Raises:
            Refused: the record is not `over` any more.
            SessionGone: our session is over.
        """
        found = await self.read_back(name, claim)
        if isinstance(found, Held):
            return found
        current = await self._own_session(lease)
        if current is None:
            raise SessionGone(f"session {lease.key!r} was closed or voided")
        if found.watched != over.watched or over.holding is Holding.ABSENT:
            raise Refused(found)
        if current.version == lease.version:
            # Nothing differs from what was compared; so it did when it was.
            raise Refused(found)
        if self._own.get(lease.key, lease).version == lease.version:
            self._own[lease.key] = current  # Else a renewal was answered since, and knows better.
        return None

    async def _own_session(self, lease: Lease, *, urgent: bool = False) -> Lease | None:
        """Return a session of ours as it is in the store, or None if it is over."""
        entry, _ = await self._driver.get(session_key(lease.key), urgent=urgent)
        if entry is None or is_over(entry):
            return None
        return lease.at(entry.version)

    async def renew(self, lease: Lease) -> Lease:
        """Confirm the session, by writing it. Takes of the same process may queue: not behind them.

        It overtakes takes under the same session, then, and those compare the session as it was
        before: they are refused, and look into it (`_looked_into`).
        """
        key = session_key(lease.key)
        value = wire.encode(wire.session(lease.owner, lease.ttl_s))
        for _ in range(_ATTEMPTS):
            try:
                written = await self._driver.swap({key: lease.version}, {key: value}, urgent=True)
            except Conflict:
                current = await self._own_session(lease, urgent=True)
                if current is None:
                    raise Refused(absent("the session")) from None
                lease = current
                continue
            self._own[lease.key] = renewed = lease.at(written[key].version)
            return renewed
        raise StoreUnavailable(f"session {lease.key!r} was changed by others {_ATTEMPTS} times")

    async def release(self, held: Held, lease: Lease, successor: str) -> Snapshot:
        """Give up exactly this term."""
        snapshot, _ = await self._write_while(
            held.name,
            held.term,
            lambda obj, token: wire.released(obj, token, successor),
            self._known_of(held),
        )
        return snapshot

    def _known_of(self, held: Held) -> Entry | None:
        """Return the record of this very term as it was last heard of, or as we wrote it.

        Whether its session was voided since is not asked: then the record is vacant already, and as
        long as it has this version nobody has taken it, so to write that it is vacant harms nobody.
        """
        election = self._elections.get(held.name)
        if election is None:
            return None
        heard = None if election.report is None else election.report.entry
        known = [entry for entry in (heard, election.taken) if entry and carries(entry, held.term)]
        return max(known, key=lambda entry: entry.revision, default=None)

    async def ask(self, name: str, request: StepDownRequest) -> Snapshot:
        """Leave a request to step down."""
        snapshot, written = await self._write_while(
            name, request.term, lambda obj, token: wire.asked(obj, token, request)
        )
        if not written:
            raise Refused(snapshot)
        return snapshot

    async def bar(self, over: Snapshot, bar: Bar) -> Snapshot:
        """Make of the record one that nobody takes."""
        if over.bar is not None:
            return await self._swap_bar(over, bar)
        snapshot, written = await self._write_while(
            over.name, over.term, lambda _, token: wire.barred(bar, token)
        )
        if not written and snapshot.bar != bar:
            raise Refused(snapshot)
        return snapshot

    async def unbar(self, over: Snapshot) -> Snapshot:
        """Make the record vacant if it is exactly this bar."""
        return await self._swap_bar(over, None)

    async def _swap_bar(self, over: Snapshot, bar: Bar | None) -> Snapshot:
        """Replace exactly this bar, at its version: what is read now may be another one."""
        if over.bar is None or over.token is None:
            raise Refused(await self.read(over.name))
        key = election_key(over.name)
        left = wire.vacant(over.token) if bar is None else wire.barred(bar, over.token)
        try:
            entry = (await self._driver.swap({key: over.version}, {key: wire.encode(left)}))[key]
        except Conflict:
            found = await self.read(over.name)
            if bar is not None and found.bar == bar:
                return found
            raise Refused(found) from None
        return self._snapshot(over.name, entry, entry.revision, None)

    async def _write_while(
        self,
        name: str,
        term: str,
        change: Callable[[wire.Object, int], wire.Object],
        known: Entry | None = None,
    ) -> tuple[Snapshot, bool]:
        """Write what `change` makes of the record while it is held under `term`.

        Args:
            name: of the election.
            term: which must hold it.
            change: makes of the record and its token what is to be written.
            known: the record under `term`, if it need not be read before the first attempt.

        Returns:
            The record as it is then, and whether it was written.
        """
        key = election_key(name)
        for _ in range(_ATTEMPTS):
            entry, known = known, None
            lease_version: object = None
            if entry is None:
                snapshot, entry = await self._read(name)
                if entry is None or snapshot.holding is not Holding.HELD or snapshot.term != term:
                    return snapshot, False
                lease_version = snapshot.lease_version
            record = wire.parse_election(entry.value)
            assert isinstance(record, dict)
            value = wire.encode(change(record, wire.token_of(record, entry)))
            try:
                entry = (await self._driver.swap({key: entry.version}, {key: value}))[key]
            except Conflict:
                continue
            named = session_named(entry)
            session = Entry(session_key(named), _LIVE, lease_version, 0) if named else None
            return self._snapshot(name, entry, entry.revision, session), True
        raise StoreUnavailable(f"{name!r} was changed by others {_ATTEMPTS} times in a row")

    # -- sessions ---------------------------------------------------------------------------------

    async def open_session(self, owner: str, ttl_s: float) -> Lease:
        """Write a new session. Those that are over are cleared away beside; a take may be due."""
        key = self._chance(12)
        path = session_key(key)
        value = wire.encode(wire.session(owner, ttl_s))
        written = await self._driver.swap({path: ABSENT}, {path: value})
        lease = self._own[key] = Lease(key, written[path].version, ttl_s, owner)
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.get_running_loop().create_task(self._sweep())
        return lease

    async def _sweep(self) -> None:
        """Remove sessions that are over and that nothing names: none can be named any more."""
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(_SWEEP_LIMIT_S):
                over = [e for e in await self._driver.entries("sessions") if is_over(e)]
                if not over:
                    return
                named = {session_named(e) for e in await self._driver.entries("elections")}
                for entry in over:
                    if entry.key.partition("/")[2] not in named:
                        with suppress(Conflict):
                            await self._driver.remove(entry.key, entry.version)

    async def close_session(self, lease: Lease) -> None:
        """End a session; what is held under it is vacant."""
        self._own.pop(lease.key, None)
        key = session_key(lease.key)
        for _ in range(_ATTEMPTS):
            current = await self._own_session(lease)
            if current is None:
                return
            value = wire.encode(wire.voided(wire.session(lease.owner, lease.ttl_s)))
            with suppress(Conflict):
                await self._driver.swap({key: current.version}, {key: value})
                return
        raise StoreUnavailable(f"session {lease.key!r} was changed by others {_ATTEMPTS} times")

    # -- following --------------------------------------------------------------------------------

    def follow(self, name: str, sink: Sink) -> None:
        """Report the record now and after each change."""
        election = self._elections.get(name)
        if election is None:
            election = self._elections[name] = _Election()
            self._memory.followed = len(self._elections)
            election.hear = partial(self._heard_record, name)
            election.sinks.append(sink)
            self._driver.follow(election_key(name), election.hear)
            return
        election.sinks.append(sink)
        snapshot = self._current(name, election)
        if snapshot is not None:
            sink(Seen(snapshot))

    def unfollow(self, name: str, sink: Sink) -> None:
        """Report no more."""
        election = self._elections[name]
        election.sinks.remove(sink)
        if not election.sinks:
            self._keep_election(name)

    def _keep_election(self, name: str) -> None:
        """Follow this one for nobody, instead of the one that was so before."""
        before, self._spare_election = self._spare_election, name
        if before != name:
            self._forget_election(before)

    def _forget_election(self, name: str) -> None:
        """Follow it no more, if nobody else wants it."""
        election = self._elections.get(name)
        if election is None or election.sinks:
            return
        del self._elections[name]
        self._memory.followed = len(self._elections)
        assert election.hear is not None
        self._driver.unfollow(election_key(name), election.hear)
        self._name_session(name, election, "")

    def _heard_record(self, name: str, report: Report) -> None:
        election = self._elections.get(name)
        if election is None or is_late(report, election.report):
            return
        election.report = report
        # Noted at once: it may be told to nobody, as long as its session is not known.
        if report.entry is None:
            self._memory.absent(name, report.revision, continuous=not report.gap)
        else:
            self._memory.present(name, report.entry.revision)
        key = "" if report.entry is None else session_named(report.entry)
        self._name_session(name, election, key)
        self._tell(name, election)

    def _name_session(self, name: str, election: _Election, key: str) -> None:
        """Follow the session that this election names now, and no longer the one before."""
        before = election.session
        if before == key:
            return
        election.session = key
        if before:
            session = self._sessions[before]
            session.names.discard(name)
            if not session.names:
                self._keep_session(before)
        if key:
            session = self._sessions.setdefault(key, _Session())
            session.names.add(name)
            if session.hear is None:
                session.hear = partial(self._heard_session, key)
                self._driver.follow(session_key(key), session.hear)

    def _keep_session(self, key: str) -> None:
        """Follow this one for no election, instead of the one that was so before."""
        before, self._spare_session = self._spare_session, key
        if before != key:
            self._forget_session(before)
        report = self._sessions[key].report
        if report is not None and has_ended(report):
            self._forget_session(key)

    def _forget_session(self, key: str) -> None:
        """Follow it no more, if no election names it."""
        session = self._sessions.get(key)
        if session is None or session.names:
            return
        del self._sessions[key]
        assert session.hear is not None
        self._driver.unfollow(session_key(key), session.hear)

    def _heard_session(self, key: str, report: Report) -> None:
        session = self._sessions.get(key)
        if session is None or is_late(report, session.report):
            return
        first, session.report = session.report is None, report
        if has_ended(report):
            self._forget_session(key)
        elif key in self._own and not first:
            return  # A renewal of our own is no news to us.
        for name in sorted(session.names):
            self._tell(name, self._elections[name])

    def _tell(self, name: str, election: _Election) -> None:
        snapshot = self._current(name, election)
        if snapshot is not None:
            for sink in list(election.sinks):
                sink(Seen(snapshot))

    def _current(self, name: str, election: _Election) -> Snapshot | None:
        """Return what was heard last; None as long as not all of it was."""
        report = election.report
        if report is None:
            return None
        session = None
        if election.session:
            told = self._sessions[election.session].report
            if told is None:
                return None
            session = told.entry
        return self._snapshot(name, report.entry, report.revision, session)

    def _snapshot(
        self,
        name: str,
        entry: Entry | None,
        revision: int,
        session: Entry | None,
        *,
        gap: bool = False,
    ) -> Snapshot:
        if entry is not None:
            self._memory.present(name, entry.revision)
            return snapshot_of(name, entry, revision, session)
        serial, mark = self._memory.absent(name, revision, continuous=not gap)
        return absent_of(name, serial, mark)

    # -- for people -------------------------------------------------------------------------------

    async def examine(self) -> list[Finding]:
        """Look at the server and our rights."""
        return await self._driver.examine()


_LIVE = wire.encode(wire.session("-", 1.0))
