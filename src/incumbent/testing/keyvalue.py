"""A key-value server in this process: the reference for drivers, and for the logic above them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from incumbent.stores.api import Finding
from incumbent.stores.kv.api import ABSENT, Conditions, Conflict, Entry, Report, Sink, Writes

__all__ = ["MemoryKeyValue", "Shelf"]


@dataclass
class Shelf:
    """What the drivers of several candidates share."""

    entries: dict[str, Entry] = field(default_factory=dict)
    sinks: dict[str, list[Sink]] = field(default_factory=dict)
    revision: int = 0

    def write(self, key: str, value: bytes) -> Entry:
        """Write a key, and tell everybody."""
        self.revision += 1
        entry = self.entries[key] = Entry(key, value, self.revision, self.revision)
        self._tell(key)
        return entry

    def delete(self, key: str) -> None:
        """Delete a key, and tell everybody."""
        self.revision += 1
        del self.entries[key]
        self._tell(key)

    def report(self, key: str, *, gap: bool) -> Report:
        """Return what is to be told of a key."""
        entry = self.entries.get(key)
        return Report(entry, self.revision if entry is None else entry.revision, gap)

    def _tell(self, key: str) -> None:
        for sink in list(self.sinks.get(key, ())):
            sink(self.report(key, gap=False))


class MemoryKeyValue:
    """A driver of such a shelf."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def open(self, *, create: bool) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    async def connect(self) -> None:
        """Do nothing."""

    async def get(self, key: str, *, urgent: bool = False) -> tuple[Entry | None, int]:
        """Return the key as it is."""
        report = self._shelf.report(key, gap=True)
        return report.entry, report.revision

    async def entries(self, folder: str) -> list[Entry]:
        """Return all keys of a folder."""
        found = self._shelf.entries.items()
        return [entry for key, entry in found if key.startswith(f"{folder}/")]

    async def swap(
        self, conditions: Conditions, writes: Writes, *, urgent: bool = False
    ) -> Mapping[str, Entry]:
        """Write if all conditions are met."""
        self._compare(conditions)
        return {key: self._shelf.write(key, value) for key, value in writes.items()}

    async def remove(self, key: str, version: Hashable) -> None:
        """Delete a key at a version."""
        self._compare({key: version})
        self._shelf.delete(key)

    def _compare(self, conditions: Conditions) -> None:
        for key, wanted in conditions.items():
            entry = self._shelf.entries.get(key)
            if (ABSENT if entry is None else entry.version) != wanted:
                raise Conflict(f"{key!r} is not at {wanted!r}")

    def follow(self, key: str, sink: Sink) -> None:
        """Report the key now and after each change."""
        self._shelf.sinks.setdefault(key, []).append(sink)
        sink(self._shelf.report(key, gap=True))

    def unfollow(self, key: str, sink: Sink) -> None:
        """Report no more."""
        self._shelf.sinks[key].remove(sink)

    async def examine(self) -> list[Finding]:
        """Say the one thing that can be wrong with it."""
        return [Finding("scope", None, "elects among the candidates of this process only")]
