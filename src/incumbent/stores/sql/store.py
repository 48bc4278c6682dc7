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

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from incumbent.core.records import Claim, Held, Holding, Lease, Snapshot, absent
from incumbent.errors import OutcomeUnknown, Refused, SessionGone, StoreError
from incumbent.stores.api import Capabilities
from incumbent.stores.keeping import KeepingStore
from incumbent.stores.sql import rows
from incumbent.stores.sql.api import Rows, Server
from incumbent.stores.sql.base import LOOK_LIMIT_S, BaseStore, request_limit_s
from incumbent.stores.sql.checkpoints import SqlCheckpoints
from incumbent.stores.sql.statements import Statements

__all__ = ["SqlStore"]


class SqlStore(KeepingStore, BaseStore[Statements]):
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
        super().__init__(server, Statements(server.dialect), url, capabilities)
        self._chance = chance
        self._wall = wall
        self._checkpoints = SqlCheckpoints(server, chance)
        self._names_of: dict[str, set[str]] = {}
        self._own: set[str] = set()
        self._print: dict[str, tuple[int, int]] = {}
        self._missed = False
        self._wanted: dict[str, str] = {}
        self._changing: Counter[str] = Counter()

    async def open(self, *, create: bool = True) -> None:
        """Connect, and create the tables if need be."""
        await self._server.open(create=create)
        self._begin_to_follow()
        self._server.listen(self._heard)

    # -- terms ------------------------------------------------------------------------------------

    async def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        """Become the holder, if the record is still exactly `over`."""
        if claim.session is None:
            raise AssertionError("a take without a session")
        if over.holding is Holding.FOREIGN:
            raise Refused(await self.read(name))
        least = int(self._wall() * 1e6)
        statements = self._statements.take(claim, over, least)
        (*_, beat), found = await self._write(name, statements, request_limit_s(claim.ttl_s))
        if found.term == claim.term and found.holding is Holding.HELD:
            return rows.held(claim, found)
        if not beat or int(beat[0][0]) == rows.VOID:
            raise SessionGone(f"session {claim.session.key!r} was closed or voided")
        raise Refused(found)

    async def renew(self, lease: Lease) -> Lease:
        """Move the session's beat, and look at what it holds if that has changed."""
        statements, limit_s = self._statements.renew(lease.key), request_limit_s(lease.ttl_s)
        *_, found = await self._server.write(statements, limit_s, urgent=True)
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
        _, found = await self._write(held.name, statements, request_limit_s(lease.ttl_s))
        return found

    async def elections(self) -> list[Snapshot]:
        """Return every election."""
        (found,) = await self._server.look([self._statements.read_all()])
        return [rows.snapshot(row) for row in found]

    def _snapshots(self, names: Sequence[str], results: list[Rows]) -> list[Snapshot]:
        (found,) = results
        return [rows.snapshot(row) for row in found]

    def _held(self, claim: Claim, found: Snapshot) -> Held:
        return rows.held(claim, found)

    async def _write(
        self, name: str, statements: list[str], limit_s: float, *, urgent: bool = False
    ) -> tuple[list[Rows], Snapshot]:
        self._changing[name] += 1
        try:
            return await super()._write(name, statements, limit_s, urgent=urgent)
        finally:
            self._changing[name] -= 1
            self._waker.set()

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
        await self._server.write(statements, request_limit_s(ttl_s))
        self._own.add(key)
        return Lease(key=key, version=0, ttl_s=ttl_s, owner=owner)

    async def close_session(self, lease: Lease) -> None:
        """End a session; what is still held under it is vacant."""
        self._own.discard(lease.key)
        self._print.pop(lease.key, None)
        statements = self._statements.close_session(lease.key)
        await self._server.write(statements, request_limit_s(lease.ttl_s))

    # -- being woken ------------------------------------------------------------------------------

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
        super()._want(names)

    def _news(self) -> Iterable[str]:
        """Return what was wanted; a change of our own may explain it that is under way."""
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

    async def _look_at(self, names: list[str], *, urgent: bool) -> bool:
        done = await super()._look_at(names, urgent=urgent)
        if not done:
            # Looked at anew with the next renewal; who has heard nothing yet looks for itself.
            self._missed = True
        return done

    def _is_older(self, found: Snapshot, known: Snapshot) -> bool:
        """Tell whether `found` is what `known` was before a change, or a renewal."""
        if found.serial != known.serial or found.lease_key != known.lease_key:
            return found.serial < known.serial
        beats = (found.lease_version, known.lease_version)
        return isinstance(beats[0], int) and isinstance(beats[1], int) and beats[0] < beats[1]

    def _report(self, found: Snapshot, *, fresh: bool = False) -> None:
        before = self._known.get(found.name)
        if before is None or before.lease_key != found.lease_key:
            self._unname(found.name)
            if found.lease_key:
                self._names_of.setdefault(found.lease_key, set()).add(found.name)
        super()._report(found, fresh=fresh)

    def _forget(self, name: str) -> None:
        self._unname(name)
        super()._forget(name)

    def _unname(self, name: str) -> None:
        """Let nothing that is said of the session that it was last seen under concern it."""
        before = self._known.get(name)
        if before is not None and before.lease_key in self._names_of:
            names = self._names_of[before.lease_key]
            names.discard(name)
            if not names:
                del self._names_of[before.lease_key]
