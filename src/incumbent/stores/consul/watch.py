"""Follows keys by blocking queries: one a key while they are few, one a folder for many.

A blocking query names the index that was seen, and is answered when what it asks for has a later
one, or after a time. It is no stream: it shows what is, and not what was in between.

Rules
-----
1. **An answer is compared with what was reported**, key by key, by ModifyIndex. That it came proves
   no change: an election that never was is asked for at the index of all keys, which every write
   of anybody moves.
2. **An absence has stood** only if the queries before and after it were one unbroken chain, and the
   election's `created` is still what it was (see `keys`). All else is a gap.
3. **An index that goes backwards** is another world (a restored snapshot), or a server that forgot
   old deletions. Then the chain is broken: the next query names no index. One that went on with the
   old index would hear nothing until the new world has caught up with it. A restore wakes all
   queries with what they knew before: an answer at the same index before its time breaks the chain,
   too.
4. **A failed query breaks the chain.** So does one that is not answered when its time is over.
5. **Nothing older than what was reported is reported** as long as the chain holds: a key that joins
   is looked at by itself, beside the query of its folder.
6. **A query proves nothing.** Takeovers compare what was watched, and are refused if it was old.

An idle standby costs one open request for its election, another for the holder's session, and is
asked nothing for a minute. One request a key cannot serve thousands: an agent accepts 200
connections from one address (`http_max_conns_per_client`). So with more than `FEW` keys of a folder
one query of the whole folder replaces the single ones. Its answer has all keys in it, however few
have changed, so what such answers may take of this thread is bounded: after each one it rests for
four times as long as it worked. Where the right to read the folder is missing, Consul would leave
out keys without a word, so it is looked at first; without it the single queries stay.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from incumbent.errors import PermissionDenied, StoreError
from incumbent.stores.consul.client import Client, Item, Listing
from incumbent.stores.consul.keys import Keys
from incumbent.stores.kv.api import Entry, Report, Sink

__all__ = ["Watcher"]

FEW = 8
WAIT_S = 60.0
"""How long a query waits at the server, and up to a sixteenth longer."""
_SLACK_S = 10.0
_REQUEST_LIMIT_S = 15.0
_PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_REST = 4.0

_log = logging.getLogger("incumbent.stores.consul")


@dataclass(slots=True)
class _Followed:
    """A key that somebody follows, and what was reported of it."""

    sinks: list[Sink] = field(default_factory=list)
    report: Report | None = None
    created: int = 0


@dataclass(slots=True)
class _Stream:
    """One chain of queries: for `key`, or for all of its folder (None)."""

    folder: str
    key: str | None
    beginning: str
    highest: int = 0
    failures: int = 0
    complaint: str = ""


@dataclass(frozen=True, slots=True)
class _Sight:
    """One answer: its index, the highest index of its chain, and whether it begins one."""

    index: int
    highest: int
    gap: bool


class Watcher:
    """Reports keys to sinks, all on the event loop that calls it."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._followed: dict[str, dict[str, _Followed]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wide: set[str] = set()
        self._refused: set[str] = set()

    def follow(self, key: str, sink: Sink) -> None:
        """Report the key now and after each change."""
        folder = _folder(key)
        members = self._followed.setdefault(folder, {})
        followed = members.setdefault(key, _Followed())
        followed.sinks.append(sink)
        if followed.report is not None:
            sink(Report(followed.report.entry, followed.report.revision, gap=True))
        if len(followed.sinks) > 1:
            return
        if folder in self._wide:
            self._start(key, self._greet(self._single(key), key))
        elif folder in self._tasks:
            return  # Its first answer is still to come, and has this key in it.
        elif len(members) > FEW and folder not in self._refused:
            stream = _Stream(folder, None, self._keys.folder(folder))
            self._start(folder, self._run(stream))
        else:
            self._start(key, self._run(self._single(key)))

    def unfollow(self, key: str, sink: Sink) -> None:
        """Report no more to this sink."""
        folder = _folder(key)
        members = self._followed.get(folder, {})
        followed = members.get(key)
        if followed is None or sink not in followed.sinks:
            return
        followed.sinks.remove(sink)
        if not followed.sinks:
            del members[key]
            self._stop(key)
        if not members:
            self._stop(folder)
            self._wide.discard(folder)

    async def close(self) -> None:
        """Stop every query."""
        self._followed.clear()
        tasks = list(self._tasks.values())
        self._tasks.clear()
        self._wide.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- queries ----------------------------------------------------------------------------------

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks[name] = asyncio.get_running_loop().create_task(work)

    def _stop(self, name: str) -> None:
        if name in self._tasks:
            self._tasks.pop(name).cancel()

    def _single(self, key: str) -> _Stream:
        return _Stream(_folder(key), key, self._keys.beginning(key))

    async def _run(self, stream: _Stream) -> None:
        while True:
            pause_s = await self._turn(stream)
            if pause_s is None:
                return
            await asyncio.sleep(pause_s)

    async def _turn(self, stream: _Stream) -> float | None:
        """Follow until the chain breaks, and return for how long to pause, or None to stop."""
        try:
            cause = await self._chain(stream)
        except PermissionDenied as error:
            cause = str(error)
            if stream.key is None:
                self._give_up_wide(stream.folder, cause)
                return None
        except (StoreError, TimeoutError) as error:
            cause = str(error) or "no answer in time"
        except Exception as error:  # A follower that ends would leave a candidate waiting for ever.
            _log.exception("following %s", stream.beginning)
            cause = repr(error)
        stream.failures += 1
        if stream.failures > 1:
            _complain(stream, cause)
        return _PAUSES_S[min(stream.failures, len(_PAUSES_S)) - 1]

    async def _chain(self, stream: _Stream) -> str:
        """Query, each time from the index of the last answer; return what broke the chain."""
        loop = asyncio.get_running_loop()
        listing = await self._look(stream)
        if stream.key is None:
            self._wide.add(stream.folder)
            for key in self._followed.get(stream.folder, ()):
                self._stop(key)
        gap = True
        while True:
            rest_s = self._report(stream, listing, gap=gap)
            if rest_s > _PAUSES_S[0]:
                await asyncio.sleep(rest_s)
            before = listing.index
            if before <= 0:
                return "an answer without an index"
            asked_at = loop.time()
            async with asyncio.timeout(WAIT_S * 17 / 16 + _SLACK_S):
                listing = await self._client.below(stream.beginning, before, WAIT_S)
            if listing.index < before:
                return f"the index went back from {before} to {listing.index}"
            if listing.index == before and loop.time() - asked_at < WAIT_S / 2:
                return "an answer before its time, and nothing new in it"
            stream.failures, stream.complaint = 0, ""
            gap = False

    async def _look(self, stream: _Stream) -> Listing:
        """Ask for what is, at once."""
        async with asyncio.timeout(_REQUEST_LIMIT_S):
            stream.highest = await self._client.readable(stream.beginning)
            return await self._client.below(stream.beginning)

    async def _greet(self, stream: _Stream, key: str) -> None:
        """Report a key that joined the query of its folder, which may wait for long."""
        listing = None
        for pause_s in itertools.chain(_PAUSES_S, itertools.repeat(_PAUSES_S[-1])):
            try:
                listing = await self._look(stream)
                break
            except (StoreError, TimeoutError) as error:
                _complain(stream, str(error) or "no answer in time")
            await asyncio.sleep(pause_s)
        del self._tasks[key]
        if stream.folder not in self._wide:
            self._start(key, self._run(stream))
        elif self._followed[stream.folder][key].report is None:
            assert listing is not None
            self._report(stream, listing, gap=True)

    def _give_up_wide(self, folder: str, cause: str) -> None:
        _log.info("following each of %s by a query of its own: %s", folder, cause)
        self._refused.add(folder)
        self._wide.discard(folder)
        del self._tasks[folder]
        for key in self._followed.get(folder, ()):
            if key not in self._tasks:
                self._start(key, self._run(self._single(key)))

    # -- what was seen ----------------------------------------------------------------------------

    def _report(self, stream: _Stream, listing: Listing, *, gap: bool) -> float:
        """Tell what differs from what was told, and return for how long to rest."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        items = {item.path: item for item in listing.items()}
        stream.highest = max(stream.highest, listing.index)
        members = self._followed.get(stream.folder, {})
        for key in list(members) if stream.key is None else [stream.key]:
            if key in members:
                self._compare(key, members[key], items, _Sight(listing.index, stream.highest, gap))
        return _REST * (loop.time() - began)

    def _compare(
        self, key: str, followed: _Followed, items: Mapping[str, Item], sight: _Sight
    ) -> None:
        """Report the key if it is another one than before, or may have been meanwhile."""
        item = items.get(self._keys.path(key))
        note = items.get(self._keys.created(key) or "")
        created = 0 if note is None else note.index
        before = followed.report
        if before is not None:
            entry = before.entry
            if item is not None and entry is not None and item.index == entry.version:
                return
            seen_at = sight.index if item is None else item.index
            if not sight.gap and seen_at < (before.revision if item or entry else 0):
                return
            stood = item is None and entry is None and created == followed.created
            if stood and not sight.gap:
                return
        gap = sight.gap or before is None or (item is None and before.entry is None)
        if item is None:
            report = Report(None, sight.highest, gap)
        else:
            report = Report(Entry(key, item.decoded(), item.index, item.index), item.index, gap)
        followed.report, followed.created = report, created
        for sink in list(followed.sinks):
            sink(report)


def _folder(key: str) -> str:
    return key.partition("/")[0]


def _complain(stream: _Stream, text: str) -> None:
    if stream.complaint != text:
        stream.complaint = text
        _log.warning("cannot follow %s: %s", stream.beginning, text)
