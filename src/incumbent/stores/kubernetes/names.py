"""Objects that are not called as their elections are.

A lock of others has a name of its own (`stores.recipes`), which may have to be translated into one
that Kubernetes takes. That is done here, at the seam: whoever speaks to a `Named` speaks of
elections, and what is sent and what comes speaks of objects.

Of each object it must be known which election it is: of a list and of a watch of the whole
namespace those are taken that were never asked for by name. So a name from whose translation there
is no way back is refused, and no two elections can come to have one object.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from incumbent.errors import ConfigError
from incumbent.stores.kubernetes.api import Change, Listing, ObjectApi
from incumbent.stores.kubernetes.resource import Resource
from incumbent.stores.kubernetes.wire import Object
from incumbent.stores.recipes import LockName

__all__ = ["Named", "Names"]

_PLACE = "{name}"


class Names:
    """How the objects of elections are called.

    Args:
        text: the lock, as `lock=` gives it.
        plain: translates text, piece by piece, into what may stand in an object's name.
        check: returns a whole name as it is used.
    """

    def __init__(
        self,
        text: str = _PLACE,
        plain: Callable[[str], str] = str,
        check: Callable[[str], str] = str,
    ) -> None:
        self._lock = LockName(text)
        self._plain, self._check = plain, check
        self._only = ""
        self._several = _PLACE in text
        before, _, after = text.partition(_PLACE)
        self._before, self._after = plain(before), plain(after)

    def object_of(self, name: str) -> str:
        """Return how the object of an election is called.

        Raises:
            ConfigError: it cannot be called as it would have to be, or is another election's.
        """
        called = self._check(self._lock.of(name))
        if not self._several:
            self._only = name
        elif self.election_of(called) != name:
            raise ConfigError(
                f"election {name!r} would have the object {called!r}, which is that of another "
                "name as well: call it otherwise, without dots, or give its lock by lock="
            )
        return called

    def election_of(self, called: str) -> str:
        """Return the election whose object is called like this, or "" if it is none."""
        if not self._several:
            return self._only if self._only and called == self.object_of(self._only) else ""
        name = called.removeprefix(self._before).removesuffix(self._after)
        return name if name and self._before + name + self._after == called else ""


class Named:
    """The objects of an API server, by the names of their elections.

    Args:
        api: the objects by their own names.
        names: what the objects of elections are called.
    """

    def __init__(self, api: ObjectApi, names: Names) -> None:
        self._api = api
        self._names = names

    @property
    def namespace(self) -> str:
        """The namespace."""
        return self._api.namespace

    @property
    def url(self) -> str:
        """The API server's URL, for people."""
        return self._api.url

    @property
    def resource(self) -> Resource:
        """Of which resource the objects are."""
        return self._api.resource

    async def get(self, name: str) -> Object:
        """Read one object from a quorum."""
        return self._heard(await self._api.get(self._names.object_of(name)))

    async def create(self, obj: Object) -> Object:
        """Create an object."""
        return self._heard(await self._api.create(self._said(obj)))

    async def replace(self, obj: Object) -> Object:
        """Replace an object."""
        return self._heard(await self._api.replace(self._said(obj)))

    async def delete(self, name: str, uid: str, version: str) -> None:
        """Delete an object."""
        await self._api.delete(self._names.object_of(name), uid, version)

    async def list(self, selector: str = "") -> Listing:
        """Read all objects that are elections."""
        listing = await self._api.list(selector)
        found = [self._heard(obj) for obj in listing.items]
        return Listing([obj for obj in found if obj["metadata"]["name"]], listing.version)

    async def watch(
        self, name: str, version: str, limit_s: float, selector: str = ""
    ) -> AsyncGenerator[Change]:
        """Report what happens; of objects that are no elections, without a name."""
        called = self._names.object_of(name) if name else ""
        async with aclosing(self._api.watch(called, version, limit_s, selector)) as changes:
            async for change in changes:
                yield Change(change.kind, self._heard(change.object))

    async def allowed(self, verb: str, name: str) -> bool:
        """Tell whether RBAC lets us do `verb` to the object."""
        return await self._api.allowed(verb, self._names.object_of(name) if name else "")

    async def namespace_found(self) -> bool:
        """Tell whether the namespace exists."""
        return await self._api.namespace_found()

    async def resource_found(self) -> bool:
        """Tell whether the server knows the resource."""
        return await self._api.resource_found()

    async def server_version(self) -> str:
        """Return the server's version."""
        return await self._api.server_version()

    async def connect(self) -> None:
        """Have a connection ready for the next request."""
        await self._api.connect()

    async def close(self) -> None:
        """Give back every connection."""
        await self._api.close()

    # -- names ------------------------------------------------------------------------------------

    def _said(self, obj: Object) -> Object:
        return _called(obj, self._names.object_of(obj["metadata"]["name"]))

    def _heard(self, obj: Object) -> Object:
        name = obj.get("metadata", {}).get("name")
        if name is None:  # A bookmark: it has nothing but a version.
            return obj
        return _called(obj, self._names.election_of(name))


def _called(obj: Object, name: str) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "name": name}}
