"""The seam between this store and an API server: seven requests on plain JSON, and their outcomes.

The objects are Leases, or of another resource that the API server has.

Everything above it (`store`, `watch`, `ledger`, `wire`) is logic and runs as well on a twin of an
API server in the simulator; everything below it (`client`, `config`) is one HTTP client.

Rules for whoever implements `ObjectApi`
---------------------------------------
1. A request is sent once. There is no retry below the seam; the one exception is an answer of 401
   (which had no effect) with credentials that could be refreshed.
2. Outcomes are `Conflict`, `NotFound`, `Expired` and the three of `incumbent.errors`. In a write,
   whatever may have had an effect is `OutcomeUnknown`; a read knows only `StoreUnavailable`.
3. A read is linearizable: `get` and `list` send no resourceVersion.
4. No time limit: whoever calls cancels, and a cancelled write counts as one of unknown outcome.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from incumbent.stores.kubernetes.resource import Resource
from incumbent.stores.kubernetes.wire import Object

__all__ = ["Change", "Conflict", "Expired", "Kind", "Listing", "NotFound", "ObjectApi"]


class Conflict(Exception):
    """The object is at another version, or exists already. Nothing was changed."""


class NotFound(Exception):
    """There is no such object (or no such namespace). Nothing was changed."""


class Expired(Exception):
    """The server does not remember what happened since the version asked for."""


class Kind(Enum):
    """What a watch has to say."""

    OPENED = "OPENED"
    """The server has accepted the watch: from here on nothing is missed. Always comes first."""
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"
    """Nothing happened up to the version of the object, which has nothing else in it."""


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a watch; a deleted object comes with the version of its deletion."""

    kind: Kind
    object: Object


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects of the namespace, at one version of the whole collection."""

    items: list[Object]
    version: str


class ObjectApi(Protocol):
    """The objects of one resource in one namespace.

    Every method may raise `PermissionDenied` and `StoreUnavailable`; writes `OutcomeUnknown` too.
    """

    @property
    def namespace(self) -> str:
        """The namespace."""
        ...

    @property
    def url(self) -> str:
        """The API server's URL, for people."""
        ...

    @property
    def resource(self) -> Resource:
        """Of which resource the objects are."""
        ...

    async def get(self, name: str) -> Object:
        """Read one object from a quorum.

        Raises:
            NotFound: there is none.
        """
        ...

    async def create(self, obj: Object) -> Object:
        """Create an object.

        Raises:
            Conflict: it exists.
            NotFound: the namespace does not.
        """
        ...

    async def replace(self, obj: Object) -> Object:
        """Replace an object that is still at the resourceVersion of `obj`.

        Raises:
            Conflict: it is not.
            NotFound: it is gone.
        """
        ...

    async def delete(self, name: str, uid: str, version: str) -> None:
        """Delete an object that still has this uid and this resourceVersion.

        Raises:
            Conflict: it has not.
            NotFound: it is gone.
        """
        ...

    async def list(self, selector: str = "") -> Listing:
        """Read all objects, or those that a label selector means, from a quorum."""
        ...

    def watch(
        self, name: str, version: str, limit_s: float, selector: str = ""
    ) -> AsyncGenerator[Change]:
        """Report what happens to one object ("" for all) after `version`, for at most `limit_s`.

        Without a version it starts with an addition of what exists. With a label selector, an
        object that loses its label is reported as deleted.

        Raises:
            Expired: the version is too old.
        """
        ...

    async def allowed(self, verb: str, name: str) -> bool:
        """Tell whether RBAC lets us do `verb` to the object ("" for every one)."""
        ...

    async def namespace_found(self) -> bool:
        """Tell whether the namespace exists."""
        ...

    async def resource_found(self) -> bool:
        """Tell whether the server knows the resource."""
        ...

    async def server_version(self) -> str:
        """Return the server's version, such as v1.36.3."""
        ...

    async def connect(self) -> None:
        """Have a connection ready for the next request. Sends none."""
        ...

    async def close(self) -> None:
        """Give back every connection."""
        ...
