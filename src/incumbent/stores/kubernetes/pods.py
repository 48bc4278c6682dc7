"""Pods as this store knows them: which one a candidate is in, and what is asked about others."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from incumbent.stores.kubernetes.api import Change
from incumbent.stores.kubernetes.wire import Object

__all__ = ["OwnPod", "PodApi", "PodWatch", "pod_in"]

_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class OwnPod:
    """The Pod that we run in.

    Attributes:
        namespace, name: where it is.
        uid: tells it from another of its name; "" if nobody told us.
        address: its own IP address, or "".
        node: the name of its node, or "".
    """

    namespace: str
    name: str
    uid: str
    address: str = ""
    node: str = ""


class PodWatch(Protocol):
    """Hears of Pods."""

    def watch(
        self, name: str, version: str, limit_s: float, selector: str = ""
    ) -> AsyncGenerator[Change]:
        """Report Pods, those that exist first."""
        ...


class PodApi(PodWatch, Protocol):
    """Changes Pods as well."""

    async def patch(self, name: str, change: Object) -> Object:
        """Merge a change into a Pod; a uid or resourceVersion in it is compared."""
        ...


def pod_in(identity: str) -> tuple[str, str]:
    """Return the name and the UID of the Pod that an identity begins with; "" for what it lacks.

    Ours is `POD_UID_RANDOM`; that of client-go is by custom the host name, hence the Pod's, and
    something random after an underscore.
    """
    name, _, rest = identity.partition("_")
    uid = rest.partition("_")[0]
    return (name, uid) if _UID.fullmatch(uid) and rest != uid else (name, "")
