"""etcd as a `KeyValue`: every rule of `kv.api`, by the transactions of one cluster.

`swap` is one transaction (Txn) that compares `mod_revision`s; raft gives it one place in the order
of all writes, so its answer is a quorum's word. `get` is a range that is not `serializable`: the
member asks its leader, who asks a quorum, before it answers.

No lease of etcd's takes part. A lease is kept alive by an answer from the memory of the leader:
tried on 3.6.5, a leader that was cut off from its peers went on giving it for up to two election
timeouts, and what it promised was promised by nobody. A session here is a key like any other, and
a renewal a write.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from incumbent.stores.api import Finding
from incumbent.stores.etcd import doctor, wire
from incumbent.stores.etcd.client import Client, Forgotten
from incumbent.stores.etcd.settings import Settings
from incumbent.stores.etcd.watch import Follower
from incumbent.stores.kv.api import Conditions, Conflict, Entry, Sink, Writes

__all__ = ["EtcdKeyValue"]

_PAGE = 1000


class EtcdKeyValue:
    """The keys below one prefix of a cluster."""

    def __init__(self, settings: Settings) -> None:
        self._client = Client(settings)
        self._prefix = wire.Prefix(settings.prefix)
        self._prefix_text = settings.prefix
        self._follower = Follower(self._client, self._prefix)

    async def open(self, *, create: bool) -> None:
        """Make sure that etcd answers, knows us and lets us read. Nothing has to exist there."""
        await self._client.ask("/v3/kv/range", self._prefix.page("", "", 1, 0))

    async def close(self) -> None:
        """Give back every connection."""
        await self._follower.close()
        await self._client.close()

    async def connect(self) -> None:
        """Have a connection ready."""
        await self._client.connect()

    async def get(self, key: str, *, urgent: bool = False) -> tuple[Entry | None, int]:
        """Return the key as it is."""
        reading = self._prefix.reading([key])
        answer = await self._client.ask("/v3/kv/txn", reading, urgent=urgent)
        entry = self._prefix.read([key], answer)[key]
        return entry, wire.revision(answer) if entry is None else entry.revision

    async def entries(self, folder: str) -> list[Entry]:
        """Return all keys of a folder, at one revision unless that was forgotten meanwhile."""
        found: list[Entry] = []
        at = 0
        while True:
            after = found[-1].key if found else ""
            try:
                page = self._prefix.page(f"{folder}/", after, _PAGE, at)
                answer = await self._client.ask("/v3/kv/range", page)
            except Forgotten:
                at = 0
                continue
            at = at or wire.revision(answer)
            found += self._prefix.entries(answer)
            if not answer.get("more"):
                return found

    async def swap(
        self, conditions: Conditions, writes: Writes, *, urgent: bool = False
    ) -> Mapping[str, Entry]:
        """Write if all conditions are met."""
        request = self._prefix.swap(conditions, writes)
        answer = await self._commit(conditions, request, urgent=urgent)
        number = wire.revision(answer)
        return {key: Entry(key, value, number, number) for key, value in writes.items()}

    async def remove(self, key: str, version: Hashable) -> None:
        """Delete a key at a version."""
        conditions: Conditions = {key: version}
        await self._commit(conditions, self._prefix.removal(conditions))

    async def _commit(
        self, conditions: Conditions, request: wire.Object, *, urgent: bool = False
    ) -> wire.Object:
        answer = await self._client.ask("/v3/kv/txn", request, "write", urgent=urgent)
        if not wire.succeeded(answer):
            raise Conflict(f"one of {sorted(conditions)} is at another version")
        return answer

    def follow(self, key: str, sink: Sink) -> None:
        """Report the key now and after each change."""
        self._follower.follow(key, sink)

    def unfollow(self, key: str, sink: Sink) -> None:
        """Report no more."""
        self._follower.unfollow(key, sink)

    async def examine(self) -> list[Finding]:
        """Look at the cluster and our rights."""
        return await doctor.examine(self._client, self._prefix, self._prefix_text)
