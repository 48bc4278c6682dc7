"""Who of many candidates of one process may ask the store now: sixteen at a time.

A thousand elections whose holder died are due at one instant. Begun together, their takes

* keep the event loop from the renewal of what is held already;
* wait in a queue inside the store, where most run into their time limits. Whether such a take was
  sent nobody can tell, so it is read back, which is one request more in that queue;
* are all refused when a renewal comes in between: a take compares the session as it was when it was
  begun.

So they wait here before they begin. What waits is a look, a take, and a take's reading back. A
renewal waits for no turn, nor does a release: they are what others wait for.

A look may wait as long as it takes: it is a fresh one when its turn comes. A take may not: it was
decided on what was known when it began to wait (`driver._take`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["AT_ONCE", "NoTurn", "Turns"]

AT_ONCE = 16
"""What the connections to a store carry."""


class NoTurn(Exception):
    """One's turn did not come in time; nothing was sent."""


class Turns:
    """The turns of one process in one store, in the order in which they were asked for."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._free = asyncio.Semaphore(at_once)

    @asynccontextmanager
    async def mine(self, limit_s: float | None = None) -> AsyncIterator[None]:
        """Wait for one's turn, and have it.

        Raises:
            NoTurn: it did not come within `limit_s`.
        """
        try:
            async with asyncio.timeout(limit_s):
                await self._free.acquire()
        except TimeoutError:
            raise NoTurn from None
        try:
            yield
        finally:
            self._free.release()
