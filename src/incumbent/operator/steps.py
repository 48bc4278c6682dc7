"""What an operator does to one object. Each step names what it replaces, so that a late one fails.

A `Create` makes an object that is not there. All others carry the uid and the resourceVersion that
were read: of an object that has changed since, or is another one, they change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from incumbent.manifests import Object
from incumbent.operator.kinds import Key, key_of

__all__ = ["Apply", "Claim", "Create", "Delete", "Step"]


@dataclass(frozen=True, slots=True)
class Create:
    """Make an object, in a form in which it does nothing yet."""

    obj: Object

    @property
    def key(self) -> Key:
        """Kind and name."""
        return key_of(self.obj)


@dataclass(frozen=True, slots=True)
class Claim:
    """Have what we created count as applied by us: until then, nothing of it could be taken away.

    Attributes:
        obj: as it was read.
        entries: the account of its fields, as it shall be.
    """

    obj: Object
    entries: list[Object]

    @property
    def key(self) -> Key:
        """Kind and name."""
        return key_of(self.obj)


@dataclass(frozen=True, slots=True)
class Apply:
    """Apply what is wanted; `obj` has the uid and the resourceVersion that were read."""

    obj: Object

    @property
    def key(self) -> Key:
        """Kind and name."""
        return key_of(self.obj)


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete an object.

    Attributes:
        obj: as it was read.
        foreground: whether it stays, being deleted, until all that it has made is gone.
        why: for people.
    """

    obj: Object
    foreground: bool
    why: str

    @property
    def key(self) -> Key:
        """Kind and name."""
        return key_of(self.obj)


Step = Create | Claim | Apply | Delete
