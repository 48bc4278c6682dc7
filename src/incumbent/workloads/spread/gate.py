"""How long takes of vacant elections are held back, and in which order they are let go.

When a replica has died, all that it held is due at one instant, for every other replica. Each lets
its takes go one by one, in an order of its own, and those that have more begin later: so what is
to be had is divided between them while it is taken, and little is left to move afterwards.

Rules
-----
1. **Nobody waits for long**: `HOLD_BACK_S`, or half of what a take may wait, if that is less.
   However many they are, all have gone by then: more at a time, if need be.
2. **What may not be taken now waits** until that changes, or until the elector decides anew. It
   must not be refused at once: the elector would ask again at once.
3. **A take that stands no longer is dropped**, and its place is the next one's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from incumbent.clock import Clock, boottime

__all__ = ["HOLD_BACK_S", "Gate"]

HOLD_BACK_S = 0.25
TICK_S = 0.01
"""From one take to the next: by then one has mostly heard who was first elsewhere."""
BLOCKED_S = 0.1
"""How often it is asked whether what may not be taken may be now."""


@dataclass(slots=True)
class _Waiting:
    """A take that is held back."""

    let_go: asyncio.Future[bool]
    stands: Callable[[], bool]
    not_before: float


class Gate:
    """The takes of one replica that are held back.

    Args:
        rank: the order in which elections are let go.
        late: by how many takes this replica begins later than others.
        may: whether an election may be taken now.
        went: hears of each that was let go, before the next is asked about.
        limit_s: for how long a take is held back.
        clock: what the time is.
    """

    def __init__(
        self,
        rank: Callable[[str], Any],
        late: Callable[[], int],
        may: Callable[[str], bool],
        went: Callable[[str], None],
        limit_s: float,
        clock: Clock = boottime,
    ) -> None:
        self._rank = rank
        self._late = late
        self._may = may
        self._went = went
        self._limit_s = limit_s
        self._clock = clock
        self._waiting: dict[str, _Waiting] = {}
        self._letting: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    async def hold_back(
        self, name: str, stands: Callable[[], bool], *, to_the_last: bool = False
    ) -> bool:
        """Wait until the take of an election may be sent; tell whether it may.

        Args:
            name: the election.
            stands: whether the take still is what its candidate wants.
            to_the_last: whether somebody else shall have it, if they are there.
        """
        loop = asyncio.get_running_loop()
        not_before = self._clock() + (self._limit_s if to_the_last else 0.0)
        waiting = _Waiting(loop.create_future(), stands, not_before)
        self._waiting[name] = waiting
        self._news.set()
        if self._letting is None:
            self._letting = loop.create_task(self._let_go())
        try:
            return await waiting.let_go
        finally:
            if self._waiting.get(name) is waiting:
                del self._waiting[name]

    def close(self) -> None:
        """Hold nothing back any more: what stands no longer is dropped, and the rest may go."""
        for waiting in self._waiting.values():
            _answer(waiting, waiting.stands())
        self._waiting.clear()
        if self._letting is not None:
            self._letting.cancel()

    async def _let_go(self) -> None:
        at_a_time = 1
        try:
            await asyncio.sleep(min(self._late() * TICK_S, self._limit_s))
            while self._waiting:
                self._drop()
                due = [name for name in self._allowed() if self._is_due(name)]
                at_a_time = max(at_a_time, self._at_a_time(len(due)))
                for name in sorted(due, key=self._rank)[:at_a_time]:
                    if self._may(name):  # Asked anew: the one before may have filled us.
                        self._went(name)
                        _answer(self._waiting.pop(name), True)
                if self._waiting:
                    await self._next()
        finally:
            self._letting = None

    async def _next(self) -> None:
        if self._allowed():
            await asyncio.sleep(TICK_S)
            return
        self._news.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(BLOCKED_S):
                await self._news.wait()

    def _drop(self) -> None:
        for name in [name for name, waiting in self._waiting.items() if not waiting.stands()]:
            _answer(self._waiting.pop(name), False)

    def _allowed(self) -> list[str]:
        return [name for name in self._waiting if self._may(name)]

    def _is_due(self, name: str) -> bool:
        return self._waiting[name].not_before <= self._clock()

    def _at_a_time(self, due: int) -> int:
        ticks = max(1, int(self._limit_s / TICK_S) - 1)
        return -(-due // ticks)


def _answer(waiting: _Waiting, may: bool) -> None:
    if not waiting.let_go.done():
        waiting.let_go.set_result(may)
