"""What the cases are written with: a harness, a candidate, and someone who watches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from incumbent.core.events import Evidence, Seen
from incumbent.core.records import (
    Claim,
    Held,
    Holding,
    Lease,
    Snapshot,
)
from incumbent.errors import Refused, SessionGone
from incumbent.stores.api import Store

__all__ = ["EVENT_LIMIT_S", "Candidate", "Harness", "Watch", "expired", "refused", "same", "two"]

EVENT_LIMIT_S = 20.0


class Harness(Protocol):
    """One back end, for one case."""

    @property
    def ttl_s(self) -> float:
        """The smallest comfortable TTL of this store."""
        ...

    def name(self) -> str:
        """Return the name of an election that nobody has used."""
        ...

    async def store(self, *, create: bool = True) -> Store:
        """Return the store of a new candidate on the same back end, opened with `create`."""
        ...

    async def delete(self, name: str) -> bool:
        """Delete the record behind everybody's back; False if nobody can."""
        ...

    async def scribble(self, name: str) -> bool:
        """Make the record one that cannot be understood; False if nobody can."""
        ...

    async def disturb(self, name: str) -> bool:
        """Change something in the record that is not the store's business; False if nobody can."""
        ...

    async def close(self) -> None:
        """Close every store that was opened."""
        ...


class Candidate:
    """Takes, renews and releases with one store, as a driver would."""

    def __init__(self, harness: Harness, store: Store, identity: str) -> None:
        self.store = store
        self.identity = identity
        self.leases: dict[str, Lease] = {}
        self.session: Lease | None = None
        self._harness = harness
        self._attempt = 0

    @classmethod
    async def new(cls, harness: Harness, identity: str) -> Candidate:
        """Return a candidate with a store of its own."""
        return cls(harness, await harness.store(), identity)

    async def claim(self, ttl_s: float | None = None) -> Claim:
        """Return a claim with a new nonce, under a session where the store has them."""
        self._attempt += 1
        wanted_s = self._harness.ttl_s if ttl_s is None else ttl_s
        if self.store.capabilities.sessions and self.session is None:
            self.session = await self.store.open_session(self.identity, wanted_s)
        term = f"{self.identity}/{id(self):x}.{self._attempt}"
        return Claim(self.identity, term, wanted_s, self.session)

    async def take(
        self, name: str, over: Snapshot | None = None, ttl_s: float | None = None
    ) -> Held:
        """Take over what is read now, or exactly `over`."""
        seen = await self.store.read(name) if over is None else over
        claim = await self.claim(ttl_s)
        try:
            held = await self.store.take(name, claim, seen)
        except SessionGone:
            self.session = None
            claim = await self.claim(ttl_s)
            held = await self.store.take(name, claim, seen)
        assert (held.name, held.term) == (name, claim.term)
        self.leases[name] = held.lease
        return held

    async def renew(self, name: str) -> Lease:
        """Renew what `name` is held under."""
        lease = self.session if self.session is not None else self.leases[name]
        lease = await self.store.renew(lease)
        if self.session is not None:
            self.session = lease
        self.leases[name] = lease
        return lease

    async def release(self, held: Held, successor: str = "") -> Snapshot:
        """Give up this term."""
        lease = self.session if self.session is not None else self.leases[held.name]
        return await self.store.release(held, lease, successor)

    async def read(self, name: str) -> Snapshot:
        """Read the record."""
        return await self.store.read(name)


class Watch:
    """Collects what `follow` reports of one election."""

    def __init__(self, store: Store, name: str) -> None:
        self.seen: list[Snapshot] = []
        self._store = store
        self._name = name
        self._came = asyncio.Event()

    def __call__(self, event: Seen | Evidence) -> None:
        """Take in a report."""
        if isinstance(event, Seen):
            self.seen.append(event.snapshot)
            self._came.set()

    def __enter__(self) -> Watch:
        self._store.follow(self._name, self)
        return self

    def __exit__(self, *_: object) -> None:
        self._store.unfollow(self._name, self)

    async def until(self, fits: Callable[[Snapshot], bool], what: str) -> Snapshot:
        """Return the latest report once it fits."""
        try:
            async with asyncio.timeout(EVENT_LIMIT_S):
                while not (self.seen and fits(self.seen[-1])):
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            raise AssertionError(f"no report of {what}; reports: {self.seen}") from None
        return self.seen[-1]


async def refused(work: Awaitable[Any], what: str) -> Snapshot:
    """Return what a refusal says; anything else is a failure."""
    try:
        result = await work
    except Refused as error:
        return error.snapshot
    raise AssertionError(f"{what} was not refused: {result}")


async def two(harness: Harness) -> tuple[Candidate, Candidate]:
    """Return two candidates with a store each."""
    return await Candidate.new(harness, "alpha_1"), await Candidate.new(harness, "beta_2")


async def expired(candidate: Candidate, name: str) -> Snapshot:
    """Return a snapshot that may be taken over because its holder fell silent.

    Where observers judge, the store has no say in this: any current snapshot will do.
    """
    if candidate.store.capabilities.judged_by == "observers":
        return await candidate.read(name)
    with Watch(candidate.store, name) as watch:
        return await watch.until(lambda s: s.holding is not Holding.HELD, "the expiry")


def same(one: Snapshot, other: Snapshot) -> bool:
    """Tell whether two snapshots are of one version."""
    return (one.holding, one.watched) == (other.holding, other.watched)
