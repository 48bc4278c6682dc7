"""Kubernetes as a `KeyValue`: one Lease a key, compared and swapped by its resourceVersion.

The rules of `kv.api`, and how they are kept:

1. A swap is one PUT (or POST) after the other: the API server compares and writes one object in one
   etcd transaction, and no two. What is only compared is compared before.
2. The version is the resourceVersion: a revision of the whole database, never given out again.
3. So is the revision; the token of a term is the resourceVersion of the write that acquired it.
4. A read carries no resourceVersion, so it is a quorum's.
5. See `watch`.
6. A refusal may be our own write, repeated on its way by a proxy; `kv.store` looks into it.
7. Nothing expires. Sessions that are over are deleted by later ones, where RBAC allows it.

**A session is ours by its uid.** Somebody may delete the Lease of a session and put a copy of it
back, by hand or from a backup. By then others have seen it gone and wait out the TTL, and no
comparison of theirs will notice that it is there again, for they swap the record alone. So its
owner must not find it again: what has another uid than the Lease that we made is not there.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from contextlib import asynccontextmanager

from incumbent.errors import StoreUnavailable, StoreUnusable
from incumbent.stores.api import ON_ONE_SERVER, Capabilities, Finding, Grade
from incumbent.stores.kubernetes import api as k8s
from incumbent.stores.kubernetes import doctor, rbac
from incumbent.stores.kubernetes.checkpoints import LeaseCheckpoints
from incumbent.stores.kubernetes.ledger import Ledger
from incumbent.stores.kubernetes.sessions import wire
from incumbent.stores.kubernetes.sessions.watch import Follower
from incumbent.stores.kubernetes.wire import Object, version
from incumbent.stores.kv import KeyValueStore
from incumbent.stores.kv.api import ABSENT, Conditions, Conflict, Entry, Sink, Writes

__all__ = ["CAPABILITIES", "SLOTS", "LeaseKeyValue", "SessionStore"]

SLOTS = 12
"""How many requests are under way at once that are not urgent."""
SLOT_WAIT_S = 1.0

CAPABILITIES = Capabilities(
    scheme="kubernetes",
    sessions=True,
    token=True,
    judged_by="observers",
    confirmed_by="a PUT of the session's Lease at its resourceVersion",
    wakes_by="a watch",
    evidence="",
    absent_is_vacant=False,
    whole_seconds=True,
    one_host=False,
    grade=Grade.EXCLUSIVE_WITH_FENCING,
    assumes="etcd is linearizable, and clock rates differ by no more than rho",
    survives=ON_ONE_SERVER,
    bars=True,
    checkpoints=True,
)


class SessionStore(KeyValueStore):
    """The elections of one namespace that are held under sessions.

    Args:
        api: the API server.
        url: for messages.
        candidate: our name in the cluster, or None.
        wall: seconds since 1970, written into the record for people and never compared.
        chance: returns so many random bytes in hexadecimal, for the names of sessions.
    """

    def __init__(
        self,
        api: k8s.ObjectApi,
        url: str,
        candidate: str | None = None,
        wall: Callable[[], float] = time.time,  # wall clock: written into the record for people
        chance: Callable[[int], str] = secrets.token_hex,
    ) -> None:
        super().__init__(
            LeaseKeyValue(api, wall),
            url,
            CAPABILITIES,
            chance,
            checkpoints=LeaseCheckpoints(api, chance),
        )
        self._candidate = candidate

    def candidate_name(self) -> str | None:
        """Return the name and UID of our Pod, if this is one."""
        return self._candidate


class LeaseKeyValue:
    """The Leases of one namespace."""

    def __init__(self, api: k8s.ObjectApi, wall: Callable[[], float]) -> None:
        self._api = api
        self._wall = wall
        self._ledger = Ledger()
        self._follower = Follower(api, self._ledger, self._entry)
        self._made: dict[str, str] = {}
        self._slots = asyncio.Semaphore(SLOTS)

    async def open(self, *, create: bool) -> None:
        """Make sure that the server answers. Nothing has to exist beforehand but the namespace."""
        await self._api.server_version()

    async def close(self) -> None:
        """Give back every connection."""
        await self._follower.close()
        await self._api.close()

    async def connect(self) -> None:
        """Have a connection ready."""
        await self._api.connect()

    @asynccontextmanager
    async def _slot(self, *, urgent: bool) -> AsyncIterator[None]:
        """Wait for one's turn, unless it is urgent: the client has connections left for that.

        Raises:
            StoreUnavailable: too many wait.
        """
        if urgent:
            yield
            return
        try:
            async with asyncio.timeout(SLOT_WAIT_S):
                await self._slots.acquire()
        except TimeoutError:
            raise StoreUnavailable("too many requests of this process are waiting") from None
        try:
            yield
        finally:
            self._slots.release()

    # -- reading ----------------------------------------------------------------------------------

    def _entry(self, key: str, obj: Object) -> Entry | None:
        """Return what the Lease says; None if it has taken the place of one that we made."""
        metadata = obj["metadata"]
        if self._made.get(key) not in (None, metadata.get("uid")):
            return None
        value = wire.decoded(key, obj)
        return Entry(key, value, metadata["resourceVersion"], version(obj))

    async def get(self, key: str, *, urgent: bool = False) -> tuple[Entry | None, int]:
        """Return the key as it is."""
        name = wire.lease_name(key)
        asked = self._ledger.asking(name)
        try:
            async with self._slot(urgent=urgent):
                obj = await self._api.get(name)
        except k8s.NotFound:
            return None, asked.absent_from
        if self._ledger.present(name, obj, asked)[1]:
            self._follower.start_over()
        self._follower.read(key, obj)
        return self._entry(key, obj), version(obj)

    async def entries(self, folder: str) -> list[Entry]:
        """Return all keys of a folder that have our label."""
        kind = {"elections": wire.ELECTION, "sessions": wire.SESSION}[folder]
        listing = await self._api.list(f"{wire.KIND_KEY}={kind}")
        found = [self._entry(wire.key_of(obj), obj) for obj in listing.items]
        return [entry for entry in found if entry is not None]

    # -- writing ----------------------------------------------------------------------------------

    async def swap(
        self, conditions: Conditions, writes: Writes, *, urgent: bool = False
    ) -> Mapping[str, Entry]:
        """Compare what is not written, then write one key after the other."""
        for key, wanted in conditions.items():
            if key not in writes:
                await self._compare(key, wanted, urgent=urgent)
        written = {
            key: await self._write(key, conditions[key], writes[key], urgent=urgent)
            for key in writes
        }
        for entry in written.values():
            if self._is_renewal(entry, conditions[entry.key]):
                await self._follower.reached(entry.revision)
        return written

    def _is_renewal(self, entry: Entry, wanted: Hashable) -> bool:
        """Tell whether a session of ours was renewed, and not opened or closed."""
        return entry.key in self._made and wanted is not ABSENT and not wire.is_void(entry.value)

    async def _compare(self, key: str, wanted: Hashable, *, urgent: bool) -> None:
        """Compare what we know, or else what there is; an absence is never known."""
        if self._ledger.object_at(wire.lease_name(key), wanted) is not None:
            return
        entry, _ = await self.get(key, urgent=urgent)
        if (ABSENT if entry is None else entry.version) != wanted:
            raise Conflict(f"{key!r} is not at {wanted!r}")

    async def _write(self, key: str, wanted: Hashable, value: bytes, *, urgent: bool) -> Entry:
        name = wire.lease_name(key)
        base = None if wanted is ABSENT else await self._base(key, name, wanted, urgent=urgent)
        new = wire.encoded(key, json.loads(value), base, self._api.namespace, self._wall())
        try:
            async with self._slot(urgent=urgent):
                written = await (self._api.create if base is None else self._api.replace)(new)
        except k8s.Conflict as error:
            raise Conflict(f"{key!r} is not at {wanted!r}: {error}") from None
        except k8s.NotFound as error:
            if base is None:
                text = f"namespace {self._api.namespace!r} does not exist: {error}"
                raise StoreUnusable(text) from None
            raise Conflict(f"{key!r} is gone: {error}") from None
        self._ledger.present(name, written)
        if base is None and key.startswith("sessions/"):
            self._made[key] = written["metadata"].get("uid", "")
        entry = self._entry(key, written)
        assert entry is not None
        return entry

    async def _base(self, key: str, name: str, wanted: Hashable, *, urgent: bool = False) -> Object:
        """Return the object of that version, which must be current if it has to be fetched.

        Raises:
            Conflict: it is not.
        """
        obj = self._ledger.object_at(name, wanted)
        if obj is None:
            entry, _ = await self.get(key, urgent=urgent)
            obj = self._ledger.object_at(name, wanted) if entry is not None else None
        if obj is None:
            raise Conflict(f"{key!r} is not at {wanted!r}")
        return obj

    async def remove(self, key: str, version: Hashable) -> None:
        """Delete a Lease at a version."""
        name = wire.lease_name(key)
        base = await self._base(key, name, version)
        try:
            await self._api.delete(name, base["metadata"].get("uid", ""), str(version))
        except (k8s.Conflict, k8s.NotFound) as error:
            raise Conflict(f"{key!r} is not at {version!r}: {error}") from None

    # -- following --------------------------------------------------------------------------------

    def follow(self, key: str, sink: Sink) -> None:
        """Report the key now and after each change."""
        self._follower.follow(key, sink)

    def unfollow(self, key: str, sink: Sink) -> None:
        """Report no more to this sink."""
        self._follower.unfollow(key, sink)

    # -- for people -------------------------------------------------------------------------------

    async def examine(self) -> list[Finding]:
        """Look at the server, the namespace and our rights."""
        return await doctor.examine(self._api, rights=rbac.SESSIONS)
