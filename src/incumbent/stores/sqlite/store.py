"""The embedded store: several processes of one host elect over one SQLite file.

How a standby wakes: every committed change is followed by one byte written to the *bell* file
beside the database, and inotify tells everybody who watches it. The write-ahead log itself would
not do: it is written before the commit can be seen. A process that dies between commit and bell
leaves its lock free, which is an event of its own. Nothing here polls. Who repairs the database by
hand rings no bell; but closes it, and whoever watches then looks as well.

How death is noticed: see `locks`. The evidence is about a *session*, that is, about one process
and everything that inherited its lock; all elections held under it are free at once.

How replacement of the file is noticed: an attribute event on the database, its log or the bell, or
the renaming of a folder above it; and a look at the inodes, before and after each request. To every
candidate its record is then absent, which deposes the holder; a new file is opened at the next
request. What a newcomer does in the meantime with the new file cannot be known: deleting the
database under a live holder is deleting the store.

SQLite blocks, so it has a thread of its own. A request whose caller stopped waiting is still
carried out by that thread: its outcome is unknown to the caller, who reads it back.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from incumbent.core.events import Evidence, Seen
from incumbent.core.records import Claim, Held, Holding, Lease, Snapshot, StepDownRequest, absent
from incumbent.errors import (
    OutcomeUnknown,
    PermissionDenied,
    StoreError,
    StoreFull,
    StoreUnavailable,
    StoreUnusable,
)
from incumbent.stores.api import Capabilities, Finding, Grade, Sink, StoreDefaults
from incumbent.stores.sqlite import filesystem, inotify
from incumbent.stores.sqlite.machine import Machine, Thread
from incumbent.stores.sqlite.tables import Tables

__all__ = ["SqliteStore"]

T = TypeVar("T")

CAPABILITIES = Capabilities(
    scheme="sqlite",
    sessions=True,
    token=True,
    judged_by="observers",
    confirmed_by="a committed transaction",
    wakes_by="inotify on a bell file",
    evidence="a kernel file lock that the holder's process tree inherits",
    absent_is_vacant=True,
    whole_seconds=False,
    one_host=True,
    grade=Grade.EXCLUSIVE_WITH_FENCING,
    assumes="one host, a local file system, and nobody deletes the file under a holder",
)

_ABANDONED: list[object] = []
"""Connections of a parent process. SQLite wants them neither used nor closed in the child."""
PROBES = 50
PROBE_EVERY_S = 0.002
"""After the kernel's event the lock is free within microseconds; this is patience, not polling."""


class SqliteStore(StoreDefaults):
    """The store in the file `path`."""

    capabilities = CAPABILITIES

    def __init__(self, path: Path, machine: Machine | None = None) -> None:
        self.path = path
        self._machine = machine = machine or Machine()
        self.url = f"sqlite://{path}"
        self._opener = machine.chance(8)
        self._bell_path = path.with_name(path.name + "-bell")
        self._locks = machine.locks(path.with_name(path.name + "-locks"))
        self._pid = os.getpid()
        self._create = True
        self._worker: Thread | None = None
        self._tables: Tables | None = None
        self._files = (
            path,
            *(path.with_name(path.name + end) for end in ("-bell", "-wal", "-shm")),
        )
        self._identity: tuple[tuple[int, int], ...] | None = None
        self._bell = -1
        self._inotify: inotify.Inotify | None = None
        self._file_watches: set[int] = set()
        self._deaf = "not connected"
        self._followers: dict[str, list[Sink]] = {}
        self._there: set[str] = set()
        self._serial = 0
        self._newest = 0
        self._refreshing: Future[tuple[int, list[Snapshot]]] | None = None
        self._stale = False
        self._lease_of: dict[str, str] = {}
        self._names_of: dict[str, set[str]] = {}
        self._lock_watch: dict[str, int] = {}
        self._watched_lock: dict[int, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- opening and closing ----------------------------------------------------------------------

    async def open(self, *, create: bool = True) -> None:
        """Create the file if need be, and connect.

        Raises:
            StoreAbsent: there is no file, and none is to be created.
            StoreUnusable: a network file system, another program's database, another format.
            PermissionDenied: no right to write the file or its folder.
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
        _ABANDONED.append((self._tables, self._inotify))
        self.__init__(self.path, self._machine)  # type: ignore[misc]

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

    def _connect(self) -> Tables:
        """Return the open tables; in the store's thread. Opens anew what was replaced."""
        if self._is_same():
            assert self._tables is not None
            return self._tables
        self._disconnect()
        try:
            if why := filesystem.refusal(self.path, filesystem.kind(self.path)):
                raise StoreUnusable(why)
            if self._create:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._locks.create()
            tables = self._machine.tables(self.path, self._opener, create=self._create)
            self._tables = tables
            self._bell = os.open(self._bell_path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _mapped(self.path, error) from error
        if self._create:
            self._sweep(tables)
        self._identity = self._identify()
        if self._inotify is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._reopened)
        return tables

    def _disconnect(self) -> None:
        self._identity = None
        if self._tables is not None:
            self._tables.close()
            self._tables = None
        if self._bell >= 0:
            os.close(self._bell)
            self._bell = -1

    def _identify(self) -> tuple[tuple[int, int], ...] | None:
        try:
            found = [os.stat(path) for path in self._files]
        except OSError:
            return None
        return tuple((file.st_dev, file.st_ino) for file in found)

    def _is_same(self) -> bool:
        """Tell whether the files that are open are still those that have the names."""
        return self._identity is not None and self._identify() == self._identity

    def _sweep(self, tables: Tables) -> None:
        """Remove the lock files of sessions that are over, left by processes that were killed."""
        live = tables.sessions()
        for file in self._locks.files():
            if file.stem not in live and self._locks.is_free(file.stem):
                self._locks.remove(file.stem)

    def _ring(self) -> None:
        with suppress(OSError):
            self._machine.ring(self._bell)

    def _ask(self, work: Callable[[Tables], T], *, ring: bool = False) -> Future[T]:
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

    async def _run(self, work: Callable[[Tables], T], *, ring: bool = False) -> T:
        return await _answer(self._ask(work, ring=ring))

    # -- the six verbs ----------------------------------------------------------------------------

    async def read(self, name: str) -> Snapshot:
        """Return the record as it is now."""
        return await self._run(lambda tables: tables.read(name))

    async def read_back(self, name: str, claim: Claim) -> Held | Snapshot:
        """Find out whether the take of `claim` happened."""
        found = await self._run(lambda tables: tables.held(name, claim))
        if isinstance(found, Held):
            self._note_held(found)
        else:
            self._newest = max(self._newest, found.serial)
        return found

    async def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        """Become the holder, if the record is still exactly `over`."""
        worker = self._worker

        def work(tables: Tables) -> Held:
            held = tables.take(name, claim, over)
            if worker is not None:
                # Next: we have it, and that the others hear of it can wait. Said here, since it is
                # taken even if our caller has stopped waiting.
                worker.submit(self._ring)
            return held

        held = await self._run(work)
        self._note_held(held)
        if over.lease_key and over.lease_key != held.lease.key:
            self._locks.remove(over.lease_key)
        return held

    async def renew(self, lease: Lease) -> Lease:
        """Confirm the session, and look at the elections under it, whatever inotify says."""
        renewed = await self._run(lambda tables: tables.renew(lease), ring=True)
        self._refresh_soon()  # If our own bell has caused one already, it finds nothing new.
        return renewed

    async def release(self, held: Held, lease: Lease, successor: str) -> Snapshot:
        """Give up exactly this term."""
        return await self._run(lambda tables: tables.release(held, successor), ring=True)

    async def ask(self, name: str, request: StepDownRequest) -> Snapshot:
        """Leave a request to step down."""
        return await self._run(lambda tables: tables.ask(name, request), ring=True)

    async def elections(self) -> list[Snapshot]:
        """Return every election."""
        return await self._run(lambda tables: tables.elections())

    # -- sessions ---------------------------------------------------------------------------------

    async def open_session(self, owner: str, ttl_s: float) -> Lease:
        """Lock a new session's file, then write the session: whoever sees it, sees it locked."""
        key = self._machine.chance(12)

        def work(tables: Tables) -> Lease:
            try:
                self._locks.hold(key)
            except OSError as error:
                raise _mapped(self.path, error) from error
            try:
                return tables.open_session(key, owner, ttl_s)
            except BaseException:
                self._locks.drop(key)
                raise

        return await self._run(work)

    async def close_session(self, lease: Lease) -> None:
        """End a session; what is still held under it is free at once."""
        try:
            await self._run(lambda tables: tables.close_session(lease.key), ring=True)
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
            watches = [self._inotify.watch(self._bell_path, inotify.MODIFIED | inotify.GONE)]
            others = (path for path in self._files if path != self._bell_path)
            mask = inotify.GONE | inotify.CLOSED
            watches.extend(self._inotify.watch(path, mask) for path in others)
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
        self._serial = 0

    def _notified(self) -> None:
        if self._inotify is None:
            return
        for number, mask in self._inotify.read():
            if number in self._watched_lock:
                self._probe(self._watched_lock[number], PROBES)
            elif number in self._file_watches and mask & (inotify.GONE | inotify.MOVED):
                if not self._is_same():
                    self._replaced()
            else:
                if mask & inotify.OVERFLOWN:
                    for key in list(self._lock_watch):
                        self._probe(key, 1)
                self._refresh_soon()

    def _reopened(self) -> None:
        """Other files than before were opened for a request; it may be the first to notice."""
        self._replaced()
        self._start_watching()

    def _replaced(self) -> None:
        """The file was deleted or exchanged: to everybody, their record is gone."""
        self._newest = max(self._newest, self._serial) + 1
        for name, sinks in list(self._followers.items()):
            for sink in list(sinks):
                sink(Seen(absent(name, self._newest)))
        self._serial = 0
        self._refresh_soon()

    def _refresh_soon(self) -> None:
        self._stale = True
        if self._refreshing is None and self._loop is not None and self._worker is not None:
            self._refresh(self._loop)

    def _refresh(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read what has changed. Callbacks and no task: a standby's takeover waits for it."""
        self._stale = False
        changes = partial(Tables.changes, since=self._serial, there=sorted(self._there))
        asked = self._refreshing = self._ask(changes)
        asked.add_done_callback(partial(_tell, loop, self._refreshed))

    def _refreshed(self, asked: Future[tuple[int, list[Snapshot]]]) -> None:
        if self._refreshing is not asked:
            return  # Closed meanwhile.
        self._refreshing = None
        with suppress(StoreError):  # The next event or the elector's own look finds out.
            self._serial, snapshots = asked.result()
            for snapshot in snapshots:
                for sink in list(self._followers.get(snapshot.name, ())):
                    sink(Seen(snapshot))
                self._note_snapshot(snapshot)
            if self._stale:
                self._refresh_soon()

    # -- evidence ---------------------------------------------------------------------------------

    def _note_snapshot(self, snapshot: Snapshot) -> None:
        if snapshot.name in self._followers:
            present = snapshot.holding is not Holding.ABSENT
            (self._there.add if present else self._there.discard)(snapshot.name)
            held = snapshot.holding is Holding.HELD
            self._note_lease(snapshot.name, snapshot.lease_key if held else "")

    def _note_held(self, held: Held) -> None:
        """A row that we wrote is there: its deletion is news even if nobody has read it yet."""
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
        if self._locks.is_free(key):
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
        disk = os.statvfs(self.path.parent)
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


def _mapped(path: Path, error: OSError) -> StoreError:
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return PermissionDenied(f"no right to write {path} and its folder: {error.strerror}")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFull(f"no room for {path}: free space on its disk; nothing was changed")
    return StoreUnavailable(f"{path}: {error.strerror}")
