"""What is asked while a request is under way goes together, as the next request.

A thousand works of one process note how far they have come at one instant. Each note by itself
would be a transaction of the store, a sync of its disk, and two turns of a thread that others wait
for. Together they are a few of each; and whoever is alone waits for nobody.

Rules
-----
1. **One request at a time.** What comes meanwhile waits, in order, and goes as one.
2. **Each has its own answer.** An answer that is an error is raised to the one whose it is.
3. **What fails as a whole fails for each.** Of each is known what would be known of it alone:
   unknown stays unknown, for each of them.
4. **After that it goes in halves.** The next request has half as many at most, down to one; each
   that is answered doubles that again. So what a store cannot answer in time for many, or for one
   of them, stands in the way of the others for a while, and not for good.
5. **Asked whether it may still go just before it goes** (`check`). Whoever may not is told why, and
   is no part of the request.
6. **Whoever waits no more** is left out, if it was not sent; else it may happen or not, as with any
   request. When nobody waits any more for the one that is under way, it is given up, too.

Everything is called on one event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Groups"]

Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(eq=False, slots=True)
class _Asked(Generic[Q, A]):
    what: Q
    check: Callable[[], None]
    answer: asyncio.Future[A]


class Groups(Generic[Q, A]):
    """What is asked of one place.

    Args:
        carry: sends some together, and returns an answer to each, in their order.
        most: how many go together.
        room: how large they are in sum, at most; one that is larger goes alone.
        size: how large one is.
    """

    def __init__(
        self,
        carry: Callable[[Sequence[Q]], Awaitable[Sequence[A | Exception]]],
        most: int,
        room: int = 0,
        size: Callable[[Q], int] = lambda _: 0,
    ) -> None:
        self._carry = carry
        self._most = self._now_most = most
        self._room = room
        self._size = size
        self._waiting: deque[_Asked[Q, A]] = deque()
        self._sent: list[_Asked[Q, A]] = []
        self._request: asyncio.Task[None] | None = None

    async def ask(self, what: Q, check: Callable[[], None]) -> A:
        """Return the answer to `what`.

        Raises:
            Exception: what `check` raised before it was sent, or what it came to.
        """
        asked: _Asked[Q, A] = _Asked(what, check, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        self._begin()
        try:
            return await asked.answer
        except asyncio.CancelledError:
            if asked in self._sent and all(other.answer.done() for other in self._sent):
                self._give_up()
            raise

    async def close(self) -> None:
        """Leave no request behind, and nobody waiting."""
        for asked in self._waiting:
            asked.answer.cancel()
        if self._request is not None:
            self._give_up()
            await asyncio.wait([self._request])

    def _begin(self) -> None:
        if self._request is None and self._waiting:
            self._request = asyncio.create_task(self._serve())
            self._request.add_done_callback(self._ended)

    def _ended(self, _: asyncio.Task[None]) -> None:
        for asked in self._sent:
            asked.answer.cancel()
        self._sent = []
        self._request = None
        self._begin()  # For those who asked while one was given up.

    async def _serve(self) -> None:
        while self._waiting:
            self._sent = self._next()
            if self._sent:
                await self._answer(self._sent)

    def _next(self) -> list[_Asked[Q, A]]:
        """Take from those who wait as many as go together, and may go."""
        group: list[_Asked[Q, A]] = []
        left = self._room
        while self._waiting and len(group) < self._now_most:
            asked = self._waiting[0]
            size = self._size(asked.what)
            if group and size > left:
                break
            self._waiting.popleft()
            if asked.answer.done():
                continue
            try:
                asked.check()
            except Exception as error:
                asked.answer.set_exception(error)
                continue
            group.append(asked)
            left -= size
        return group

    async def _answer(self, group: list[_Asked[Q, A]]) -> None:
        try:
            answers = await self._carry([asked.what for asked in group])
            answered = list(zip(group, answers, strict=True))
        except Exception as error:
            self._now_most = max(1, len(group) // 2)
            answered = [(asked, error) for asked in group]
        else:
            self._now_most = min(self._most, 2 * self._now_most)
        for asked, answer in answered:
            if asked.answer.done():
                continue
            if isinstance(answer, Exception):
                asked.answer.set_exception(answer)
            else:
                asked.answer.set_result(answer)

    def _give_up(self) -> None:
        if self._request is not None:
            self._request.cancel()
