"""Elections over any `Server`: the rules of `stores.api`, kept by transactions.

How it holds. A row of `incumbent_election` names a holder, its term, and the *session* under which
it is held; a row of `incumbent_session` is the session of one process, whose beat a renewal moves.
So a process renews once, however many elections it holds, and an observer waits for a TTL in which
neither row has changed.

What confirms a renewal: a committed UPDATE of the session's row. A connection that is alive is no
confirmation, nor are its locks: an advisory lock is lost with the connection, kept by a pooler, and
says nothing when its holder stands still.

Who judges expiry: observers. No time of the database is compared with anything.

Rules
-----
1. A takeover compares the record and the session at the versions that were watched, and voids the
   session, in one transaction: nothing else can be done under it any more.
2. A take locks its own session as well: it was not voided meanwhile, and is not until the commit.
3. A session is over when it says so. One that is *gone* proves nothing: whatever names it counts as
   held and silent, for a TTL.
4. An election that has a counter and no row was deleted by somebody, under a live holder perhaps:
   its TTL is waited out. Without a counter it never was, and is vacant.
5. A renewal returns a print of what the session holds. If that has changed, everything is looked
   at *before the renewal counts*. A holder whose row was deleted has either seen that then, or is
   trusted by no renewal that came after: whoever waits out the absence finds nobody in office.

How a standby wakes: another process says what it changed (`Server.listen`), and only that is
looked at; what is said of a renewal is the whole news, and nothing is asked. A change of our own
has returned what it left: that is a look, and what is said of it is no news. Where nothing can be
heard, all that is followed is looked at by one query, several times a TTL. Where it can, too, but
once a TTL: somebody may have repaired a row by hand.

Warning: sessions of processes that died between opening one and taking something are left behind,
one small row each. What voids a session and what sweeps (`open_session`) removes all others.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace

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
from incumbent.errors import OutcomeUnknown, Refused, SessionGone, StoreError
from incumbent.stores.api import Capabilities, Finding, Sink, StoreDefaults
from incumbent.stores.sql import rows
from incumbent.stores.sql.api import Rows, Server
from incumbent.stores.sql.statements import Statements

__all__ = ["SqlStore"]

AT_ONCE = 500
"""How many elections one query looks at."""
LOOK_LIMIT_S = 5.0
LONGEST_PAUSE_S = 5.0
SHORTEST_PAUSE_S = 0.1
LOOKS_PER_TTL = 6
"""Where nothing can be heard; a holder renews about as often."""
UNKNOWN_TTL_S = 6.0
"""Assumed where no record that is followed has said its own yet."""

_log = logging.getLogger("incumbent.stores.sql")


class SqlStore(StoreDefaults):
    """The elections in one database.

    Args:
        server: the database.
        url: for messages, without secrets.
        capabilities: what the store says of itself.
        chance: returns that many random bytes as text; names sessions.
        wall: the wall clock: no token is less, see `statements`.
    """

    def __init__(
        self,
        server: Server,
        url: str,
        capabilities: Capabilities,
        *,
        chance: Callable[[int], str] = secrets.token_hex,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.capabilities = capabilities
        self.url = url
        self._chance = chance
        self._wall = wall
        self._server = server
        self._statements = Statements(server.dialect)
        self._sinks: dict[str, list[Sink]] = {}
        self._known: dict[str, Snapshot] = {}
        self._names_of: dict[str, set[str]] = {}
        self._told_at: dict[str, float] = {}
        self._own: set[str] = set()
        self._print: dict[str, tuple[int, int]] = {}
        self._missed = False
        self._wanted: dict[str, str] = {}
        self._changing: Counter[str] = Counter()
        self._waker = asyncio.Event()
        self._follower: asyncio.Task[None] | None = None
        self._complaint = ""

    async def open(self, *, create: bool = True) -> None:
        """Connect, and create the tables if need be."""
        await self._server.open(create=create)
        self._waker = asyncio.Event()
        self._server.listen(self._heard)
        self._follower = asyncio.get_running_loop().create_task(self._follow_all())

    async def close(self) -> None:
        """Give back every connection."""
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.cancel()
            await asyncio.wait([follower])
        await self._server.close()

    async def connect(self) -> None:
        """Have a connection ready."""
        await self._server.connect()

    # -- the six verbs ----------------------------------------------------------------------------

    async def read(self, name: str) -> Snapshot:
        """Return the record as it is now."""
        (found,) = await self._server.look([self._statements.read([name])])
        return _one(found)

    async def read_back(self, name: str, claim: Claim) -> Held | Snapshot:
        """Find out whether the take of `claim` happened."""
        found = await self.read(name)
        if found.holding is Holding.HELD and found.term == claim.term:
            return rows.held(claim, found)
        return found

    async def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        """Become the holder, if the record is still exactly `over`."""
        if claim.session is None:
            raise AssertionError("a take without a session")
        if over.holding is Holding.FOREIGN:
            raise Refused(await self.read(name))
        least = int(self._wall() * 1e6)
        statements = self._statements.take(claim, over, least)
        (*_, beat), found = await self._change(name, statements, _limit(claim.ttl_s))
        if found.term == claim.term and found.holding is Holding.HELD:
            return rows.held(claim, found)
        if not beat or int(beat[0][0]) == rows.VOID:
            raise SessionGone(f"session {claim.session.key!r} was closed or voided")
        raise Refused(found)

    async def renew(self, lease: Lease) -> Lease:
        """Move the session's beat, and look at what it holds if that has changed."""
        statements = self._statements.renew(lease.key)
        *_, found = await self._server.write(statements, _limit(lease.ttl_s), urgent=True)
        if not found or int(found[0][0]) == rows.VOID:
            raise Refused(absent("the session"))
        beat, count, total = (int(value) for value in found[0])
        if self._print.get(lease.key) != (count, total):
            if not await self._look(self._sinks, urgent=True):
                raise OutcomeUnknown("renewed, but what it holds by now could not be looked at")
            self._print[lease.key] = (count, total)
        elif self._missed:
            self._missed = False
            self._want(self._sinks)
        return lease.at(beat)

    async def release(self, held: Held, lease: Lease, successor: str) -> Snapshot:
        """Give up exactly this term."""
        statements = self._statements.release(held, successor)
        return (await self._change(held.name, statements, _limit(lease.ttl_s)))[1]

    async def ask(self, name: str, request: StepDownRequest) -> Snapshot:
        """Leave a request to step down."""
        statements = self._statements.ask(name, request)
        _, found = await self._change(name, statements, LOOK_LIMIT_S)
        if found.request != request or found.term != request.term:
            raise Refused(found)
        return found

    async def bar(self, over: Snapshot, bar: Bar) -> Snapshot:
        """Make of the record one that nobody takes."""
        if over.bar is None and over.holding is not Holding.HELD:
            raise Refused(await self.read(over.name))
        return await self._swap_bar(over, bar)

    async def unbar(self, over: Snapshot) -> Snapshot:
        """Make the record vacant if it is exactly this bar."""
        if over.bar is None:
            raise Refused(await self.read(over.name))
        return await self._swap_bar(over, None)

    async def _swap_bar(self, over: Snapshot, bar: Bar | None) -> Snapshot:
        statements = self._statements.bar(over, bar)
        (_, was_so, *_), found = await self._change(over.name, statements, LOOK_LIMIT_S)
        if not was_so:
            raise Refused(found)
        return found

    async def elections(self) -> list[Snapshot]:
        """Return every election."""
        (found,) = await self._server.look([self._statements.read_all()])
        return [rows.snapshot(row) for row in found]

    async def _change(
        self, name: str, statements: list[str], limit_s: float
    ) -> tuple[list[Rows], Snapshot]:
        """Change an election, and report what was left; return that, and all results before it."""
        began = _now()
        self._changing[name] += 1
        try:
            *before, record = await self._server.write(statements, limit_s)
        finally:
            self._changing[name] -= 1
            self._waker.set()
        found = _one(record)
        self._looked(found, began)
        return before, found

    # -- sessions ---------------------------------------------------------------------------------

    async def open_session(self, owner: str, ttl_s: float) -> Lease:
        """Write a new session, and clear away those that are over."""
        with suppress(StoreError):
            (over,) = await self._server.look([self._statements.over()])
            if over:
                keys = [str(row[0]) for row in over]
                await self._server.write(self._statements.sweep(keys), LOOK_LIMIT_S)
        key = self._chance(12)
        statements = self._statements.open_session(key, owner, ttl_s)
        await self._server.write(statements, _limit(ttl_s))
        self._own.add(key)
        return Lease(key=key, version=0, ttl_s=ttl_s, owner=owner)

    async def close_session(self, lease: Lease) -> None:
        """End a session; what is still held under it is vacant."""
        self._own.discard(lease.key)
        self._print.pop(lease.key, None)
        await self._server.write(self._statements.close_session(lease.key), _limit(lease.ttl_s))

    # -- being woken ------------------------------------------------------------------------------

    def follow(self, name: str, sink: Sink) -> None:
        """Report the record now and after each change."""
        self._sinks.setdefault(name, []).append(sink)
        if name in self._known:
            sink(Seen(self._known[name]))
        self._want([name])

    def unfollow(self, name: str, sink: Sink) -> None:
        """Report no more."""
        sinks = self._sinks.get(name, [])
        if sink in sinks:
            sinks.remove(sink)
        if not sinks:
            self._sinks.pop(name, None)
            self._forget(name)

    def _heard(self, text: str) -> None:
        """Take in what some process said of an election, or of a session."""
        kind, _, rest = text.partition(":")
        if not kind:
            self._want(self._sinks)
        elif kind == "e":
            name, _, serial = rest.partition(":")
            if name in self._sinks:
                # Of two changes one may be ours, and known by the time of the look.
                self._wanted[name] = serial if self._wanted.get(name, serial) == serial else ""
                self._waker.set()
        elif kind == "s":
            key, _, beat = rest.partition(":")
            if key in self._names_of and key not in self._own:
                self._heard_beat(key, int(beat))

    def _heard_beat(self, key: str, beat: int) -> None:
        """Report a renewal: nothing else has changed, so nothing has to be asked."""
        names = self._names_of[key]
        if beat == rows.VOID:
            self._want(names)
            return
        for name in sorted(names):
            known = self._known[name]
            if isinstance(known.lease_version, int) and known.lease_version < beat:
                self._report(replace(known, lease_version=beat))

    def _want(self, names: Iterable[str]) -> None:
        self._wanted.update(dict.fromkeys(names, ""))
        self._waker.set()

    async def _follow_all(self) -> None:
        """Look at what is wanted, and at everything now and then."""
        while True:
            try:
                async with asyncio.timeout(self._pause_s()):
                    await self._waker.wait()
            except TimeoutError:
                self._want(self._sinks)
            self._waker.clear()
            await self._look(self._take_news())

    def _take_news(self) -> list[str]:
        """Return what is to be looked at; a change of our own may explain it that is under way."""
        wanted, self._wanted = self._wanted, {}
        news = []
        for name, serial in wanted.items():
            known = self._known.get(name)
            if self._changing[name]:
                self._wanted[name] = serial
            elif name in self._sinks and (known is None or str(known.serial) != serial):
                news.append(name)
        self._changing = +self._changing
        return news

    def _pause_s(self) -> float:
        """Return when to look at everything next."""
        ttl_s = min((s.ttl_s for s in self._known.values() if s.ttl_s), default=UNKNOWN_TTL_S)
        if self._server.listens:
            return max(ttl_s, LONGEST_PAUSE_S)
        return min(max(ttl_s / LOOKS_PER_TTL, SHORTEST_PAUSE_S), LONGEST_PAUSE_S)

    async def _look(self, wanted: Iterable[str], *, urgent: bool = False) -> bool:
        """Look at these, and report them; tell whether all of it was done."""
        names = sorted(wanted)
        parts = [names[first : first + AT_ONCE] for first in range(0, len(names), AT_ONCE)]
        return all([await self._look_at(part, urgent=urgent) for part in parts])

    async def _look_at(self, names: list[str], *, urgent: bool) -> bool:
        began = _now()
        try:
            async with asyncio.timeout(LOOK_LIMIT_S):
                (found,) = await self._server.look([self._statements.read(names)], urgent=urgent)
        except (StoreError, TimeoutError) as error:
            # Looked at anew with the next renewal; who has heard nothing yet looks for itself.
            self._missed = True
            self._complain(str(error) or "no answer in time")
            return False
        except Exception as error:  # A follower that ends would leave candidates waiting for ever.
            self._missed = True
            _log.exception("following elections in %s: %r", self.url, error)
            return False
        self._complaint = ""
        for row in found:
            self._looked(rows.snapshot(row), began)
        return True

    def _looked(self, found: Snapshot, began: float) -> None:
        if found.name not in self._sinks:
            return
        known = self._known.get(found.name)
        if found == known:
            return
        overlapped = self._told_at.get(found.name, began) > began
        if known is not None and overlapped and _is_older(found, known):
            self._want([found.name])  # What was told meanwhile is newer; a later look decides.
            return
        self._report(found)

    def _report(self, found: Snapshot) -> None:
        name = found.name
        before = self._known.get(name)
        self._known[name] = found
        self._told_at[name] = _now()
        if before is None or before.lease_key != found.lease_key:
            self._unname(name, before)
            if found.lease_key:
                self._names_of.setdefault(found.lease_key, set()).add(name)
        for sink in list(self._sinks.get(name, ())):
            sink(Seen(found))

    def _forget(self, name: str) -> None:
        self._told_at.pop(name, None)
        self._unname(name, self._known.pop(name, None))

    def _unname(self, name: str, before: Snapshot | None) -> None:
        if before is not None and before.lease_key in self._names_of:
            names = self._names_of[before.lease_key]
            names.discard(name)
            if not names:
                del self._names_of[before.lease_key]

    def _complain(self, text: str) -> None:
        if self._complaint != text:
            self._complaint = text
            _log.warning("cannot follow elections in %s: %s", self.url, text)

    # -- for people -------------------------------------------------------------------------------

    async def examine(self) -> list[Finding]:
        """Look at the server and our rights."""
        pause = f"standbys look every {self._pause_s():.2g} s at a TTL of {UNKNOWN_TTL_S:g} s"
        findings = await self._server.examine()
        if self._follower is not None and not self._server.listens:
            findings.append(Finding("notification", None, f"there is none: {pause}"))
        return findings


def _limit(ttl_s: float) -> float:
    """Return for how long a server may try what the caller gives a part of a TTL."""
    return max(ttl_s / 2, SHORTEST_PAUSE_S)


def _one(found: Rows) -> Snapshot:
    return rows.snapshot(found[0])


def _is_older(found: Snapshot, known: Snapshot) -> bool:
    """Tell whether `found` is what `known` was before a change, or a renewal, that was told of."""
    if found.serial != known.serial or found.lease_key != known.lease_key:
        return found.serial < known.serial
    beats = (found.lease_version, known.lease_version)
    return isinstance(beats[0], int) and isinstance(beats[1], int) and beats[0] < beats[1]


def _now() -> float:
    return asyncio.get_running_loop().time()
