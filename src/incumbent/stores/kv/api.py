"""What a driver of a key-value server must do, so that `KeyValueStore` makes elections of it.

Rules
-----
1. **`swap` writes the keys in the order in which `writes` has them**, each by a compare-and-swap
   that a quorum decides, and none after one that could not be written. It must never be answered by
   a server that may have been cut off from its peers. A server that can do everything in one step,
   all conditions compared in it, has to: that spares requests. Where there is no such step, a
   swap may end after any of its writes, and a condition on a key that it does not write is compared
   before the first of them. `store` says why each such prefix is safe.
2. **A version belongs to one write.** It is never used again for the key, not even after the key
   was deleted and made anew: who compares a version compares that write. Where the server counts
   from zero for a new key, make the version of more than the count.
3. **A revision is an integer that grows with every write of the whole store**, or at least with
   every write of the same key, over deletion and restart. That of an acquiring write is the fencing
   token.
4. **`get` is linearizable**: not what some server remembers.
5. **`follow` ends in the last state** and may skip states in between. Who may have missed a state
   says so (`Report.gap`): it decides whether an absence has stood.
6. **Say what you know.** `Conflict` and `StoreUnavailable` promise that the last key of `writes`
   was not written (those before it may have been, without the one step of rule 1); whatever was
   sent and not answered is `OutcomeUnknown`. A driver repeats no write by itself.
7. **Nothing expires by itself** that this module wrote, or if it does (garbage of processes that
   are gone), only after many TTLs: an expiry proves nothing to anybody here, and is waited out.
8. **An urgent request waits behind no other that is not**, whatever those wait for: it needs no
   place among a bounded number, and where a connection carries one request at a time, another one
   is opened if all are busy. It is a renewal: whatever the process holds hangs on it. A connection
   is not kept ready for it, since most processes hold nothing. Where a server carries out what
   comes from a client in one order, there is nothing to overtake with: what is sent before it is
   bounded by the callers (`runtime.turns`).

All methods are called on the keeper's event loop and are cancelled when their time is up.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from incumbent.errors import StoreError
from incumbent.stores.api import Finding

__all__ = [
    "ABSENT",
    "Condition",
    "Conditions",
    "Conflict",
    "Entry",
    "KeyValue",
    "Report",
    "Sink",
    "Writes",
]


class Absence(Enum):
    """The condition on a key that must not be there."""

    ABSENT = "absent"


ABSENT = Absence.ABSENT

Condition = Hashable
"""The version that the key must have, or `ABSENT`."""
Conditions = Mapping[str, Condition]
Writes = Mapping[str, bytes]


class Conflict(StoreError):
    """A condition of a swap was not met; the last of its keys was not written."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key as it was left by one write.

    Attributes:
        key: its name, relative to the driver's own prefix.
        value: what was written.
        version: identifies that write (rule 2).
        revision: the number of that write (rule 3).
    """

    key: str
    value: bytes
    version: Hashable
    revision: int


@dataclass(frozen=True, slots=True)
class Report:
    """What `follow` says of a key.

    Attributes:
        entry: the key as it is, or None.
        revision: of the entry; for an absence, a number that is not below that of any write of the
            key that came before.
        gap: states between this report and the last one may have been missed.
    """

    entry: Entry | None
    revision: int
    gap: bool


Sink = Callable[[Report], None]
"""Receives reports on the keeper's event loop. It never blocks or raises."""


class KeyValue(Protocol):
    """One server, or one cluster of them. Keys are relative to a prefix that is the driver's own.

    A key is made of `a-z`, `0-9`, `-`, `.` and one `/` after its first word, its *folder*, and has
    at most 250 characters. Folders need not be made beforehand. A value has up to 90,000 bytes.
    """

    async def open(self, *, create: bool) -> None:
        """Connect, and create what must exist; raises what `Store.open` does."""
        ...

    async def close(self) -> None:
        """Give back every resource."""
        ...

    async def connect(self) -> None:
        """Have a connection ready for a swap that is due in a moment."""
        ...

    async def get(self, key: str, *, urgent: bool = False) -> tuple[Entry | None, int]:
        """Return the key as it is, and its revision, or for an absence that of the store.

        Args:
            key: which.
            urgent: see rule 8.

        Raises:
            StoreUnavailable, PermissionDenied, StoreUnusable: see `Store`.
        """
        ...

    async def entries(self, folder: str) -> list[Entry]:
        """Return all keys that begin with `folder` and a slash."""
        ...

    async def swap(
        self, conditions: Conditions, writes: Writes, *, urgent: bool = False
    ) -> Mapping[str, Entry]:
        """Write all of `writes`, in their order, if all of `conditions` are met; see rule 1.

        Every key that is written has a condition. For `urgent` see rule 8.

        Returns:
            What was written.

        Raises:
            Conflict: one is not met.
            OutcomeUnknown: it may have happened.
            StoreUnavailable: it did not happen.
        """
        ...

    async def remove(self, key: str, version: Hashable) -> None:
        """Delete a key if it still has this version: garbage, which nothing depends on.

        Raises:
            Conflict: it has another one, or is gone.
        """
        ...

    def follow(self, key: str, sink: Sink) -> None:
        """Report the key now and after each change until `unfollow`; the first report has a gap."""
        ...

    def unfollow(self, key: str, sink: Sink) -> None:
        """Report no more to this sink."""
        ...

    async def examine(self) -> list[Finding]:
        """Look for what could break the promise here, for `doctor`."""
        ...
