"""How a standby is woken: LISTEN on a connection of its own, which must lead to the server itself.

A pooler in transaction mode accepts LISTEN and delivers nothing. So before anybody relies on it,
something is said over the pool, and has to be heard here. The connection is asked for a sign of
life now and then; whatever may have been missed is looked at.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable

from incumbent.errors import StoreError
from incumbent.stores.postgresql.connection import Connection
from incumbent.stores.sql.api import Heard

__all__ = ["Bell"]

PROOF_S = 2.0
PULSE_EVERY_S = 10.0
PULSE_LIMIT_S = 5.0
PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0)
POOLER_PAUSE_S = 60.0

_log = logging.getLogger("incumbent.stores.postgresql")


class Bell:
    """Listens to one channel.

    Args:
        connect: opens a connection to listen on.
        channel: the SQL identifier of the channel.
        say: says something on that channel, by another way.
        heard: receives what is said, and "" after whatever may have been missed.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        channel: str,
        say: Callable[[str], Awaitable[None]],
        heard: Heard,
    ) -> None:
        self._connect = connect
        self._channel = channel
        self._say = say
        self._heard = heard
        self.works = False
        self.why_not = "not connected yet"
        self.settled = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Stop listening."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                if await self._listen():
                    failures = 0
                else:
                    self._deaf("what is said does not arrive: there is a pooler in between")
                    await asyncio.sleep(POOLER_PAUSE_S)
                    continue
            except (StoreError, TimeoutError) as error:
                self._deaf(str(error) or "no answer in time")
            except Exception as error:  # Candidates must not become deaf for good.
                _log.exception("listening")
                self._deaf(repr(error))
            await asyncio.sleep(PAUSES_S[min(failures, len(PAUSES_S) - 1)])
            failures += 1

    def _deaf(self, why: str) -> None:
        if self.works or why != self.why_not:
            _log.warning("not notified, looking again and again instead: %s", why)
        self.works, self.why_not = False, why
        self.settled.set()
        self._heard("")

    async def _listen(self) -> bool:
        """Listen until the connection is lost; return False if nothing can be heard on it."""
        async with asyncio.timeout(PULSE_LIMIT_S):
            connection = await self._connect()
        try:
            async with asyncio.timeout(PULSE_LIMIT_S):
                await connection.ask([f"LISTEN {self._channel}"], writes=False)
            if not await self._proven(connection):
                return False
            self.works, self.why_not = True, ""
            self.settled.set()
            self._heard("")
            while True:
                heard = await connection.hear(PULSE_EVERY_S)
                for text in heard:
                    self._heard(text)
                if not heard:
                    async with asyncio.timeout(PULSE_LIMIT_S):
                        await connection.ask(["SELECT 1"], writes=False)
        finally:
            connection.close()

    async def _proven(self, connection: Connection) -> bool:
        word = f"proof:{secrets.token_hex(8)}"
        try:
            async with asyncio.timeout(PROOF_S):
                await self._say(word)
                while word not in await connection.hear(PROOF_S):
                    pass
        except TimeoutError:
            return False
        return True
