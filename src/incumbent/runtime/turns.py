"""Who of many candidates of one process may ask the store now: sixteen at a time.

A thousand elections whose holder died are due at one instant. Begun together, their takes

* keep the event loop from the renewal of what is held already;
* wait in a queue inside the store, where most run into their time limits. Whether such a take was
  sent nobody can tell, so it is read back, which is one request more in that queue;
* are all refused when a renewal comes in between: a take compares the session as it was when it was
  begun.

So they wait here before they begin. What waits is a look, a take, and a take's reading back. A
renewal waits for no turn, nor does a release: they are what others wait for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from incumbent.errors import StoreUnavailable

__all__ = ["AT_ONCE", "Turns"]

AT_ONCE = 16
"""What the connections to a store carry."""


class Turns:
    """The turns of one process in one store, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(AT_ONCE)

    @asynccontextmanager
    async def mine(self, limit_s: float) -> AsyncIterator[None]:
        """Wait for one's turn, and have it.

        Raises:
            StoreUnavailable: it did not come within `limit_s`; nothing was sent.
        """
        try:
            async with asyncio.timeout(limit_s):
                await self._free.acquire()
        except TimeoutError:
            raise StoreUnavailable("too many requests of this process are waiting") from None
        try:
            yield
        finally:
            self._free.release()

    @asynccontextmanager
    async def limited(self, limit_s: float) -> AsyncIterator[None]:
        """Have one's turn, for no longer than one may have waited for it.

        Raises:
            StoreUnavailable: it did not come.
            TimeoutError: it took too long.
        """
        async with self.mine(limit_s), asyncio.timeout(limit_s):
            yield
