"""The store of plain files: several processes of one host elect over a folder.

What confirms a renewal: the session's file was renamed into its place, by whoever has locked the
folder, after a look that it is not void. The kernel that did it is the one that everybody asks.

Who judges expiry: observers, who wait a TTL after the last change of record or session that they
saw; less if the kernel has dropped the lock that the holder's process tree inherits.

How a standby wakes: a rename is the change, and inotify names the file to whoever watches its
folder. There is nothing between the two that a process could die in, and what people do by hand
(`rm`, `mv`, an editor) is heard of as well. Only what was named is read.

A renewal tells of a *session*, and which elections are held under it is known only when the record
was read. So while a read is under way, sessions that nobody seems to need are kept in mind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from incumbent.errors import StoreError
from incumbent.stores.api import ON_ONE_HOST, Capabilities, Finding, Grade, Sink
from incumbent.stores.file.records import ELECTIONS, END, SESSIONS, FileRecords
from incumbent.stores.local import filesystem, inotify
from incumbent.stores.local.machine import Machine
from incumbent.stores.local.store import Changes, LocalStore

__all__ = ["FileStore"]

CAPABILITIES = Capabilities(
    scheme="file",
    sessions=True,
    token=True,
    judged_by="observers",
    confirmed_by="a rename under a kernel lock",
    wakes_by="inotify on the folders",
    evidence="a kernel file lock that the holder's process tree inherits",
    absent_is_vacant=True,
    whole_seconds=False,
    one_host=True,
    grade=Grade.EXCLUSIVE_WITH_FENCING,
    assumes="one host, a local file system, and nobody deletes the folder under a holder",
    survives=ON_ONE_HOST,
    bars=True,
    checkpoints=True,
)

_IN_MEMORY = ("ramfs", "tmpfs")


class FileStore(LocalStore[FileRecords]):
    """The store in the folder `path`."""

    capabilities = CAPABILITIES

    def __init__(self, path: Path, machine: Machine | None = None, named: str = "") -> None:
        self._folders = (path / ELECTIONS, path / SESSIONS)
        super().__init__(
            path,
            machine or Machine(),
            files=(path, *self._folders),
            locks=path / SESSIONS,
            named=named,
        )
        self._elections_watch = self._sessions_watch = -1
        self._unread: set[str] | None = None
        """The elections that may have changed; None if any may have."""
        self._beaten: set[str] = set()
        """The sessions that have changed."""

    def _open_records(self) -> FileRecords:
        return FileRecords(self.path, create=self._create)

    def _sweep(self, records: FileRecords) -> None:
        with suppress(StoreError):  # Somebody else is at it, or the next one will be.
            records.sweep(self._locks.is_dead)
        super()._sweep(records)

    # -- being woken ------------------------------------------------------------------------------

    def follow(self, name: str, sink: Sink) -> None:
        """Report the record now and after each change."""
        self._followers.setdefault(name, []).append(sink)
        self._read_soon(name)

    def _watch_files(self, kernel: inotify.Inotify) -> Iterator[int]:
        mask = inotify.ENTERED | inotify.LEFT | inotify.CLOSED | inotify.MOVED
        self._elections_watch, self._sessions_watch = (
            kernel.watch(folder, mask) for folder in self._folders
        )
        yield self._elections_watch
        yield self._sessions_watch
        yield kernel.watch(self.path, inotify.REMOVED | inotify.MOVED)

    def _changed(self, notice: inotify.Notice) -> None:
        stem = notice.name.removesuffix(END)
        if notice.mask & inotify.OVERFLOWN:
            self._forget()
            self._refresh_soon()
        elif notice.number not in (self._elections_watch, self._sessions_watch):
            if not self._is_same():
                self._replaced()
        elif stem == notice.name:
            pass  # A lock, or what an editor leaves behind.
        elif notice.number == self._elections_watch:
            if stem in self._followers:
                self._read_soon(stem)
        elif self._locks.descriptor(stem) is None:  # Our own renewals are no news to us.
            self._beaten.add(stem)
            if stem in self._names_of or self._refreshing is not None:
                self._refresh_soon()

    def _read_soon(self, name: str) -> None:
        if self._unread is not None:
            self._unread.add(name)
        self._refresh_soon()

    def _changes(self) -> Callable[[FileRecords], Changes]:
        names = set(self._followers) if self._unread is None else self._unread
        for key in self._beaten:
            names |= self._names_of.get(key, set())
        names &= self._followers.keys()
        self._unread, self._beaten = set(), set()
        return partial(FileRecords.changes, names=names, there=self._there - names)

    def _forget(self) -> None:
        super()._forget()
        self._unread = None

    def _missed(self) -> None:
        self._unread = None

    # -- doctor -----------------------------------------------------------------------------------

    async def examine(self) -> list[Finding]:
        """Look for what could break the promise here."""
        findings = await super().examine()
        if (type_ := filesystem.kind(self.path)) in _IN_MEMORY:
            findings.append(
                Finding(
                    "tokens",
                    None,
                    f"{self.path} lies in memory ({type_}): after a restart of the host tokens "
                    "start at the time of day",
                    "use a folder on a disk where a resource remembers tokens",
                )
            )
        return findings
