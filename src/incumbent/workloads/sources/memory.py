"""A source in this process's memory, for tests: `memory://NAME`, or a `Shelf` of one's own.

It does what a broker does, and what one can do to it: several may open it one after the other, what
was in hand comes again, and it can be made to fail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from incumbent.errors import SourceUnavailable
from incumbent.stores.api import StoreURL
from incumbent.workloads.sources.api import Item, Opening

__all__ = ["MemorySource", "Shelf", "open"]

_POLL_S = 0.002
_SHELVES: dict[str, Shelf] = {}


class Shelf:
    """What a broker keeps: items in order, which of them were handed out, and dead letters.

    Attributes:
        waiting: not done yet, in order.
        handed: the ids of those that were handed to somebody.
        told: the ids of those that were said to be done, in the order of saying.
        dead: what was buried: id, place, reason.
        broken: while it is set, whatever is asked fails.
        opened: how often it was.
    """

    def __init__(self, bodies: Sequence[bytes] = ()) -> None:
        self.waiting: list[tuple[str, bytes]] = []
        self.handed: set[str] = set()
        self.told: list[str] = []
        self.dead: list[tuple[str, str, str]] = []
        self.broken = False
        self.opened = 0
        self._count = 0
        for body in bodies:
            self.put(body)

    def put(self, body: bytes) -> str:
        """Add one at the end, and return its id."""
        self._count += 1
        self.waiting.append((str(self._count), body))
        return str(self._count)


class MemorySource:
    """A source over a `Shelf`; its positions, if it shall have them, are the ids."""

    def __init__(self, shelf: Shelf, *, positions: bool = False) -> None:
        self.name = "memory://"
        self.positions = positions
        self.shelf = shelf
        self._mine: set[str] = set()
        self._before = 0

    async def open(self, opening: Opening) -> None:
        """Begin to hand out."""
        self._refuse()
        self.shelf.opened += 1
        self._mine = set()
        self._before = int(opening.position or 0)

    async def regain(self, limit: int) -> Sequence[Item]:
        """Return what was handed out before."""
        self._refuse()
        return self._take(limit, lambda number: number in self.shelf.handed)

    async def next(self, limit: int) -> Sequence[Item]:
        """Return what is new."""
        while True:
            self._refuse()
            if found := self._take(limit, lambda number: number not in self.shelf.handed):
                self.shelf.handed |= {item.id for item in found}
                return found
            await asyncio.sleep(_POLL_S)

    async def done(self, items: Sequence[Item]) -> None:
        """Forget these."""
        self._refuse()
        ids = {item.id for item in items}
        self.shelf.told += [item.id for item in items]
        self.shelf.waiting = [entry for entry in self.shelf.waiting if entry[0] not in ids]

    async def bury(self, item: Item, place: str, reason: str) -> None:
        """Keep it among the dead letters."""
        self._refuse()
        self.shelf.dead.append((item.id, place, reason))

    async def close(self) -> None:
        """Hand out no more."""
        self._mine = set()

    def _take(self, limit: int, wanted: Callable[[str], bool]) -> list[Item]:
        found = []
        for number, body in self.shelf.waiting:
            past = self.positions and int(number) <= self._before
            if not past and number not in self._mine and wanted(number):
                position = number if self.positions else ""
                found.append(Item(number, body, position=position))
            if len(found) == limit:
                break
        self._mine |= {item.id for item in found}
        return found

    def _refuse(self) -> None:
        if self.shelf.broken:
            raise SourceUnavailable("the shelf is broken")


def open(url: StoreURL) -> MemorySource:
    """Return the source of `memory://NAME`: the same shelf for the same name."""
    options = url.take_options("positions")
    shelf = _SHELVES.setdefault(url.host, Shelf())
    return MemorySource(shelf, positions=bool(options.get("positions")))
