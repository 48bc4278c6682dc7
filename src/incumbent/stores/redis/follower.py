"""Hears of changes by publish and subscribe, on a connection of its own.

Rules
-----
1. **Subscribe first, then read**, so that nothing falls between the two. What was read after a
   subscription began is reported with a gap; what messages tell from then on is not.
2. **A subscription that is lost is begun anew**, and so is one that answers no `PING`. The server
   drops subscribers that are slow, and connections die without a word.
3. **Every `LOOK_S` everything that is followed is read**, by one request. It finds what no message
   tells: a key that somebody deleted by hand, FLUSHALL, a server that lost its memory. Findings in
   two reads in a row that no message told mean that the subscription is deaf: it is begun anew, and
   the log says so.
4. **Nothing rests on this.** A takeover compares what was watched, and is refused if that was old;
   a holder hears with each renewal whether what it wrote is still there (`driver`).
5. **Errors cost time, never the follower.** It tries again for ever, after growing pauses.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from incumbent.errors import StoreError, StoreUnavailable
from incumbent.stores.redis.client import CLOSE_S, Client, Line, Refusal
from incumbent.stores.redis.view import View

__all__ = ["LOOK_S", "Follower"]

LOOK_S = 5.0
PING_S = 5.0
CONNECT_S = 5.0
PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_MANY = 1000

Look = Callable[[Collection[str], bool], Awaitable[bool]]
"""Reads keys and reports them, all of them if the flag is set, else what is news; tells whether
anything was."""
Told = Callable[[str, bytes], bool]
"""Takes in a message about a key; tells whether it is of the world that is known."""

_log = logging.getLogger("incumbent.stores.redis")


class Follower:
    """Follows the keys of a view.

    Args:
        client: makes the connection.
        channel: what the names of the channels begin with; the key follows.
        view: what is followed.
        look, told: see above.
    """

    def __init__(self, client: Client, channel: str, view: View, look: Look, told: Told) -> None:
        self._client = client
        self._channel = channel
        self._view = view
        self._look = look
        self._told = told
        self._task: asyncio.Task[None] | None = None
        self._sender: asyncio.Task[None] | None = None
        self._line: Line | None = None
        self._wanted: dict[str, bool] = {}
        self._unconfirmed = 0
        self._new: set[str] = set()

    def change(self, key: str) -> None:
        """Take note that a key has been added to the view, or removed from it."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        elif self._line is not None:
            self._wanted[key] = key in self._view
            if self._sender is None:
                self._sender = asyncio.get_running_loop().create_task(self._send(self._line))

    async def close(self) -> None:
        """Follow no more."""
        tasks = [task for task in (self._task, self._sender) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._task = None

    # -- for ever ---------------------------------------------------------------------------------

    async def _run(self) -> None:
        failures, complaint = 0, ""
        while True:
            started_at = asyncio.get_running_loop().time()
            try:
                await self._attend()
            except Refusal as refusal:
                text = str(self._client.meaning(refusal))
                if text != complaint:
                    _log.warning("changes are noticed late: %s", text)
                complaint = text
            except (StoreError, TimeoutError) as error:
                _log.debug("following is interrupted: %s", error)
            except Exception:
                _log.exception("following goes on after a bug")
            if asyncio.get_running_loop().time() - started_at > 2 * PING_S:
                failures = 0
            pause_s = PAUSES_S[min(failures, len(PAUSES_S) - 1)]
            failures += 1
            await asyncio.sleep(pause_s)

    async def _attend(self) -> None:
        line = self._client.line()
        try:
            async with asyncio.timeout(CONNECT_S):
                await line.connect()
            self._unconfirmed, self._new = 0, set()
            self._wanted = dict.fromkeys(self._view.keys(), True)
            self._view.forget(self._wanted)
            self._line = line
            await self._send(line)
            await self._hear(line)
        finally:
            self._line = None
            await line.close(wait_s=CLOSE_S)

    async def _send(self, line: Line) -> None:
        """Subscribe and unsubscribe what has changed."""
        try:
            while self._wanted and line is self._line:
                wanted, self._wanted = self._wanted, {}
                for word in ("UNSUBSCRIBE", "SUBSCRIBE"):
                    keys = [key for key, there in wanted.items() if there == (word[0] == "S")]
                    for start in range(0, len(keys), _MANY):
                        channels = [self._channel + key for key in keys[start : start + _MANY]]
                        self._unconfirmed += len(channels) * (word[0] == "S")
                        await line.send(word, *channels)
        except StoreError:
            await line.close()  # Whoever reads from it is told.
        finally:
            if self._sender is asyncio.current_task():
                self._sender = None

    async def _hear(self, line: Line) -> None:
        loop = asyncio.get_running_loop()
        heard_at = looked_at = loop.time()
        asked, surprises = False, 0
        while True:
            due_at = min(heard_at + PING_S, looked_at + LOOK_S)
            answer = await line.receive(max(0.001, due_at - loop.time()))
            now = loop.time()
            known = True
            if answer is not None:
                heard_at, asked = now, False
                known = self._take_in(answer)
            elif now >= heard_at + PING_S:
                if asked:
                    raise StoreUnavailable("the subscription gives no sign of life")
                heard_at, asked = now, True
                await line.send("PING")
            if self._new and not self._unconfirmed:
                new, self._new = self._new, set()
                await self._look(new, True)
            if now >= looked_at + LOOK_S or not known:
                looked_at = now
                keys = self._view.keys()
                found = bool(keys) and await self._look(keys, False)
                surprises = surprises + 1 if found and known else 0
                if surprises > 1:
                    _log.warning("reading found changes that no message told; subscribing anew")
                    raise StoreUnavailable("the subscription is deaf")

    def _take_in(self, answer: Any) -> bool:
        """Take in what came; tell whether it is of the world that is known."""
        if not isinstance(answer, list):
            return True  # A PONG, where nothing is subscribed to.
        kind, key = answer[0], answer[1].decode().removeprefix(self._channel)
        if kind == b"subscribe":
            self._unconfirmed -= 1
            self._new.add(key)
        elif kind == b"message":
            return self._told(key, answer[2])
        return True
