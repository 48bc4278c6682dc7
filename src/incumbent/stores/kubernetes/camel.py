"""The Lease of Apache Camel: `KubernetesClusterService` with Leases, which is its default.

Camel's members
---------------
- The members of a cluster are the Pods with its labels that are Running and Ready. The holder is
  the name of a Pod. Who is no member does not hold, and does not take.
- A member that finds no holder takes the Lease and works at once. One that finds a holder who is no
  member takes it at once too, but works only after a lease duration of its own (15 s), during which
  it renews nothing. `renewTime` is written about every 10 s and never judged.
- A holder looks at the Lease and the Pods about every 2 s. From the beginning of a look that found
  it a holder and a member, it believes so for a renew deadline of its own (10 s), counted on its
  wall clock.
- It gives the Lease up by taking the holder out of it, one lease duration after it was told to; a
  context that is only stopped leaves it as it is.

What ours does
--------------
1. The holder that ours writes is the name of its Pod: its identity up to the first underscore. The
   whole identity begins the term, in the annotations. They count only while the Lease has the
   holder and the `renewTime` that ours wrote with them, because Camel keeps annotations when it
   takes over, and takes a Lease of its own Pod's name for its own without a takeover.
2. Ours takes only while its Pod is a member: another's would be taken away at once.
3. A term is not trusted for longer than the lease duration of Camel's members (`takeover_s`). That
   is for how long they wait after they took over from a holder that lives, with a Pod that is not
   Ready.
4. From a holder of ours it takes over as everywhere: at the version that stood still for a TTL.
5. From a holder of theirs in two steps. First, when the Lease has stood still for its duration
   *and* the holder is no member, ours puts its Pod's name in, without a term. That ends every later
   look of the former holder; looks from before it are believed for less than `takeover_s`. Then
   that very version has to stand still for `takeover_s`. It belongs to nobody of ours meanwhile:
   whoever of ours finds it unchanged for so long may take it. Camel's members wait as long.

A holder of theirs whose Pod stays Ready is never taken over, whatever became of its process: so do
its own. A Lease that names the Pod of ours, but no term, is nobody else's: a Pod has one member.
"""

from __future__ import annotations

import math
import re

from incumbent.core.records import FORMAT, Claim, Held, Holding, Snapshot
from incumbent.errors import ConfigError, Refused, StoreUnusable
from incumbent.stores.api import Capabilities, Finding
from incumbent.stores.kubernetes import doctor
from incumbent.stores.kubernetes.api import ObjectApi
from incumbent.stores.kubernetes.layout import Layout
from incumbent.stores.kubernetes.rbac import Rights
from incumbent.stores.kubernetes.store import KubernetesStore
from incumbent.stores.kubernetes.wire import (
    FORMAT_KEY,
    PREFIX,
    TERM_KEY,
    Format,
    Object,
    notes_of,
)

__all__ = [
    "EVICTED_KEY",
    "CamelFormat",
    "CamelStore",
    "Members",
    "PodFormat",
    "camel_name",
    "camel_text",
    "pod_of",
]

RENEWED_KEY = PREFIX + "renewed"
EVICTED_KEY = PREFIX + "evicted"

_LABELS = {"provider": "camel"}
_LONGEST_NAME = 253
_PODS = Rights(("list",), (), "", by_name=False)


def pod_of(identity: str) -> str:
    """Return the Pod of a candidate; the name of a Pod has no underscore."""
    return identity.partition("_")[0]


class PodFormat(Format):
    """A record whose holder is a Pod.

    Args:
        takeover_s: for how long members of theirs wait after a takeover.
    """

    def __init__(self, takeover_s: float) -> None:
        self._takeover_s = takeover_s

    @property
    def theirs_s(self) -> int:
        """For how long one waits for a holder of theirs."""
        return max(1, math.ceil(self._takeover_s))

    def evicted(self, obj: Object, claim: Claim, wall_s: float) -> Object:
        """Return the record after `claim` put its Pod into the place of a holder of theirs."""
        taken = self.taken(obj, claim, wall_s)
        record = self.record(taken) or {}
        marks = {FORMAT_KEY: str(FORMAT), EVICTED_KEY: record["renewTime"]}
        waiting = {"holderIdentity": pod_of(claim.identity), "leaseDurationSeconds": self.theirs_s}
        return self.laid(self.marked(taken, marks), {**record, **waiting})

    def is_evicted(self, obj: Object) -> bool:
        """Tell whether the holder is one of ours who waits for a former one of theirs to end."""
        renewed_at = (self.record(obj) or {}).get("renewTime")
        return bool(renewed_at) and self.notes(obj).get(EVICTED_KEY) == renewed_at

    def check(self, claim: Claim) -> None:
        """Refuse a TTL beyond which a member of theirs would work already."""
        if claim.ttl_s > self._takeover_s:
            raise StoreUnusable(
                f"a TTL of {claim.ttl_s:g} s is longer than takeover_s={self._takeover_s:g}, for "
                "which members of theirs wait after a takeover: shorten the TTL, or lengthen their "
                "leaseDurationMillis and say so by takeover_s="
            )


class CamelFormat(PodFormat):
    """A Lease whose holder is a Pod."""

    def record(self, obj: Object) -> Object | None:
        """Return the record; of ours, with the whole identity for a holder."""
        spec, notes = _spec(obj), notes_of(obj)
        holder, term = spec.get("holderIdentity"), notes.get(TERM_KEY, "")
        identity = term.rpartition("/")[0]
        written = notes.get(RENEWED_KEY) == spec.get("renewTime")
        if holder and written and pod_of(identity) == holder:
            return {**spec, "holderIdentity": identity}
        return spec

    def laid(self, obj: Object, record: Object) -> Object:
        """Return the Lease with this record; a holder is left out where there is none."""
        spec = {key: value for key, value in record.items() if key != "holderIdentity"}
        notes = {key: value for key, value in notes_of(obj).items() if key != RENEWED_KEY}
        if record.get("holderIdentity"):
            # Camel takes an empty one for a holder who is gone, and waits.
            spec["holderIdentity"] = pod_of(record["holderIdentity"])
            notes[RENEWED_KEY] = record["renewTime"]
        metadata = obj["metadata"]
        labels = {**(metadata.get("labels") or {}), **_LABELS}
        return {
            **obj,
            "metadata": {**metadata, "annotations": notes, "labels": labels},
            "spec": spec,
        }

    def is_election(self, obj: Object) -> bool:
        """Tell it by Camel's label."""
        labels = obj["metadata"].get("labels") or {}
        return all(labels.get(key) == value for key, value in _LABELS.items())


class Members:
    """The members of a cluster, as Camel counts them.

    Args:
        pods: the Pods of the namespace.
        labels: the label selector of the cluster; "" for every Pod.
    """

    def __init__(self, pods: ObjectApi, labels: str) -> None:
        self._pods = pods
        self._labels = labels

    async def now(self) -> set[str]:
        """Return the names of the Pods that are Running and Ready."""
        listing = await self._pods.list(self._labels)
        return {pod["metadata"]["name"] for pod in listing.items if _is_ready(pod)}

    def text(self) -> str:
        """Return what a member is."""
        labelled = f" with the labels {self._labels}" if self._labels else ""
        return f"the Pods{labelled} of {self._pods.namespace!r} that are Running and Ready"

    async def examine(self) -> list[Finding]:
        """Look at the right to list the Pods."""
        found = await doctor.asked(self._pods, "", _PODS)
        return [
            Finding(f"{one.check} {self._pods.resource.plural}", one.ok, one.text, one.fix)
            for one in found
        ]

    async def close(self) -> None:
        """Give back every connection."""
        await self._pods.close()


class CamelStore(KubernetesStore):
    """Elections whose holders have to be members of a Camel cluster."""

    def __init__(
        self,
        api: ObjectApi,
        url: str,
        candidate: str | None,
        layout: Layout[PodFormat],
        members: Members,
        capabilities: Capabilities,
    ) -> None:
        super().__init__(api, url, candidate, layout=layout, capabilities=capabilities)
        self._pods = layout
        self._members = members

    async def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        """Become the holder; from one of theirs, first take the lock away from it."""
        form = self._pods.format_of(name)
        form.check(claim)
        members, pod = await self._members.now(), pod_of(claim.identity)
        if pod not in members:
            raise StoreUnusable(
                f"{pod!r} (of {claim.identity!r}) is none of {self._members.text()}: a member of "
                "theirs would take the lock from it at once"
            )
        if over.holding is Holding.HELD and not over.term:
            obj = await self._exactly(name, over)
            if obj is None or not form.is_evicted(obj):
                if over.holder in members - {pod}:
                    raise Refused(over)
                raise Refused(await self._evict(name, claim, over))
        return await super().take(name, claim, over)

    async def _evict(self, name: str, claim: Claim, over: Snapshot) -> Snapshot:
        """Put our Pod into the place of a holder of theirs, over the record that stood still."""
        form = self._pods.format_of(name)

        def change(obj: Object | None) -> Object:
            if obj is None:
                raise AssertionError("what is held is there")
            return form.evicted(obj, claim, self._wall())

        return self._ledger.present(name, await self._swap(name, over, change))[0]

    async def examine(self) -> list[Finding]:
        """Look at the server, the namespace and our rights."""
        return [*await super().examine(), *await self._members.examine()]

    async def examine_election(self, name: str) -> list[Finding]:
        """Look at the same, with the rights to one object."""
        return [*await super().examine_election(name), *await self._members.examine()]

    async def close(self) -> None:
        """Give back every connection."""
        await self._members.close()
        await super().close()


def camel_text(text: str) -> str:
    """Return what Camel makes of a piece of a name."""
    return re.sub("[^-.a-z0-9]", "-", text.lower())


def camel_name(name: str) -> str:
    """Return how Camel calls the Lease of a resource name, a hyphen, and a group.

    Raises:
        ConfigError: Kubernetes would not take it.
    """
    kept = camel_text(name).strip("-.")
    if not 0 < len(kept) <= _LONGEST_NAME:
        raise ConfigError(
            f"{name!r} cannot be the name of a Lease there: it would be {kept!r}, and 1 to "
            f"{_LONGEST_NAME} letters, digits, hyphens and dots are wanted; choose one by lock="
        )
    return kept


def _spec(obj: Object) -> Object:
    spec = obj.get("spec")
    return spec if isinstance(spec, dict) else {}


def _is_ready(pod: Object) -> bool:
    status = pod.get("status") or {}
    ready = any(
        condition.get("type") == "Ready" and condition.get("status") == "True"
        for condition in status.get("conditions") or ()
    )
    return ready and status.get("phase") == "Running"
