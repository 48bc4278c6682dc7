"""Consul as a `KeyValue`: what of it is a swap, a version, a revision and an absence.

Rules
-----
1. A swap is one transaction, so one entry of the raft log: `cas` for what is written, `check-index`
   and `check-not-exists` for what is only compared. Consul takes up to 64 operations; ours have six
   at most.
2. The version of a key is its ModifyIndex, the number of a raft entry. It is not used again for
   another write, also not after the key was deleted. It is the revision, too, and grows with every
   write of the datacenter.
3. **A write that changes nothing is none.** Consul leaves the ModifyIndex of a key as it is if the
   same value is written again, and answers as to a success. A renewal writes the same value. So
   each write carries, as the key's Flags, the index of the write that it follows, which no write
   before it can have carried.
4. For a key that is not there Consul tells the index of the last write or deletion of *any* key,
   which is not below that of any write of this one.

Warning: a snapshot that is restored brings old records back, at their old versions. In the cluster
that it came from, what is written then has new numbers, and observers begin to wait anew. In a new
cluster the numbers go on from the snapshot's, so some are given a second time: candidates must be
stopped before, for a TTL, and a resource that is fenced must remember its token itself.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Hashable, Mapping

from incumbent.errors import PermissionDenied, StoreError
from incumbent.stores.api import Finding, unreached
from incumbent.stores.consul.client import Client, Item, Operation
from incumbent.stores.consul.config import Settings
from incumbent.stores.consul.keys import ELECTIONS, Keys
from incumbent.stores.consul.watch import Watcher
from incumbent.stores.kv.api import ABSENT, Conditions, Conflict, Entry, Sink, Writes

__all__ = ["Consul"]

_SLOW_S = 1.0
_NEVER = (1 << 63) - 1
"""An index that no write has had."""


class Consul:
    """The keys below one prefix of one datacenter."""

    def __init__(self, settings: Settings) -> None:
        self._client = Client(settings)
        self._keys = Keys(settings.prefix)
        self._watcher = Watcher(self._client, self._keys)

    async def open(self, *, create: bool) -> None:
        """See whether we may read; there is nothing to create."""
        await self._client.readable(self._keys.folder("sessions"))

    async def close(self) -> None:
        """Give back every connection."""
        await self._watcher.close()
        await self._client.close()

    async def connect(self) -> None:
        """Have a connection ready."""
        await self._client.connect()

    # -- reading ----------------------------------------------------------------------------------

    async def get(self, key: str, *, urgent: bool = False) -> tuple[Entry | None, int]:
        """Return the key as it is."""
        item, index = await self._client.read(self._keys.path(key), urgent=urgent)
        return (None if item is None else _entry(key, item)), index

    async def entries(self, folder: str) -> list[Entry]:
        """Return all keys of a folder."""
        beginning = self._keys.folder(folder)
        await self._client.readable(beginning)
        items = (await self._client.below(beginning)).items()
        found = ((self._keys.key(item.path), item) for item in items)
        return [_entry(key, item) for key, item in found if key is not None]

    # -- writing ----------------------------------------------------------------------------------

    async def swap(
        self, conditions: Conditions, writes: Writes, *, urgent: bool = False
    ) -> Mapping[str, Entry]:
        """Write if all conditions are met, in one transaction."""
        operations = [self._operation(key, conditions[key], writes) for key in conditions]
        for key in writes:
            created = self._keys.created(key)
            if created is not None and conditions[key] is ABSENT:
                note = _encoded(secrets.token_hex(8).encode())
                operations.append({"Verb": "set", "Key": created, "Value": note})
        written = await self._client.transact(operations, urgent=urgent)
        found = {}
        for key, value in writes.items():
            index = written[self._keys.path(key)].index
            found[key] = Entry(key, value, index, index)
        return found

    def _operation(self, key: str, wanted: Hashable, writes: Writes) -> Operation:
        operation: Operation = {"Key": self._keys.path(key)}
        if key in writes:
            index = 0 if wanted is ABSENT else _index(wanted)
            operation |= {"Verb": "cas", "Index": index, "Flags": index}
            operation["Value"] = _encoded(writes[key])
        elif wanted is ABSENT:
            operation["Verb"] = "check-not-exists"
        else:
            operation |= {"Verb": "check-index", "Index": _index(wanted)}
        return operation

    async def remove(self, key: str, version: Hashable) -> None:
        """Delete a key at a version."""
        path = self._keys.path(key)
        compare = {"Verb": "check-index", "Key": path, "Index": _index(version)}
        await self._client.transact([compare, {"Verb": "delete", "Key": path}])

    # -- following --------------------------------------------------------------------------------

    def follow(self, key: str, sink: Sink) -> None:
        """Report the key now and after each change."""
        self._watcher.follow(key, sink)

    def unfollow(self, key: str, sink: Sink) -> None:
        """Report no more."""
        self._watcher.unfollow(key, sink)

    # -- for people -------------------------------------------------------------------------------

    async def examine(self) -> list[Finding]:
        """Look at the server, its peers, and our rights; nothing is written."""
        loop = asyncio.get_running_loop()
        where = self._client.server
        try:
            await self._client.readable(self._keys.folder("sessions"))
            began = loop.time()
            await self._client.readable(self._keys.folder("sessions"))
        except PermissionDenied as error:
            return [Finding("reachable", True, f"{where} answers"), _right("read", error)]
        except StoreError as error:
            return [unreached(error)]
        took_s = loop.time() - began
        return [
            Finding("reachable", True, f"{where} answers"),
            Finding(
                "round trip",
                took_s < _SLOW_S,
                f"{took_s * 1000:.1f} ms for a read that a quorum confirmed",
                "" if took_s < _SLOW_S else "use a longer TTL: a renewal needs several round trips",
            ),
            await self._servers(),
            await self._may_read_elections(),
            await self._may_write(ELECTIONS),
            await self._may_write("sessions"),
            self._secrecy(),
        ]

    async def _servers(self) -> Finding:
        try:
            peers = len(await self._client.ask("/v1/status/peers"))
        except (StoreError, TypeError) as error:
            return Finding("servers", None, str(error))
        if peers < 3:
            text = f"{peers}: when one of them is gone, nobody is elected"
            return Finding("servers", None, text, "run three or five")
        return Finding("servers", True, f"{peers}")

    async def _may_read_elections(self) -> Finding:
        try:
            await self._client.readable(self._keys.folder(ELECTIONS))
        except PermissionDenied as error:
            text = (
                f"not all of them: elections cannot be listed, nor many followed at once; {error}"
            )
            return Finding("right to read elections", None, text)
        except StoreError as error:
            return Finding("right to read elections", None, str(error))
        return Finding("right to read elections", True, "may read all below the prefix")

    async def _may_write(self, folder: str) -> Finding:
        """Ask for a write that cannot happen: rights are looked at before it is compared."""
        check, path = f"right to write {folder}", self._keys.folder(folder)
        write = {"Verb": "cas", "Key": path, "Value": "", "Index": _NEVER}
        try:
            await self._client.transact([write])
        except Conflict:
            return Finding(check, True, "may write all below the prefix")
        except PermissionDenied as error:
            return _right(f"write {folder}", error)
        except StoreError as error:
            return Finding(check, None, str(error))
        return Finding(check, None, "Consul wrote what it should have refused")

    def _secrecy(self) -> Finding:
        if self._client.encrypted:
            return Finding("encryption", True, "TLS")
        return Finding("encryption", None, "none: whoever listens reads the token", "use TLS")


def _right(what: str, error: PermissionDenied) -> Finding:
    return Finding(f"right to {what}", False, str(error), "give the token this rule")


def _index(version: Hashable) -> int:
    """Return a version as the index to compare; 0 would mean that the key must not be there."""
    if not isinstance(version, int) or version <= 0:
        raise AssertionError(f"{version!r} is no version of Consul's")
    return version


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _entry(key: str, item: Item) -> Entry:
    return Entry(key, item.decoded(), item.index, item.index)
