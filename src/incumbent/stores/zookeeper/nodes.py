"""How keys are kept as znodes, so that a version belongs to one write and is never used again.

ZooKeeper counts the writes of a znode's data, and its transactions compare that count; but it
begins at 0 again when the znode is deleted and made anew. Whoever watched count 0 would then swap
a record that he has never seen. So a key is two znodes:

    PREFIX/elections/NAME               empty: that it is there means that the key is there
    PREFIX/elections/NAME/NONCE         the value; its name is random, and new for each creation

The version of a key is (NONCE, count), and its condition is one operation on the path that has the
nonce in it: after a deletion that path does not exist, whatever else was made since. A key is made
by one transaction that creates both znodes, which fails if the upper one is there; so there are
never two values under one name, unless somebody makes one by hand, and then the key cannot be
understood. An upper znode that was left empty by hand is no key; it is deleted, which fails as soon
as it has a child, by the same transaction that makes it anew.

Only persistent znodes. An ephemeral one vanishes at the server's word, of which nobody could tell
whether a session was over or a person had deleted something; and the server's sessions are kept by
pings, which confirm nothing.

Revisions are zxids, the numbers of ZooKeeper's transactions: that of a key is the zxid of the last
write of its value, which grows over deletions, restarts and elections of the servers.

What stands for an absence is the zxid at which the folder's children last changed, or if that is
gone, those of the folder above it. No write of the key that came before is younger. And as long as
it is the same, nothing was made or deleted in there: an absence with the same one has stood all the
time, however often the connection was lost. It is looked up before and after the key itself.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Hashable
from typing import NamedTuple

from incumbent.stores.kv import ABSENT, Conflict, Entry
from incumbent.stores.kv.api import Conditions, Writes
from incumbent.stores.zookeeper.link import Link, Op

__all__ = ["Found", "Mark", "Nodes", "Plan"]


class Mark(NamedTuple):
    """A znode that is there, and the zxid at which its children last changed."""

    path: str
    zxid: int


class Found(NamedTuple):
    """What was found under a key.

    Attributes:
        entry: what it holds, or None.
        revision: see `kv.Report`.
        mark: an absence with the same mark has stood since; None proves nothing.
    """

    entry: Entry | None
    revision: int
    mark: Mark | None = None


class Plan(NamedTuple):
    """A transaction, and what will be where after it."""

    ops: list[Op]
    keys: list[str]
    """The key of each operation."""
    values: dict[int, tuple[str, str]]
    """The key and the nonce of each operation that writes a value."""


class Nodes:
    """The znodes below `prefix`."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def path(self, key: str) -> str:
        """Return where a key is kept."""
        return f"{self.prefix}/{key}"

    def key(self, path: str) -> str:
        """Return the key that a znode belongs to."""
        folder, name = path.removeprefix(f"{self.prefix}/").split("/")[:2]
        return f"{folder}/{name}"

    # -- writing ----------------------------------------------------------------------------------

    def plan(self, conditions: Conditions, writes: Writes, hollow: frozenset[str]) -> Plan:
        """Return the transaction of a swap; keys in `hollow` have an upper znode without a value.

        Raises:
            Conflict: a condition is none that could ever be met.
        """
        plan = Plan([], [], {})

        def add(key: str, op: Op) -> None:
            plan.ops.append(op)
            plan.keys.append(key)

        for key, condition in conditions.items():
            upper = self.path(key)
            if condition is ABSENT:
                if key in hollow:
                    add(key, Op("delete", upper))
                add(key, Op("create", upper))
                if key not in writes:
                    # There is no condition that a znode be absent; to make one is the condition.
                    add(key, Op("delete", upper))
                    continue
                # Made and then written, since only a write tells its zxid.
                nonce, count = secrets.token_hex(12), 0
                add(key, Op("create", f"{upper}/{nonce}"))
            else:
                nonce, count = _taken_apart(key, condition)
            where = f"{upper}/{nonce}"
            if key in writes:
                plan.values[len(plan.ops)] = key, nonce
                add(key, Op("set_data", where, writes[key], count))
            else:
                add(key, Op("check", where, version=count))
        return plan

    def removal(self, key: str, version: Hashable) -> list[Op]:
        """Return the transaction that deletes a key."""
        upper = self.path(key)
        nonce, count = _taken_apart(key, version)
        return [Op("delete", f"{upper}/{nonce}", version=count), Op("delete", upper)]

    # -- reading ----------------------------------------------------------------------------------

    async def look(self, link: Link, key: str, *, watch: bool = False) -> Found:
        """Return what is under a key, as this server knows it; with watches for any change."""
        upper = self.path(key)
        tries = itertools.count(1)
        while True:
            before = await self._mark(link, key)
            listed = await link.children(upper, watch=watch)
            if listed is None:
                if watch and await link.exists(upper, watch=True) is not None:
                    continue  # It has just come.
                if before == await self._mark(link, key):
                    return Found(None, before.zxid, before)
                if next(tries) < _TRIES:
                    continue
                return Found(None, before.zxid)
            names, stat = listed
            if len(names) == 1:
                value = await link.data(f"{upper}/{names[0]}", watch=watch)
                if value is None:
                    continue  # It has just gone.
                version = (names[0], value[1].version)
                entry = Entry(key, value[0], version, value[1].written)
                return Found(entry, entry.revision)
            revision = max(before.zxid, stat.children_changed, stat.written)
            if not names and not stat.data_length:
                return Found(None, revision)
            odd = (stat.children_version, stat.version)
            return Found(Entry(key, _NOT_OURS, odd, revision), revision)

    async def changed(self, link: Link, entry: Entry) -> Found | None:
        """Return the key after its value was written, with a new watch; None to look at it all."""
        nonce, _ = _taken_apart(entry.key, entry.version)
        value = await link.data(f"{self.path(entry.key)}/{nonce}", watch=True)
        if value is None:
            return None
        found = Entry(entry.key, value[0], (nonce, value[1].version), value[1].written)
        return Found(found, found.revision)

    async def hollow(self, link: Link, key: str) -> bool:
        """Tell whether a key has an upper znode that was left without a value."""
        listed = await link.children(self.path(key))
        return listed is not None and not listed[0] and not listed[1].data_length

    async def _mark(self, link: Link, key: str) -> Mark:
        path = self.path(key)
        while True:
            path = path.rpartition("/")[0]
            stat = await link.exists(path or "/")
            if stat is not None:
                return Mark(path, stat.children_changed)


_TRIES = 5
"""How often to look for a moment in which the folder of an absent key stands still."""
_NOT_OURS = b"not a record of incumbent's: several values under one name, or one in a wrong place"


def _taken_apart(key: str, version: Hashable) -> tuple[str, int]:
    match version:
        case (str(nonce), int(count)):
            return nonce, count
    raise Conflict(f"{key!r} is not at {version!r}")
