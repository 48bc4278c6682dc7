"""What is followed, and what was reported of it last.

Reports come from messages and from reads, which overtake one another. Both carry the number of a
write, or for an absence one that is not below any before it, so what is old is told from what is
new. Numbers of another world mean nothing: with it everything starts over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from incumbent.stores.kv.api import Entry, Report, Sink

__all__ = ["View"]


@dataclass(slots=True)
class _Followed:
    sinks: list[Sink] = field(default_factory=list)
    report: Report | None = None
    written: int = 0
    """The number of our own last write, as long as it is the last one as far as is known."""


class View:
    """The keys that somebody follows."""

    def __init__(self) -> None:
        self._keys: dict[str, _Followed] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def keys(self) -> list[str]:
        """Return what is followed."""
        return list(self._keys)

    def add(self, key: str, sink: Sink) -> None:
        """Report the key to this sink, too. What is known of it is told at once."""
        followed = self._keys.setdefault(key, _Followed())
        followed.sinks.append(sink)
        if followed.report is not None:
            sink(Report(followed.report.entry, followed.report.revision, gap=True))

    def remove(self, key: str, sink: Sink) -> None:
        """Report no more to this sink."""
        followed = self._keys[key]
        followed.sinks.remove(sink)
        if not followed.sinks:
            del self._keys[key]

    def wrote(self, key: str, number: int) -> None:
        """Take note of a write of our own."""
        followed = self._keys.get(key)
        if followed is None or (followed.report and followed.report.revision > number):
            return
        followed.written = number

    def ours(self) -> dict[str, int]:
        """Return the keys of which our own write is the last one that is known, with its number."""
        return {key: one.written for key, one in self._keys.items() if one.written}

    def told(self, key: str, entry: Entry | None, number: int) -> None:
        """Report what a message told, unless it is old, or comes before the first read."""
        followed = self._keys.get(key)
        if followed is None or followed.report is None or number <= followed.report.revision:
            return
        if entry is None or entry.revision != followed.written:
            followed.written = 0
        self._report(followed, Report(entry, number, gap=False))

    def read(self, key: str, entry: Entry | None, number: int, *, anew: bool) -> bool:
        """Report what a read found, if it is news, or if following begins anew with it.

        Returns:
            Whether it was news, and not what we wrote ourselves.
        """
        followed = self._keys.get(key)
        if followed is None:
            return False
        before = followed.report
        if number < max(followed.written, 0 if before is None else before.revision):
            return False  # Our own write may be news to the server's messages, and not to us.
        own = entry is not None and entry.revision == followed.written
        if not own:
            followed.written = 0
        news = before is None or _version(before.entry) != _version(entry)
        if news or anew:
            self._report(followed, Report(entry, number, gap=True))
        return news and not own

    def start_over(self, entries: Mapping[str, Entry | None], number: int) -> None:
        """Report everything as it is in another world."""
        for key, entry in entries.items():
            followed = self._keys.get(key)
            if followed is not None:
                followed.report = None
                followed.written = 0
                self.read(key, entry, number if entry is None else entry.revision, anew=True)

    def forget(self, keys: Iterable[str]) -> None:
        """Take no message about these keys for true before the next read."""
        for key in keys:
            if key in self._keys:
                self._keys[key].report = None

    def _report(self, followed: _Followed, report: Report) -> None:
        followed.report = report
        for sink in list(followed.sinks):
            sink(report)


def _version(entry: Entry | None) -> object:
    return None if entry is None else (entry.version, entry.value)
