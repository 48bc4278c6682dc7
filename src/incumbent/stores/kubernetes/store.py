"""Kubernetes objects as a store: the rules of `stores.api`, kept on an API server.

The objects are Leases; in other formats (`formats`) they are ConfigMaps or what others have
defined, and the rules are the same. A record may share its object with others (`layout`).

What confirms a renewal: a PUT of the Lease at a known resourceVersion. The API server compares and
writes in one etcd transaction, so its answer is a quorum's word.

Who judges expiry: observers. Nobody compares `renewTime` with a clock; a takeover is a PUT of an
object in which the very version of the record stands that stood still for a whole TTL.

The fencing token of a term is the resourceVersion of the write that acquired it: a revision of the
whole database, which grows over release, expiry, restart and deletion of the Lease. After a take of
unknown outcome the version that is read back stands for it. It may be a later one (somebody added
an annotation), and still it is greater than every earlier token, because those were revisions
before this term began, and smaller than every later one, because the next term begins with a write
that replaces this version or one after it.

Rules
-----
1. **A conflict is looked into before it is believed.** Proxies repeat a PUT whose answer they did
   not like, and the repetition is refused because the first one worked. If the record carries the
   nonce of our take, the take happened.
2. **A conflict is of the object, a refusal is of the record.** If the object has moved and the
   record has not, somebody wrote beside it: the same is written again at the new resourceVersion, a
   few times. The comparison is each time with what was watched, never with what was just read.
3. **A renewal keeps what others wrote**: after a conflict it reads, and goes on at the new version
   while the record carries its term, a few times within the caller's limit.
4. **No time limit and no retry after silence in here.** Both are the caller's.

Warning: a creation cannot name the version that it replaces, for there is none. So an absence is
taken over only while its mark stands (see `ledger`), and what a watch has not delivered yet, this
cannot see: a Lease that is created, held and deleted again behind the back of a stalled watch,
within one TTL. Forbid `delete` to everybody; nothing here needs it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import replace

from incumbent.clock import boottime
from incumbent.core.records import (
    Bar,
    Claim,
    Held,
    Holding,
    Lease,
    Snapshot,
    StepDownRequest,
)
from incumbent.errors import Refused, StoreUnavailable, StoreUnusable
from incumbent.stores.api import ON_ONE_SERVER, Capabilities, Finding, Grade, Sink
from incumbent.stores.keeping import KeepingStore
from incumbent.stores.kubernetes import doctor, rbac, wire
from incumbent.stores.kubernetes.api import Conflict, NotFound, ObjectApi
from incumbent.stores.kubernetes.checkpoints import LeaseCheckpoints
from incumbent.stores.kubernetes.deaths import WHY, Deaths
from incumbent.stores.kubernetes.label import RoleLabel
from incumbent.stores.kubernetes.layout import LEASES_BY_NAME, Layout
from incumbent.stores.kubernetes.ledger import Ledger
from incumbent.stores.kubernetes.watch import Watcher
from incumbent.stores.kubernetes.wire import Format, Object

__all__ = ["CAPABILITIES", "KubernetesStore"]

CAPABILITIES = Capabilities(
    scheme="kubernetes",
    sessions=False,
    token=True,
    judged_by="observers",
    confirmed_by="a PUT of the Lease at its resourceVersion",
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

_ATTEMPTS = 5
"""How often a write that meets changes by third parties adopts the new version."""


class KubernetesStore(KeepingStore):
    """The elections of one namespace.

    Args:
        api: the API server.
        url: for messages.
        candidate: our name in the cluster, or None.
        wall: seconds since 1970, written into the record for people and never compared.
        layout: where the records lie.
        capabilities: what is declared of that.
    """

    capabilities: Capabilities = CAPABILITIES

    def __init__(
        self,
        api: ObjectApi,
        url: str,
        candidate: str | None = None,
        wall: Callable[[], float] = time.time,  # wall clock: written into the record for people
        *,
        layout: Layout[Format] = LEASES_BY_NAME,
        capabilities: Capabilities = CAPABILITIES,
    ) -> None:
        self.capabilities = capabilities
        self.url = url
        self._label: RoleLabel | None = None
        self._deaths: Deaths | None = None
        self._pod_api: ObjectApi | None = None
        self._api = api
        self._candidate = candidate
        self._wall = wall
        self._layout = layout
        self._ledger = Ledger(layout.format_of)
        self._watcher = Watcher(api, self._ledger, layout.object_of)
        self._tokens: dict[str, tuple[str, int]] = {}
        self._checkpoints = LeaseCheckpoints(api) if capabilities.checkpoints else None

    def equip(
        self,
        label: RoleLabel | None,
        deaths: Deaths | None,
        pods: ObjectApi,
    ) -> None:
        """Have the active Pod labelled, or deaths reported; before anything else.

        `pods` is what these two use, and is closed with the store.
        """
        self._label, self._deaths, self._pod_api = label, deaths, pods
        if deaths is not None:
            self.capabilities = replace(self.capabilities, evidence=WHY)

    async def open(self, *, create: bool = True) -> None:
        """Make sure that the server answers, and knows the resource.

        Nothing has to exist beforehand but the namespace, and the definition of the resource if it
        is not Kubernetes' own.
        """
        await self._api.server_version()
        resource = self._api.resource
        if resource.definition and not await self._api.resource_found():
            raise StoreUnusable(
                f"the API server {self._api.url} does not know {resource.full_name}: "
                "`incumbent doctor` prints the definition for `kubectl apply`"
            )

    async def close(self) -> None:
        """Give back every connection."""
        if self._label is not None:
            await self._label.close()
        if self._deaths is not None:
            await self._deaths.close()
        if self._pod_api is not None:
            await self._pod_api.close()
        await self._watcher.close()
        await self._api.close()

    def candidate_name(self) -> str | None:
        """Return the name and UID of our Pod, if this is one."""
        return self._candidate

    # -- reading ----------------------------------------------------------------------------------

    async def read(self, name: str) -> Snapshot:
        """Return the record as it is now."""
        return (await self._read(name))[0]

    async def _read(self, name: str) -> tuple[Snapshot, Object | None]:
        asked = self._ledger.asking(name)
        try:
            obj = await self._api.get(self._layout.object_of(name))
        except NotFound:
            serial, watched = asked.absent_from, self._watcher.continuous(name)
            return self._ledger.absent(name, serial, continuous=watched), None
        watched = self._watcher.continuous(name)
        snapshot, went_back = self._ledger.present(name, obj, asked, continuous=watched)
        if went_back:
            self._watcher.start_over()
        return snapshot, obj

    async def read_back(self, name: str, claim: Claim) -> Held | Snapshot:
        """Find out whether the take of `claim` happened."""
        snapshot, obj = await self._read(name)
        if obj is not None and self._layout.format_of(name).carries(obj, claim.term):
            return self._held(name, claim, obj)
        return snapshot

    # -- terms ------------------------------------------------------------------------------------

    async def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        """Become the holder, if the record is still exactly `over`."""
        form = self._layout.format_of(name)
        form.check(claim)
        if over.holding is Holding.FOREIGN:
            raise Refused(await self.read(name))
        if self._deaths is not None:
            self._deaths.announce(claim.term)
        sent = boottime()

        def change(obj: Object | None) -> Object:
            if obj is not None:
                return form.taken(obj, claim, self._wall())
            called = self._layout.object_of(name)
            return form.created(called, self._api.namespace, claim, self._wall())

        try:
            written = await self._swap(name, over, change)
        except Refused as refusal:
            if refusal.snapshot.term != claim.term:
                raise
            found = await self.read_back(name, claim)  # Our own write is what stands in the way.
            if isinstance(found, Held):
                return found
            raise Refused(found) from None
        if self._label is not None:
            self._label.confirmed(name, sent, claim.ttl_s)
        return self._held(name, claim, written)

    async def connect(self) -> None:
        """Have a connection ready: that of a standby has idled for too long to be trusted."""
        await self._api.connect()

    async def _swap(
        self, name: str, over: Snapshot, change: Callable[[Object | None], Object]
    ) -> Object:
        """Write what `change` makes of the object in which the record is still exactly `over`.

        Of None, if there is no such object, it makes one.

        Raises:
            Refused: the record is another one.
        """
        obj = await self._exactly(name, over)
        for _ in range(_ATTEMPTS):
            try:
                if obj is None:
                    return await self._api.create(change(None))
                return await self._api.replace(change(obj))
            except (Conflict, NotFound) as error:
                if obj is None and isinstance(error, NotFound):
                    text = f"namespace {self._api.namespace!r} does not exist: {error}"
                    raise StoreUnusable(text) from None
            sent_at = _version(obj)
            found, obj = await self._read(name)
            if found.watched != over.watched or _version(obj) == sent_at:
                raise Refused(found)
        raise StoreUnavailable(f"{name!r}: others wrote beside it {_ATTEMPTS} times in a row")

    async def _exactly(self, name: str, over: Snapshot) -> Object | None:
        """Return the object of `over`, which must be current if it has to be fetched.

        Raises:
            Refused: the record is another one.
        """
        if over.version is None:
            if not self._ledger.still_absent(over):
                raise Refused(await self.read(name))
            return self._ledger.object_without(name)
        obj = self._ledger.object_at(name, over.version)
        if obj is None:
            snapshot, obj = await self._read(name)
            if obj is None or snapshot.version != over.version:
                raise Refused(snapshot)
        return obj

    def _held(self, name: str, claim: Claim, obj: Object) -> Held:
        snapshot, _ = self._ledger.present(name, obj)
        token = wire.version(obj)
        self._tokens[name] = (claim.term, token)
        lease = Lease(claim.term, snapshot.version, claim.ttl_s, claim.identity, name)
        return Held(name, claim.term, token, lease, snapshot)

    async def renew(self, lease: Lease) -> Lease:
        """Confirm the term by writing its record."""
        term, known = self._tokens.get(lease.name, ("", 0))
        token = known if term == lease.key else None
        form = self._layout.format_of(lease.name)
        sent = boottime()
        written = await self._write_while(
            lease.name,
            lease.key,
            lease.version,
            lambda obj: form.renewed(obj, token, self._wall()),
        )
        if isinstance(written, Snapshot):
            if self._label is not None:
                self._label.lost(lease.name)
            raise Refused(written)
        if self._label is not None:
            self._label.confirmed(lease.name, sent, lease.ttl_s)
        return lease.at(self._ledger.present(lease.name, written)[0].version)

    async def release(self, held: Held, lease: Lease, successor: str) -> Snapshot:
        """Give up exactly this term."""
        if self._label is not None:
            await self._label.ended(held.name)
        form = self._layout.format_of(held.name)
        written = await self._write_while(
            held.name,
            held.term,
            lease.version,
            lambda obj: form.released(obj, successor, self._wall()),
        )
        if self._tokens.get(held.name, ("", 0))[0] == held.term:
            del self._tokens[held.name]
        if isinstance(written, Snapshot):
            return written
        return self._ledger.present(held.name, written)[0]

    async def ask(self, name: str, request: StepDownRequest) -> Snapshot:
        """Leave a request to step down."""
        form = self._layout.format_of(name)
        written = await self._write_while(
            name, request.term, None, lambda obj: form.asked(obj, request)
        )
        if isinstance(written, Snapshot):
            raise Refused(written)
        return self._ledger.present(name, written)[0]

    async def bar(self, over: Snapshot, bar: Bar) -> Snapshot:
        """Make of the record one that nobody takes, in a format that members of others heed."""
        if not self.capabilities.bars:
            return await super().bar(over, bar)
        if over.bar is not None:
            return await self._swap_bar(over, bar)
        if over.holding is not Holding.HELD:
            raise Refused(await self.read(over.name))
        form = self._layout.format_of(over.name)
        written = await self._write_while(
            over.name, over.term, None, lambda obj: form.barred(obj, bar, self._wall())
        )
        if not isinstance(written, Snapshot):
            return self._ledger.present(over.name, written)[0]
        if written.bar == bar:
            return written
        raise Refused(written)

    async def unbar(self, over: Snapshot) -> Snapshot:
        """Make the record vacant if it is exactly this bar."""
        if not self.capabilities.bars:
            return await super().unbar(over)
        return await self._swap_bar(over, None)

    async def void(self, over: Snapshot) -> Snapshot:
        """Make vacant exactly the record that was seen, on the word of a person.

        No proof stands behind it, so it is no part of what candidates do. It swaps that very
        version: a holder that has renewed since is left alone. The vacancy has a mark in it, by
        which our own write is known if it is what stands in the way of its repetition (rule 1).

        Raises:
            Refused: the record is another one, or nobody holds.
            StoreUnusable: the format is another library's, whose members may hold.
        """
        if not self.capabilities.bars:
            raise StoreUnusable(f"{self.url} has records of another library: nothing is voided")
        if over.holding is not Holding.HELD or not over.term:
            raise Refused(over)
        form, mark = self._layout.format_of(over.name), secrets.token_hex(8)

        def change(obj: Object | None) -> Object:
            if obj is None:
                raise AssertionError("what is held is there")
            return form.voided(obj, mark, self._wall())

        try:
            written = await self._swap(over.name, over, change)
        except Refused:
            found, obj = await self._read(over.name)
            if obj is not None and form.voided_by(obj, mark):
                return found
            raise Refused(found) from None
        return self._ledger.present(over.name, written)[0]

    async def _swap_bar(self, over: Snapshot, bar: Bar | None) -> Snapshot:
        """Replace exactly this bar, at its version: what is read now may be another one."""
        if over.bar is None:
            raise Refused(await self.read(over.name))
        form = self._layout.format_of(over.name)

        def change(obj: Object | None) -> Object:
            if obj is None:
                raise AssertionError("what is barred is there")
            if bar is None:
                return form.released(obj, "", self._wall())
            return form.barred(obj, bar, self._wall())

        try:
            written = await self._swap(over.name, over, change)
        except Refused as refusal:
            if bar is not None and refusal.snapshot.bar == bar:
                return refusal.snapshot
            raise
        return self._ledger.present(over.name, written)[0]

    async def _write_while(
        self, name: str, term: str, version: object, change: Callable[[Object], Object]
    ) -> Object | Snapshot:
        """Write what `change` makes of the record, while the record carries `term`.

        Returns:
            The object as written; or, if it carries another term or none, the record as it is.
        """
        obj = self._ledger.object_at(name, version)
        if obj is not None and not self._layout.format_of(name).carries(obj, term):
            obj = None
        for _ in range(_ATTEMPTS):
            if obj is None:
                snapshot, obj = await self._read(name)
                if obj is None or snapshot.term != term:
                    return snapshot
            try:
                return await self._api.replace(change(obj))
            except Conflict:
                obj = None
            except NotFound:
                return await self.read(name)
        raise StoreUnavailable(f"{name!r} was changed by others {_ATTEMPTS} times in a row")

    # -- following --------------------------------------------------------------------------------

    def follow(self, name: str, sink: Sink) -> None:
        """Report the record now and after each change."""
        if self._label is not None:
            self._label.follow(name)
        if self._deaths is not None:
            sink = self._deaths.follow(name, sink)
        self._watcher.follow(name, sink)

    def unfollow(self, name: str, sink: Sink) -> None:
        """Report no more."""
        if self._deaths is not None:
            sink = self._deaths.unfollow(name, sink)
        self._watcher.unfollow(name, sink)

    # -- for people -------------------------------------------------------------------------------

    async def elections(self) -> list[Snapshot]:
        """Return every election of the namespace."""
        listing = await self._api.list()
        found = [(name, obj) for obj in listing.items for name in self._layout.elections_in(obj)]
        by_name = sorted(found, key=lambda one: one[0])
        return [self._layout.format_of(name).snapshot(name, obj) for name, obj in by_name]

    async def examine(self) -> list[Finding]:
        """Look at the server, the namespace and our rights."""
        return [*await doctor.examine(self._api), *await self._examine_pods()]

    async def examine_election(self, name: str) -> list[Finding]:
        """Look at the same, with the rights to one object."""
        called = self._layout.object_of(name)
        return [*await doctor.examine(self._api, called), *await self._examine_pods()]

    async def _examine_pods(self) -> list[Finding]:
        """Look at our rights to Pods, where they are needed."""
        if self._pod_api is None:
            return []
        needed = ("watch",) if self._label is None else ("watch", "patch")
        found = await doctor.asked(self._pod_api, "", rbac.Rights(needed, (), "", by_name=False))
        if self._deaths is not None:
            found.append(self._deaths.examine())
        return found


def _version(obj: Object | None) -> str | None:
    return None if obj is None else str(obj["metadata"]["resourceVersion"])
