"""How far the work has come, kept in a store so that a former holder cannot move it back.

A `Progress` is one checkpoint in the hands of one term. It is opened once and saved many times.

Rules
-----
1. **Seal, then read.** To open is to write the token of the term over what was read, at the version
   that was read, until that succeeds. What an earlier term has under way compares an older version,
   however late it comes, and changes nothing.
2. **A greater token is the end.** Whoever finds one has been followed by another holder, whatever
   its clock says: `StaleToken`, and nothing is written.
3. **Each save compares the version of the last one.** With rule 1 no write but this term's can come
   in between. So if the version moved under the same token, it was a write of ours whose answer
   was lost.
4. **Unknown is tried again until it is known.** A save that was not answered is sent again, over
   the same version: at most one of them has its effect, since each moves the version. The answer to
   the second one tells, because the value found is compared with the one that was meant.
   A value that is saved twice in a row would look the same; the second save is then no change.
5. **All of this ends with the term.** The term is checked before each request. What may still be on
   its way then was sent by a holder, and rule 1 is why it does no harm.
6. **A group is as many writes as it has members.** What is saved while a request is under way goes
   together as the next one (`grouping`); the store compares each with its own version, and says of
   each what it came to. So whatever happens to a group, these rules hold of each member by itself:
   - one that moved is refused alone (2, 3), and the others are written all the same;
   - a group that was not answered is unknown for each: each is sent again over its own version, in
     whatever company, and its own answer tells (4);
   - a group of an earlier term that comes late finds the versions moved that were sealed since, and
     changes those that were not: these the one who seals finds, since its seal is refused (1);
   - the term is checked for each when the group is made up, just before it is sent (5).

Reading in groups needs no argument: what was read is believed only when the seal over it is
written.

Requests are made on the keeper's loop, over the connection that the candidates of this process have
to that store, and take their turns with them. A renewal waits for none of this.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from incumbent.core.records import Advance, Checkpoint, check_name
from incumbent.errors import (
    CheckpointMoved,
    ConfigError,
    OutcomeUnknown,
    StaleToken,
    StoreError,
    StoreUnavailable,
)
from incumbent.runtime.grouping import Groups
from incumbent.runtime.hub import Hub
from incumbent.runtime.keeper import Keeper
from incumbent.runtime.settings import Settings
from incumbent.runtime.term import Term
from incumbent.stores.api import MAX_CHECKPOINT_BYTES, Store

__all__ = ["Archive", "Progress"]

T = TypeVar("T")

Answer = Checkpoint | Exception

MOST_TOGETHER = 128
"""How many are written by one request. What a store's lock or thread is busy with for that long is
in the way of a renewal that it serves by the same: in the embedded store 4 ms, with the sync."""
MOST_BYTES = 4 * MAX_CHECKPOINT_BYTES
"""How long their values are in sum: as text a third of the 1 MiB that the strictest server takes as
one message."""
MOST_SINGLY = 16
"""How many are read one by one. More are read by a list of all that the election has."""


def _always() -> None:
    """Let it be sent."""


class Archive:
    """The checkpoints in one store, for whoever works under its elections. An async context."""

    def __init__(self, settings: Settings) -> None:
        if not settings.store.capabilities.checkpoints:
            raise ConfigError(
                f"{settings.store.url} keeps no checkpoints: name another store for them, as in "
                "state='postgresql://…'"
            )
        self.settings = settings
        self._keeper: Keeper | None = None
        self._lent: AbstractAsyncContextManager[Hub] | None = None
        self._hub: Hub | None = None
        self._reads: dict[str, Groups[str, Checkpoint]] = {}
        self._writes: dict[str, Groups[Advance, Checkpoint]] = {}
        self._lists = True

    async def __aenter__(self) -> Archive:
        """Open the store, if this process has not.

        Raises:
            StoreError: it cannot be opened.
        """
        self._keeper = Keeper.current()
        self._lent = self._keeper.lent(self.settings)
        self._hub = await self._on_loop(self._lent.__aenter__())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Need the store no more."""
        for reads in self._reads.values():
            await reads.close()
        for writes in self._writes.values():
            await writes.close()
        lent, self._lent, self._hub = self._lent, None, None
        if lent is not None:
            await self._on_loop(lent.__aexit__(None, None, None))

    async def read(self, name: str, part: str, check: Callable[[], None] = _always) -> Checkpoint:
        """Return a checkpoint as it is now, read after this call.

        Args:
            name: the election.
            part: which of its checkpoints.
            check: raises what keeps it from being asked; called just before.

        Raises:
            StoreError: it could not be read.
        """
        groups = self._reads.get(name)
        if groups is None:
            groups = Groups(lambda parts: self._read_all(name, parts), sys.maxsize)
            self._reads[name] = groups
        return await groups.ask(part, check)

    async def list(self, name: str) -> list[Checkpoint]:
        """Return all checkpoints of an election.

        Raises:
            StoreError: they could not be read.
        """
        return await self._ask(lambda store: store.checkpoints(name))

    async def write(
        self, over: Checkpoint, value: bytes, token: int, check: Callable[[], None] = _always
    ) -> Checkpoint:
        """Write one that is still exactly `over`; see `Store.advance`.

        Args:
            over: as it was read or written last.
            value: what shall stand there.
            token: of the term that writes.
            check: raises what keeps it from being written; called just before it is sent.

        Raises:
            CheckpointMoved, StoreError: see there.
            ConfigError: the value is too long.
        """
        if len(value) > MAX_CHECKPOINT_BYTES:
            raise ConfigError(
                f"the checkpoint {over.part!r} of {over.name!r} would have {len(value)} bytes, and "
                f"{MAX_CHECKPOINT_BYTES} is the most: keep less in it, or keep it elsewhere"
            )
        groups = self._writes.get(over.name)
        if groups is None:
            groups = Groups(self._write_all, MOST_TOGETHER, MOST_BYTES, lambda one: len(one.value))
            self._writes[over.name] = groups
        return await groups.ask(Advance(over, value, token), check)

    def progress(self, term: Term, part: str) -> Progress:
        """Return the checkpoint `part` in the hands of `term`.

        Raises:
            ConfigError: the store of the election gives no token, or the name is none.
        """
        if term.token is None:
            raise ConfigError(
                f"the election {term.name!r} has no fencing tokens, so its checkpoints would be "
                'nobody\'s: choose another store, and require="token" to be told at the start'
            )
        return Progress(self, term, check_name(part), term.token)

    async def _read_all(self, name: str, parts: Sequence[str]) -> Sequence[Answer]:
        """Read some; many by a list, unless a list could not be had once.

        A list may be too long, need a right that a single one does not, or have one in it that
        nobody can read.
        """
        if len(parts) > MOST_SINGLY and self._lists:
            try:
                found = {at.part: at for at in await self.list(name)}
            except StoreError:
                self._lists = False
            else:
                return [found.get(part) or Checkpoint(name, part) for part in parts]
        singly = (self._read_one(name, part) for part in parts)
        return _told(await asyncio.gather(*singly, return_exceptions=True))

    async def _read_one(self, name: str, part: str) -> Checkpoint:
        return await self._ask(lambda store: store.checkpoint(name, part))

    async def _write_all(self, advances: Sequence[Advance]) -> Sequence[Answer]:
        if len(advances) > 1:
            return await self._ask(lambda store: store.advance_all(advances))
        (one,) = advances
        try:
            return [await self._ask(lambda store: store.advance(one.over, one.value, one.token))]
        except StoreError as error:
            return [error]

    async def _ask(self, request: Callable[[Store], Awaitable[T]]) -> T:
        if self._hub is None:
            raise AssertionError("the archive is not open")
        hub = self._hub

        async def asked() -> T:
            async with hub.turns.mine():
                try:
                    async with asyncio.timeout(self.settings.timing.attempt_s):
                        return await request(hub.store)
                except TimeoutError:
                    raise OutcomeUnknown(f"{hub.store.url} did not answer in time") from None

        return await self._on_loop(asked())

    async def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        if self._keeper is None:
            raise AssertionError("the archive is not open")
        return await asyncio.wrap_future(self._keeper.submit(work))


class Progress:
    """One checkpoint in the hands of one term. See the head of this module.

    Attributes:
        value: what was read when it was opened, or saved last.
    """

    def __init__(self, archive: Archive, term: Term, part: str, token: int) -> None:
        self._archive = archive
        self._term = term
        self._token = token
        self._now = Checkpoint(term.name, part)
        self._saving = asyncio.Lock()
        self.value = b""

    async def open(self) -> bytes:
        """Seal with the token of this term, and return what the last one noted; b"" if none did.

        Raises:
            StaleToken: a later term was here.
            LeadershipLost: the term ended.
            StoreError: the store refuses; what may pass is tried again.
        """
        self._now = await self._tried(self._read)
        async with self._saving:
            self._now = await self._tried(self._sealed)
            self.value = self._now.value
        return self.value

    async def save(self, value: bytes) -> None:
        """Write, and return when it is known to be written.

        Raises:
            StaleToken, LeadershipLost, StoreError: see `open`. With the first one nothing was
                written; with the others it may have been.
            ConfigError: the value is too long.
        """
        async with self._saving:
            self._now = await self._tried(lambda: self._written(value))
            self.value = value

    async def _read(self) -> Checkpoint:
        return await self._archive.read(self._now.name, self._now.part, self._term.check)

    async def _sealed(self) -> Checkpoint:
        """Write what was found last under our token; what moved meanwhile is found anew."""
        return await self._swapped(lambda: self._now.value)

    async def _written(self, value: bytes) -> Checkpoint:
        return await self._swapped(lambda: value)

    async def _swapped(self, value: Callable[[], bytes]) -> Checkpoint:
        while True:
            self._judge()
            try:
                return await self._archive.write(self._now, value(), self._token, self._term.check)
            except CheckpointMoved as error:
                meant, self._now = value(), error.checkpoint
                if self._now.token == self._token and self._now.value == meant:
                    return self._now

    def _judge(self) -> None:
        if self._now.token > self._token:
            raise StaleToken(
                f"the checkpoint {self._now.part!r} of {self._now.name!r} has seen token "
                f"{self._now.token}, and this term has {self._token}: a later leader is at work, "
                "and nothing was changed"
            )

    async def _tried(self, request: Callable[[], Awaitable[T]]) -> T:
        pause_s = self._archive.settings.timing.retry_every_s
        while True:
            try:
                return await request()
            except (OutcomeUnknown, StoreUnavailable):
                await asyncio.sleep(min(pause_s, self._term.remaining()))


def _told(found: list[Checkpoint | BaseException]) -> list[Answer]:
    """Return what was found; what ends more than a request is raised."""
    for one in found:
        if isinstance(one, BaseException) and not isinstance(one, Exception):
            raise one
    return [one for one in found if isinstance(one, Checkpoint | Exception)]
