"""Follows records: one watch an object while they are few, one of the namespace for many.

Rules
-----
1. **No gap without a word.** A stream goes on after the last version that it saw. Where it cannot
   (the server forgot that version, or none was seen yet), it opens the watch first and reads then,
   so nothing falls between the two; and whoever waits on an absence starts to wait anew.
2. **A watch proves nothing.** One that is silent may be dead. Nothing above relies on it: a
   takeover compares the version that was watched, and is refused if the watch was behind.
3. **An idle standby costs one open request.** It is renewed every few minutes, at its own end.
4. **Errors cost time, never the follower.** It tries again for ever, after fixed growing pauses.
5. Without the right to watch, the object is read every few seconds, and the log says so.
6. **What was written beside a record is no news of it.** In one object there may be several, and
   other things; a change that leaves a record as it was is not reported.

With more than `FEW` objects one list and one watch of the whole namespace replace the single ones;
that needs the rights to list and to watch without a name, and where they are missing the single
watches stay. Elections that are followed later are read once, many of them by one list.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from incumbent.core.events import Seen
from incumbent.core.records import Snapshot
from incumbent.errors import ConfigError, PermissionDenied, StoreError
from incumbent.stores.api import Sink
from incumbent.stores.kubernetes import wire
from incumbent.stores.kubernetes.api import Change, Expired, Kind, NotFound, ObjectApi
from incumbent.stores.kubernetes.ledger import Ledger
from incumbent.stores.kubernetes.patience import (
    POLL_S,
    REQUEST_LIMIT_S,
    SLACK_S,
    WATCH_S,
    pause_after_s,
)

__all__ = ["Watcher"]

FEW = 8

_log = logging.getLogger("incumbent.stores.kubernetes")


@dataclass(slots=True)
class _Stream:
    """One watch: of the object `name`, or of all ("")."""

    name: str
    at: str = ""
    failures: int = 0
    open: bool = False
    complaint: str = ""


class Watcher:
    """Reports records to sinks, all on the event loop that calls it.

    Args:
        api: the objects.
        ledger: takes note of what is seen.
        object_of: in which object the record of an election lies.
    """

    def __init__(self, api: ObjectApi, ledger: Ledger, object_of: Callable[[str], str]) -> None:
        self._api = api
        self._ledger = ledger
        self._object_of = object_of
        self._sinks: dict[str, list[Sink]] = {}
        self._objects: dict[str, str] = {}
        self._elections: dict[str, list[str]] = {}
        self._reported: dict[str, Snapshot] = {}
        self._streams: dict[str, tuple[_Stream, asyncio.Task[None]]] = {}
        self._wide_refused = False
        self._new: set[str] = set()
        self._greeter: asyncio.Task[None] | None = None

    def follow(self, name: str, sink: Sink) -> None:
        """Report the record now and after each change."""
        try:
            called = self._object_of(name)
        except ConfigError as error:  # Whoever follows reads as well, and is told by that.
            _log.warning("cannot follow %s: %s", name, error)
            return
        self._sinks.setdefault(name, []).append(sink)
        self._ledger.followed = len(self._sinks)
        first = name not in self._objects
        if first:
            self._objects[name] = called
            self._elections.setdefault(called, []).append(name)
        if "" in self._streams:
            if self._streams[""][0].at:
                self._greet(name, first=first)
        elif len(self._elections) > FEW and not self._wide_refused:
            self._start("")
        elif called in self._streams:
            self._greet(name, first=first)
        else:
            self._start(called)

    def unfollow(self, name: str, sink: Sink) -> None:
        """Report no more to this sink."""
        sinks = self._sinks.get(name, [])
        if sink in sinks:
            sinks.remove(sink)
        if not sinks and name in self._objects:
            self._sinks.pop(name, None)
            self._reported.pop(name, None)
            called = self._objects.pop(name)
            self._elections[called].remove(name)
            if not self._elections[called]:
                del self._elections[called]
                self._stop(called)
        if not self._sinks:
            self._stop("")
        self._ledger.followed = len(self._sinks)

    def start_over(self) -> None:
        """Watch anew from now on: the store went back in time, and old versions mean nothing."""
        for name in list(self._streams):
            self._stop(name)
            self._start(name)

    def continuous(self, name: str) -> bool:
        """Tell whether nothing that happens to this record escapes us."""
        called = self._objects.get(name)
        return called is not None and (called in self._streams or "" in self._streams)

    async def close(self) -> None:
        """Stop every stream."""
        for followed in (self._sinks, self._objects, self._elections, self._reported):
            followed.clear()
        tasks = [task for _, task in self._streams.values()]
        if self._greeter is not None:
            tasks.append(self._greeter)
        self._streams.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- streams ----------------------------------------------------------------------------------

    def _start(self, name: str) -> None:
        stream = _Stream(name)
        task = asyncio.get_running_loop().create_task(self._run(stream))
        self._streams[name] = (stream, task)

    def _stop(self, name: str) -> None:
        if name in self._streams:
            self._streams.pop(name)[1].cancel()

    async def _run(self, stream: _Stream) -> None:
        while True:
            pause_s = await self._turn(stream)
            if pause_s is None:
                return
            await asyncio.sleep(pause_s)

    async def _turn(self, stream: _Stream) -> float | None:
        """Watch until the watch ends, and return for how long to pause, or None to stop."""
        try:
            await self._session(stream)
            cause = "the server ended the watch at once"
        except Expired:
            stream.at = ""
            cause = "the server forgot where the watch was"
        except PermissionDenied as error:
            cause = str(error)
            if not stream.name:
                self._give_up_wide(cause)
                return None
            self._complain(stream, f"{cause}; reading every {POLL_S:g} s instead")
            await self._patiently(stream, self._look(stream.name))
            return POLL_S
        except (StoreError, NotFound, TimeoutError) as error:
            cause = str(error) or "no answer in time"
        except Exception as error:  # A follower that ends would leave a candidate waiting for ever.
            _log.exception("following %r", stream.name)
            cause = repr(error)
        finally:
            was_open, stream.open = stream.open, False
        if was_open:
            return 0.0
        stream.failures += 1
        if stream.failures > 1:
            self._complain(stream, cause)
        return pause_after_s(stream.failures)

    async def _patiently(self, stream: _Stream, work: Coroutine[Any, Any, str]) -> None:
        """Do something that may fail, within a limit."""
        try:
            async with asyncio.timeout(REQUEST_LIMIT_S):
                await work
        except (StoreError, NotFound, TimeoutError) as error:
            self._complain(stream, str(error) or "no answer in time")

    def _complain(self, stream: _Stream, text: str) -> None:
        if stream.complaint != text:
            stream.complaint = text
            _log.warning("cannot follow %s: %s", stream.name or "the namespace", text)

    async def _session(self, stream: _Stream) -> None:
        """Open a watch and report what comes, until it ends."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(REQUEST_LIMIT_S) as limit:
            if not stream.name and not stream.at:
                stream.at = await self._list(None)
                self._retire_single_streams()
            from_scratch = not stream.at
            began = loop.time()
            watch = self._api.watch(stream.name, stream.at, WATCH_S)
            async with aclosing(watch) as changes:
                async for change in changes:
                    if change.kind is Kind.OPENED:
                        if from_scratch:
                            for name in self._elections.get(stream.name, ()):
                                self._ledger.gap(name)
                            stream.at = await self._look(stream.name)
                        limit.reschedule(loop.time() + WATCH_S + SLACK_S)
                        continue
                    self._changed(stream, change)
                    if not stream.open:
                        self._settled(stream)
            if loop.time() - began > 1.0:
                self._settled(stream)

    def _settled(self, stream: _Stream) -> None:
        """Take note that the watch works."""
        stream.open, stream.failures, stream.complaint = True, 0, ""

    def _retire_single_streams(self) -> None:
        for name in [name for name in self._streams if name]:
            self._stop(name)

    def _give_up_wide(self, cause: str) -> None:
        _log.info("following each object by a watch of its own: %s", cause)
        self._wide_refused = True
        self._streams.pop("", None)
        for called in self._elections:
            if called not in self._streams:
                self._start(called)

    # -- what was seen ----------------------------------------------------------------------------

    def _changed(self, stream: _Stream, change: Change) -> None:
        metadata = change.object["metadata"]
        stream.at = metadata["resourceVersion"]
        if change.kind is Kind.BOOKMARK:
            return
        serial = wire.version(change.object)
        for name in list(self._elections.get(metadata["name"], ())):
            before = self._reported.get(name)
            if before is not None and serial <= before.serial:
                continue
            if change.kind is Kind.DELETED:
                self._report(self._ledger.absent(name, serial, continuous=True))
                continue
            snapshot, _ = self._ledger.present(name, change.object, continuous=True)
            if before is None or _news(before, snapshot):
                self._report(snapshot)

    async def _look(self, called: str) -> str:
        """Read one object, report what is followed in it.

        Returns:
            The version after which a watch misses nothing.
        """
        asked = {name: self._ledger.asking(name) for name in self._elections.get(called, ())}
        try:
            obj = await self._api.get(called)
        except NotFound:
            for name, before in asked.items():
                self._report(self._ledger.absent(name, before.absent_from, continuous=True))
            serial = max((before.absent_from for before in asked.values()), default=0)
            return str(serial) if serial else ""
        for name, before in asked.items():
            snapshot, went_back = self._ledger.present(name, obj, before, continuous=True)
            self._report(snapshot, fresh=went_back)
        return str(obj["metadata"]["resourceVersion"])

    async def _list(self, names: set[str] | None) -> str:
        """Read all objects, report what lies in them of `names` (or all that are followed).

        Returns:
            The version of the list.
        """
        asked = {name: self._ledger.asking(name) for name in self._objects}
        listing = await self._api.list()
        found = {obj["metadata"]["name"]: obj for obj in listing.items}
        followed = self._objects.keys()
        for name in list(followed if names is None else names & followed):
            called = self._objects[name]
            if called in found:
                snapshot, went_back = self._ledger.present(name, found[called], asked.get(name))
                self._report(snapshot, fresh=went_back)
            else:
                serial = int(listing.version)
                self._report(self._ledger.absent(name, serial, continuous=False))
        return listing.version

    def _report(self, snapshot: Snapshot, *, fresh: bool = False) -> None:
        name = snapshot.name
        if name in self._objects:
            self._reported[name] = snapshot
        for sink in list(self._sinks.get(name, ())):
            sink(Seen(snapshot, fresh))

    # -- names that joined a stream ---------------------------------------------------------------

    def _greet(self, name: str, *, first: bool) -> None:
        if first:  # The stream is older than our interest in this one.
            self._ledger.gap(name)
        self._new.add(name)
        if self._greeter is None:
            self._greeter = asyncio.get_running_loop().create_task(self._greet_all())

    async def _greet_all(self) -> None:
        stream = _Stream("a new name")
        try:
            while self._new:
                names, self._new = self._new & self._objects.keys(), set()
                if len(names) > FEW and not self._wide_refused:
                    await self._patiently(stream, self._list(names))
                else:
                    for called in sorted({self._objects[name] for name in names}):
                        await self._patiently(stream, self._look(called))
        finally:
            self._greeter = None


def _news(before: Snapshot, after: Snapshot) -> bool:
    return (before.holding, before.watched) != (after.holding, after.watched)
