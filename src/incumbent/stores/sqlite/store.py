"""The embedded store: several processes of one host elect over one SQLite file.

How a standby wakes: every committed change is followed by one byte written to the *bell* file
beside the database, and inotify tells everybody who watches it. The write-ahead log itself would
not do: it is written before the commit can be seen. A process that dies between commit and bell
leaves its lock free, which is an event of its own. Nothing here polls. Who repairs the database by
hand rings no bell; but closes it, and whoever watches then looks as well.

Everything else is as in every store on one host's disk: see `stores.local.store`. That the database
was replaced is told by an event about it, about its log, or about the bell.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from incumbent.core.records import Advance, Checkpoint
from incumbent.errors import StoreError, StoreUnusable
from incumbent.stores.api import ON_ONE_HOST, Capabilities, Grade
from incumbent.stores.local import filesystem, inotify
from incumbent.stores.local.store import Changes, LocalStore
from incumbent.stores.sqlite.machine import Machine
from incumbent.stores.sqlite.tables import Tables

__all__ = ["SqliteStore"]

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
    survives=ON_ONE_HOST,
    bars=True,
    checkpoints=True,
)


class SqliteStore(LocalStore[Tables]):
    """The store in the file `path`."""

    capabilities = CAPABILITIES
    _machine: Machine

    def __init__(self, path: Path, machine: Machine | None = None, named: str = "") -> None:
        beside = [path.with_name(path.name + end) for end in ("-bell", "-wal", "-shm")]
        super().__init__(
            path,
            machine or Machine(),
            files=(path, *beside),
            locks=path.with_name(path.name + "-locks"),
            named=named,
        )
        self._opener = self._machine.chance(8)
        self._bell_path = beside[0]
        self._bell = -1

    async def advance_all(self, advances: Sequence[Advance]) -> list[Checkpoint | StoreError]:
        """Carry out several advances of one election, in one transaction."""
        return await self._run(lambda tables: tables.checkpoints.advance_all(advances))

    def _open_records(self) -> Tables:
        if self._create:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._locks.create()
        # At each opening: who comes under the second name is the one to be refused, and either may.
        if why := filesystem.other_name(self.path):
            raise StoreUnusable(why)
        tables = self._machine.tables(self.path, self._opener, create=self._create)
        try:
            self._bell = os.open(self._bell_path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            tables.close()
            raise
        return tables

    def _disconnect(self) -> None:
        super()._disconnect()
        if self._bell >= 0:
            os.close(self._bell)
            self._bell = -1

    def _ring(self) -> None:
        with suppress(OSError):
            self._machine.ring(self._bell)

    def _watch_files(self, kernel: inotify.Inotify) -> Iterator[int]:
        yield kernel.watch(self._bell_path, inotify.MODIFIED | inotify.GONE)
        for path in self._files:
            if path != self._bell_path:
                yield kernel.watch(path, inotify.GONE | inotify.CLOSED)

    def _changed(self, notice: inotify.Notice) -> None:
        self._refresh_soon()

    def _changes(self) -> Callable[[Tables], Changes]:
        return partial(Tables.changes, since=self._serial, there=frozenset(self._there))
