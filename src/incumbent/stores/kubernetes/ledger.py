"""What this process knows of each record: the last object, and how long an absence has stood.

A takeover replaces a whole object in which the record is the one that was watched, so that very
object must be at hand: it is kept here. Nothing is decided on what is kept; the server compares the
object's version.

An absence has no version of its own, whether the object is missing or has no such record in it.
Ours is a *mark*: a number that stays while the store can be sure that nothing happened in between,
and changes otherwise. A watch that went on without a gap keeps it; a gap, a record that was seen
meanwhile, or a read of a record that nobody follows give a new one.

resourceVersions are compared as integers. Of an absence it is known that it is later than
everything that this process had seen when it *asked*; what it saw while it waited for the answer
may be later still.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace

from incumbent.core.records import Holding, Snapshot, absent
from incumbent.stores.kubernetes.wire import LEASE, Format, Object

__all__ = ["Asked", "Ledger"]

SPARE = 64
"""How many records are remembered beyond those that are followed."""


@dataclass(slots=True)
class _Entry:
    object: Object | None = None
    version: Hashable = None
    serial: int = 0
    mark: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """What was known when a request was sent."""

    serial: int
    absent_from: int


class Ledger:
    """The memory of one store object.

    Args:
        format_of: in which format the record of an election is.
    """

    def __init__(self, format_of: Callable[[str], Format] = lambda name: LEASE) -> None:
        self._format_of = format_of
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

    def present(
        self, name: str, obj: Object, asked: Asked | None = None, *, continuous: bool = False
    ) -> tuple[Snapshot, bool]:
        """Take note of an object, in which there may be no such record.

        Args:
            name: the election.
            obj: where its record lies.
            asked: what was known when it was asked for.
            continuous: whether nothing that happened to it since has escaped us.

        Returns:
            The snapshot, and whether the store went back in time: the answer of a read is older
            than what was known when it was sent.
        """
        snapshot = self._format_of(name).snapshot(name, obj)
        entry = self._entry(name)
        went_back = asked is not None and snapshot.serial < asked.serial
        mark = 0
        if snapshot.holding is Holding.ABSENT and snapshot.version is None:
            mark = self._mark(entry, continuous=continuous and not went_back)
            snapshot = replace(snapshot, lease_version=f"absence {mark}")
        if went_back or snapshot.serial >= entry.serial:
            entry.object, entry.version = obj, snapshot.version
            entry.serial, entry.mark = snapshot.serial, mark
            self.high = snapshot.serial if went_back else max(self.high, snapshot.serial)
        return snapshot, went_back

    def absent(self, name: str, serial: int, *, continuous: bool) -> Snapshot:
        """Take note of an absence at `serial`, or after it."""
        entry = self._entry(name)
        mark = self._mark(entry, continuous=continuous)
        if serial >= entry.serial:
            entry.object, entry.version = None, None
            entry.serial, entry.mark = serial, mark
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
            and entry.mark > 0
            and snapshot.lease_version == f"absence {entry.mark}"
        )

    def object_at(self, name: str, version: Hashable) -> Object | None:
        """Return an object in which the record is exactly of this version, if it is at hand."""
        entry = self._entries.get(name)
        if entry is None or version is None or entry.version != version:
            return None
        return entry.object

    def object_without(self, name: str) -> Object | None:
        """Return the object in which an absence stands, or None if that is missing as well."""
        return self._entries[name].object

    def _mark(self, entry: _Entry, *, continuous: bool) -> int:
        """Return the mark of an absence: that of the one before, if it is the same."""
        return (entry.mark if continuous else 0) or next(self._marks)

    def _entry(self, name: str) -> _Entry:
        entry = self._entries.setdefault(name, _Entry())
        self._entries.move_to_end(name)
        while len(self._entries) > self.followed + SPARE:
            self._entries.popitem(last=False)
        return entry
