"""What this process knows of each election's key: its number, and how long it has been absent.

An absence has no version. Ours is a *mark*: a number that stays while nothing can have happened in
between, and is another one otherwise. Following without a gap keeps it; a gap, a record that was
seen meanwhile, or a read of an election that nobody follows give a new one. Whoever takes over an
absence that has stood for a TTL shows the mark.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from dataclasses import dataclass

__all__ = ["Memory"]

SPARE = 256
"""How many elections are remembered beyond those that are followed."""


@dataclass(slots=True)
class _Known:
    serial: int = 0
    present: bool = False
    mark: int = 0


class Memory:
    """The memory of one store object."""

    def __init__(self) -> None:
        self.followed = 0
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._marks = itertools.count(1)

    def present(self, name: str, revision: int) -> int:
        """Take note of a record; return its serial."""
        known = self._of(name)
        known.serial, known.present, known.mark = revision, True, 0
        return revision

    def absent(self, name: str, revision: int, *, continuous: bool) -> tuple[int, int]:
        """Take note of an absence; return its serial, and its mark."""
        known = self._of(name)
        known.serial = max(revision, known.serial + known.present)
        if not continuous or known.present or not known.mark:
            known.mark = next(self._marks)
        known.present = False
        return known.serial, known.mark

    def still_absent(self, name: str, mark: object) -> bool:
        """Tell whether the absence with this mark has stood until now."""
        known = self._known.get(name)
        return known is not None and not known.present and known.mark == mark

    def _of(self, name: str) -> _Known:
        known = self._known.setdefault(name, _Known())
        self._known.move_to_end(name)
        while len(self._known) > self.followed + SPARE:
            self._known.popitem(last=False)
        return known
