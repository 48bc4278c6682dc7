"""Follows the Leases of elections and sessions by one watch: that of everything with our label.

Rules
-----
1. **No gap without a word.** The watch goes on after the last version that it brought. Where the
   server has forgotten that version, everything is listed anew, and who waits on an absence starts
   to wait anew.
2. **A Lease is absent if a read of its name says so.** To a watch with a selector, and to a list
   with one, a Lease that lost its label is gone, and so is one that never had it; but a session
   without its label is renewed on. So what they do not show, or show as deleted, is read by its
   name before anybody hears of it.
3. **What has no label is read every few seconds**, since nothing would tell. These are Leases that
   were made beforehand, or that another kind of elector holds; a take of ours puts the label on.
   One that is made where there was none is noticed when a take meets it.
4. **An answer that is older than what was reported already is no news**, unless the store went back
   in time: then everything is forgotten and listed anew.
5. **A renewal of ours comes back on the watch** (`reached`), in the order of everything else. As
   long as it has not, something may have happened to a record of ours that we have not heard of,
   and the renewal does not count. So a watch that is silent without breaking costs terms, and never
   hides from a holder that its record was deleted or written over. What has no label does not come
   back, so it is read then.
6. Errors cost time, never the follower. It tries again for ever, after fixed growing pauses.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing, suppress

from incumbent.errors import StoreError
from incumbent.stores.kubernetes import wire as leases
from incumbent.stores.kubernetes.api import Change, Expired, Kind, NotFound, ObjectApi
from incumbent.stores.kubernetes.ledger import Ledger
from incumbent.stores.kubernetes.patience import (
    POLL_S,
    REQUEST_LIMIT_S,
    SLACK_S,
    WATCH_S,
    pause_after_s,
)
from incumbent.stores.kubernetes.sessions import wire
from incumbent.stores.kubernetes.wire import Object
from incumbent.stores.kv.api import Entry, Report, Sink

__all__ = ["Follower"]

FEW = 8
"""More Leases than these are looked for by one list of the namespace."""

_log = logging.getLogger("incumbent.stores.kubernetes")


class Follower:
    """Reports keys to sinks, all on the event loop that calls it.

    Args:
        api: the API server.
        ledger: what is known of each Lease; what is heard is noted there.
        entry: makes an entry of a key's Lease; None for one that must not be taken for it.
    """

    def __init__(
        self, api: ObjectApi, ledger: Ledger, entry: Callable[[str, Object], Entry | None]
    ) -> None:
        self._api = api
        self._ledger = ledger
        self._entry = entry
        self._sinks: dict[str, list[Sink]] = {}
        self._reported: dict[str, int] = {}
        self._unlabelled: set[str] = set()
        self._sought: dict[str, bool] = {}
        self._doubtful: set[str] = set()
        self._moved = asyncio.Event()
        self._hurry = asyncio.Event()
        self._at = ""
        self._open = False
        self._failures = 0
        self._complaint = ""
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def follow(self, key: str, sink: Sink) -> None:
        """Report the key now and after each change."""
        self._sinks.setdefault(key, []).append(sink)
        self._ledger.followed = len(self._sinks)
        if "watch" not in self._tasks:
            self._start("watch")
        elif self._at:
            self._seek(key, gap=True)

    def unfollow(self, key: str, sink: Sink) -> None:
        """Report no more to this sink."""
        sinks = self._sinks.get(key, [])
        if sink in sinks:
            sinks.remove(sink)
        if not sinks:
            self._sinks.pop(key, None)
            self._reported.pop(key, None)
            self._sought.pop(key, None)
            self._unlabelled.discard(key)
            self._sure(key)
        if not self._sinks:
            self._stop()
        self._ledger.followed = len(self._sinks)

    def read(self, key: str, obj: Object) -> None:
        """Take note of what somebody else has read; the watch may have nothing to say of it."""
        if key in self._sinks and not _labelled(obj):
            self._present(key, obj, gap=True)

    async def reached(self, revision: int) -> None:
        """Return when all that happened up to `revision` was reported to whoever follows it."""
        for key in self._unlabelled:
            # The watch does not bring these, and a record of ours may be among them.
            self._doubtful.add(key)
            self._seek(key, gap=True)
        while self._sinks and (not self._at or int(self._at) < revision or self._doubtful):
            self._hurry.set()
            self._moved.clear()
            await self._moved.wait()

    def start_over(self) -> None:
        """List everything anew: the store went back in time, and old versions mean nothing."""
        self._ledger.forget()
        self._reported.clear()
        self._stop()
        if self._sinks:
            self._start("watch")

    async def close(self) -> None:
        """Stop following."""
        self._sinks.clear()
        tasks = list(self._tasks.values())
        self._stop()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- tasks ------------------------------------------------------------------------------------

    def _start(self, what: str) -> None:
        if what not in self._tasks:
            run = {"watch": self._run, "seek": self._seek_all, "poll": self._poll}[what]
            self._tasks[what] = asyncio.get_running_loop().create_task(run())

    def _stop(self) -> None:
        tasks, self._tasks = self._tasks, {}
        for task in tasks.values():
            task.cancel()
        self._at, self._open, self._failures = "", False, 0
        self._sought.clear()
        self._unlabelled.clear()
        self._doubtful.clear()
        self._moved.set()

    # -- the watch --------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            pause_s = await self._turn()
            self._hurry.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._hurry.wait()

    async def _turn(self) -> float:
        """Watch until the watch ends, and return for how long to pause."""
        try:
            await self._watch()
            cause = "the server ended the watch at once"
        except Expired:
            self._at = ""
            cause = "the server forgot where the watch was"
        except (StoreError, NotFound, TimeoutError) as error:
            cause = str(error) or "no answer in time"
        except Exception as error:  # A follower that ends would leave a candidate waiting for ever.
            _log.exception("following sessions")
            cause = repr(error)
        finally:
            was_open, self._open = self._open, False
        if was_open:
            return 0.0
        self._failures += 1
        if self._failures > 1:
            self._complain(cause)
        return pause_after_s(self._failures)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(REQUEST_LIMIT_S) as limit:
            if not self._at:
                await self._list()
            began = loop.time()
            watch = self._api.watch("", self._at, WATCH_S, wire.KIND_KEY)
            async with aclosing(watch) as changes:
                async for change in changes:
                    if change.kind is Kind.OPENED:
                        limit.reschedule(loop.time() + WATCH_S + SLACK_S)
                        continue
                    self._changed(change)
                    self._settled()
            if loop.time() - began > 1.0:
                self._settled()

    def _settled(self) -> None:
        """Take note that the watch works."""
        self._open, self._failures, self._complaint = True, 0, ""

    def _complain(self, text: str) -> None:
        if self._complaint != text:
            self._complaint = text
            _log.warning("cannot follow sessions: %s", text)

    async def _list(self) -> None:
        """Report everything that is followed, and go on from there."""
        high = self._ledger.high
        listing = await self._api.list(wire.KIND_KEY)
        if int(listing.version) < high:
            self._ledger.forget()
            self._reported.clear()
        found = {obj["metadata"]["name"]: obj for obj in listing.items}
        done: set[str] = set()
        # Who hears of a record follows the session that it names at once.
        while keys := self._sinks.keys() - done:
            done |= keys
            for key in sorted(keys):
                obj = found.get(wire.lease_name(key))
                if obj is not None:
                    self._present(key, obj, gap=True)
                else:
                    self._doubtful.add(key)
                    self._seek(key, gap=True)
        self._at = listing.version
        self._moved.set()

    def _changed(self, change: Change) -> None:
        metadata = change.object["metadata"]
        self._at = metadata["resourceVersion"]
        self._moved.set()
        if change.kind is Kind.BOOKMARK:
            return
        for key in wire.keys_of(metadata["name"]):
            if key not in self._sinks:
                continue
            if change.kind is Kind.DELETED:
                self._doubtful.add(key)
                self._seek(key, gap=key not in self._reported)
            else:
                self._present(key, change.object, gap=key not in self._reported)

    # -- reading by name --------------------------------------------------------------------------

    def _seek(self, key: str, *, gap: bool) -> None:
        """Read this key's Lease soon; with a `gap`, something may have been missed before."""
        self._sought[key] = self._sought.get(key, False) or gap
        self._start("seek")

    async def _seek_all(self) -> None:
        failures = 0
        while self._sought:
            sought, self._sought = self._sought, {}
            try:
                async with asyncio.timeout(REQUEST_LIMIT_S):
                    await self._look(sought)
                failures = 0
            except (StoreError, TimeoutError) as error:
                self._complain(str(error) or "no answer in time")
                for key, gap in sought.items():
                    if key in self._sinks:
                        self._sought[key] = self._sought.get(key, False) or gap
                failures += 1
                await asyncio.sleep(pause_after_s(failures))
        self._tasks.pop("seek", None)

    async def _look(self, sought: dict[str, bool]) -> None:
        """Read these, and report them; those that are done are taken out of `sought`."""
        if len(sought) <= FEW:
            for key, gap in list(sought.items()):
                asked = self._ledger.asking(wire.lease_name(key))
                try:
                    obj = await self._api.get(wire.lease_name(key))
                except NotFound:
                    self._absent(key, asked.absent_from, gap=gap)
                else:
                    self._present(key, obj, gap=gap)
                del sought[key]
            return
        listing = await self._api.list()
        found = {obj["metadata"]["name"]: obj for obj in listing.items}
        for key, gap in list(sought.items()):
            listed = found.get(wire.lease_name(key))
            if listed is None:
                self._absent(key, int(listing.version), gap=gap)
            else:
                self._present(key, listed, gap=gap)
            del sought[key]

    async def _poll(self) -> None:
        while self._unlabelled:
            await asyncio.sleep(POLL_S)
            for key in sorted(self._unlabelled):
                self._seek(key, gap=True)
        self._tasks.pop("poll", None)

    # -- reporting --------------------------------------------------------------------------------

    def _sure(self, key: str) -> None:
        """Take note that this key was reported as it is, unless another read of it is due."""
        if key not in self._sought:
            self._doubtful.discard(key)
            self._moved.set()

    def _present(self, key: str, obj: Object, *, gap: bool) -> None:
        self._sure(key)
        if key not in self._sinks:
            return
        if _labelled(obj):
            self._unlabelled.discard(key)
        else:
            self._unlabelled.add(key)
            self._start("poll")
        serial = leases.version(obj)
        before = self._reported.get(key)
        if before is not None and serial <= before:
            return
        self._ledger.present(wire.lease_name(key), obj)
        self._report(key, Report(self._entry(key, obj), serial, gap))

    def _absent(self, key: str, serial: int, *, gap: bool) -> None:
        self._sure(key)
        if key not in self._sinks:
            return
        self._unlabelled.discard(key)
        if serial < self._reported.get(key, 0):
            return
        self._ledger.absent(wire.lease_name(key), serial, continuous=True)
        self._report(key, Report(None, serial, gap))

    def _report(self, key: str, report: Report) -> None:
        self._reported[key] = report.revision
        for sink in list(self._sinks[key]):
            sink(report)


def _labelled(obj: Object) -> bool:
    return wire.KIND_KEY in (obj["metadata"].get("labels") or {})
