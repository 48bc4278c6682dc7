"""Elections that are another library's locks, over any `ClockedServer`.

How it holds. A lock has a row in their table, and one in ours. A take changes both in one
transaction, so does each renewal: theirs keeps members of theirs out for a TTL, ours moves by one,
and an observer of ours waits for a TTL in which neither has changed. What the two rows say
together, and when a lock of theirs may be taken, is in `rows`.

What confirms a renewal: a committed UPDATE of both rows. If theirs has not our mark any more, none
of them is touched, and the term is over.

Who judges expiry: observers, of a term of ours. Of a lock that a member of theirs holds, the
database's clock, as they do, and besides observers, see `rows`.

A bar: our row has the format of one, and theirs the bar's mark until a time that nobody's clock
comes to. So ours stay out by our rule, and theirs by their own.

How a standby wakes: it looks, by one message for all that it follows, several times a TTL. Members
of theirs tell nobody what they do.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from incumbent.core.events import Seen
from incumbent.core.records import Bar, Claim, Held, Holding, Lease, Snapshot, StepDownRequest
from incumbent.errors import ConfigError, Refused, StoreError
from incumbent.stores.api import Capabilities, Finding, Sink, StoreDefaults
from incumbent.stores.recipes import LockName
from incumbent.stores.sql.api import Rows
from incumbent.stores.sql.joined import rows
from incumbent.stores.sql.joined.api import ClockedServer
from incumbent.stores.sql.joined.statements import Statements
from incumbent.stores.sql.joined.tables import LockTable
from incumbent.stores.sql.store import (
    LONGEST_PAUSE_S,
    LOOK_LIMIT_S,
    LOOKS_PER_TTL,
    SHORTEST_PAUSE_S,
    UNKNOWN_TTL_S,
)

__all__ = ["JoinedStore"]

_log = logging.getLogger("incumbent.stores.sql")


class JoinedStore(StoreDefaults):
    """The locks of one table.

    Args:
        server: the database.
        table: theirs.
        lock: how the lock of an election is called.
        url: for messages, without secrets.
        capabilities: what the store says of itself.
        wall: the wall clock: no token is less.
    """

    def __init__(
        self,
        server: ClockedServer,
        table: LockTable,
        lock: LockName,
        url: str,
        capabilities: Capabilities,
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.capabilities = capabilities
        self.url = url
        self._server = server
        self._table = table
        self._lock = lock
        self._wall = wall
        self._statements = Statements(server.dialect, table)
        self._sinks: dict[str, list[Sink]] = {}
        self._known: dict[str, Snapshot] = {}
        self._told_at: dict[str, float] = {}
        self._rows: dict[str, rows.Raw] = {}
        self._given_up: dict[str, rows.Row | None] = {}
        self._waker = asyncio.Event()
        self._follower: asyncio.Task[None] | None = None
        self._complaint = ""

    async def open(self, *, create: bool = True) -> None:
        """Connect, and create our table if need be; theirs must be there."""
        await self._server.open(create=create)
        # A table of another version of theirs has other columns: refused now, by the column's name.
        await self._server.look([self._statements.read("")])
        self._waker = asyncio.Event()
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
        """Return the lock as it is now."""
        (found,) = await self._server.look([self._statements.read(self._lock.of(name))])
        return self._judged(name, found)

    async def read_back(self, name: str, claim: Claim) -> Held | Snapshot:
        """Find out whether the take of `claim` happened."""
        found = await self.read(name)
        if found.holding is Holding.HELD and found.term == claim.term:
            return rows.held(claim, found)
        return found

    async def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        """Become the holder, if both rows are still exactly `over`."""
        if over.holding is Holding.FOREIGN or over.lease_version == rows.RUNS:
            # Of a lock that a member of theirs holds: its own time, whatever we have waited.
            raise Refused(await self.read(name))
        least = int(self._wall() * 1e6)
        statements = self._statements.take(self._lock.of(name), claim, over, least)
        found = await self._change(name, statements, _limit(claim.ttl_s))
        if found.term == claim.term and found.holding is Holding.HELD:
            return rows.held(claim, found)
        raise Refused(found)

    async def renew(self, lease: Lease) -> Lease:
        """Write both rows anew, if ours names this term and theirs has its mark."""
        statements = self._statements.renew(self._lock.of(lease.name), lease.key, lease.ttl_s)
        found = await self._change(lease.name, statements, _limit(lease.ttl_s), urgent=True)
        if found.holding is Holding.HELD and found.term == lease.key:
            return lease.at(found.version)
        raise Refused(found)

    async def release(self, held: Held, lease: Lease, successor: str) -> Snapshot:
        """Give up exactly this term."""
        lock = self._lock.of(held.name)
        statements = self._statements.release(lock, held.term, successor)
        return await self._change(held.name, statements, _limit(lease.ttl_s))

    async def ask(self, name: str, request: StepDownRequest) -> Snapshot:
        """Leave a request to step down with a term of ours."""
        statements = self._statements.ask(self._lock.of(name), request)
        found = await self._change(name, statements, LOOK_LIMIT_S)
        if found.request != request or found.term != request.term:
            raise Refused(found)
        return found

    async def bar(self, over: Snapshot, bar: Bar) -> Snapshot:
        """Make of both rows what nobody takes, of ours or of theirs."""
        if over.bar is None and not (over.holding is Holding.HELD and over.term):
            raise Refused(await self.read(over.name))
        return await self._swap_bar(over, bar)

    async def unbar(self, over: Snapshot) -> Snapshot:
        """Make our row vacant if it is exactly this bar, and free theirs if it has its mark."""
        if over.bar is None:
            raise Refused(await self.read(over.name))
        return await self._swap_bar(over, None)

    async def _swap_bar(self, over: Snapshot, bar: Bar | None) -> Snapshot:
        statements = self._statements.bar(self._lock.of(over.name), over, bar)
        (_, _, was_so, *_), found = await self._write(over.name, statements, LOOK_LIMIT_S)
        if not was_so:
            raise Refused(found)
        return found

    async def elections(self) -> list[Snapshot]:
        """Return every lock that one of ours has ever taken."""
        (listed,) = await self._server.look([self._statements.read_all()])
        if not listed:
            return []
        found = await self._server.look([self._statements.read(str(lock)) for _, lock in listed])
        return [
            self._snapshot(str(name), rows.raw(one[0]), given_up=False)
            for (name, _), one in zip(listed, found, strict=True)
        ]

    async def _change(
        self, name: str, statements: list[str], limit_s: float, *, urgent: bool = False
    ) -> Snapshot:
        """Carry out a transaction; return and report what it left."""
        return (await self._write(name, statements, limit_s, urgent=urgent))[1]

    async def _write(
        self, name: str, statements: list[str], limit_s: float, *, urgent: bool = False
    ) -> tuple[list[Rows], Snapshot]:
        """The same; return all results before as well."""
        began = _now()
        *before, record = await self._server.write(statements, limit_s, urgent=urgent)
        found = self._judged(name, record)
        self._looked(found, began)
        return before, found

    # -- what is seen -----------------------------------------------------------------------------

    def _judged(self, name: str, found: Rows) -> Snapshot:
        """Return what the rows say, remembering what was seen of theirs before."""
        now, before = rows.raw(found[0]), self._rows.get(name)
        if name in self._sinks:
            self._rows[name] = now
        if before is not None and now.given_up_since(before):
            self._given_up[name] = now.row
        elif before is not None and now.row != before.row:
            self._given_up.pop(name, None)
        given_up = name in self._given_up and self._given_up[name] == now.row
        return self._snapshot(name, now, given_up=given_up)

    def _snapshot(self, name: str, found: rows.Raw, *, given_up: bool) -> Snapshot:
        return rows.snapshot(name, found, keeps=self._table.keeps, given_up=given_up)

    # -- being woken ------------------------------------------------------------------------------

    def follow(self, name: str, sink: Sink) -> None:
        """Report the record now and after each change."""
        try:
            self._lock.of(name)
        except ConfigError as error:  # A candidate hears of it as of any lock that it cannot have.
            sink(Seen(Snapshot(name, Holding.FOREIGN, None, 0, why=str(error))))
            return
        self._sinks.setdefault(name, []).append(sink)
        if name in self._known:
            sink(Seen(self._known[name]))
        self._waker.set()

    def unfollow(self, name: str, sink: Sink) -> None:
        """Report no more."""
        sinks = self._sinks.get(name, [])
        if sink in sinks:
            sinks.remove(sink)
        if not sinks:
            for kept in (self._sinks, self._known, self._told_at, self._rows, self._given_up):
                kept.pop(name, None)

    async def _follow_all(self) -> None:
        """Look at all that is followed, now and then."""
        while True:
            try:
                async with asyncio.timeout(self._pause_s()):
                    await self._waker.wait()
            except TimeoutError:
                pass
            self._waker.clear()
            await self._look(self._sinks)

    def _pause_s(self) -> float:
        """Return when to look next: by the TTL of terms of ours, for theirs may be of hours."""
        ours = (s.ttl_s for s in self._known.values() if s.ttl_s and s.term)
        ttl_s = min(ours, default=UNKNOWN_TTL_S)
        return min(max(ttl_s / LOOKS_PER_TTL, SHORTEST_PAUSE_S), LONGEST_PAUSE_S)

    async def _look(self, wanted: Iterable[str]) -> None:
        names = sorted(wanted)
        if not names:
            return
        began = _now()
        statements = [self._statements.read(self._lock.of(name)) for name in names]
        try:
            async with asyncio.timeout(LOOK_LIMIT_S):
                found = await self._server.look(statements)
        except (StoreError, TimeoutError) as error:
            self._complain(str(error) or "no answer in time")
            return
        except Exception as error:  # A follower that ends would leave candidates waiting for ever.
            _log.exception("following elections in %s: %r", self.url, error)
            return
        self._complaint = ""
        for name, one in zip(names, found, strict=True):
            if name in self._sinks:
                self._looked(self._judged(name, one), began)

    def _looked(self, found: Snapshot, began: float) -> None:
        """Report what was found by a look that began then, unless it is old, or known."""
        name = found.name
        known = self._known.get(name)
        if name not in self._sinks or found == known:
            return
        if known is not None and self._told_at[name] > began:
            # Something was told meanwhile, and this may be from before it: another look decides.
            self._waker.set()
            if found.serial <= known.serial:
                return
        self._known[name] = found
        self._told_at[name] = _now()
        for sink in list(self._sinks[name]):
            sink(Seen(found))

    def _complain(self, text: str) -> None:
        if self._complaint != text:
            self._complaint = text
            _log.warning("cannot follow elections in %s: %s", self.url, text)

    # -- for people -------------------------------------------------------------------------------

    async def examine(self) -> list[Finding]:
        """Look at the server and our rights."""
        findings = await self._server.examine()
        pause = f"standbys look every {self._pause_s():.2g} s at a TTL of {UNKNOWN_TTL_S:g} s"
        return [*findings, Finding("notification", None, f"there is none: {pause}")]


def _limit(ttl_s: float) -> float:
    """Return for how long a server may try what the caller gives a part of a TTL."""
    return max(ttl_s / 2, SHORTEST_PAUSE_S)


def _now() -> float:
    return asyncio.get_running_loop().time()
