"""How items are handed to the user's handler, and what comes back.

A hand works where the user's functions are called: in the thread that leads, or on the user's loop.
It is written once, as coroutine functions; with blocking drivers they wait for nothing, and are run
in one step (`incumbent.fencing.both`). It is given several items at a time, since each way to
another thread costs as much as a small transaction.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from typing import Any

from incumbent.clock import boottime
from incumbent.errors import IncumbentError, SourceUnavailable
from incumbent.fencing.progress import Database
from incumbent.runtime.face import Misuse, name_of, refuse_coroutine
from incumbent.runtime.term import Term
from incumbent.workloads.cancelled import in_a_thread, unless_ours
from incumbent.workloads.sources.api import Item

__all__ = ["Bare", "Hand", "Outcome", "Taker", "Vanished"]

SLICE_S = 0.2
"""After this time a hand comes back between two items: the broker shall hear what is done."""


class Vanished(SourceUnavailable):
    """An item is not where the source had found it: the source is to be read anew."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has become of the items that were handed over.

    Attributes:
        done: how many of them, from the first one on, are done.
        failed: why the next one failed, if it did.
        gone: why the database is not there, if it is not.
        over: what ends the run.
    """

    done: int
    failed: Exception | None = None
    gone: str = ""
    over: Exception | None = None


class Taker(ABC):
    """A handler of ours that takes its item out of the database of the effects."""

    @abstractmethod
    def __call__(self, item: Item, db: Any) -> Any:
        """Handle the item."""

    @abstractmethod
    async def take(self, item: Item, db: Database) -> bool:
        """Do so in the transaction that `db` is in; tell whether the item was there.

        It is called for an item that is buried, too, so that it does not come again.
        """


class Hand(ABC):
    """Handles items for one term.

    Attributes:
        settled: how many of the items that it works on are done; for whoever stops it.
    """

    def __init__(self, term: Term, handler: Callable[..., Any], *, waits: bool) -> None:
        self.settled = 0
        self._alone = 0
        self.term = term
        self.waits = waits
        self._handler = handler

    @abstractmethod
    async def open(self) -> str:
        """Connect, seal, and return the checkpoint that was committed last.

        Raises:
            SourceUnavailable: the database is not there now.
            StaleToken, LeadershipLost: the end.
            ConfigError: it cannot be used.
        """

    @abstractmethod
    async def bury(self, item: Item, reason: str, *, keep: bool) -> None:
        """Settle an item that failed; and have it in the dead letters here, if `keep`.

        Raises:
            SourceUnavailable, StaleToken, LeadershipLost: see `open`.
        """

    @abstractmethod
    async def begin(self, item: Item) -> int | None:
        """Note with which item the term begins: see `begun`.

        Raises:
            SourceUnavailable, StaleToken, LeadershipLost: see `open`.
        """

    @abstractmethod
    async def take_back(self, item: Item) -> None:
        """Note that the term ends in order, and that item is not done.

        Raises:
            SourceUnavailable, StaleToken, LeadershipLost: see `open`.
        """

    @abstractmethod
    async def close(self) -> None:
        """Disconnect."""

    @abstractmethod
    async def _settle(self, items: Sequence[Item], *, more: bool) -> None:
        """Handle some items, all of them or none; `more` will follow at once, most probably."""

    @abstractmethod
    async def _rest(self) -> None:
        """Leave nothing open between two handfuls."""

    def _together(self) -> int:
        """Return how many items are settled at a time."""
        return 1

    async def work(self, items: Sequence[Item]) -> Outcome:
        """Handle items, until all are done, one fails, the term is to end, or time is up."""
        try:
            return await self._work(items)
        finally:
            await self._rest()

    async def _work(self, items: Sequence[Item]) -> Outcome:
        self.settled = 0
        back_at_s = boottime() + SLICE_S
        while self.settled < len(items) and not self.term.ended:
            if self.settled and boottime() >= back_at_s:
                break
            count = 1 if self._alone > 0 else self._together()
            some = items[self.settled : self.settled + count]
            try:
                await self._settle(some, more=self.settled + len(some) < len(items))
            except Vanished as error:
                return Outcome(self.settled, over=error)
            except SourceUnavailable as error:
                return Outcome(self.settled, gone=str(error))
            except IncumbentError as error:
                return Outcome(self.settled, over=error)
            except Exception as error:
                if len(some) > 1:
                    # All of them are undone: which one it was, they say one by one.
                    self._alone = len(some)
                    continue
                return Outcome(self.settled, failed=error)
            self.settled += len(some)
            self._alone = max(0, self._alone - len(some))
        return Outcome(self.settled)

    async def _call(self, item: Item, *more: Any) -> None:
        item.term, item.token = self.term, self.term.token
        if not self.waits:
            result = in_a_thread(self._handler, item, *more)
            refuse_coroutine(
                result, self._handler, "a consumer for threads", "incumbent.aio.Consumer"
            )
            return
        result = self._handler(item, *more)
        if not isawaitable(result):
            raise Misuse(
                f"{name_of(self._handler)} returned {result!r}, which cannot be awaited: a "
                "consumer of incumbent.aio needs a coroutine function (async def)"
            )
        await unless_ours(result)


class Bare(Hand):
    """Without a database: what the handler did, it did, and an item may come again."""

    async def open(self) -> str:
        """There is nothing to open."""
        return ""

    async def bury(self, item: Item, reason: str, *, keep: bool) -> None:
        """There is nothing to mark."""

    async def begin(self, item: Item) -> int | None:
        """There is nowhere to note it."""
        return 0

    async def take_back(self, item: Item) -> None:
        """There is nothing to take back."""

    async def close(self) -> None:
        """There is nothing to close."""

    async def _rest(self) -> None:
        """There is nothing open."""

    async def _settle(self, items: Sequence[Item], *, more: bool) -> None:
        self.term.check()
        await self._call(items[0])
