"""The URL option `tokens_from=N`, of every store: N is added to each token that the store reports.

An election that was moved here from another store (`incumbent migrate`) has to go on with tokens
greater than those that resources have seen from the old one, and a store numbers its terms as it
likes. So the candidates that are to lead here have N in their URL. One whose URL lacks it has
tokens that are too low, and resources refuse them: a mistake is an outage and not a second leader.

Nothing else changes. What stands in the store has the store's own tokens, so N is taken away again
from whatever goes back into it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from incumbent.core.events import Evidence, Seen
from incumbent.core.records import (
    Advance,
    Bar,
    Checkpoint,
    Claim,
    Held,
    Lease,
    Snapshot,
    StepDownRequest,
)
from incumbent.errors import ConfigError, Refused, StoreError
from incumbent.stores.api import Capabilities, Finding, Sink, Store

__all__ = ["GREATEST", "OPTION", "Shifted", "shift_of"]

OPTION = "tokens_from"
GREATEST = 2**62
"""Half of what fits into the 64 bits that other programs keep a token in: the rest is to grow."""

T = TypeVar("T")


def shift_of(options: dict[str, str]) -> int:
    """Take the option out of `options`, and return N; 0 if it is not there.

    Raises:
        ConfigError: it is no number that makes tokens grow.
    """
    text = options.pop(OPTION, "0")
    if not (text.isascii() and text.isdecimal()) or int(text) > GREATEST:
        raise ConfigError(f"{OPTION}={text}: give a whole number from 0 to 2^62")
    return int(text)


class Shifted:
    """A store whose tokens are those of `store`, plus `shift`."""

    def __init__(self, store: Store, shift: int) -> None:
        self._store = store
        self._shift = shift
        self._sinks: list[tuple[str, Sink, Sink]] = []

    @property
    def capabilities(self) -> Capabilities:
        """What the store can do."""
        return self._store.capabilities

    @property
    def url(self) -> str:
        """The store's URL; candidates with another N share no connection with us."""
        return f"{self._store.url}{'&' if '?' in self._store.url else '?'}{OPTION}={self._shift}"

    async def open(self, *, create: bool = True) -> None:
        """Connect."""
        await self._store.open(create=create)

    async def close(self) -> None:
        """Give back every resource."""
        await self._store.close()

    async def connect(self) -> None:
        """Have a connection ready."""
        await self._store.connect()

    def candidate_name(self) -> str | None:
        """Return the name that a candidate has in this store's world."""
        return self._store.candidate_name()

    # -- numbers ----------------------------------------------------------------------------------

    def _out(self, snapshot: Snapshot) -> Snapshot:
        return _moved(snapshot, self._shift)

    def _in(self, snapshot: Snapshot) -> Snapshot:
        return _moved(snapshot, -self._shift)

    def _held_out(self, held: Held) -> Held:
        token = None if held.token is None else held.token + self._shift
        return replace(held, token=token, snapshot=self._out(held.snapshot))

    def _held_in(self, held: Held) -> Held:
        token = None if held.token is None else held.token - self._shift
        return replace(held, token=token, snapshot=self._in(held.snapshot))

    async def _answer(self, request: Awaitable[T]) -> T:
        """Await a request; a refusal carries a record, too."""
        try:
            return await request
        except Refused as error:
            raise Refused(self._out(error.snapshot)) from error

    # -- the verbs --------------------------------------------------------------------------------

    async def read(self, name: str) -> Snapshot:
        """Return the record as it is now."""
        return self._out(await self._store.read(name))

    async def read_back(self, name: str, claim: Claim) -> Held | Snapshot:
        """Find out whether the take of `claim` happened."""
        found = await self._store.read_back(name, claim)
        return self._held_out(found) if isinstance(found, Held) else self._out(found)

    async def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        """Become the holder, if the record is still exactly `over`."""
        return self._held_out(await self._answer(self._store.take(name, claim, self._in(over))))

    async def renew(self, lease: Lease) -> Lease:
        """Confirm the lease."""
        return await self._answer(self._store.renew(lease))

    async def release(self, held: Held, lease: Lease, successor: str) -> Snapshot:
        """Give up exactly this term."""
        return self._out(await self._store.release(self._held_in(held), lease, successor))

    async def ask(self, name: str, request: StepDownRequest) -> Snapshot:
        """Leave a request to step down."""
        return self._out(await self._answer(self._store.ask(name, request)))

    async def bar(self, over: Snapshot, bar: Bar) -> Snapshot:
        """Make of the record one that nobody takes."""
        return self._out(await self._answer(self._store.bar(self._in(over), bar)))

    async def unbar(self, over: Snapshot) -> Snapshot:
        """Make the record vacant if it is exactly the bar `over`."""
        return self._out(await self._answer(self._store.unbar(self._in(over))))

    # A checkpoint carries the token that a term was seen with from outside, so it is not moved.

    async def checkpoint(self, name: str, part: str) -> Checkpoint:
        """Return a checkpoint as it is now."""
        return await self._store.checkpoint(name, part)

    async def checkpoints(self, name: str) -> list[Checkpoint]:
        """Return all checkpoints of an election."""
        return await self._store.checkpoints(name)

    async def advance(self, over: Checkpoint, value: bytes, token: int) -> Checkpoint:
        """Write a checkpoint if it is still exactly `over`."""
        return await self._store.advance(over, value, token)

    async def advance_all(self, advances: Sequence[Advance]) -> list[Checkpoint | StoreError]:
        """Carry out several advances of one election."""
        return await self._store.advance_all(advances)

    def follow(self, name: str, sink: Sink) -> None:
        """Report the record now and after each change."""
        told = partial(self._tell, sink)
        self._sinks.append((name, sink, told))
        self._store.follow(name, told)

    def unfollow(self, name: str, sink: Sink) -> None:
        """Report no more to this sink."""
        for entry in self._sinks:
            if entry[:2] == (name, sink):
                self._sinks.remove(entry)
                self._store.unfollow(name, entry[2])
                return

    def _tell(self, sink: Sink, event: Seen | Evidence) -> None:
        if isinstance(event, Seen):
            event = replace(event, snapshot=self._out(event.snapshot))
        sink(event)

    # -- what has no tokens -----------------------------------------------------------------------

    async def open_session(self, owner: str, ttl_s: float) -> Lease:
        """Open a lease under which many elections can be held."""
        return await self._store.open_session(owner, ttl_s)

    async def close_session(self, lease: Lease) -> None:
        """End a session."""
        await self._store.close_session(lease)

    def inherited_fds(self, lease: Lease) -> Sequence[int]:
        """Return the descriptors that are evidence of death."""
        return self._store.inherited_fds(lease)

    async def elections(self) -> list[Snapshot]:
        """Return every election."""
        return [self._out(snapshot) for snapshot in await self._store.elections()]

    async def examine(self) -> list[Finding]:
        """Look for what could break the promise here."""
        return await self._store.examine()


def _moved(snapshot: Snapshot, by: int) -> Snapshot:
    """Return the snapshot with another token; versions and serials are the store's affair."""
    if snapshot.token is None:
        return snapshot
    return replace(snapshot, token=snapshot.token + by)
