"""Follows Leases: one watch a name while they are few, one watch of the namespace for many.

Rules
-----
1. **No gap without a word.** A stream goes on after the last version that it saw. Where it cannot
   (the server forgot that version, or none was seen yet), it opens the watch first and reads then,
   so nothing falls between the two; and whoever waits on an absence starts to wait anew.
2. **A watch proves nothing.** One that is silent may be dead. Nothing above relies on it: a
   takeover compares the version that was watched, and is refused if the watch was behind.
3. **An idle standby costs one open request.** It is renewed every few minutes, at its own end.
4. **Errors cost time, never the follower.** It tries again for ever, after fixed growing pauses.
5. Without the right to watch, the Lease is read every few seconds, and the log says so.

With more than `FEW` names one list and one watch of the whole namespace replace the single ones;
that needs the rights to list and to watch without a name, and where they are missing the single
watches stay. Names that are followed later are read once, many of them by one list.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from incumbent.core.events import Seen
from incumbent.core.records import Snapshot
from incumbent.errors import PermissionDenied, StoreError
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
    """One watch: of `name`, or of all ("")."""

    name: str
    at: str = ""
    failures: int = 0
    open: bool = False
    complaint: str = ""


class Watcher:
    """Reports Leases to sinks, all on the event loop that calls it."""

    def __init__(self, api: ObjectApi, ledger: Ledger) -> None:
        self._api = api
        self._ledger = ledger
        self._sinks: dict[str, list[Sink]] = {}
        self._reported: dict[str, int] = {}
        self._streams: dict[str, tuple[_Stream, asyncio.Task[None]]] = {}
        self._wide_refused = False
        self._new: set[str] = set()
        self._greeter: asyncio.Task[None] | None = None

    def follow(self, name: str, sink: Sink) -> None:
        """Report the Lease now and after each change."""
        self._sinks.setdefault(name, []).append(sink)
        self._ledger.followed = len(self._sinks)
        if "" in self._streams:
            if self._streams[""][0].at:
                self._greet(name)
        elif len(self._sinks) > FEW and not self._wide_refused:
            self._start("")
        elif name in self._streams:
            self._greet(name)
        else:
            self._start(name)

    def unfollow(self, name: str, sink: Sink) -> None:
        """Report no more to this sink."""
        sinks = self._sinks.get(name, [])
        if sink in sinks:
            sinks.remove(sink)
        if not sinks:
            self._sinks.pop(name, None)
            self._reported.pop(name, None)
            self._stop(name)
        if not self._sinks:
            self._stop("")
        self._ledger.followed = len(self._sinks)

    def start_over(self) -> None:
        """Watch anew from now on: the store went back in time, and old versions mean nothing."""
        for name in list(self._streams):
            self._stop(name)
            self._start(name)

    def continuous(self, name: str) -> bool:
        """Tell whether nothing that happens to this Lease escapes us."""
        return name in self._sinks and (name in self._streams or "" in self._streams)

    async def close(self) -> None:
        """Stop every stream."""
        self._sinks.clear()
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
                            self._ledger.gap(stream.name)
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
        _log.info("following each Lease by a watch of its own: %s", cause)
        self._wide_refused = True
        self._streams.pop("", None)
        for name in self._sinks:
            if name not in self._streams:
                self._start(name)

    # -- what was seen ----------------------------------------------------------------------------

    def _changed(self, stream: _Stream, change: Change) -> None:
        metadata = change.object["metadata"]
        stream.at = metadata["resourceVersion"]
        name = metadata.get("name", "")
        if change.kind is Kind.BOOKMARK or name not in self._sinks:
            return
        serial = wire.version(change.object)
        if serial <= self._reported.get(name, 0):
            return
        if change.kind is Kind.DELETED:
            self._report(self._ledger.absent(name, serial, continuous=True))
        else:
            self._report(self._ledger.present(name, change.object)[0])

    async def _look(self, name: str) -> str:
        """Read one Lease, report it, and return the version after which a watch misses nothing."""
        asked = self._ledger.asking(name)
        try:
            obj = await self._api.get(name)
        except NotFound:
            serial = asked.absent_from
            self._report(self._ledger.absent(name, serial, continuous=True))
            return str(serial) if serial else ""
        snapshot, went_back = self._ledger.present(name, obj, asked)
        self._report(snapshot, fresh=went_back)
        return str(snapshot.version)

    async def _list(self, names: set[str] | None) -> str:
        """Read all Leases, report those of `names` (or all that are followed).

        Returns:
            The version of the list.
        """
        asked = {name: self._ledger.asking(name) for name in self._sinks}
        listing = await self._api.list()
        found = {obj["metadata"]["name"]: obj for obj in listing.items}
        for name in list(self._sinks if names is None else names & self._sinks.keys()):
            if name in found:
                snapshot, went_back = self._ledger.present(name, found[name], asked.get(name))
                self._report(snapshot, fresh=went_back)
            else:
                serial = int(listing.version)
                self._report(self._ledger.absent(name, serial, continuous=False))
        return listing.version

    def _report(self, snapshot: Snapshot, *, fresh: bool = False) -> None:
        name = snapshot.name
        self._reported[name] = snapshot.serial
        for sink in list(self._sinks.get(name, ())):
            sink(Seen(snapshot, fresh))

    # -- names that joined a stream ---------------------------------------------------------------

    def _greet(self, name: str) -> None:
        self._new.add(name)
        if self._greeter is None:
            self._greeter = asyncio.get_running_loop().create_task(self._greet_all())

    async def _greet_all(self) -> None:
        stream = _Stream("a new name")
        try:
            while self._new:
                names, self._new = self._new & self._sinks.keys(), set()
                if len(names) > FEW and not self._wide_refused:
                    await self._patiently(stream, self._list(names))
                else:
                    for name in sorted(names):
                        await self._patiently(stream, self._look(name))
        finally:
            self._greeter = None
