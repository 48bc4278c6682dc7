"""The twin of a store: the real store's logic at the far end of a network that fails.

The server is the reference store `MemoryStore`, unchanged, plus what people and broken machines do
to a store: a record deleted by hand, something foreign written over it, a restored backup. A
process sees it through `TwinStore`, each of whose calls goes over the process's `Link`.
"""

from __future__ import annotations

import copy
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from incumbent.core.events import Evidence, Seen
from incumbent.core.records import Claim, Held, Holding, Lease, Snapshot, StepDownRequest
from incumbent.stores.api import Capabilities, Finding, Sink, StoreDefaults
from incumbent.stores.memory import CAPABILITIES, MemoryStore
from incumbent.testing.simulator.judge import Judge
from incumbent.testing.simulator.network import Link, StoreSubscription, Subscription

__all__ = ["Server", "TwinStore", "finish"]

T = TypeVar("T")


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that awaits nothing, as those of the reference store are."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError(f"{coroutine} waits for something")


class Server(MemoryStore):
    """The reference store, and the hands that reach into it."""

    def __init__(self, judge: Judge, *, absent_is_vacant: bool) -> None:
        super().__init__()
        self.capabilities = replace(CAPABILITIES, absent_is_vacant=absent_is_vacant)
        self._judge = judge
        self._foreign: dict[str, int] = {}
        self._deleted: dict[str, int] = {}
        self._backup: tuple[Any, Any, int] | None = None

    async def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        """Become the holder; whoever was it before must have nothing left to lose."""
        before = self.shelf.records.get(name)
        held = await super().take(name, claim, over)
        if before is None and over.serial < self._deleted.get(name, 0):
            # "Not there" has no version: what was seen before the deletion looks the same after it.
            self._judge.excuse(name)
        if claim.session is not None:
            self._judge.taken(name, before.term if before else "", claim.term, claim.session.key)
        return held

    async def release(self, held: Held, lease: Lease, successor: str) -> Snapshot:
        """Give up a term, none of whose work may run any more."""
        record = self.shelf.records.get(held.name)
        before = record.term if record is not None and record.session else ""
        snapshot = await super().release(held, lease, successor)
        if before and record is not None and not record.session:
            self._judge.freed(held.name, before)
        return snapshot

    async def close_session(self, lease: Lease) -> None:
        """End a session, under which no work may run any more."""
        self._judge.session_closed(lease.key)
        await super().close_session(lease)

    def _snapshot(self, name: str) -> Snapshot:
        if name in self._foreign:
            number = self._foreign[name]
            return Snapshot(name, Holding.FOREIGN, number, number, why="it says 'moo'")
        return super()._snapshot(name)

    # -- hands ------------------------------------------------------------------------------------

    def delete(self, name: str) -> None:
        """Delete a record by hand."""
        self.shelf.records.pop(name, None)
        self._foreign.pop(name, None)
        self._deleted[name] = self._next()
        self._tell(name)

    def scribble(self, name: str) -> None:
        """Write something over a record that nobody understands."""
        self.shelf.records.pop(name, None)
        self._foreign[name] = self._next()
        self._tell(name)

    def wipe(self) -> None:
        """Delete whatever is foreign."""
        for name in list(self._foreign):
            self.delete(name)

    def back_up(self) -> None:
        """Keep a copy of everything."""
        shelf = self.shelf
        self._backup = copy.deepcopy((shelf.records, shelf.sessions, shelf.serial))

    def restore(self) -> bool:
        """Go back to the copy; False if there is none."""
        if self._backup is None:
            return False
        shelf = self.shelf
        shelf.records, shelf.sessions, shelf.serial = copy.deepcopy(self._backup)
        for name in list(shelf.sinks):
            self._tell(name)
        return True

    def prove_dead(self, lease_keys: Sequence[str]) -> None:
        """Tell everybody that all work under these leases has ended, as a kernel's lock does."""
        for sinks in self.shelf.sinks.values():
            for sink in list(sinks):
                for key in lease_keys:
                    sink(Evidence(key, "its file lock is free"))


class TwinStore(StoreDefaults):
    """The store as one process has it. See `incumbent.stores.api.Store`."""

    def __init__(self, server: Server, link: Link, judge: Judge) -> None:
        self.capabilities: Capabilities = server.capabilities
        self.url = "memory://twin"
        self.leases: list[str] = []
        self._server = server
        self._link = link
        self._judge = judge
        self._following: dict[tuple[str, Sink], StoreSubscription] = {}
        self._notified: list[tuple[str, Sink]] = []

    async def open(self, *, create: bool = True) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    async def read(self, name: str) -> Snapshot:
        """Return the record as it is now."""
        return await self._link.call("read", lambda: finish(self._server.read(name)), name)

    async def read_back(self, name: str, claim: Claim) -> Held | Snapshot:
        """Find out whether a take happened."""
        return await self._link.call(
            "read back", lambda: finish(self._server.read_back(name, claim)), claim.term
        )

    async def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        """Become the holder."""
        return await self._link.call(
            "take", lambda: finish(self._server.take(name, claim, over)), claim.term
        )

    async def renew(self, lease: Lease) -> Lease:
        """Confirm the session."""
        return await self._link.call("renew", lambda: finish(self._server.renew(lease)), lease.key)

    async def release(self, held: Held, lease: Lease, successor: str) -> Snapshot:
        """Give up a term."""
        self._judge.releasing(held.name, held.term)
        return await self._link.call(
            "release", lambda: finish(self._server.release(held, lease, successor)), held.term
        )

    async def ask(self, name: str, request: StepDownRequest) -> Snapshot:
        """Ask for a step-down."""
        return await self._link.call(
            "ask", lambda: finish(self._server.ask(name, request)), request.term
        )

    def follow(self, name: str, sink: Sink) -> None:
        """Report the record now and after each change."""
        link, server = self._link, self._server
        subscription: StoreSubscription = Subscription(
            lambda: Seen(finish(server.read(name))), sink
        )

        def notify(event: Seen | Evidence) -> None:
            link.notify(subscription, event)

        self._following[name, sink] = subscription
        self._notified.append((name, notify))
        link.subscriptions.append(subscription)
        server.follow(name, notify)

    def unfollow(self, name: str, sink: Sink) -> None:
        """Report no more."""
        self._following.pop((name, sink)).alive = False

    def forget(self) -> None:
        """Have nothing reported to a process that is gone."""
        for name, notify in self._notified:
            self._server.unfollow(name, notify)
        self._notified.clear()

    async def open_session(self, owner: str, ttl_s: float) -> Lease:
        """Open a session."""

        def effect() -> Lease:
            lease = finish(self._server.open_session(owner, ttl_s))
            self.leases.append(lease.key)
            return lease

        return await self._link.call("open session", effect, owner)

    async def close_session(self, lease: Lease) -> None:
        """End a session."""
        self._judge.session_closed(lease.key)
        await self._link.call(
            "close session", lambda: finish(self._server.close_session(lease)), lease.key
        )

    async def elections(self) -> list[Snapshot]:
        """Return every election."""
        return await self._link.call("list", lambda: finish(self._server.elections()))

    async def examine(self) -> list[Finding]:
        """Find nothing."""
        return []
