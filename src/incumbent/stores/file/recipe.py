"""The lock of util-linux, `flock FILE COMMAND`, and our record beside it.

    FILE                   theirs: an empty file with a kernel lock, `flock(2)`; never deleted
    FILE.incumbent         ours: the record
    FILE.incumbent-count   ours: the last number that was given out, and the TTL of the last take

The lock belongs to the *open file description*: whatever inherited the descriptor keeps it, and the
kernel drops it when the last of them has closed it or died. So a member of theirs holds as long as
anything of its command's tree has the descriptor, and so do we: `Term.pass_fds` is for children.

What confirms a renewal: the record was renamed into its place, by whoever has locked the folder,
after a look that our descriptor is still of the file that has the name.

Who judges that a holder is gone: the kernel. A holder that is stopped or stuck keeps the lock; its
own timer ends it. One that lives and does not renew lets go of its descriptor a TTL after its last
renewal, later than it was trusted; a child of it that still works keeps the lock.

Rules
-----
1. **A free lock ends the term that the record names**, if it is free on the very file (inode) on
   which that term had it. Somebody may have removed FILE and made it anew: then the record is
   waited out for its TTL, and the holder's next renewal is refused.
2. **Whoever takes has the lock first**, then writes counter and record. Who is killed in between
   has let go of the lock.
3. **One writes at a time**, and has locked the folder for that, as in the store of plain files.
4. **A release writes first and unlocks then**, for all who inherited the descriptor: the work has
   ended. What is only closed (a term that was lost) stays locked for whoever still has it.
5. The counter is synced before a take is confirmed. Where there is none it starts at the wall
   clock, in milliseconds; no decision hangs on that.

How a standby wakes: inotify tells that the record was renamed, or that somebody closed FILE, which
is a moment before the kernel drops the lock. `flock -u` tells nobody, so each second the lock is
tried as well: shared, and given back at once. A `flock -n` of theirs that comes within these
microseconds finds it locked.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from incumbent.clock import boottime
from incumbent.errors import ConfigError, StoreAbsent, StoreError, StoreUnavailable, StoreUnusable
from incumbent.stores.api import Finding
from incumbent.stores.beside import Conflict, Deed, Lost, Owner, State, wire
from incumbent.stores.local import filesystem, inotify
from incumbent.stores.local.worker import Worker

__all__ = ["LOOK_S", "FileLocks"]

T = TypeVar("T")

LOOK_S = 1.0
BUSY_S = 1.0
RECORD, COUNT, NEW = ".incumbent", ".incumbent-count", ".incumbent-new"
_PROBES_S = (0.002, 0.01, 0.05)
"""After the kernel's event the lock is free within microseconds; this is patience, not polling."""
_READING = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_LONGEST_BYTES = 65536
_MILLISECONDS = 1000


@dataclass(slots=True)
class _Grip:
    """A lock of ours.

    Attributes:
        fd: what the work's tree inherits.
        spare: the same open file under another number, in case somebody closes the first.
        inode: of the file.
        until: when it is let go of, unless it is renewed.
    """

    fd: int
    spare: int
    inode: int
    until: float = 0.0

    def close(self) -> None:
        for fd in (self.fd, self.spare):
            with suppress(OSError):
                os.close(fd)


class FileLocks:
    """A driver of the lock files in a folder.

    Args:
        folder: its path.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pid = os.getpid()
        self._held: dict[str, _Grip] = {}
        self._lapses: dict[str, asyncio.TimerHandle] = {}
        self._probes: dict[str, tuple[int, int]] = {}
        self._news: dict[str, asyncio.Event] = {}
        self._watches: dict[int, str] = {}
        self._inotify: inotify.Inotify | None = None
        self._folder_watch = -1
        self._worker: Worker | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def open(self, *, create: bool) -> None:
        """See whether it is a folder on a local disk, and make it if it is not there."""
        if self._pid != os.getpid():  # What the parent holds is the parent's, and stays open.
            self._pid, self._held, self._lapses, self._probes = os.getpid(), {}, {}, {}
        self._loop = asyncio.get_running_loop()
        if why := filesystem.refusal(self._folder, filesystem.kind(self._folder)):
            raise StoreUnusable(why)
        kernel = inotify.Inotify()
        try:
            if create:
                self._folder.mkdir(parents=True, exist_ok=True)
            mask = inotify.ENTERED | inotify.LEFT
            self._folder_watch = kernel.watch(self._folder, mask)
        except OSError as error:
            kernel.close()
            if isinstance(error, FileNotFoundError):
                raise StoreAbsent(f"there is no folder {self._folder}") from None
            raise filesystem.store_error(self._folder, error) from error
        self._inotify = kernel
        self._loop.add_reader(kernel.fileno(), self._notified)
        self._worker = Worker("incumbent-store")

    async def close(self) -> None:
        """Give back everything but the locks of terms: those go on, or lapse."""
        worker, self._worker = self._worker, None
        if worker is not None:
            done = worker.submit(self._forget_probes)
            worker.close()
            await asyncio.wrap_future(done)
        if self._inotify is not None and self._loop is not None:
            self._loop.remove_reader(self._inotify.fileno())
            self._inotify.close()
            self._inotify = None
        self._watches.clear()
        self._news.clear()

    def _forget_probes(self) -> None:
        for fd, _ in self._probes.values():
            os.close(fd)
        self._probes.clear()

    async def connect(self) -> None:
        """Do nothing."""

    async def _run(self, job: Callable[[], T]) -> T:
        if self._worker is None:
            raise StoreUnavailable(f"the locks in {self._folder} are closed")
        return await asyncio.wrap_future(self._worker.submit(job))

    def _path(self, lock: str, end: str = "") -> Path:
        if "/" in lock or "\0" in lock or lock in (".", ".."):
            raise ConfigError(f"lock={lock}: name a file in the folder of the URL")
        return self._folder / f"{lock}{end}"

    # -- looking ----------------------------------------------------------------------------------

    async def read(self, lock: str, *, urgent: bool = False) -> State:
        """Return lock and record as they are."""
        self._path(lock)
        return await self._run(lambda: self._mapped(lambda: self._look(lock)))

    def _mapped(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except OSError as error:
            raise filesystem.store_error(self._folder, error) from error

    def _look(self, lock: str) -> State:
        inode, busy = self._probe(lock)
        value = _load(self._path(lock, RECORD))
        serial, ttl_s = _counted(_load(self._path(lock, COUNT)))
        record = None if value is None else _parsed(value)
        number, version, token = serial, None, None
        if record is not None:
            number = version = serial if isinstance(record, str) else record["serial"]
        owner = Owner.THEIRS if busy else Owner.FREE
        if isinstance(record, dict):
            token = record["token"]
            same = record["inode"] == inode
            if same and not record["vacant"]:
                owner = Owner.OURS if busy else Owner.FREE
                record = record if busy else {**record, "vacant": True}
        return State(
            owner=owner,
            number=number,
            who="flock" if owner is Owner.THEIRS else "",
            record=record,
            version=version,
            mark=serial,
            token=token,
            wait_s=LOOK_S if owner is Owner.THEIRS else ttl_s if record is None else 0.0,
        )

    def _probe(self, lock: str) -> tuple[int, int]:
        """Return the inode of the file, or 0, and whether somebody has locked it.

        It is kept open: to close it would wake everybody who waits for it.
        """
        path = self._path(lock)
        try:
            inode = os.stat(path).st_ino
            fd, known = self._probes.get(lock, (-1, 0))
            if known != inode:
                if fd >= 0:
                    os.close(self._probes.pop(lock)[0])
                fd = os.open(path, _READING)
                inode = os.fstat(fd).st_ino
                self._probes[lock] = fd, inode
                if self._loop is not None:
                    self._loop.call_soon_threadsafe(self._watch_file, lock)
        except FileNotFoundError:
            return 0, False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return inode, True
        fcntl.flock(fd, fcntl.LOCK_UN)
        return inode, False

    # -- writing ----------------------------------------------------------------------------------

    async def swap(
        self, lock: str, over: State, record: wire.Object, deed: Deed, *, urgent: bool = False
    ) -> State:
        """Write the record and do the deed, alone in the folder."""
        self._path(lock)

        def work() -> State:
            with self._alone():
                return self._change(lock, over, record, deed)

        return await self._run(lambda: self._mapped(work))

    def _change(self, lock: str, over: State, record: wire.Object, deed: Deed) -> State:
        now = self._look(lock)
        if (now.version, now.mark) != (over.version, over.mark) or isinstance(now.record, str):
            raise Conflict(f"{lock!r} is not as expected")
        term = record["term"]
        if deed is Deed.TAKE:
            before = now.record["term"] if now.record is not None else ""
            grip = self._handed_on(lock, before) or self._gripped(lock)
            try:
                written = self._write(lock, now, {**record, "inode": grip.inode}, take=True)
            except BaseException:
                grip.close()
                raise
            self._held[term] = grip
        else:
            if deed is Deed.KEEP and not (now.owner is Owner.OURS and self._is_kept(lock, term)):
                raise Lost(f"{lock!r} is not locked by us")
            written = self._write(lock, now, record)
        if deed in (Deed.TAKE, Deed.KEEP):
            self._lasts(term, record["ttl_s"])
        elif deed is Deed.FREE:
            self._let_go(term)
        held = deed in (Deed.TAKE, Deed.KEEP) or (deed is Deed.TOUCH and now.owner is Owner.OURS)
        return State(
            owner=Owner.OURS if held else Owner.FREE,
            number=written["serial"],
            record=written,
            version=written["serial"],
            mark=written["serial"],
            token=written["token"],
        )

    def _gripped(self, lock: str) -> _Grip:
        """Lock the file as `flock FILE` does, which makes it if need be."""
        fd = os.open(self._path(lock), _READING | os.O_CREAT, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            inode = os.fstat(fd).st_ino
            if inode != os.stat(self._path(lock)).st_ino:
                raise Conflict(f"{lock!r} is another file by now")
            spare = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0)
        except BlockingIOError:
            os.close(fd)
            raise Conflict(f"{lock!r} is locked") from None
        except BaseException:
            os.close(fd)
            raise
        os.set_inheritable(fd, True)
        return _Grip(fd, spare, inode)

    def _handed_on(self, lock: str, before: str) -> _Grip | None:
        """Return the lock of a term of this process that is taken over.

        It was silent for its TTL, or is a leftover: its lock would keep us out until it lapses.
        """
        grip = self._held.get(before)
        if grip is None or not self._is_of(lock, grip):
            return None
        return self._held.pop(before)

    def _is_kept(self, lock: str, term: str) -> bool:
        """Tell whether a term of ours has its lock: asking anew fails if somebody else has it."""
        grip = self._held.get(term)
        if grip is None or not self._is_of(lock, grip):
            return False
        with suppress(OSError):
            fcntl.flock(grip.spare, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    def _is_of(self, lock: str, grip: _Grip) -> bool:
        """Tell whether what we have locked is the file that has the name."""
        with suppress(OSError):
            theirs = os.stat(self._path(lock)).st_ino
            return os.fstat(grip.spare).st_ino == grip.inode == theirs
        return False

    def _write(
        self, lock: str, now: State, record: wire.Object, *, take: bool = False
    ) -> wire.Object:
        """Write counter and record, which has its room before either is changed."""
        least = now.number or round(time.time() * _MILLISECONDS)  # wall clock: see rule 5
        serial = max(least, _number(now.mark)) + 1
        record = {**record, "serial": serial}
        if take:
            record["token"] = serial
        new = self._path(lock, NEW)
        new.write_bytes(wire.encode(record))
        count = os.open(self._path(lock, COUNT), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            os.pwrite(count, f"{serial:020d} {record['ttl_s']:020f}\n".encode(), 0)
            if take:
                os.fsync(count)
        finally:
            os.close(count)
        new.rename(self._path(lock, RECORD))
        return record

    @contextmanager
    def _alone(self) -> Iterator[None]:
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            deadline = time.monotonic() + BUSY_S
            while True:
                try:
                    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        text = f"somebody keeps {self._folder} locked"
                        raise StoreUnavailable(text) from None
                    time.sleep(0.001)
            yield
        finally:
            os.close(folder)

    # -- our locks --------------------------------------------------------------------------------

    def descriptors(self, term: str) -> Sequence[int]:
        """Return the descriptor whose lock ends with whatever inherited it."""
        grip = self._held.get(term)
        return () if grip is None else (grip.fd,)

    def _lasts(self, term: str, ttl_s: float) -> None:
        self._held[term].until = boottime() + ttl_s
        if self._loop is not None:
            with suppress(RuntimeError):  # The loop has ended, and the process will.
                self._loop.call_soon_threadsafe(self._lapse_after, term, ttl_s)

    def _lapse_after(self, term: str, ttl_s: float) -> None:
        assert self._loop is not None
        if (before := self._lapses.pop(term, None)) is not None:
            before.cancel()
        if term in self._held:
            self._lapses[term] = self._loop.call_later(ttl_s, self._lapse, term)

    def _lapse(self, term: str) -> None:
        """Let go of what was not renewed, in the thread, where nobody renews at the same time."""
        self._lapses.pop(term, None)
        worker = self._worker
        if worker is None:
            self._lapsed(term)
        else:
            worker.submit(lambda: self._lapsed(term))

    def _lapsed(self, term: str) -> None:
        grip = self._held.get(term)
        if grip is not None and boottime() >= grip.until:
            self._held.pop(term).close()

    def _let_go(self, term: str) -> None:
        grip = self._held.pop(term, None)
        if grip is not None:
            with suppress(OSError):
                fcntl.flock(grip.spare, fcntl.LOCK_UN)
            grip.close()

    # -- being woken ------------------------------------------------------------------------------

    async def changed(self, lock: str, state: State) -> None:
        """Return when the kernel says that something has changed, or after a second."""
        news = self._news.setdefault(lock, asyncio.Event())
        try:
            async with asyncio.timeout(LOOK_S):
                await news.wait()
        except TimeoutError:
            return
        news.clear()

    def _watch_file(self, lock: str) -> None:
        if self._inotify is None:
            return
        with suppress(OSError, StoreError):  # It is looked at each second as well.
            mask = inotify.CLOSED | inotify.READ
            self._watches[self._inotify.watch(self._path(lock), mask)] = lock

    def _notified(self) -> None:
        if self._inotify is None or self._loop is None:
            return
        for notice in self._inotify.read():
            if notice.number == self._folder_watch:
                self._told(notice.name.removesuffix(RECORD))
            elif notice.number in self._watches:
                lock = self._watches[notice.number]
                self._told(lock)
                for delay_s in _PROBES_S:
                    self._loop.call_later(delay_s, self._told, lock)
            else:
                for lock in self._news:
                    self._told(lock)

    def _told(self, lock: str) -> None:
        if lock in self._news:
            self._news[lock].set()

    # -- for people -------------------------------------------------------------------------------

    async def elections(self, beginning: str, end: str) -> list[str]:
        """Return the elections of whose locks there are records."""

        def work() -> list[str]:
            found = set()
            for name in os.listdir(self._folder):
                if name.startswith(beginning) and name.endswith(end + RECORD):
                    record = _parsed(_load(self._folder / name) or b"")
                    found |= {record["election"]} if isinstance(record, dict) else set()
            return sorted(found)

        return await self._run(lambda: self._mapped(work))

    async def examine(self) -> list[Finding]:
        """Look at the file system."""
        type_ = filesystem.kind(self._folder)
        text = f"{self._folder} lies on {type_ or 'an unknown one'}"
        return [
            Finding("file system", not filesystem.refusal(self._folder, type_), text),
            Finding("standbys", True, f"wake by inotify, and look every {LOOK_S:g} s"),
        ]


def _load(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.EISDIR, errno.ELOOP):
            return b""
        raise


def _parsed(value: bytes) -> wire.Object | str:
    record = wire.parse(value)
    if isinstance(record, dict) and not all(
        isinstance(record.get(key), int) for key in ("serial", "inode")
    ):
        return "the record beside the lock has no serial, or no inode"
    return record


def _counted(value: bytes | None) -> tuple[int, float]:
    """Return the last number and the last TTL; what a power cut has left counts as none."""
    try:
        serial, ttl_s = (value or b"").split()
        return int(serial), float(ttl_s)
    except ValueError:
        return 0, 0.0


def _number(mark: object) -> int:
    return mark if isinstance(mark, int) else 0
