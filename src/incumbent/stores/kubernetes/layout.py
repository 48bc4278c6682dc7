"""Where the record of an election lies: in which object, and in which format there.

In most modes an election has an object of its own, `ObjectEach`, and its name may have to be
translated into one that Kubernetes takes (`names`). Where others keep several locks in one object,
so do ours: then an object has several records, each in a format of its own, and none of them is the
object (`camel_map`).
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from incumbent.stores.kubernetes.names import Names
from incumbent.stores.kubernetes.resource import Resource
from incumbent.stores.kubernetes.wire import LEASE, Format, Object

__all__ = ["LEASES_BY_NAME", "Layout", "ObjectEach"]

F = TypeVar("F", bound=Format)
F_co = TypeVar("F_co", bound=Format, covariant=True)


class Layout(Protocol[F_co]):
    """The records of elections in the objects of one resource."""

    @property
    def resource(self) -> Resource:
        """Of which resource the objects are."""
        ...

    def object_of(self, name: str) -> str:
        """Return how the object is called in which the record of an election lies.

        Raises:
            ConfigError: there can be none.
        """
        ...

    def format_of(self, name: str) -> F_co:
        """Return the format of that record.

        Raises:
            ConfigError: there can be none.
        """
        ...

    def elections_in(self, obj: Object) -> list[str]:
        """Return the elections whose records lie in an object, those nobody asked for included."""
        ...


class ObjectEach(Layout[F]):
    """An object for each election.

    Args:
        format: of the record.
        names: how the objects are called.
    """

    def __init__(self, format: F, names: Names | None = None) -> None:
        self._format = format
        self._names = names or Names()

    @property
    def resource(self) -> Resource:
        """Of which resource the objects are."""
        return self._format.resource

    def object_of(self, name: str) -> str:
        """Return the name of the election's object."""
        return self._names.object_of(name)

    def format_of(self, name: str) -> F:
        """Return the one format."""
        return self._format

    def elections_in(self, obj: Object) -> list[str]:
        """Return the election whose object it is, if it is one's."""
        name = self._names.election_of(obj["metadata"]["name"])
        return [name] if name and self._format.is_election(obj) else []


LEASES_BY_NAME = ObjectEach(LEASE)
"""A Lease of the same name for each election."""
