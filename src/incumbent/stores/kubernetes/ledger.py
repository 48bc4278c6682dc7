"""What this process knows of each Lease: the last object, and how long an absence has stood.

A takeover replaces a whole object at the version that was watched, so that very object must be at
hand: it is kept here. Nothing is decided on what is kept; the server compares the version.

An absence has no version of its own. Ours is a *mark*: a number that stays while the store can be
sure that nothing happened in between, and changes otherwise. A watch that went on without a gap
keeps it; a gap, a record that was seen meanwhile, or a read of a Lease that nobody follows give a
new one.

resourceVersions are compared as integers. Of an absence it is known that it is later than
everything that this process had seen when it *asked*; what it saw while it waited for the answer
may be later still.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from dataclasses import dataclass, replace

from incumbent.core.records import Snapshot, absent
from incumbent.stores.kubernetes.wire import LEASE, Format, Object

__all__ = ["Asked", "Ledger"]

SPARE = 64
"""How many Leases are remembered beyond those that are followed."""


@dataclass(slots=True)
class _Entry:
    object: Object | None = None
    serial: int = 0
    mark: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """What was known when a request was sent."""

    serial: int
    absent_from: int


class Ledger:
    """The memory of one store object."""

    def __init__(self, format: Format = LEASE) -> None:
        self._format = format
        self.high = 0
        self.followed = 0
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._marks = itertools.count(1)

    def asking(self, name: str) -> Asked:
        """Note what is known of `name` before a request is sent."""
        entry = self._entries.get(name)
        if entry is None:
            return Asked(0, self.high)
        gone_since = entry.serial + 1 if entry.object is not None else entry.serial
        return Asked(entry.serial, max(self.high, gone_since))

    def present(self, name: str, obj: Object, asked: Asked | None = None) -> tuple[Snapshot, bool]:
        """Take note of an object.

        Returns:
            The snapshot, and whether the store went back in time: the answer of a read is older
            than what was known when it was sent.
        """
        snapshot = self._format.snapshot(name, obj)
        entry = self._entry(name)
        went_back = asked is not None and snapshot.serial < asked.serial
        if went_back or snapshot.serial >= entry.serial:
            entry.object, entry.serial, entry.mark = obj, snapshot.serial, 0
            self.high = snapshot.serial if went_back else max(self.high, snapshot.serial)
        return snapshot, went_back

    def absent(self, name: str, serial: int, *, continuous: bool) -> Snapshot:
        """Take note of an absence at `serial`, or after it."""
        entry = self._entry(name)
        mark = entry.mark if continuous else 0
        if not mark or entry.object is not None:
            mark = next(self._marks)
        if serial >= entry.serial:
            entry.object, entry.serial, entry.mark = None, serial, mark
            self.high = max(self.high, serial)
        return replace(absent(name, serial), lease_version=f"absence {mark}")

    def gap(self, name: str) -> None:
        """Take note that something may have been missed."""
        if name in self._entries:
            self._entries[name].mark = 0

    def forget(self) -> None:
        """Forget everything: the store went back in time, and what was known means nothing."""
        self.high = 0
        self._entries.clear()

    def still_absent(self, snapshot: Snapshot) -> bool:
        """Tell whether the absence that `snapshot` speaks of has stood until now."""
        entry = self._entries.get(snapshot.name)
        return (
            entry is not None
            and entry.object is None
            and entry.mark > 0
            and snapshot.lease_version == f"absence {entry.mark}"
        )

    def object_at(self, name: str, version: object) -> Object | None:
        """Return the object of exactly this version, if it is at hand."""
        entry = self._entries.get(name)
        if entry is None or entry.object is None:
            return None
        return entry.object if entry.object["metadata"]["resourceVersion"] == version else None

    def _entry(self, name: str) -> _Entry:
        entry = self._entries.setdefault(name, _Entry())
        self._entries.move_to_end(name)
        while len(self._entries) > self.followed + SPARE:
            self._entries.popitem(last=False)
        return entry
