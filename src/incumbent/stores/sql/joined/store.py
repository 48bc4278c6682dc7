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

How a standby wakes: it looks at all that it follows, several times a TTL. Members of theirs tell
nobody what they do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from incumbent.core.events import Seen
from incumbent.core.records import Claim, Held, Holding, Lease, Snapshot
from incumbent.errors import ConfigError, Refused
from incumbent.stores.api import Capabilities, Sink
from incumbent.stores.recipes import LockName
from incumbent.stores.sql.api import Rows
from incumbent.stores.sql.base import BaseStore, request_limit_s
from incumbent.stores.sql.joined import rows
from incumbent.stores.sql.joined.api import ClockedServer
from incumbent.stores.sql.joined.statements import Statements
from incumbent.stores.sql.joined.tables import LockTable

__all__ = ["JoinedStore"]


class JoinedStore(BaseStore[Statements]):
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
        super().__init__(server, Statements(server.dialect, table, lock), url, capabilities)
        self._table = table
        self._lock = lock
        self._wall = wall
        self._rows: dict[str, rows.Raw] = {}
        self._given_up: dict[str, rows.Row | None] = {}

    async def open(self, *, create: bool = True) -> None:
        """Connect, and create our table if need be; theirs must be there."""
        await self._server.open(create=create)
        # A table of another version of theirs has other columns: refused now, by the column's name.
        await self._server.look([self._statements.read("")])
        self._begin_to_follow()

    # -- terms ------------------------------------------------------------------------------------

    async def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        """Become the holder, if both rows are still exactly `over`."""
        if over.holding is Holding.FOREIGN or over.lease_version == rows.RUNS:
            # Of a lock that a member of theirs holds: its own time, whatever we have waited.
            raise Refused(await self.read(name))
        least = int(self._wall() * 1e6)
        statements = self._statements.take(claim, over, least)
        _, found = await self._write(name, statements, request_limit_s(claim.ttl_s))
        if found.term == claim.term and found.holding is Holding.HELD:
            return rows.held(claim, found)
        raise Refused(found)

    async def renew(self, lease: Lease) -> Lease:
        """Write both rows anew, if ours names this term and theirs has its mark."""
        statements, limit_s = self._statements.renew(lease), request_limit_s(lease.ttl_s)
        _, found = await self._write(lease.name, statements, limit_s, urgent=True)
        if found.holding is Holding.HELD and found.term == lease.key:
            return lease.at(found.version)
        raise Refused(found)

    async def release(self, held: Held, lease: Lease, successor: str) -> Snapshot:
        """Give up exactly this term."""
        statements = self._statements.release(held, successor)
        _, found = await self._write(held.name, statements, request_limit_s(lease.ttl_s))
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

    # -- what is seen -----------------------------------------------------------------------------

    def _snapshots(self, names: Sequence[str], results: list[Rows]) -> list[Snapshot]:
        return [self._judged(name, one[0]) for name, one in zip(names, results, strict=True)]

    def _judged(self, name: str, found: Sequence[Any]) -> Snapshot:
        """Return what the rows say, remembering what was seen of theirs before."""
        now, before = rows.raw(found), self._rows.get(name)
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

    def _held(self, claim: Claim, found: Snapshot) -> Held:
        return rows.held(claim, found)

    def _is_older(self, found: Snapshot, known: Snapshot) -> bool:
        """Tell whether `found` may be older: what members of theirs do does not move the serial."""
        return found.serial <= known.serial

    # -- being woken ------------------------------------------------------------------------------

    def follow(self, name: str, sink: Sink) -> None:
        """Report the record now and after each change."""
        try:
            self._lock.of(name)
        except ConfigError as error:  # A candidate hears of it as of any lock that it cannot have.
            sink(Seen(Snapshot(name, Holding.FOREIGN, None, 0, why=str(error))))
            return
        super().follow(name, sink)

    def _forget(self, name: str) -> None:
        self._rows.pop(name, None)
        self._given_up.pop(name, None)
        super()._forget(name)

    def _ttls(self) -> Iterable[float]:
        """Return those of terms of ours, for theirs may be of hours."""
        return (seen.ttl_s for seen in self._known.values() if seen.ttl_s and seen.term)
