"""Who holds an election, since when, and how it came to that one: from a Lease, as it changes.

A record says who holds it now. How it came to that one is seen only by whoever watches: a holder
that gives up leaves the record without one, and a successor of a holder that was silent replaces it
in one write. What happened while nobody watched is said to be unknown, and not guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from incumbent.core.records import Holding
from incumbent.manifests import Object
from incumbent.stores.kubernetes.wire import LEASE

__all__ = ["RELEASED", "SILENT", "UNKNOWN", "Tenure", "pod_of", "seen"]

RELEASED = "Released"
SILENT = "Silent"
UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Tenure:
    """What is known of one election.

    Attributes:
        identity: the holder, "" if there is none.
        lease_key: unique for its term.
        token: of its term; None until it was renewed once.
        since: when it was acquired, as the record says it.
        former: who held it before, or last, if nobody does.
        why: how it came to the present holder; "" if it did not come from anybody.
        watched: whether nothing was missed up to here.
    """

    identity: str = ""
    lease_key: str = ""
    token: int | None = None
    since: str = ""
    former: str = ""
    why: str = ""
    watched: bool = True


def seen(before: Tenure | None, lease: Object) -> Tenure:
    """Return what is known after this Lease was seen; `before` is None if nothing was."""
    snapshot = LEASE.snapshot(lease["metadata"]["name"], lease)
    if snapshot.holding is Holding.FOREIGN:
        return Tenure(identity=snapshot.holder, watched=False)
    if before is not None and snapshot.lease_key == before.lease_key and snapshot.holder:
        return replace(before, token=snapshot.token or before.token, watched=True)
    former = "" if before is None else before.identity or before.former
    since = str((lease.get("spec") or {}).get("acquireTime") or "")
    if not snapshot.holder:
        return Tenure(since=since, former=former)
    return Tenure(
        identity=snapshot.holder,
        lease_key=snapshot.lease_key,
        token=snapshot.token,
        since=since,
        former=former,
        why=_why(before, former),
    )


def _why(before: Tenure | None, former: str) -> str:
    if not former:
        return ""
    if before is None or not before.watched:
        return UNKNOWN
    return SILENT if before.identity else RELEASED


def pod_of(identity: str) -> str:
    """Return the name of the Pod in the identity of a candidate."""
    return identity.partition("_")[0]
