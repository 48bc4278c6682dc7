"""Queues of ephemeral sequential nodes, as Curator and kazoo keep them. See `queue.api`.

    curator-latch   LOCK/_c_<uuid>-latch-<10 digits>    LeaderLatch
    curator-mutex   LOCK/_c_<uuid>-lock-<10 digits>     InterProcessMutex, LeaderSelector
    kazoo-lock      LOCK/<32 hex digits>__lock__<10 digits>     Lock, Election (kazoo-election)

Curator counts every child of LOCK as a contender, in the order of what stands behind the last
`latch-` or `lock-`; kazoo those that end as its own do. The number is given by the server, so
whoever comes later stands behind; czxid is the token, which grows also when LOCK was removed and
its numbers begin again, as it is by the server where Curator made it (a container).

What proves a node: a transaction that does nothing but check that it is there, on its own session.
A majority logs it, as any transaction; that the session lasts says `session`. The node itself is
never written: a LeaderLatch that waits behind it would take the event for its one watch, look away,
and wait for ever.

PREFIX/queues/NAME is the note, and says that one of ours has stood in this queue. Two connections:
one that looks (`ensemble`), and for each TTL one whose session the nodes belong to.
"""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from incumbent.errors import (
    ConfigError,
    OutcomeUnknown,
    SessionGone,
    StoreAbsent,
    StoreError,
    StoreUnavailable,
)
from incumbent.stores.api import Finding
from incumbent.stores.queue import Gone, Line, Node
from incumbent.stores.queue.api import Sink
from incumbent.stores.queue.notes import EMPTY
from incumbent.stores.zookeeper import doctor
from incumbent.stores.zookeeper.ensemble import Ensemble
from incumbent.stores.zookeeper.link import Link, Op, Unmet, Why
from incumbent.stores.zookeeper.session import KeptSession

__all__ = ["RECIPES", "Recipe", "ZooKeeperQueue", "lock_path"]

_log = logging.getLogger("incumbent.stores.zookeeper")

FOLDER = "queues"
PAUSES_S = (0.05, 0.2, 1.0, 5.0)
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Recipe:
    """How contenders are called, and in which order they stand.

    Attributes:
        partner: who stands there as well.
        marker: what stands before the number.
        named: returns the name without the number for a tag of 32 hex digits.
        counts: which children are contenders.
    """

    partner: str
    marker: str
    named: Callable[[str], str]
    counts: re.Pattern[str]

    def order(self, name: str) -> str:
        """Return what is compared: the text behind the last marker, or all if there is none."""
        return name.rpartition(self.marker)[2]


def _curator(kind: str) -> Callable[[str], str]:
    return lambda tag: f"_c_{uuid.UUID(hex=tag)}-{kind}-"


_KAZOO = Recipe(
    "kazoo Lock and Election",
    "__lock__",
    lambda tag: f"{tag}__lock__",
    re.compile(r"__lock__-?\d{10}$"),
)
RECIPES = {
    "curator-latch": Recipe("Curator LeaderLatch", "latch-", _curator("latch"), re.compile("")),
    "curator-mutex": Recipe("Curator InterProcessMutex", "lock-", _curator("lock"), re.compile("")),
    "kazoo-lock": _KAZOO,
    "kazoo-election": _KAZOO,
}


@dataclass(slots=True)
class _Followed:
    task: asyncio.Task[None]
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    paths: frozenset[str] = frozenset()


class ZooKeeperQueue:
    """The queues of one ensemble. See `queue.Queue`."""

    def __init__(self, ensemble: Ensemble, prefix: str, recipe: Recipe) -> None:
        self._ensemble = ensemble
        self._folder = f"{prefix}/{FOLDER}"
        self._recipe = recipe
        self._sessions: dict[float, KeptSession] = {}
        self._followed: dict[str, _Followed] = {}
        ensemble.on_link = self._connected

    async def open(self, *, create: bool) -> None:
        """Connect, and create the folder of the notes."""
        self._ensemble.open()
        try:
            link = await self._ensemble.link()
            if await link.exists(self._folder) is None:
                if not create:
                    raise StoreAbsent(f"ZooKeeper has no node {self._folder} yet")
                await self._make(link, self._folder)
        except BaseException:
            await self.close(leave=True)
            raise

    async def close(self, *, leave: bool) -> None:
        """Give back every resource."""
        tasks = [followed.task for followed in self._followed.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        sessions, self._sessions = list(self._sessions.values()), {}
        await asyncio.gather(*(session.close(leave=leave) for session in sessions))
        await self._ensemble.close()

    async def connect(self) -> None:
        """Have a connection ready."""
        await self._ensemble.link()

    async def _make(self, link: Link, path: str, value: bytes = b"") -> None:
        """Create a node, and what it stands in. What is there already is left as it is."""
        above = path.rpartition("/")[0]
        if above and await link.exists(above) is None:
            await self._make(link, above)
        try:
            await link.transact([Op("create", path, value)])
        except Unmet as unmet:
            if unmet.why is not Why.EXISTS:
                raise StoreUnavailable(f"{path} cannot be made: {unmet.why.value}") from None

    # -- looking ----------------------------------------------------------------------------------

    async def look(self, lock: str, name: str) -> Line:
        """Return the queue, as it is at whichever server after a majority has confirmed a write."""
        link = await self._ensemble.link()
        await self._settled(link)
        return await self._line(link, lock, name)

    async def _settled(self, link: Link) -> None:
        """Wait until this server knows whatever was written before we asked.

        On a session's own link this also ends what an earlier connection has sent and not seen
        answered: the leader takes nothing more of it once the session has written through another.
        """
        try:
            await link.transact([Op("check", "/")])
        except OutcomeUnknown as error:
            raise StoreUnavailable(str(error)) from None

    async def _line(self, link: Link, lock: str, name: str, *, watch: bool = False) -> Line:
        for _ in range(_TRIES):
            path = f"{self._folder}/{name}"
            note = await link.data(path, watch=watch)
            if note is None and watch and await link.exists(path, watch=True) is not None:
                continue
            written = 0 if note is None else note[1].written
            value = b"" if note is None else note[0]
            listed = await link.children(lock, watch=watch)
            if listed is None:
                if watch and await link.exists(lock, watch=True) is not None:
                    continue
                changed = await self._changed_above(link, lock)
                return Line(None, changed + written, value, changed)
            changed = listed[1].children_changed
            # Both grow, so the sum does with either; an older look has none of them greater.
            serial = changed + written
            names = sorted(filter(self._recipe.counts.search, listed[0]), key=self._recipe.order)
            if not names:
                return Line(None, serial, value, changed)
            first = await self._node(link, f"{lock}/{names[0]}")
            if first is not None:
                return Line(first, serial, value)
        raise StoreUnavailable(f"{link.server}: {lock} changed {_TRIES} times while it was read")

    async def _changed_above(self, link: Link, path: str) -> int:
        while True:
            path = path.rpartition("/")[0]
            stat = await link.exists(path or "/")
            if stat is not None:
                return stat.children_changed

    async def _node(self, link: Link, path: str) -> Node | None:
        found = await link.data(path)
        return None if found is None else Node(path, found[1].created, found[0])

    async def names(self) -> list[str]:
        """Return the elections that have a note."""
        link = await self._ensemble.link()
        await self._settled(link)
        listed = await link.children(self._folder)
        return [] if listed is None else sorted(listed[0])

    # -- standing in it ---------------------------------------------------------------------------

    def _session(self, ttl_s: float) -> KeptSession:
        session = self._sessions.get(ttl_s)
        if session is None or session.over:
            servers, settings = self._ensemble.servers, self._ensemble.settings
            session = self._sessions[ttl_s] = KeptSession(servers, settings, ttl_s)
        return session

    async def join(self, lock: str, name: str, tag: str, value: bytes, ttl_s: float) -> Node:
        """Return our node, which is made if there is none."""
        found = await self.find(lock, tag, ttl_s)
        if found is not None:
            return found
        link = await self._session(ttl_s).link()
        if await link.exists(f"{self._folder}/{name}") is None:
            await self._make(link, f"{self._folder}/{name}", EMPTY)
        for _ in range(_TRIES):
            path = await link.stand(f"{lock}/{self._recipe.named(tag)}", value)
            if path is None:
                # It may be a container, which the server removes when it is empty.
                await self._make(link, lock)
                continue
            node = await self._node(link, path)
            if node is None:
                break
            return node
        raise StoreUnavailable(f"{link.server}: {lock} is removed again and again")

    async def find(self, lock: str, tag: str, ttl_s: float) -> Node | None:
        """Return our node. Of two, for a lost answer may have made one more, the later is removed.

        A session that is over has taken its nodes with it.
        """
        try:
            link = await self._session(ttl_s).link()
        except SessionGone:
            return None
        await self._settled(link)
        paths = await self._tagged(link, lock, tag)
        for path in paths[1:]:
            await self._remove(link, path)
        return await self._node(link, paths[0]) if paths else None

    async def prove(self, lock: str, node: Node, ttl_s: float) -> None:
        """Check the node, in a transaction."""
        try:
            await self._session(ttl_s).confirm([Op("check", node.key)])
        except (Unmet, SessionGone) as error:
            raise Gone(f"{node.key}: {error}") from None

    async def leave(self, lock: str, tag: str, ttl_s: float) -> None:
        """Remove our node."""
        session = self._sessions.get(ttl_s)
        if session is None or session.over:
            return
        with suppress(SessionGone):
            link = await session.link()
            await self._settled(link)
            for path in await self._tagged(link, lock, tag):
                await self._remove(link, path)

    async def _tagged(self, link: Link, lock: str, tag: str) -> list[str]:
        listed = await link.children(lock)
        named = self._recipe.named(tag)
        names = [] if listed is None else [n for n in listed[0] if n.startswith(named)]
        return [f"{lock}/{name}" for name in sorted(names, key=self._recipe.order)]

    async def _remove(self, link: Link, path: str) -> None:
        with suppress(Unmet):
            await link.transact([Op("delete", path)])

    async def write_note(self, name: str, note: bytes, node: Node) -> None:
        """Write the note if the node is there."""
        link, path = await self._ensemble.link(), f"{self._folder}/{name}"
        if await link.exists(path) is None:
            await self._make(link, path, EMPTY)
        try:
            await link.transact([Op("check", node.key), Op("set_data", path, note)])
        except Unmet as unmet:
            if unmet.number == 0:
                raise Gone(f"{node.key}: {unmet}") from None
            raise StoreUnavailable(f"{path} was removed") from None

    # -- following --------------------------------------------------------------------------------

    def follow(self, lock: str, name: str, sink: Sink) -> None:
        """Report the queue now and after each change."""
        task = asyncio.get_running_loop().create_task(self._run(lock, name, sink))
        paths = frozenset({lock, f"{self._folder}/{name}"})
        self._followed[lock] = _Followed(task, paths=paths)

    def unfollow(self, lock: str) -> None:
        """Report it no more."""
        self._followed.pop(lock).task.cancel()

    def _connected(self, link: Link) -> None:
        """Look anew: watches die with their connection."""
        link.on_event = self._fired
        for followed in self._followed.values():
            followed.changed.set()

    def _fired(self, path: str) -> None:
        for followed in self._followed.values():
            if path in followed.paths:
                followed.changed.set()

    async def _run(self, lock: str, name: str, sink: Sink) -> None:
        failures, told = 0, None
        while True:
            followed = self._followed[lock]
            followed.changed.clear()
            try:
                link = await self._ensemble.link()
                line = await self._line(link, lock, name, watch=True)
            except StoreError as error:
                failures += 1
                if failures == len(PAUSES_S):
                    _log.warning("%s cannot be followed: %s", lock, error)
                await asyncio.sleep(PAUSES_S[min(failures, len(PAUSES_S)) - 1])
                continue
            except Exception:  # A follower that ends would leave a candidate waiting.
                _log.exception("following %s", lock)
                await asyncio.sleep(PAUSES_S[-1])
                continue
            failures = 0
            if line != told:
                told = line
                sink(line)
            await followed.changed.wait()

    # -- for people -------------------------------------------------------------------------------

    async def examine(self) -> list[Finding]:
        """Look at the servers, and at who may write."""
        return await doctor.examine(self._ensemble, self._folder)


def lock_path(text: str) -> str:
    """Return where a lock is, with the slash that every path begins with.

    Raises:
        ConfigError: it cannot be a path.
    """
    path = text if text.startswith("/") else f"/{text}"
    parts = path[1:].split("/")
    if not all(parts) or {".", ".."} & set(parts) or "\0" in path or parts[0] == "zookeeper":
        raise ConfigError(f"zookeeper://: lock={text} cannot be the path of a lock")
    return path
