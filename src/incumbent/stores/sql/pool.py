"""A few connections, of which one is kept, and the others for a moment.

Rules
-----
1. A request has a connection of its own, and whoever stops waiting for it, or meets an error that
   leaves the connection in doubt, closes it: no transaction of ours is left open in the server.
2. A renewal, which is urgent, waits for no place: a session has one under way, a process few.
3. A connection that has something to say while it idles is dying, and is not used again.
4. What is more than one is closed when nobody has needed it for `SPARE_S`. Where all are told what
   somebody wrote, the writer looks as well while it goes on to write: closed at once, each term
   would begin with a new connection, which takes longer than the term's requests.
5. After a fork the child has none of them. They are the parent's, and are not even closed.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

from incumbent.errors import StoreUnavailable

__all__ = ["Pool", "Pooled"]

PLACES = 4
"""How many requests that are not urgent are carried out at a time. Servers have few connections,
and many clients."""
SPARE_S = 2.0

_ABANDONED: list[object] = []


class Pooled(Protocol):
    """A connection."""

    def is_sound(self) -> bool:
        """Tell whether it can be used for another request, without asking the server."""
        ...

    def close(self) -> None:
        """End it at once, whatever it is doing."""
        ...


C = TypeVar("C", bound=Pooled)


class Pool(Generic[C]):
    """The connections to one server.

    Args:
        connect: opens one.
    """

    def __init__(self, connect: Callable[[], Awaitable[C]]) -> None:
        self._connect = connect
        self._closed = True
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._idle: list[C] = []
        self._trimming: asyncio.TimerHandle | None = None
        self._used: set[C] = set()
        self._places = PLACES
        self._waiting: deque[asyncio.Future[None]] = deque()

    def open(self) -> None:
        """Begin to serve."""
        if self._pid != os.getpid():
            _ABANDONED.append((self._idle, self._used))
            self._forget()
        self._closed = False

    def close(self) -> None:
        """Close every connection."""
        self._closed = True
        if self._trimming is not None:
            self._trimming.cancel()
            self._trimming = None
        for connection in (*self._idle, *self._used):
            connection.close()
        self._idle.clear()

    async def warm(self) -> None:
        """Have an idle connection."""
        if not any(connection.is_sound() for connection in self._idle):
            async with self.use():
                pass

    @asynccontextmanager
    async def use(self, *, urgent: bool = False) -> AsyncIterator[C]:
        """Lend a connection. One that is not sound afterwards, or was cancelled, is closed."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        if not urgent:
            await self._take_place()
        try:
            connection = await self._idle_or_new()
            self._used.add(connection)
            try:
                yield connection
            except BaseException as error:
                if not isinstance(error, Exception) or not connection.is_sound():
                    connection.close()
                raise
            finally:
                self._used.discard(connection)
                if self._closed or not connection.is_sound():
                    connection.close()
                else:
                    self._keep(connection)
        finally:
            if not urgent:
                self._give_place()

    def _keep(self, connection: C) -> None:
        """Take back a connection, and have all but one closed if they idle for too long."""
        self._idle.append(connection)
        if self._trimming is not None:
            self._trimming.cancel()
            self._trimming = None
        if len(self._idle) > 1:
            self._trimming = asyncio.get_running_loop().call_later(SPARE_S, self._trim)

    def _trim(self) -> None:
        self._trimming = None
        while len(self._idle) > 1:
            self._idle.pop(0).close()

    async def _idle_or_new(self) -> C:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_sound():
                return connection
            connection.close()
        return await self._connect()

    async def _take_place(self) -> None:
        if self._places:
            self._places -= 1
            return
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(ready)
        try:
            await ready
        except asyncio.CancelledError:
            if ready.done() and not ready.cancelled():
                self._give_place()
            raise

    def _give_place(self) -> None:
        while self._waiting:
            ready = self._waiting.popleft()
            if not ready.done():
                ready.set_result(None)
                return
        self._places += 1
