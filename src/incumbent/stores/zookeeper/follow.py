"""Follows keys by watches, and reports what became of them.

Rules
-----
1. A watch fires once, and says that something happened and not what. It is set again by the read
   that finds out, so nothing falls between the two; states in between may be skipped.
2. Watches die with their connection. After each new one every key is looked at anew.
3. An absence has stood if, and only if, its mark has not changed (`nodes`): neither watches nor
   connections are asked. Whatever else is found after an absence is reported with a gap.
4. A watch proves nothing: this server may lag, or be cut off, and then it is silent. A takeover
   compares what was watched, and is refused if that was behind.
5. Errors cost time, never the follower.
6. An absence is not taken over on a connection on which it has not been looked at (`stands`).

Warning: a server that lags tells of a record later than it was made. One that is made, held, and
deleted by hand within a TTL, while the server of a standby lags for all of that time, can escape
that standby. Nothing here deletes records; let nobody else have the right to.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from incumbent.errors import StoreError, StoreUnavailable
from incumbent.stores.kv.api import Report, Sink
from incumbent.stores.zookeeper.link import Link
from incumbent.stores.zookeeper.nodes import Found, Nodes

__all__ = ["Follower"]

_log = logging.getLogger("incumbent.stores.zookeeper")

PAUSE_S = 5.0
"""From a look that was refused to the next one."""


@dataclass(slots=True)
class _Followed:
    """A key that somebody follows.

    Attributes:
        armed: the connection on which watches for all of `found` are set.
        value_only: all that was heard since is that the value was written.
        again: something was heard while the key was being looked at.
        reports: how often its sinks were told something.
    """

    sinks: list[Sink] = field(default_factory=list)
    found: Found | None = None
    task: asyncio.Task[None] | None = None
    armed: Link | None = None
    value_only: bool = False
    again: bool = False
    reports: int = 0
    complaint: str = ""


class Follower:
    """Reports keys to sinks, all on the event loop that calls it."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._keys: dict[str, _Followed] = {}
        self._link: Link | None = None

    def connected(self, link: Link) -> None:
        """Go on with a new connection."""
        self._link = link
        link.on_event = self._fired
        for key in self._keys:
            self._look_soon(key)

    def follow(self, key: str, sink: Sink) -> None:
        """Report the key now and after each change."""
        followed = self._keys.setdefault(key, _Followed())
        followed.sinks.append(sink)
        if followed.found is not None:
            sink(Report(followed.found.entry, followed.found.revision, gap=True))
        elif len(followed.sinks) == 1:
            self._look_soon(key)

    def unfollow(self, key: str, sink: Sink) -> None:
        """Report no more to this sink."""
        followed = self._keys[key]
        followed.sinks.remove(sink)
        if not followed.sinks:
            del self._keys[key]
            if followed.task is not None:
                followed.task.cancel()

    async def stands(self, key: str, link: Link) -> bool:
        """Tell whether what was reported last of a key is still so, as this connection knows it."""
        followed = self._keys.get(key)
        if followed is None or followed.found is None:
            return True
        before = followed.reports
        while followed.armed is not link or followed.again:
            if followed.task is None or link.lost.done():
                raise StoreUnavailable(f"{link.server}: the connection was lost")
            await asyncio.wait({followed.task})
        return followed.reports == before

    async def close(self) -> None:
        """Stop looking. What is followed stays so, should there be a connection again."""
        self._link = None
        tasks = [f.task for f in self._keys.values() if f.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _fired(self, path: str) -> None:
        key = self._nodes.key(path)
        if key in self._keys:
            self._look_soon(key, value_only=path != self._nodes.path(key))

    def _look_soon(self, key: str, *, value_only: bool = False) -> None:
        followed = self._keys[key]
        followed.value_only = value_only and (followed.value_only or not followed.again)
        followed.again = True
        if followed.task is None:
            followed.task = asyncio.get_running_loop().create_task(self._look(key, followed))

    async def _look(self, key: str, followed: _Followed) -> None:
        try:
            while followed.again and self._link is not None:
                link, value_only = self._link, followed.value_only
                followed.again = False
                try:
                    self._found(followed, await self._read(link, key, followed, value_only))
                    followed.complaint = ""
                except StoreError as error:
                    followed.armed = None
                    if link.lost.done():
                        continue  # With the next connection comes the next look.
                    followed.again = True
                    if followed.complaint != str(error):
                        followed.complaint = str(error)
                        _log.warning("%s cannot be followed: %s", key, error)
                    await asyncio.sleep(PAUSE_S)
        finally:
            followed.task = None

    async def _read(self, link: Link, key: str, followed: _Followed, value_only: bool) -> Found:
        entry = None if followed.found is None else followed.found.entry
        if value_only and entry is not None and followed.armed is link:
            found = await self._nodes.changed(link, entry)
            if found is not None:
                return found
        found = await self._nodes.look(link, key, watch=True)
        followed.armed = link
        return found

    def _found(self, followed: _Followed, found: Found) -> None:
        last, followed.found = followed.found, found
        stood = (
            last is not None
            and last.entry is None
            and found.entry is None
            and found.mark is not None
            and found.mark == last.mark
        )
        if stood or (last is not None and found.entry is not None and found.entry == last.entry):
            return
        followed.reports += 1
        for sink in list(followed.sinks):
            sink(Report(found.entry, found.revision, gap=True))
