"""What an owner sees of the evictions that wait, allows, and takes back.

Consent is written into the Pod that was looked at, at the version that was looked at: if it has
been replaced or let go meanwhile, the write is refused, and the owner sees the Pod as it is now.

Whoever may `patch` Pods can consent; a right cannot be limited to an annotation. Who did is written
beside it, as the API server knows them, and goes from there into the trail. Somebody could write
another name there by hand; what the API server has in its own audit log, nobody can.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from incumbent.audit.objects import Object, at, strings
from incumbent.consent.pods import (
    ONCE,
    UNTIL,
    Kind,
    controller_of,
    kind_of,
    moment,
    requested_at,
    shown,
    write,
)
from incumbent.errors import ConfigError, IncumbentError
from incumbent.manifests import marks
from incumbent.stores.kubernetes.api import Conflict, NotFound
from incumbent.stores.kubernetes.client import Client
from incumbent.stores.kubernetes.resource import PODS

__all__ = ["Standing", "consent", "find", "waiting"]

_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands with one Pod.

    Attributes:
        namespace: of the Pod.
        pod: its name.
        uid: which of that name.
        node: where it runs.
        requested: since when somebody wants it evicted, or None.
        by: who that is.
        repeated: about when that was asked last.
        consent: what the owner allows: "once", "until TIME", or "".
        consented: who said so.
        let_go: when its eviction was let through, or None.
    """

    namespace: str
    pod: str
    uid: str
    node: str
    requested: datetime | None
    by: str
    repeated: datetime | None
    consent: str
    consented: str
    let_go: datetime | None


def standing(pod: Object, now: datetime) -> Standing:
    """Return how it stands with a Pod."""
    notes = strings(at(pod, "metadata", "annotations"))
    requested = requested_at(notes, now)
    return Standing(
        namespace=str(at(pod, "metadata", "namespace")),
        pod=str(at(pod, "metadata", "name")),
        uid=str(at(pod, "metadata", "uid")),
        node=str(at(pod, "spec", "nodeName") or ""),
        requested=requested,
        by=notes.get(marks.EVICTION_REQUESTED_BY, "") if requested else "",
        repeated=moment(notes.get(marks.EVICTION_REPEATED, "")) if requested else None,
        consent=notes.get(marks.CONSENT, ""),
        consented=notes.get(marks.CONSENT_BY, ""),
        let_go=moment(notes.get(marks.LET_GO_FOR, "").partition(" ")[0]),
    )


async def waiting(client: Client, now: datetime) -> list[Standing]:
    """Return the Pods of the namespace that are wanted away, or have consent."""
    pods = (await client.beside(PODS).list()).items
    found = [standing(pod, now) for pod in pods if kind_of(pod) is not Kind.OTHER]
    return [one for one in found if one.requested or one.consent]


async def find(client: Client, name: str) -> list[Object]:
    """Return the Pod of that name, or those of the workload of that name, that can be consented to.

    Raises:
        IncumbentError: there is none.
    """
    pods = client.beside(PODS)
    try:
        named = [await pods.get(name)]
    except NotFound:
        named = [pod for pod in (await pods.list()).items if _workload(pod) == name]
    if not named:
        raise IncumbentError(
            f"there is neither a Pod nor a workload with Pods called {name!r} in namespace "
            f"{client.namespace}"
        )
    concerned = [pod for pod in named if kind_of(pod) is not Kind.OTHER]
    if not concerned:
        raise IncumbentError(
            f"nobody has to be asked about {name!r}: it is no only replica (label "
            f"{marks.SINGLETON}, or a mode of one replica) and not active ({marks.ROLE})"
        )
    return concerned


async def consent(
    client: Client, name: str, allowed: str | datetime | None, now: datetime
) -> list[Standing]:
    """Allow the eviction of what is called `name`, once or until a time; None takes it back.

    Raises:
        ConfigError: that time is over.
        IncumbentError: there is no such Pod, or it could not be written down.
    """
    told = _told(allowed, now)
    found = []
    pods = await find(client, name)
    notes = {marks.CONSENT: told, marks.CONSENT_BY: await client.user() if told else None}
    for pod in pods:
        written = await _written(client, pod, notes, now)
        if written is not None:
            found.append(written)
    if not found:
        raise IncumbentError(f"{name!r} is gone meanwhile: nothing was allowed")
    return found


def _told(allowed: str | datetime | None, now: datetime) -> str | None:
    if isinstance(allowed, datetime):
        if allowed <= now:
            raise ConfigError(f"--until {shown(allowed)}: that is over; it is {shown(now)} now")
        return f"{UNTIL}{shown(allowed)}"
    return ONCE if allowed else None


async def _written(
    client: Client, pod: Object, notes: dict[str, str | None], now: datetime
) -> Standing | None:
    """Write it into the Pod; None if that Pod is gone."""
    uid = at(pod, "metadata", "uid")
    pods = client.beside(PODS)
    for _ in range(_ATTEMPTS):
        try:
            before = strings(at(pod, "metadata", "annotations"))
            if any(before.get(key) != text for key, text in notes.items()):
                await write(client, pod, {"annotations": notes})
                pod = await pods.get(str(at(pod, "metadata", "name")))
            return standing(pod, now) if at(pod, "metadata", "uid") == uid else None
        except NotFound:
            return None
        except Conflict:
            try:
                pod = await pods.get(str(at(pod, "metadata", "name")))
            except NotFound:
                return None
            if at(pod, "metadata", "uid") != uid:
                return None
    raise IncumbentError(f"Pod {at(pod, 'metadata', 'name')} changes all the time: try again")


def _workload(pod: Object) -> str:
    """Return the name of the workload that the Pod belongs to, by what the Pod itself says."""
    owner = controller_of(pod) or {}
    name, digest = str(owner.get("name") or ""), ""
    if owner.get("kind") == "ReplicaSet":
        digest = strings(at(pod, "metadata", "labels")).get("pod-template-hash", "")
    return name.removesuffix(f"-{digest}") if digest else name
