"""The records and the swaps of the store of plain files.

    PATH/counter                the last number that was given out
    PATH/elections/NAME.json    one record an election, never removed
    PATH/elections/.NAME        that there was such a record once: an empty file
    PATH/sessions/KEY.json      one for each process that holds something; a renewal moves its beat
    PATH/sessions/KEY.lock      held by that process and everything it started: see `local.locks`
    PATH/new-*                  what is being written
    PATH/checkpoints/           how far the work has come: see `checkpoints`

Everything here blocks and runs in one thread.

Rules
-----
1. **One writes at a time**: whoever compares and swaps has locked the folder `elections` itself
   (`locking`). Who only reads takes no lock: nothing is ever seen half-written, and a record is
   read again after its session, until it was the same.
2. **A file is written beside, and renamed.** All that a swap writes has found its room before
   anything is renamed, so that a full disk changes nothing.
3. **Counter, session, record**, in that order. A swap may be cut short by a kill between any two of
   these, and what it leaves is a state that could have been wanted: a number that nobody has, and
   then the session of a holder who was waited out, void.
4. Every change of a record takes the next number, its **serial**; that of a take is the fencing
   token. An absence, and what cannot be understood, is newer than everything that was numbered
   before it was seen.
5. **People remove records** "to free the lock". That there was one is remembered beside it, so that
   its absence is told from that of an election which nobody ever used, and is waited out: for the
   longest TTL of any session that is not over.
6. **What a session is, its file says.** One whose file is gone or damaged is held and silent: that
   proves no death, and a TTL is waited out. Its owner is refused the next renewal.

Durability: the counter is synced to the disk before a take is confirmed, since its token may be
known to some other machine when the power fails. Nothing else is: after a power cut every process
of this host is gone. What was not written to its end then is empty, or full of zeros, and counts as
removed. The counter itself is overwritten in its place, which a power cut cannot make empty; and it
is synced by whoever has taken, after the lock was given back: nobody waits for the disk with it.

The counter starts at the wall-clock time of its creation, in milliseconds, or above what any record
says: so tokens grow even if the folder, or the counter, was deleted, unless the clock was set back,
too. It is the only use of a wall clock, and no decision hangs on it.

Files have the permissions of the folder, without those to execute: whoever may write to it takes
part.

Warning: a process that is stopped (SIGSTOP) in the middle of a swap locks out all others until it
goes on or dies. One that leads is killed by its own timer then; one that only asks may not be.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from incumbent.core.records import (
    Bar,
    Claim,
    Held,
    Holding,
    Lease,
    Snapshot,
    StepDownRequest,
    absent,
    barred,
    check_name,
)
from incumbent.errors import (
    InvalidName,
    OutcomeUnknown,
    Refused,
    SessionGone,
    StoreAbsent,
    StoreUnusable,
)
from incumbent.stores.file import wire
from incumbent.stores.file.checkpoints import CHECKPOINTS, FileCheckpoints
from incumbent.stores.file.locking import FOLDER, alone
from incumbent.stores.local import filesystem

__all__ = ["COUNTER", "ELECTIONS", "END", "SESSIONS", "FileRecords"]

COUNTER = "counter"
ELECTIONS = "elections"
SESSIONS = "sessions"
END = ".json"
BUSY_S = 1.0
OPENING_BUSY_S = 10.0
"""Twenty replicas that start at once all want to make the folder; nobody has a term yet."""
LONGEST_BYTES = 65536
"""What is longer is none of ours."""
_STRANGE = b"neither is it a plain file of a length that ours have"
GONE = "gone"
VOID = "void"
REMOVED = "removed"
"""The version of an absence that is the absence of something: who watched the other is refused."""

_OURS = {CHECKPOINTS, COUNTER, ELECTIONS, SESSIONS, "lost+found"}
_NEW = "new-"
_COUNTING = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class _Write:
    """A file that a swap writes."""

    folder: int
    name: str
    value: bytes


class FileRecords:
    """The files in the folder `path`.

    Args:
        path: the folder.
        wall: the wall clock at which the tokens of a new folder start.
        create: make what must exist.

    Raises:
        StoreAbsent: there is nothing yet, and nothing is to be made.
        StoreUnusable: the folder has files of another program, or another format.
        OSError: it cannot be opened or made.
    """

    def __init__(
        self, path: Path, wall: Callable[[], float] = time.time, *, create: bool = True
    ) -> None:
        self._path = path
        self._wall = wall
        self._new = f"{_NEW}{os.urandom(6).hex()}-"
        self._highest = 0
        self._root = self._elections = self._sessions = -1
        try:
            self._root = self._open_root(create=create)
            self._rights = stat.S_IMODE(os.fstat(self._root).st_mode)
            counter = self._load(self._root, COUNTER)
            if counter is None:
                if strangers := set(filter(_is_strange, os.listdir(self._root))):
                    raise StoreUnusable(
                        f"{path} has files of another program, {min(strangers)!r} for one: give "
                        "incumbent a folder of its own"
                    )
                if not create:
                    raise self._absent()
            self._elections = self._open_folder(ELECTIONS, create=create)
            self._sessions = self._open_folder(SESSIONS, create=create)
            if create:
                self._check_rights()
            if create and counter is None:
                with self._alone(OPENING_BUSY_S):
                    if self._load(self._root, COUNTER) is None:
                        self._give_out(self._counter())
        except BaseException:
            self.close()
            raise

    def _open_root(self, *, create: bool) -> int:
        if create:
            with suppress(FileExistsError):
                self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            return os.open(self._path, FOLDER)
        except FileNotFoundError:
            raise self._absent() from None
        except NotADirectoryError:
            raise StoreUnusable(f"{self._path} is no folder: file:// needs one") from None

    def _open_folder(self, name: str, *, create: bool) -> int:
        if create:
            self._make_folder(name, self._root)
        return os.open(name, FOLDER, dir_fd=self._root)

    def _make_folder(self, name: str, within: int) -> None:
        with suppress(FileExistsError):
            os.mkdir(name, mode=0o700, dir_fd=within)
            inherited = stat.S_IMODE(os.stat(name, dir_fd=within).st_mode) & stat.S_ISGID
            os.chmod(name, self._rights & 0o777 | inherited, dir_fd=within)

    def _check_rights(self) -> None:
        for folder in (".", ELECTIONS, SESSIONS):
            if not os.access(folder, os.W_OK, dir_fd=self._root, effective_ids=True):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def _absent(self) -> StoreAbsent:
        return StoreAbsent(
            f"there are no elections in {self._path} yet: the first candidate makes the folder; if "
            "there are candidates, they use another path"
        )

    def close(self) -> None:
        """Close the folders."""
        for fd in (self._root, self._elections, self._sessions):
            if fd >= 0:
                os.close(fd)
        self._root = self._elections = self._sessions = -1

    @property
    def checkpoints(self) -> FileCheckpoints:
        """How far the work has come. Made for each use: kept, the two would keep one another."""
        mapped = partial(_mapped, self._path)
        return FileCheckpoints(self._root, self._path, mapped, self._make_folder, self._give_rights)

    # -- reading ----------------------------------------------------------------------------------

    def read(self, name: str) -> Snapshot:
        """Return one election."""
        with _mapped(self._path):
            return self._look(name)[0]

    def elections(self) -> list[Snapshot]:
        """Return every election, by name."""
        with _mapped(self._path):
            return [self._look(name)[0] for name in sorted(self._names())]

    def changes(self, names: Iterable[str], there: Iterable[str]) -> tuple[int, list[Snapshot]]:
        """Return the serial now, and the elections `names`, and those of `there` that are gone."""
        with _mapped(self._path):
            found = [self._look(name)[0] for name in sorted(names)]
            gone = [name for name in sorted(there) if not self._is_there(name + END)]
            return self._counter(), found + [self._look(name)[0] for name in gone]

    def held(self, name: str, claim: Claim) -> Held | Snapshot:
        """Return the term of `claim` if the record carries its nonce, else the record."""
        snapshot = self.read(name)
        if snapshot.holding is Holding.HELD and snapshot.term == claim.term:
            return _held(claim, snapshot)
        return snapshot

    # -- writing ----------------------------------------------------------------------------------

    def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        """Swap the record `over` for one that names the claim."""
        own = claim.session.key if claim.session else ""
        with self._alone():
            mine = self._load(self._sessions, own + END)
            if not _is_live(mine):
                raise SessionGone(f"session {own!r} was closed or voided")
            now = self._look(name)[0]
            if now.watched != over.watched or now.holding is not over.holding:
                raise Refused(now)
            if over.holding is Holding.FOREIGN:
                raise Refused(now)
            serial = self._counter() + 1
            writes = []
            if over.holding is Holding.ABSENT and not self._is_there(_mark(name)):
                writes.append(_Write(self._elections, _mark(name), b""))
            if over.holding is Holding.HELD and over.lease_key != own:
                writes += self._voided(over)
            record = wire.encode(wire.taken(claim, own, serial))
            writes.append(_Write(self._elections, name + END, record))
            self._swap(writes, serial)
        self._settle()
        return _held(claim, _snapshot(name, record, mine, 0))

    def renew(self, lease: Lease) -> Lease:
        """Move the session's beat."""
        with self._alone():
            value = self._load(self._sessions, lease.key + END)
            session = wire.parse_session(value) if value is not None else ""
            if isinstance(session, str) or session["void"]:
                raise Refused(absent("the session", self._counter()))
            session = {**session, "beat": session["beat"] + 1}
            self._swap([self._session(lease.key, session)])
        return lease.at(session["beat"])

    def release(self, held: Held, successor: str) -> Snapshot:
        """Make the record vacant if it still carries exactly this term."""
        with self._alone():
            snapshot, record = self._look(held.name)
            if record is None or not _carries(record, held.term):
                return snapshot
            serial = self._counter() + 1
            return self._write(held.name, wire.released(record, successor, serial), serial)

    def ask(self, name: str, request: StepDownRequest) -> Snapshot:
        """Leave a request in the record if it still carries `request.term`."""
        with self._alone():
            snapshot, record = self._look(name)
            if record is None or not _carries(record, request.term):
                raise Refused(snapshot)
            serial = self._counter() + 1
            return self._write(name, wire.asked(record, request, serial), serial)

    def bar(self, over: Snapshot, bar: Bar | None) -> Snapshot:
        """Bar what is held under a term, or replace exactly one bar; None lifts that."""
        with self._alone():
            now = self._look(over.name)[0]
            exact = now.bar is not None and now.version == over.version
            held = now.holding is Holding.HELD is over.holding and now.term == over.term
            if now.token is None or (not exact and (bar is None or not held)):
                raise Refused(now)
            serial = self._counter() + 1
            left = wire.barred(bar, now.token, serial) if bar else wire.vacant(now.token, serial)
            found = self._write(over.name, left, serial)
        self._settle_record(over.name)
        return found

    def open_session(self, key: str, owner: str, ttl_s: float) -> Lease:
        """Write a session."""
        with self._alone():
            self._swap([self._session(key, wire.session(owner, ttl_s))])
        return Lease(key=key, version=0, ttl_s=ttl_s, owner=owner)

    def close_session(self, key: str) -> None:
        """Void a session; what is held under it is vacant."""
        with self._alone():
            value = self._load(self._sessions, key + END)
            session = wire.parse_session(value) if value is not None else ""
            if isinstance(session, dict):
                self._swap([self._session(key, {**session, "void": True})])

    def sessions(self) -> set[str]:
        """Return the keys of the sessions that are not over."""
        with _mapped(self._path):
            return {
                key
                for key in self._stems(self._sessions)
                if not _is_void(self._load(self._sessions, key + END))
            }

    def sweep(self, is_dead: Callable[[str], bool]) -> None:
        """Remove sessions that are over, or whose tree is dead, and that no record names.

        And what those have left who were killed while they wrote.
        """
        with self._alone(0.0):
            named = {record["session"] for record in self._all_records()}
            for key in self._stems(self._sessions):
                over = _is_void(self._load(self._sessions, key + END)) or is_dead(key)
                if over and key not in named:
                    os.unlink(key + END, dir_fd=self._sessions)
            for file in os.listdir(self._root):
                if file.startswith(_NEW):
                    os.unlink(file, dir_fd=self._root)

    # -- one at a time ----------------------------------------------------------------------------

    @contextmanager
    def _alone(self, patience_s: float = BUSY_S) -> Iterator[None]:
        """Be the only one who writes."""
        with _mapped(self._path), alone(self._elections, self._path, patience_s):
            yield

    def _write(self, name: str, record: wire.Object, serial: int) -> Snapshot:
        written = _Write(self._elections, name + END, wire.encode(record))
        self._swap([written], serial)
        return self._look(name)[0]

    def _voided(self, over: Snapshot) -> list[_Write]:
        """Return what ends the session of whoever is deposed; one that is gone has ended."""
        value = self._load(self._sessions, over.lease_key + END)
        if value is None:
            return []
        session = wire.parse_session(value)
        if isinstance(session, str):
            session = wire.session(over.holder, over.ttl_s)
        return [self._session(over.lease_key, {**session, "void": True})]

    def _swap(self, writes: list[_Write], serial: int | None = None) -> None:
        """Write all files, or none; and before them the counter, if a number is given out."""
        staged: list[str] = []
        done = False
        try:
            for write in writes:
                staged.append(f"{self._new}{len(staged)}")
                self._stage(staged[-1], write)
            if serial is not None:
                self._give_out(serial)
            for new, write in zip(staged, writes, strict=True):
                os.rename(new, write.name, src_dir_fd=self._root, dst_dir_fd=write.folder)
                done = True
        except OSError as error:
            for new in staged:
                with suppress(OSError):
                    os.unlink(new, dir_fd=self._root)
            if done:
                raise OutcomeUnknown(f"{self._path}: {error.strerror}") from error
            raise

    def _give_out(self, serial: int) -> None:
        """Write the counter, in its place: it is never empty."""
        value = b"%d\n" % serial
        try:
            fd = os.open(COUNTER, _COUNTING, dir_fd=self._root)
        except FileNotFoundError:
            fd = os.open(COUNTER, _COUNTING | os.O_CREAT, 0o600, dir_fd=self._root)
            self._give_rights(fd)
            os.fsync(self._root)
        try:
            if os.pwrite(fd, value, 0) < len(value):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if os.fstat(fd).st_size > len(value):
                os.ftruncate(fd, len(value))
        finally:
            os.close(fd)

    def _settle(self) -> None:
        """Wait until the token of a take is on the disk."""
        self._sync(self._root, COUNTER, os.fdatasync)

    def _settle_record(self, name: str) -> None:
        """Wait until a record is on the disk, and under its name.

        A bar has to outlive a power cut: who leads meanwhile, in another store, may be elsewhere.
        """
        self._sync(self._elections, name + END, os.fsync)
        self._sync(self._elections, ".", os.fsync)

    def _sync(self, folder: int, name: str, sync: Callable[[int], None]) -> None:
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                sync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise OutcomeUnknown(f"{self._path}: {error.strerror}") from error

    def _stage(self, new: str, write: _Write) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(new, flags, 0o600, dir_fd=self._root)
        try:
            self._give_rights(fd)
            if os.write(fd, write.value) < len(write.value):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(fd)

    # -- helpers ----------------------------------------------------------------------------------

    def _give_rights(self, fd: int) -> None:
        """Give the folder's rights to a new file of ours; some file systems have none."""
        if (rights := self._rights & 0o666) != 0o600:
            os.fchmod(fd, rights)

    def _look(self, name: str) -> tuple[Snapshot, wire.Object | None]:
        """Return a record as it is, or was during this call; and what stands in it."""
        file = name + END
        while True:
            value = self._load_record(file)
            record = wire.parse_election(value) if value is not None else ""
            session, serial = None, 0
            if isinstance(record, str):
                serial = self._counter() + 1
            elif record["session"]:
                session = self._load(self._sessions, record["session"] + END)
            if self._load_record(file) == value:
                break
        if value is None:
            if not self._is_there(_mark(name)):
                return absent(name, serial), None
            return replace(absent(name, serial, self._longest_ttl_s()), lease_version=REMOVED), None
        snapshot = _snapshot(name, value, session, serial)
        return snapshot, None if isinstance(record, str) else record

    def _longest_ttl_s(self) -> float:
        """Return the TTL of the most patient session that is not over."""
        values = [self._load(self._sessions, key + END) for key in self._stems(self._sessions)]
        sessions = [wire.parse_session(value or b"") for value in values]
        alive = [one for one in sessions if isinstance(one, dict) and not one["void"]]
        return max((float(one["ttl_s"]) for one in alive), default=0.0)

    def _counter(self) -> int:
        """Return the last number that was given out."""
        value = self._load(self._root, COUNTER)
        while (again := self._load(self._root, COUNTER)) != value:
            value = again  # It is written in its place, and could be half of two.
        number = wire.parse_counter(value) if value is not None else None
        self._highest = max(self._highest, self._recounted() if number is None else number)
        return self._highest

    def _recounted(self) -> int:
        """Return where to go on if the counter was lost: above all that is known."""
        start = int(self._wall() * 1000)  # wall clock: where tokens start, see above
        serials: list[int] = [record["serial"] for record in self._all_records()]
        return max([start, *serials])

    def _all_records(self) -> list[wire.Object]:
        """Return all records that can be understood."""
        values = [self._load(self._elections, name + END) for name in self._names()]
        records = [wire.parse_election(value or b"") for value in values]
        return [record for record in records if isinstance(record, dict)]

    def _session(self, key: str, session: wire.Object) -> _Write:
        return _Write(self._sessions, key + END, wire.encode(session))

    def _names(self) -> set[str]:
        return set(filter(_is_name, self._stems(self._elections)))

    def _stems(self, folder: int) -> list[str]:
        return [file.removesuffix(END) for file in os.listdir(folder) if file.endswith(END)]

    def _is_there(self, file: str) -> bool:
        try:
            os.stat(file, dir_fd=self._elections, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _load_record(self, file: str) -> bytes | None:
        """Return a record; None if there is none, or if it was never written to its end."""
        value = self._load(self._elections, file)
        return value if value is None or value.strip(b"\0") else None

    def _load(self, folder: int, name: str) -> bytes | None:
        """Return what stands in a file; None if there is none."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            fd = os.open(name, flags, dir_fd=folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                return _STRANGE
            raise
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return _STRANGE
            value = os.read(fd, LONGEST_BYTES + 1)
            return value if len(value) <= LONGEST_BYTES else _STRANGE
        finally:
            os.close(fd)


def _snapshot(name: str, value: bytes, session: bytes | None, unnumbered: int) -> Snapshot:
    record = wire.parse_election(value)
    if isinstance(record, str) and (stands := wire.parse_bar(value)) is not None:
        bar, token, serial = stands
        return barred(name, bar, value, serial, token)
    if isinstance(record, str):
        return Snapshot(name, Holding.FOREIGN, version=value, serial=unnumbered, why=record)
    key, request = record["session"], record["request"]
    beat = _beat(session) if key else VOID
    return Snapshot(
        name=name,
        holding=Holding.VACANT if beat == VOID else Holding.HELD,
        version=value,
        serial=record["serial"],
        holder=record["holder"],
        term=record["term"],
        token=record["token"],
        ttl_s=float(record["ttl_s"]),
        lease_key=key,
        lease_version=beat,
        successor=record["successor"],
        request=StepDownRequest(request["term"], request["to"]) if request else None,
    )


def _carries(record: wire.Object, term: str) -> bool:
    return bool(record["session"]) and record["term"] == term


def _beat(session: bytes | None) -> int | str | bytes:
    """Return what an observer of a session watches."""
    if session is None:
        return GONE
    told = wire.parse_session(session)
    if isinstance(told, str):
        return session
    return VOID if told["void"] else int(told["beat"])


def _is_live(session: bytes | None) -> bool:
    return type(_beat(session)) is int


def _is_void(session: bytes | None) -> bool:
    return _beat(session) == VOID


def _held(claim: Claim, snapshot: Snapshot) -> Held:
    if claim.session is None:
        raise AssertionError("held without a session")
    return Held(snapshot.name, claim.term, snapshot.token, claim.session, snapshot)


def _mark(name: str) -> str:
    return f".{name}"


def _is_name(text: str) -> bool:
    try:
        check_name(text)
    except InvalidName:
        return False
    return True


def _is_strange(file: str) -> bool:
    return file not in _OURS and not file.startswith(_NEW)


@contextmanager
def _mapped(path: Path) -> Iterator[None]:
    """Make of the kernel's errors ours. Nothing was renamed yet, or `_swap` would have said so."""
    try:
        yield
    except OSError as error:
        raise filesystem.store_error(path, error) from error
