"""Follows keys: a stream for each while they are few, one for their folder when they are many.

How many streams
----------------
A stream of the gateway takes its orders from the body of one POST, and no later than that: over
HTTP/1.1 nothing can be added to a request that is being answered. Several orders in one body were
tried on 3.6.5, and are not safe. The gateway reads them one by one, and when etcd has answered the
first, Go's server throws away what is not yet read of the body, without a word: of 8 orders all
were accepted in 29 of 30 tries, of 32 in 24, of 1000 in 3. So one POST is one watch, and what is
left to choose is of what:

- *of each key*: a process that holds ten thousand elections would have as many connections;
- *of each folder*: a process that waits for one of ten thousand elections would hear of every
  renewal of everybody.

So keys are watched one by one while a process follows few of a folder, and beyond that the folder
is. That of the elections is a quiet one, because a renewal touches only a session; and a process
that follows many sessions follows a good part of them. A candidate for one election has two
streams, one for the election and one for its holder's session.

Rules
-----
1. **No gap without a word.** A stream goes on after the last revision that it told. If etcd forgot
   that one, the keys are read, and the report has a gap.
2. **A key is read first**, by a linearizable read, and watched from the revision of this read on.
3. **A silent stream is not believed.** After `SILENCE_S` without a word its keys are read again. If
   that tells what the stream did not, or if only the stream could tell that nothing happened (a key
   that is absent has no version), it is opened anew. So a standby is never deaf for longer.
4. **Errors cost time, never the follower.** It tries again for ever, after fixed growing pauses,
   and reads meanwhile.

None of this is what exclusion stands on: a takeover compares the versions that were watched.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import islice

from incumbent.errors import PermissionDenied, StoreError, StoreUnavailable
from incumbent.stores.etcd import wire
from incumbent.stores.etcd.client import Client, Forgotten
from incumbent.stores.kv.api import Report, Sink

__all__ = ["Follower"]

FEW = 8
SILENCE_S = 20.0
REQUEST_LIMIT_S = 5.0
_KEYS_A_READ = 100
"""etcd permits 128 operations in a transaction, unless it was told otherwise."""
_PAUSES_S = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

_log = logging.getLogger("incumbent.stores.etcd")


@dataclass(slots=True)
class _Followed:
    """A key that somebody follows.

    Attributes:
        sinks: who does.
        told: what was reported last; None before the first read.
        ahead: what a stream told before the first read did.
        lost: what happened after the last report may have been missed.
    """

    sinks: list[Sink] = field(default_factory=list)
    told: Report | None = None
    ahead: Report | None = None
    lost: bool = False


@dataclass(slots=True)
class _Stream:
    """A watch of a key, or of a folder (its name ends in a slash).

    Attributes:
        name: of what.
        after: the revision up to which it was told.
        heard_at: when it last said something, or was last made sure of.
        task: what reads it.
        open: it has said something since it was opened.
        failures: how often it could not be opened, in a row.
        complaint: what the log was told last.
    """

    name: str
    after: int
    heard_at: float
    task: asyncio.Task[None] | None = None
    open: bool = False
    failures: int = 0
    complaint: str = ""


class Follower:
    """Reports keys to sinks, all on the event loop that calls it."""

    def __init__(self, client: Client, prefix: wire.Prefix) -> None:
        self._client = client
        self._prefix = prefix
        self._followed: dict[str, _Followed] = {}
        self._in_folder: Counter[str] = Counter()
        self._streams: dict[str, _Stream] = {}
        self._unread: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    def follow(self, key: str, sink: Sink) -> None:
        """Report the key now and after each change."""
        followed = self._followed.get(key)
        if followed is None:
            followed = self._followed[key] = _Followed()
            self._in_folder[_folder(key)] += 1
            self._read_soon([key])
        elif followed.told is not None:
            sink(replace(followed.told, gap=True))
        followed.sinks.append(sink)

    def unfollow(self, key: str, sink: Sink) -> None:
        """Report no more to this sink."""
        followed = self._followed.get(key)
        if followed is None or sink not in followed.sinks:
            return
        followed.sinks.remove(sink)
        if not followed.sinks:
            folder = _folder(key)
            del self._followed[key]
            self._in_folder[folder] -= 1
            self._unread.pop(key, None)
            self._stop(key)
            if not self._in_folder[folder]:
                self._stop(folder)

    async def close(self) -> None:
        """Stop everything."""
        tasks = [stream.task for stream in self._streams.values()]
        tasks.append(self._reading)
        self._reading = None
        for forgotten in (self._followed, self._in_folder, self._streams, self._unread):
            forgotten.clear()
        running = [task for task in tasks if task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    # -- reading ----------------------------------------------------------------------------------

    def _read_soon(self, keys: list[str]) -> None:
        self._unread.update(dict.fromkeys(keys))
        self._wake.set()
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        """Read what is new or in doubt, for as long as anything may be followed."""
        failures = 0
        while True:
            while self._unread:
                try:
                    async with asyncio.timeout(REQUEST_LIMIT_S):
                        await self._read_some()
                    failures = 0
                except (StoreError, TimeoutError) as error:
                    failures += 1
                    if failures == len(_PAUSES_S):
                        text = str(error) or "no answer in time"
                        _log.warning("cannot read keys of etcd: %s", text)
                    await asyncio.sleep(_pause_s(failures))
            self._wake.clear()
            try:
                async with asyncio.timeout_at(self._doubt_at()):
                    await self._wake.wait()
            except TimeoutError:
                self._doubt_the_silent()

    def _doubt_at(self) -> float | None:
        """Return when the first stream will have been silent for too long."""
        heard_at = min((stream.heard_at for stream in self._streams.values()), default=None)
        return None if heard_at is None else heard_at + SILENCE_S

    def _doubt_the_silent(self) -> None:
        now = asyncio.get_running_loop().time()
        for stream in self._streams.values():
            if now >= stream.heard_at + SILENCE_S:
                stream.heard_at = now
                self._read_soon(self._keys_of(stream.name))

    async def _read_some(self) -> None:
        """Read some of the keys, report what is news, and see to it that they are watched."""
        keys = list(islice(self._unread, _KEYS_A_READ))
        asked = {key: self._followed[key].told for key in keys}
        answer = await self._client.ask("/v3/kv/txn", self._prefix.reading(keys))
        found, revision = self._prefix.read(keys, answer), wire.revision(answer)
        for key, entry in found.items():
            self._unread.pop(key, None)
            if key in self._followed:
                report = Report(entry, revision if entry is None else entry.revision, gap=True)
                stream = self._stream_of(key, revision)
                if self._learn(self._followed[key], asked[key], report, revision) and stream.open:
                    self._open(stream)

    def _learn(
        self, followed: _Followed, asked: Report | None, report: Report, revision: int
    ) -> bool:
        """Report what a read found, if it is news.

        Args:
            followed: the key.
            asked: what had been told of it when the read was sent.
            report: what was found.
            revision: the store's, at which it was.

        Returns:
            Whether the stream should have told this, or has to be asked once more.
        """
        told = followed.told
        if told is None or followed.lost:
            newer = followed.ahead if told is None else told
            if newer is not None and newer.revision > revision:
                report = replace(newer, gap=True)
            followed.ahead, followed.lost = None, False
            _tell(followed, report)
            return False
        if asked is not None and revision < asked.revision:
            # The store has lost its memory: its revisions are others, and old ones mean nothing.
            _tell(followed, report)
            for stream in list(self._streams.values()):
                self._forget(stream)
            return False
        if report.revision <= told.revision:
            return False
        if report.entry is not None or told.entry is not None:
            _tell(followed, report)
        return True

    # -- streams ----------------------------------------------------------------------------------

    def _stream_of(self, key: str, revision: int) -> _Stream:
        """Return the stream that tells of a key; a new one begins after this revision."""
        folder = _folder(key)
        if key in self._streams:
            return self._streams[key]
        name = folder if folder in self._streams or self._in_folder[folder] > FEW else key
        if name not in self._streams:
            stream = _Stream(name, revision, asyncio.get_running_loop().time())
            self._streams[name] = stream
            self._open(stream)
        return self._streams[name]

    def _keys_of(self, name: str) -> list[str]:
        """Return the keys that the stream of this name is to tell of."""
        if not name.endswith("/"):
            return [name]
        return [k for k in self._followed if _folder(k) == name and k not in self._streams]

    def _open(self, stream: _Stream) -> None:
        """Open a stream where it had come to; one that is open is closed."""
        if stream.task is not None:
            stream.task.cancel()
        stream.open = False
        stream.task = asyncio.get_running_loop().create_task(self._run(stream))

    def _stop(self, name: str) -> None:
        stream = self._streams.pop(name, None)
        if stream is not None and stream.task is not None:
            stream.task.cancel()

    def _forget(self, stream: _Stream) -> None:
        """Read all that a stream was to tell: what happened since its last word is unknown."""
        keys = self._keys_of(stream.name)
        for key in keys:
            self._followed[key].lost = True
        self._stop(stream.name)
        self._read_soon(keys)

    async def _run(self, stream: _Stream) -> None:
        while True:
            try:
                await self._listen(stream)
                cause: Exception = StoreUnavailable("etcd ended the watch")
            except Forgotten as error:
                _log.info("following %s: %s", stream.name, error)
                self._forget(stream)
                return
            except (StoreError, TimeoutError) as error:
                cause = error
            except Exception as error:  # A follower that ends would leave a candidate waiting.
                _log.exception("following %s", stream.name)
                cause = error
            if stream.open:
                stream.open, stream.failures = False, 0
            else:
                stream.failures += 1
                self._read_soon(self._keys_of(stream.name))
                text = str(cause) or "no answer in time"
                if stream.failures > 1 and stream.complaint != text:
                    stream.complaint = text
                    _log.warning("cannot follow %s: %s", stream.name, text)
            await asyncio.sleep(_pause_s(stream.failures))

    async def _listen(self, stream: _Stream) -> None:
        """Order the watch, and report what it tells, until it ends.

        Raises:
            Forgotten: etcd has forgotten what happened since.
            StoreError, TimeoutError: it cannot be had now.
        """
        loop = asyncio.get_running_loop()
        server = self._client.at
        order = self._prefix.watch(stream.name, stream.after)
        try:
            async with asyncio.timeout(REQUEST_LIMIT_S) as limit:
                async with aclosing(self._client.watch(order)) as messages:
                    async for message in messages:
                        limit.reschedule(None)
                        self._hear(stream, message)
                        stream.open, stream.heard_at, stream.complaint = True, loop.time(), ""
        except TimeoutError:
            self._client.move_on(server)
            raise

    def _hear(self, stream: _Stream, message: wire.Object) -> None:
        """Take in one message of a stream."""
        ended, forgotten, why = wire.cancelled(message)
        if ended and forgotten:
            raise Forgotten(f"etcd forgot what is older than revision {forgotten}")
        if ended and "permission denied" in why:
            raise PermissionDenied(f"we may not watch it: {why}")
        if ended:
            self._client.forget_token()
            raise StoreUnavailable(f"etcd ended the watch: {why or 'it gave no reason'}")
        for change in self._prefix.changes(message):
            stream.after = max(stream.after, change.revision)
            followed = self._followed.get(change.key)
            if followed is None:
                continue
            report = Report(change.entry, change.revision, gap=False)
            if followed.told is None:
                followed.ahead = report
            elif change.revision > followed.told.revision:
                _tell(followed, report)


def _tell(followed: _Followed, report: Report) -> None:
    followed.told = report
    for sink in list(followed.sinks):
        sink(report)


def _pause_s(failures: int) -> float:
    return _PAUSES_S[min(failures, len(_PAUSES_S) - 1)]


def _folder(key: str) -> str:
    return key.partition("/")[0] + "/"
