"""All elections of a namespace, or of all, with their Pods: for people, by `list` alone.

What ages are worth
-------------------
A record carries times of its holder's wall clock, which is not ours, and `renewTime` may run ahead
even of that (see `wire`). But the API server notes in `managedFields` when it took in a write, and
dates its answers; both are its own clock. So the age of a renewal is a difference on one clock, to
whole seconds. (Of several API servers, one each.) Where that account is missing there is no age.

The age of a term has nothing better than `acquireTime`, the holder's clock, and is as good as that.

Both are for people. Nothing is decided on them: a candidate counts on its own clock, from what it
has seen itself.

Which Pod holds is what the identity says. It carries the Pod's UID, so a Pod that has come back
under its name is not taken for its predecessor. Who stands by no record says; named are the
running Pods that belong to the same controller as the holder's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from incumbent.core.records import Holding, Snapshot
from incumbent.errors import PermissionDenied
from incumbent.stores.kubernetes import rbac
from incumbent.stores.kubernetes.client import Client, Recorded
from incumbent.stores.kubernetes.formats import LEADER_KEY, AnnotationFormat, ConfigMapFormat
from incumbent.stores.kubernetes.pods import pod_in
from incumbent.stores.kubernetes.resource import (
    CONFIG_MAPS,
    ENDPOINT_SLICES,
    LEASES,
    PODS,
    Resource,
)
from incumbent.stores.kubernetes.sessions import wire as sessions
from incumbent.stores.kubernetes.slices import RECORD_KEY, SliceFormat
from incumbent.stores.kubernetes.wire import (
    CHECKPOINT_LABEL,
    FORMAT_KEY,
    LEASE,
    Format,
    Object,
    notes_of,
)

__all__ = ["Election", "Pod", "Survey", "survey"]

SLACK_S = 2.0
"""The server's clock is told in whole seconds, twice."""

_NODE_LEASES = "kube-node-lease"
_API_SERVERS = "apiserver.kubernetes.io/identity"


@dataclass(frozen=True, slots=True)
class Pod:
    """The Pod that a holder's identity names.

    Attributes:
        name: its name.
        uid: its UID, or "" if the identity has none.
        node: where it runs, or "".
        phase: as the API server has it; "" if there is no such Pod.
        ready: whether it is Ready.
        ending: whether it was deleted and is not gone yet.
    """

    name: str
    uid: str
    node: str = ""
    phase: str = ""
    ready: bool = False
    ending: bool = False


@dataclass(frozen=True, slots=True)
class Election:
    """One election, as its record and the server's account of it say.

    Attributes:
        namespace: where.
        kind: of which kind the object is.
        snapshot: the record; its `ttl_s` is that of the session, if it is held under one.
        acquired: when the term began, by the holder's clock.
        renewed: when the server took in the last renewal, by its clock.
        term_age_s: since `acquired`, until the server's answer.
        renewal_age_s: since `renewed`, until the server's answer.
        pod: the Pod of the holder, if its identity names one and Pods could be listed.
        standbys: the other running Pods of the same controller.
    """

    namespace: str
    kind: str
    snapshot: Snapshot
    acquired: datetime | None = None
    renewed: datetime | None = None
    term_age_s: float | None = None
    renewal_age_s: float | None = None
    pod: Pod | None = None
    standbys: tuple[str, ...] = ()

    @property
    def stale(self) -> bool:
        """Tell whether it is held, and was not renewed for longer than it lasts."""
        age_s = self.renewal_age_s
        held = self.snapshot.holding is Holding.HELD
        return held and age_s is not None and age_s > self.snapshot.ttl_s + SLACK_S


@dataclass
class Survey:
    """What was found.

    Attributes:
        server: where.
        at: the server's clock at its answer.
        elections: by namespace and name.
        notes: for people: what could not be looked at, and which right is missing.
    """

    server: str
    at: datetime | None = None
    elections: list[Election] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


async def survey(client: Client) -> Survey:
    """Read the elections of the client's namespace, or of all if that is "".

    Raises:
        PermissionDenied: Leases may not be listed. Of everything else it is noted.
        StoreError: the API server cannot be reached.
    """
    found = Survey(client.url)

    async def listed(resource: Resource) -> Recorded:
        placed = resource if client.namespace else resource.everywhere()
        try:
            return await client.beside(placed).recorded()
        except PermissionDenied:
            if resource is LEASES:
                raise
            missing = rbac.rule(("list",), "", resource)
            found.notes.append(f"{resource.plural} may not be listed: {missing}")
            return Recorded([], None)

    leases, maps, slices, pods = await asyncio.gather(
        *map(listed, (LEASES, CONFIG_MAPS, ENDPOINT_SLICES, PODS))
    )
    found.at = leases.at
    looked = _Pods(pods.items)
    records = [*_in_leases(leases.items), *_in_maps(maps.items), *_in_slices(slices.items)]
    for record in records:
        found.elections.append(looked.joined(record.election(leases.at)))
    found.elections.sort(key=lambda each: (each.namespace, each.snapshot.name))
    return found


# -- records --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Record:
    """A record, and the object whose renewal keeps it: another one, if it is under a session."""

    kind: str
    form: Format
    object: Object
    renewed: Object
    field: tuple[str, ...]
    """The field that each renewal writes, as `managedFields` names it."""

    def election(self, at: datetime | None) -> Election:
        metadata = self.object["metadata"]
        snapshot = self.form.snapshot(metadata["name"], self.object)
        acquired = renewed = None
        if snapshot.holding is Holding.HELD:
            record = self.form.record(self.object) or {}
            acquired = _time(record.get("acquireTime"))
            renewed = _taken_in(self.renewed, self.field)
        return Election(
            namespace=metadata["namespace"],
            kind=self.kind,
            snapshot=snapshot,
            acquired=acquired,
            renewed=renewed,
            term_age_s=_between_s(acquired, at),
            renewal_age_s=_between_s(renewed, at),
        )


def _in_leases(items: Iterable[Object]) -> Iterator[_Record]:
    renewed = ("f:spec", "f:renewTime")
    by_name = {(o["metadata"]["namespace"], o["metadata"]["name"]): o for o in items}
    for (namespace, _), obj in by_name.items():
        labels = obj["metadata"].get("labels") or {}
        if namespace == _NODE_LEASES or _API_SERVERS in labels:
            continue
        if labels.get(sessions.KIND_KEY) == sessions.SESSION or CHECKPOINT_LABEL in labels:
            continue
        session = notes_of(obj).get(sessions.SESSION_KEY, "")
        if not session or notes_of(obj).get(FORMAT_KEY) != sessions.FORMAT_TEXT:
            yield _Record("Lease", LEASE, obj, obj, renewed)
            continue
        kept = by_name.get((namespace, sessions.lease_name(f"sessions/{session}")), obj)
        yield _Record("Lease", LEASE, _as_if_alone(obj), kept, renewed)


def _as_if_alone(obj: Object) -> Object:
    """Return a record under a session as it would be if it were renewed itself."""
    notes = notes_of(obj)
    ttl = notes.get(sessions.TTL_KEY, "")
    duration = int(ttl) if ttl.isdecimal() else obj["spec"].get("leaseDurationSeconds")
    metadata = {**obj["metadata"], "annotations": {**notes, FORMAT_KEY: "1"}}
    return {**obj, "metadata": metadata, "spec": {**obj["spec"], "leaseDurationSeconds": duration}}


def _in_maps(items: Iterable[Object]) -> Iterator[_Record]:
    ours, theirs = ConfigMapFormat(), AnnotationFormat()
    for obj in items:
        if ours.is_election(obj):
            yield _Record("ConfigMap", ours, obj, obj, ("f:data", "f:renewTime"))
        elif theirs.is_election(obj):
            field = ("f:metadata", "f:annotations", f"f:{LEADER_KEY}")
            yield _Record("ConfigMap", theirs, obj, obj, field)


def _in_slices(items: Iterable[Object]) -> Iterator[_Record]:
    ours = SliceFormat()
    for obj in items:
        if ours.is_election(obj):
            field = ("f:metadata", "f:annotations", f"f:{RECORD_KEY}")
            yield _Record("EndpointSlice", ours, obj, obj, field)


def _taken_in(obj: Object, field: tuple[str, ...]) -> datetime | None:
    """Return when the server last took in a write by whoever wrote this field."""
    times = []
    for entry in obj["metadata"].get("managedFields") or ():
        place = entry.get("fieldsV1")
        for step in field:
            place = place.get(step) if isinstance(place, dict) else None
        if place is not None:
            times.append(_time(entry.get("time")))
    return max((each for each in times if each is not None), default=None)


def _time(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return found if found is not None and found.tzinfo else None


def _between_s(before: datetime | None, after: datetime | None) -> float | None:
    if before is None or after is None:
        return None
    return max(0.0, (after - before).total_seconds())


# -- Pods -----------------------------------------------------------------------------------------


class _Pods:
    """The Pods that were listed.

    Args:
        items: the objects.
    """

    def __init__(self, items: Iterable[Object]) -> None:
        self._items = {(o["metadata"]["namespace"], o["metadata"]["name"]): o for o in items}

    def joined(self, election: Election) -> Election:
        """Return the election with the Pod of its holder, and those that stand by."""
        if not self._items or election.snapshot.holding is not Holding.HELD:
            return election
        name, uid = pod_in(election.snapshot.holder)
        obj = self._items.get((election.namespace, name))
        if obj is None or (uid and obj["metadata"]["uid"] != uid):
            # Without a UID the name may be anything: only what carries one was a Pod for certain.
            return replace(election, pod=Pod(name, uid)) if uid else election
        return replace(election, pod=_seen(obj), standbys=tuple(self._beside(obj)))

    def _beside(self, pod: Object) -> Iterator[str]:
        """Return the names of the running Pods of the same controller."""
        owner = _controller(pod)
        for obj in self._items.values():
            running = obj.get("status", {}).get("phase") == "Running"
            if owner and obj is not pod and running and _controller(obj) == owner:
                yield obj["metadata"]["name"]


def _controller(pod: Object) -> str:
    owners = pod["metadata"].get("ownerReferences") or ()
    return next((each["uid"] for each in owners if each.get("controller")), "")


def _seen(pod: Object) -> Pod:
    metadata, status = pod["metadata"], pod.get("status") or {}
    conditions = status.get("conditions") or ()
    return Pod(
        name=metadata["name"],
        uid=metadata["uid"],
        node=pod.get("spec", {}).get("nodeName", ""),
        phase=status.get("phase", ""),
        ready=any(c["type"] == "Ready" and c["status"] == "True" for c in conditions),
        ending="deletionTimestamp" in metadata,
    )
