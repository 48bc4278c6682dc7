"""Which server we are connected to: there is one connection, and after its loss another one.

A server that does not answer costs a moment only: while it is waited for, the next one is tried,
and the first that lets us in is taken. The search begins behind the server that was lost, since a
server that is cut off from its peers may go on listening.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress

from incumbent.errors import StoreError, StoreUnavailable
from incumbent.stores.zookeeper.link import Link, Server, Settings

__all__ = ["Ensemble"]

_log = logging.getLogger("incumbent.stores.zookeeper")

STAGGER_S = 0.15
PAUSES_S = (0.0, 0.1, 0.2, 0.5, 1.0)
LASTING_S = 1.0
"""A connection that did not last so long counts as a failed one: no server is stormed."""

_Outcome = asyncio.Future[Link | StoreError]


class Ensemble:
    """Keeps a connection while it is open.

    Attributes:
        on_link: is told each new connection.
    """

    def __init__(self, servers: Sequence[Server], settings: Settings) -> None:
        self.on_link: Callable[[Link], None] | None = None
        self.settings = settings
        self.servers = random.sample(servers, len(servers))
        self._link: Link | None = None
        self._outcome: _Outcome | None = None
        self._wanted = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin."""
        if self._keeper is None:
            self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def close(self) -> None:
        """Give up the connection."""
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        self._settle(StoreUnavailable("the store was closed"))
        if self._link is not None:
            await self._link.close()
            self._link = None

    async def link(self) -> Link:
        """Return the connection, or wait for what comes of the attempt that is being made.

        Raises:
            StoreUnavailable, StoreUnusable: it failed.
        """
        if self._link is not None and not self._link.lost.done():
            return self._link
        if self._keeper is None:
            raise StoreUnavailable("the store is not open")
        if self._outcome is None:
            self._outcome = asyncio.get_running_loop().create_future()
        self._wanted.set()
        outcome = await asyncio.shield(self._outcome)
        if isinstance(outcome, StoreError):
            raise type(outcome)(*outcome.args)
        return outcome

    def _settle(self, outcome: Link | StoreError) -> None:
        future, self._outcome = self._outcome, None
        if future is not None and not future.done():
            future.set_result(outcome)

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            await self._pause(PAUSES_S[min(failures, len(PAUSES_S) - 1)])
            try:
                link = await self._connect()
            except StoreError as error:
                failures += 1
                _log.debug("%s", error)
                self._settle(error)
                continue
            began = loop.time()
            self._link = link
            self._settle(link)
            if self.on_link is not None:
                self.on_link(link)
            why = await asyncio.shield(link.lost)
            _log.debug("%s: %s", link.server, why)
            failures = 0 if loop.time() - began > LASTING_S else failures + 1
            where = self.servers.index(link.server) + 1
            self.servers = self.servers[where:] + self.servers[:where]

    async def _pause(self, pause_s: float) -> None:
        """Let time pass, but not much of it if somebody waits."""
        self._wanted.clear()
        if self._outcome is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wanted.wait()
        await asyncio.sleep(min(pause_s, PAUSES_S[1]))

    async def _connect(self) -> Link:
        errors: list[BaseException] = []
        waiting = list(self.servers)
        attempts: set[asyncio.Task[Link]] = set()
        try:
            while waiting or attempts:
                if waiting:
                    attempt = Link.connected(waiting.pop(0), self.settings)
                    attempts.add(asyncio.get_running_loop().create_task(attempt))
                done, _ = await asyncio.wait(
                    attempts,
                    timeout=STAGGER_S if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    attempts.discard(task)
                    error = task.exception()
                    if error is None:
                        # Others that came in at the same moment are still among the attempts.
                        attempts |= done - {task}
                        return task.result()
                    errors.append(error)
        finally:
            await _abandon(attempts)
        for error in errors:
            if not isinstance(error, StoreUnavailable):
                raise error
        raise StoreUnavailable("cannot be reached: " + "; ".join(map(str, errors)))


async def _abandon(attempts: set[asyncio.Task[Link]]) -> None:
    for task in attempts:
        task.cancel()
    for outcome in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(outcome, Link):
            outcome.drop("another server was faster")
