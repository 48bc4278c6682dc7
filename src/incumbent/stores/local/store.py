"""What every store does whose records are files of one host, whatever stands in them.

`LocalStore` has the six verbs, the sessions, whoever follows, the evidence of death and the
replacement of files; a store of this kind adds its records (`Records`), which files they are, and
how a change of them is heard of.

How death is noticed: see `locks`. The evidence is about a *session*, that is, about one process
and everything that inherited its lock; all elections held under it are free at once.

How replacement of the files is noticed: by an event of the kernel about one of them, or the
renaming of a folder above; and by a look at the inodes, before and after each request. To every
candidate its record is then absent, which deposes the holder; the new files are opened at the next
request. What a newcomer does in the meantime with them cannot be known: deleting the files under a
live holder is deleting the store.

File systems block, so a store has a thread of its own. A request whose caller stopped waiting is
still carried out by that thread: its outcome is unknown to the caller, who reads it back.
"""

from __future__ import annotations

import asyncio
import os
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from incumbent.core.events import Evidence, Seen
from incumbent.core.records import (
    Bar,
    Checkpoint,
    Claim,
    Held,
    Holding,
    Lease,
    Snapshot,
    StepDownRequest,
    absent,
)
from incumbent.errors import OutcomeUnknown, StoreError, StoreUnavailable, StoreUnusable
from incumbent.stores.api import Finding, Sink, StoreDefaults
from incumbent.stores.local import filesystem, inotify
from incumbent.stores.local.machine import Machine, Thread

__all__ = ["Checkpoints", "LocalStore", "Records"]

T = TypeVar("T")


class Checkpoints(Protocol):
    """The checkpoints and their swaps. Everything blocks, and is called in the store's thread."""

    def read(self, name: str, part: str) -> Checkpoint:
        """Return one checkpoint."""
        ...

    def listed(self, name: str) -> list[Checkpoint]:
        """Return all checkpoints of an election, by part."""
        ...

    def advance(self, over: Checkpoint, value: bytes, token: int) -> Checkpoint:
        """Write a checkpoint over exactly `over`."""
        ...


class Records(Protocol):
    """The records and their swaps. Everything blocks, and is called in the store's thread."""

    @property
    def checkpoints(self) -> Checkpoints:
        """How far the work has come."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...

    def read(self, name: str) -> Snapshot:
        """Return one election."""
        ...

    def elections(self) -> list[Snapshot]:
        """Return every election, by name."""
        ...

    def held(self, name: str, claim: Claim) -> Held | Snapshot:
        """Return the term of `claim` if the record carries its nonce, else the record."""
        ...

    def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        """Swap the record `over` for one that names the claim."""
        ...

    def renew(self, lease: Lease) -> Lease:
        """Move the session's beat."""
        ...

    def release(self, held: Held, successor: str) -> Snapshot:
        """Make the record vacant if it still carries exactly this term."""
        ...

    def ask(self, name: str, request: StepDownRequest) -> Snapshot:
        """Leave a request in the record if it still carries `request.term`."""
        ...

    def bar(self, over: Snapshot, bar: Bar | None) -> Snapshot:
        """Bar what is held under a term, or replace exactly one bar; None lifts that."""
        ...

    def open_session(self, key: str, owner: str, ttl_s: float) -> Lease:
        """Write a session."""
        ...

    def close_session(self, key: str) -> None:
        """Void a session; what is held under it is vacant."""
        ...

    def sessions(self) -> set[str]:
        """Return the keys of the sessions that are not over."""
        ...


R = TypeVar("R", bound=Records)

Changes = tuple[int, list[Snapshot]]
"""The serial of the store, and what was changed before it."""

_ABANDONED: list[object] = []
"""What a parent process has open; in the child it is neither used nor closed."""
PROBES = 50
PROBE_EVERY_S = 0.002
"""After the kernel's event the lock is free within microseconds; this is patience, not polling."""


class LocalStore(StoreDefaults, Generic[R]):
    """A store at `path`.

    Args:
        path: a file, or a folder.
        machine: the real one, or a twin.
        files: the files and folders which, if any of them is replaced, make it another store;
            `path` is the first.
        locks: the folder of the sessions' lock files.
        named: by what name others find it: a path that leads to `path`, by links perhaps. The same
            as `path` if not given.
    """

    def __init__(
        self, path: Path, machine: Machine, *, files: Sequence[Path], locks: Path, named: str = ""
    ) -> None:
        self.path = path
        self._named = named or str(path)
        self._real = os.path.realpath(path)
        self.url = f"{self.capabilities.scheme}://{path}"
        self._machine = machine
        self._files = tuple(files)
        self._locks = machine.locks(locks)
        self._pid = os.getpid()
        self._create = True
        self._worker: Thread | None = None
        self._records: R | None = None
        self._identity: tuple[tuple[int, int], ...] | None = None
        self._inotify: inotify.Inotify | None = None
        self._file_watches: set[int] = set()
        self._deaf = "not connected"
        self._followers: dict[str, list[Sink]] = {}
        self._there: set[str] = set()
        self._serial = 0
        self._newest = 0
        self._refreshing: Future[Changes] | None = None
        self._stale = False
        self._lease_of: dict[str, str] = {}
        self._names_of: dict[str, set[str]] = {}
        self._lock_watch: dict[str, int] = {}
        self._watched_lock: dict[int, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- what a store of this kind adds -----------------------------------------------------------

    @abstractmethod
    def _open_records(self) -> R:
        """Open the files, and make what must exist unless `_create` is False; in the thread."""

    @abstractmethod
    def _watch_files(self, kernel: inotify.Inotify) -> Iterator[int]:
        """Watch what tells of changes, and yield the numbers; on the loop."""

    @abstractmethod
    def _changed(self, notice: inotify.Notice) -> None:
        """Take in that a watched file has changed, or that events were lost; on the loop."""

    @abstractmethod
    def _changes(self) -> Callable[[R], Changes]:
        """Return how to find out what has changed since this was called last; on the loop."""

    def _forget(self) -> None:
        """Look at everything next time."""
        self._serial = 0

    def _ring(self) -> None:
        """Tell the others of a change, where the change itself does not."""

    # -- opening and closing ----------------------------------------------------------------------

    async def open(self, *, create: bool = True) -> None:
        """Create what must exist, if need be, and connect.

        Raises:
            StoreAbsent: there is nothing, and nothing is to be created.
            StoreUnusable: a network file system, files of another program, another format.
            PermissionDenied: no right to write the files or their folder.
            StoreFull: no room on the disk.
        """
        if self._pid != os.getpid():
            self._abandon()
        self._create = create
        self._loop = asyncio.get_running_loop()
        self._worker = self._machine.thread()
        await self._run(lambda _: None)
        self._start_watching()
        if self._deaf:
            raise StoreUnusable(f"standbys of {self.url} could not be woken: {self._deaf}")

    def _abandon(self) -> None:
        """In a forked child: what the parent has opened is the parent's, and is not even closed."""
        _ABANDONED.append((self._records, self._inotify))
        self.__init__(self.path, self._machine, self._named)  # type: ignore[misc]

    async def close(self) -> None:
        """Give back every resource but the locks of sessions that go on: nothing is released."""
        for task in list(self._tasks):
            task.cancel()
        self._refreshing = None
        worker, self._worker = self._worker, None
        if worker is not None:
            disconnected = worker.submit(self._disconnect)
            worker.close()
            await _answer(disconnected)
        self._stop_watching()

    def _connect(self) -> R:
        """Return the open records; in the store's thread. Opens anew what was replaced."""
        if self._is_same():
            assert self._records is not None
            return self._records
        self._disconnect()
        if os.path.realpath(self._named) != self._real:
            raise StoreUnusable(
                f"{self._named} does not lead to {self.path} any more, and others elect where it "
                "leads now: start this process anew"
            )
        try:
            if why := filesystem.refusal(self.path, filesystem.kind(self.path)):
                raise StoreUnusable(why)
            records = self._records = self._open_records()
        except OSError as error:
            raise filesystem.store_error(self.path, error) from error
        if self._create:
            self._sweep(records)
        self._identity = self._identify()
        if self._inotify is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._reopened)
        return records

    def _disconnect(self) -> None:
        self._identity = None
        if self._records is not None:
            self._records.close()
            self._records = None

    def _identify(self) -> tuple[tuple[int, int], ...] | None:
        """Return which files have the names; None if not all are there, or others are found.

        Others: our name for the store leads elsewhere now, and who comes new elects there.
        """
        try:
            found = [os.stat(path) for path in self._files]
            theirs = os.stat(self._named)
        except OSError:
            return None
        if not os.path.samestat(theirs, found[0]):
            return None
        return tuple((file.st_dev, file.st_ino) for file in found)

    def _is_same(self) -> bool:
        """Tell whether the files that are open are still those that have the names."""
        return self._identity is not None and self._identify() == self._identity

    def _sweep(self, records: R) -> None:
        """Remove the lock files of sessions that are over, left by processes that were killed."""
        live = records.sessions()
        for file in self._locks.files():
            if file.stem not in live and self._locks.is_relic(file.stem):
                self._locks.remove(file.stem)
        self._locks.sweep_unnamed()

    def _ask(self, work: Callable[[R], T], *, ring: bool = False) -> Future[T]:
        def job() -> T:
            result = work(self._connect())
            if ring:
                self._ring()
            if not self._is_same():
                raise OutcomeUnknown(f"{self.path} was replaced in the middle of a request")
            return result

        if self._worker is None:
            raise StoreUnavailable(f"{self.url} is closed")
        return self._worker.submit(job)

    async def _run(self, work: Callable[[R], T], *, ring: bool = False) -> T:
        return await _answer(self._ask(work, ring=ring))

    # -- the six verbs ----------------------------------------------------------------------------

    async def read(self, name: str) -> Snapshot:
        """Return the record as it is now."""
        return await self._run(lambda records: records.read(name))

    async def read_back(self, name: str, claim: Claim) -> Held | Snapshot:
        """Find out whether the take of `claim` happened."""
        found = await self._run(lambda records: records.held(name, claim))
        if isinstance(found, Held):
            self._note_held(found)
        else:
            self._newest = max(self._newest, found.serial)
        return found

    async def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        """Become the holder, if the record is still exactly `over`."""
        worker = self._worker

        def work(records: R) -> Held:
            held = records.take(name, claim, over)
            if worker is not None:
                # Next: we have it, and that the others hear of it can wait. Said here, since it is
                # taken even if our caller has stopped waiting.
                worker.submit(self._ring)
            return held

        held = await self._run(work)
        self._note_held(held)
        # Not under one that is only cut off: it removes its own, and a store that went back in time
        # since may know its session again.
        before = over.lease_key
        if before not in ("", held.lease.key) and self._locks.is_relic(before):
            self._locks.remove(before)
        return held

    async def renew(self, lease: Lease) -> Lease:
        """Confirm the session, and look at the elections under it, whatever inotify says."""
        renewed = await self._run(lambda records: records.renew(lease), ring=True)
        self._refresh_soon()  # If our own change has caused one already, it finds nothing new.
        return renewed

    async def release(self, held: Held, lease: Lease, successor: str) -> Snapshot:
        """Give up exactly this term."""
        return await self._run(lambda records: records.release(held, successor), ring=True)

    async def ask(self, name: str, request: StepDownRequest) -> Snapshot:
        """Leave a request to step down."""
        return await self._run(lambda records: records.ask(name, request), ring=True)

    async def bar(self, over: Snapshot, bar: Bar) -> Snapshot:
        """Make of the record one that nobody takes."""
        return await self._run(lambda records: records.bar(over, bar), ring=True)

    async def unbar(self, over: Snapshot) -> Snapshot:
        """Make the record vacant if it is exactly this bar."""
        return await self._run(lambda records: records.bar(over, None), ring=True)

    async def elections(self) -> list[Snapshot]:
        """Return every election."""
        return await self._run(lambda records: records.elections())

    # -- checkpoints: nobody is told, since no election has changed --------------------------------

    async def checkpoint(self, name: str, part: str) -> Checkpoint:
        """Return a checkpoint as it is now."""
        return await self._run(lambda records: records.checkpoints.read(name, part))

    async def checkpoints(self, name: str) -> list[Checkpoint]:
        """Return all checkpoints of an election."""
        return await self._run(lambda records: records.checkpoints.listed(name))

    async def advance(self, over: Checkpoint, value: bytes, token: int) -> Checkpoint:
        """Write a checkpoint if it is still exactly `over`."""
        return await self._run(lambda records: records.checkpoints.advance(over, value, token))

    # -- sessions ---------------------------------------------------------------------------------

    async def open_session(self, owner: str, ttl_s: float) -> Lease:
        """Lock a new session's file, then write the session: whoever sees it, sees it locked."""
        chance = self._machine.chance(12)

        def work(records: R) -> Lease:
            try:
                key = self._locks.hold(chance)
            except OSError as error:
                raise filesystem.store_error(self.path, error) from error
            try:
                return records.open_session(key, owner, ttl_s)
            except BaseException:
                self._locks.drop(key)
                raise

        return await self._run(work)

    async def close_session(self, lease: Lease) -> None:
        """End a session; what is still held under it is free at once."""
        try:
            await self._run(lambda records: records.close_session(lease.key), ring=True)
        finally:
            self._locks.drop(lease.key)

    def inherited_fds(self, lease: Lease) -> Sequence[int]:
        """Return the descriptor whose lock is the evidence that this session's work is alive."""
        fd = self._locks.descriptor(lease.key)
        return () if fd is None else (fd,)

    # -- being woken ------------------------------------------------------------------------------

    def follow(self, name: str, sink: Sink) -> None:
        """Report the record now and after each change."""
        self._followers.setdefault(name, []).append(sink)
        task = asyncio.get_running_loop().create_task(self._first(name, sink))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def unfollow(self, name: str, sink: Sink) -> None:
        """Report no more."""
        sinks = self._followers.get(name, [])
        if sink in sinks:
            sinks.remove(sink)
        if not sinks:
            self._followers.pop(name, None)
            self._there.discard(name)
            self._note_lease(name, "")

    async def _first(self, name: str, sink: Sink) -> None:
        with suppress(StoreError):  # The elector looks for itself if it hears nothing.
            snapshot = await self.read(name)
            if sink in self._followers.get(name, ()):
                sink(Seen(snapshot))
                self._note_snapshot(snapshot)

    def _start_watching(self) -> None:
        """Watch the files that were just opened; on the loop."""
        if self._loop is None or self._loop.is_closed():
            return
        try:
            if self._inotify is None:
                self._inotify = self._machine.inotify()
                self._loop.add_reader(self._inotify.fileno(), self._notified)
            for number in self._file_watches:
                self._inotify.unwatch(number)
            watches = list(self._watch_files(self._inotify))
            for folder in self.path.parents:
                with suppress(OSError):  # A folder that we may pass and not read cannot be watched.
                    watches.append(self._inotify.watch(folder, inotify.MOVED))
            self._file_watches = set(watches)
        except (OSError, StoreUnusable) as error:
            self._deaf = str(error)
            return
        self._deaf = ""
        self._refresh_soon()

    def _stop_watching(self) -> None:
        if self._inotify is not None and self._loop is not None:
            self._loop.remove_reader(self._inotify.fileno())
            self._inotify.close()
            self._inotify = None
        self._file_watches = set()
        self._lock_watch.clear()
        self._watched_lock.clear()
        self._forget()

    def _notified(self) -> None:
        if self._inotify is None:
            return
        for notice in self._inotify.read():
            number, mask = notice.number, notice.mask
            if number in self._watched_lock:
                self._probe(self._watched_lock[number], PROBES)
            elif number in self._file_watches and mask & (inotify.GONE | inotify.MOVED):
                if not self._is_same():
                    self._replaced()
            else:
                if mask & inotify.OVERFLOWN:
                    for key in list(self._lock_watch):
                        self._probe(key, 1)
                self._changed(notice)

    def _reopened(self) -> None:
        """Other files than before were opened for a request; it may be the first to notice."""
        self._replaced()
        self._start_watching()

    def _replaced(self) -> None:
        """The files were deleted or exchanged: to everybody, their record is gone."""
        self._newest = max(self._newest, self._serial) + 1
        for name, sinks in list(self._followers.items()):
            for sink in list(sinks):
                sink(Seen(absent(name, self._newest)))
        self._forget()
        self._refresh_soon()

    def _refresh_soon(self) -> None:
        self._stale = True
        if self._refreshing is None and self._loop is not None and self._worker is not None:
            self._refresh(self._loop)

    def _refresh(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read what has changed. Callbacks and no task: a standby's takeover waits for it."""
        self._stale = False
        asked = self._refreshing = self._ask(self._changes())
        asked.add_done_callback(partial(_tell, loop, self._refreshed))

    def _refreshed(self, asked: Future[Changes]) -> None:
        if self._refreshing is not asked:
            return  # Closed meanwhile.
        self._refreshing = None
        try:
            self._serial, snapshots = asked.result()
        except StoreError:  # The next event or the elector's own look finds out.
            self._missed()
            return
        for snapshot in snapshots:
            for sink in list(self._followers.get(snapshot.name, ())):
                sink(Seen(snapshot))
            self._note_snapshot(snapshot)
        if self._stale:
            self._refresh_soon()

    def _missed(self) -> None:
        """Take note that what `_changes` gave could not be carried out."""

    # -- evidence ---------------------------------------------------------------------------------

    def _note_snapshot(self, snapshot: Snapshot) -> None:
        if snapshot.name in self._followers:
            present = snapshot.holding is not Holding.ABSENT
            (self._there.add if present else self._there.discard)(snapshot.name)
            held = snapshot.holding is Holding.HELD
            self._note_lease(snapshot.name, snapshot.lease_key if held else "")

    def _note_held(self, held: Held) -> None:
        """A record that we wrote is there: its deletion is news even if nobody has read it yet."""
        self._newest = max(self._newest, held.snapshot.serial)
        if held.name in self._followers:
            self._there.add(held.name)

    def _note_lease(self, name: str, key: str) -> None:
        """Keep watch over the lock of the session that holds `name`, and no longer over others."""
        before = self._lease_of.get(name, "")
        if before == key:
            return
        if before:
            names = self._names_of[before]
            names.discard(name)
            if not names:
                del self._names_of[before]
        if not key:
            self._lease_of.pop(name, None)
            return
        self._lease_of[name] = key
        names = self._names_of.setdefault(key, set())
        names.add(name)
        if len(names) == 1:
            self._watch_lock(key)
        self._probe(key, 1)

    def _watch_lock(self, key: str) -> None:
        if self._inotify is None or self._locks.descriptor(key) is not None:
            return
        # Watches that nobody needs are given back here and not when they become so: that is the
        # moment of a handover, and the kernel would wake us up once more to tell of it.
        for other in self._lock_watch.keys() - self._names_of.keys():
            self._unwatch_lock(other)
        if key in self._lock_watch:
            return
        with suppress(OSError, StoreUnusable):  # No evidence from this one; the TTL is waited out.
            number = self._inotify.watch(self._locks.path(key), inotify.CLOSED)
            self._lock_watch[key] = number
            self._watched_lock[number] = key

    def _unwatch_lock(self, key: str) -> None:
        number = self._lock_watch.pop(key, None)
        if number is not None:
            self._watched_lock.pop(number, None)
            if self._inotify is not None:
                self._inotify.unwatch(number)

    def _probe(self, key: str, tries: int) -> None:
        """Report evidence if the lock of `key` is free; try again a moment after a kernel event."""
        names = self._names_of.get(key)
        if not names or self._loop is None:
            return
        if self._locks.is_dead(key):
            why = "the kernel has dropped the lock that the holder's whole process tree inherits"
            for name in sorted(names):
                for sink in list(self._followers.get(name, ())):
                    sink(Evidence(key, why))
        elif tries > 1:
            self._loop.call_later(PROBE_EVERY_S, self._probe, key, tries - 1)

    # -- doctor -----------------------------------------------------------------------------------

    async def examine(self) -> list[Finding]:
        """Look for what could break the promise here."""
        type_ = filesystem.kind(self.path)
        refused = filesystem.refusal(self.path, type_)
        findings = [
            Finding("file system", not refused, f"{self.path} lies on {type_ or 'an unknown one'}")
        ]
        try:
            disk = os.statvfs(self.path.parent)
        except OSError as error:
            raise filesystem.store_error(self.path, error) from error
        free = disk.f_bavail * disk.f_frsize
        findings.append(
            Finding(
                "disk", free > 16 << 20, f"{free >> 20} MiB free", "free space" * (free < 16 << 20)
            )
        )
        findings.append(Finding("inotify", self._inotify is not None, "standbys wake by inotify"))
        started = time.perf_counter()
        await self.elections()
        took_ms = (time.perf_counter() - started) * 1000
        findings.append(Finding("round trip", True, f"{took_ms:.2f} ms"))
        return findings


async def _answer(asked: Future[T]) -> T:
    """Wait on the event loop for what a worker does.

    `asyncio.wrap_future` costs the loop a turn more, since it has callbacks on both of its ends.
    """
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[None] = loop.create_future()
    asked.add_done_callback(partial(_tell, loop, partial(_wake, answered)))
    try:
        await answered
    except asyncio.CancelledError:
        asked.cancel()  # What the worker has not begun, it need not begin.
        raise
    return asked.result()


def _tell(
    loop: asyncio.AbstractEventLoop, callback: Callable[[Future[T]], None], asked: Future[T]
) -> None:
    with suppress(RuntimeError):  # The loop is closed: nobody waits any more.
        loop.call_soon_threadsafe(callback, asked)


def _wake(answered: asyncio.Future[None], _: Future[T]) -> None:
    if not answered.done():
        answered.set_result(None)
