"""The driver: keys that are swapped by transactions of ZooKeeper.

What confirms a write: a transaction, which a majority of the servers has logged. A ping that is
answered confirms nothing: a server that was cut off from its peers goes on answering for seconds.

Why `get` writes. ZooKeeper answers reads from the memory of the server that we happen to be
connected to, which may lag. `sync` makes it catch up with the leader; but a leader that was cut off
from its followers, and has not noticed yet, answers it as well, without asking anybody. So
before a read that must be linearizable stands a transaction that changes nothing, and which a
majority confirms: our server answers it in its place among all others, so what is read after it
has whatever was written before. Nothing on the way to a renewal or a takeover reads, and
what follows keys does not need it: the promise rests on the comparison.

What is urgent has no way of its own: a server carries out what one connection asks for in the order
in which it was asked, and so does the leader. Nothing of it waits here, though: all is sent at
once, and answered as fast as the servers write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping

from incumbent.errors import OutcomeUnknown, StoreAbsent, StoreUnavailable
from incumbent.stores.api import Finding
from incumbent.stores.kv import ABSENT, Conflict, Entry
from incumbent.stores.kv.api import Conditions, Sink, Writes
from incumbent.stores.zookeeper import doctor
from incumbent.stores.zookeeper.ensemble import Ensemble
from incumbent.stores.zookeeper.follow import Follower
from incumbent.stores.zookeeper.link import Link, Op, Unmet, Why
from incumbent.stores.zookeeper.nodes import Nodes, Plan

__all__ = ["ZooKeeper"]

FOLDERS = ("elections", "sessions")
_TRIES = 4
"""How often a swap is tried that was refused for something that is not its business."""
_AT_ONCE = 100
_OPENINGS = 3


class ZooKeeper:
    """One ensemble. See `kv.KeyValue`."""

    def __init__(self, ensemble: Ensemble, prefix: str) -> None:
        self._ensemble = ensemble
        self._nodes = Nodes(prefix)
        self._follower = Follower(self._nodes)
        self._ensemble.on_link = self._follower.connected
        self._create = False

    async def open(self, *, create: bool) -> None:
        """Connect, and create the folders."""
        self._create = create
        self._ensemble.open()
        try:
            await self._prepare()
        except BaseException:
            await self.close()
            raise

    async def _prepare(self) -> None:
        """Try until it is done: servers that restart, or look for a leader, end connections."""
        for _ in range(_OPENINGS - 1):
            try:
                return await self._make_folders()
            except StoreAbsent:
                raise
            except (StoreUnavailable, OutcomeUnknown):
                continue
        await self._make_folders()

    async def _make_folders(self) -> None:
        """See that the folders are there; done twice it does no more than once."""
        link = await self._ensemble.link()
        await self._settled(link)
        for folder in FOLDERS:
            path = self._nodes.path(folder)
            if await link.exists(path) is None:
                if not self._create:
                    raise StoreAbsent(f"ZooKeeper has no node {path} yet")
                await self._make(link, path)

    async def close(self) -> None:
        """Give back every resource."""
        await self._follower.close()
        await self._ensemble.close()

    async def connect(self) -> None:
        """Have a connection ready."""
        await self._ensemble.link()

    async def _make(self, link: Link, path: str) -> None:
        """Create a node, and what it stands in."""
        above = path.rpartition("/")[0]
        if above and await link.exists(above) is None:
            await self._make(link, above)
        try:
            await link.transact([Op("create", path)])
        except Unmet as unmet:
            if unmet.why is not Why.EXISTS:
                raise StoreUnavailable(f"{path} cannot be made: {unmet.why.value}") from None

    # -- reading ----------------------------------------------------------------------------------

    async def _settled(self, link: Link) -> None:
        """Wait until this server knows whatever was written before we asked."""
        try:
            await link.transact([Op("check", self._nodes.path(FOLDERS[0]))])
        except Unmet:
            pass  # The folder is gone; a majority has confirmed that as well.
        except OutcomeUnknown as error:
            raise StoreUnavailable(str(error)) from None

    async def get(self, key: str, *, urgent: bool = False) -> tuple[Entry | None, int]:
        """Return the key as it is."""
        link = await self._ensemble.link()
        await self._settled(link)
        found = await self._nodes.look(link, key)
        return found.entry, found.revision

    async def entries(self, folder: str) -> list[Entry]:
        """Return all keys of a folder."""
        link = await self._ensemble.link()
        await self._settled(link)
        listed = await link.children(self._nodes.path(folder))
        if listed is None:
            return []
        found: list[Entry] = []
        for first in range(0, len(listed[0]), _AT_ONCE):
            names = listed[0][first : first + _AT_ONCE]
            looks = (self._nodes.look(link, f"{folder}/{name}") for name in names)
            found += [look.entry for look in await asyncio.gather(*looks) if look.entry is not None]
        return found

    # -- writing ----------------------------------------------------------------------------------

    async def swap(
        self, conditions: Conditions, writes: Writes, *, urgent: bool = False
    ) -> Mapping[str, Entry]:
        """Write if all conditions are met, in one transaction."""
        link = await self._ensemble.link()
        for key, condition in conditions.items():
            if condition is ABSENT and not await self._follower.stands(key, link):
                raise Conflict(f"{key!r} was there in the meantime")
        hollow: frozenset[str] = frozenset()
        for _ in range(_TRIES):
            plan = self._nodes.plan(conditions, writes, hollow)
            try:
                stats = await link.transact(plan.ops)
            except Unmet as unmet:
                # Nothing was done, so to try again repeats nothing.
                hollow |= await self._put_right(link, plan, unmet)
                continue
            written = {}
            for number, (key, nonce) in plan.values.items():
                stat = stats[number]
                assert stat is not None
                written[key] = Entry(key, writes[key], (nonce, stat.version), stat.written)
            return written
        raise Conflict(f"{', '.join(writes)}: changed by others {_TRIES} times in a row")

    async def _put_right(self, link: Link, plan: Plan, unmet: Unmet) -> frozenset[str]:
        """Make room for a key that is not there; return it if it has left an empty node.

        Raises:
            Conflict: it is there, or a condition on another key is not met.
        """
        key = plan.keys[unmet.number]
        if plan.ops[unmet.number].verb == "create":
            if unmet.why is Why.EXISTS and await self._nodes.hollow(link, key):
                return frozenset({key})
            if unmet.why is Why.MISSING:
                path = self._nodes.path(key.partition("/")[0])
                if not self._create:
                    raise StoreAbsent(f"ZooKeeper has no node {path} any more")
                await self._make(link, path)
                return frozenset()
        raise Conflict(f"{key!r}: {unmet.why.value}")

    async def remove(self, key: str, version: Hashable) -> None:
        """Delete a key at a version."""
        link = await self._ensemble.link()
        try:
            await link.transact(self._nodes.removal(key, version))
        except Unmet as unmet:
            raise Conflict(f"{key!r}: {unmet.why.value}") from None

    # -- following --------------------------------------------------------------------------------

    def follow(self, key: str, sink: Sink) -> None:
        """Report the key now and after each change."""
        self._follower.follow(key, sink)

    def unfollow(self, key: str, sink: Sink) -> None:
        """Report no more."""
        self._follower.unfollow(key, sink)

    # -- for people -------------------------------------------------------------------------------

    async def examine(self) -> list[Finding]:
        """Look at the servers, the encryption and the rights."""
        return await doctor.examine(self._ensemble, self._nodes.path(FOLDERS[0]))
