"""Waits until the wall clock shows a time, for any number of tasks at once.

A wall clock steps, and a long sleep knows nothing of it. So nothing here sleeps for longer than a
second: after that it looks at the clock again. One such loop serves all tasks of an election; what
waits costs a place in a heap, and no timer of its own.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools

from incumbent.workloads.env import Clock

__all__ = ["Agenda"]

LOOK_EVERY_S = 1.0
PUT_BACK_MS = 60_000
_LEAST_S = 0.0001


class Agenda:
    """Who waits for which time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._sooner = asyncio.Event()

    async def until(self, instant_ms: int | None) -> None:
        """Wait until the wall clock shows `instant_ms`, or somebody wakes all; None for the latter.

        Whoever comes back looks at everything anew: which of the two it was does not matter.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        at_ms = 1 << 62 if instant_ms is None else instant_ms
        heapq.heappush(self._waiting, (at_ms, next(self._numbers), future))
        if self._waiting[0][2] is future:
            self._sooner.set()
        await future

    def now_ms(self) -> int:
        """Return what the wall clock shows."""
        return int(self._clock.wall() * 1000)

    def wake_all(self) -> None:
        """Wake everybody who waits."""
        waiting, self._waiting = self._waiting, []
        for _, _, future in waiting:
            self._wake(future)

    async def serve(self) -> None:
        """Wake each when its time has come, and all if the clock was put back by much."""
        shown_ms = 0
        while True:
            now_ms = self.now_ms()
            if now_ms < shown_ms - PUT_BACK_MS:
                self.wake_all()
            shown_ms = now_ms
            while self._waiting and (self._waiting[0][0] <= now_ms or self._waiting[0][2].done()):
                self._wake(heapq.heappop(self._waiting)[2])
            self._sooner.clear()
            delay_s = LOOK_EVERY_S
            if self._waiting:
                # Of a whole millisecond that has begun, what is left may be nothing.
                left_s = self._waiting[0][0] / 1000 - self._clock.wall()
                delay_s = min(delay_s, max(_LEAST_S, left_s))
            await self._sleep(delay_s)

    async def _sleep(self, delay_s: float) -> None:
        """Wait, or until there is a sooner time to wait for."""
        tasks = [
            asyncio.ensure_future(self._clock.sleep(delay_s)),
            asyncio.ensure_future(self._sooner.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @staticmethod
    def _wake(future: asyncio.Future[None]) -> None:
        if not future.done():
            future.set_result(None)
