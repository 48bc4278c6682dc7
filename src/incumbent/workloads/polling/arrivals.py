"""Which files of a folder are there, whole, and in which order; and what tells of new ones.

A file that is still being written must not be taken. Nobody can tell by looking whether its writer
has finished, so there are two signs:

- its name: what is hidden, or matches `ignore` (`*.part`, `*.tmp` and such), is not there yet. A
  writer that renames its file when it is whole is the sure way, and needs no waiting;
- that it stands still: its inode, size and time of change have to be the same for `settle_s` on our
  own clock. Its time is compared with nothing but itself, so a clock that is wrong, or of another
  host, does not matter. A writer that pauses for longer is taken for finished.

The kernel's notices only end a wait early. What they miss (a full queue, changes by other hosts on
a network file system) is seen after the interval.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

from incumbent.errors import ConfigError, StoreUnusable, UnsupportedPlatform
from incumbent.stores.local.inotify import ENTERED, Inotify
from incumbent.workloads.env import Clock

__all__ = ["Arrivals", "Bell"]

ORDERS = ("name", "mtime")
WRITTEN = 0x008

logger = logging.getLogger("incumbent")

_Look = tuple[int, int, int]


class Arrivals:
    """What is new in a folder, as one holder has seen it."""

    def __init__(self, inbox: Path, *, order: str, ignore: Sequence[str], settle_s: float) -> None:
        self._inbox = inbox
        self._order = order
        self._ignore = tuple(ignore)
        self._settle_s = settle_s
        self._seen: dict[str, tuple[_Look, float]] = {}

    def ready(self, now_s: float) -> tuple[list[str], float | None]:
        """Return the files to take, in order; and in how many seconds another one may be ready.

        Raises:
            ConfigError: the folder cannot be read.
        """
        seen: dict[str, tuple[_Look, float]] = {}
        for name, look in self._looks():
            known, since_s = self._seen.get(name, (None, now_s))
            seen[name] = (look, since_s if known == look else now_s)
        self._seen = seen
        waits = {name: since + self._settle_s - now_s for name, (_, since) in seen.items()}
        ready = [name for name, wait_s in waits.items() if wait_s <= 0]
        if self._order == "mtime":
            ready.sort(key=lambda name: (seen[name][0][2], name))
        else:
            ready.sort()
        return ready, min((wait_s for wait_s in waits.values() if wait_s > 0), default=None)

    def _looks(self) -> list[tuple[str, _Look]]:
        found: list[tuple[str, _Look]] = []
        try:
            with os.scandir(self._inbox) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or self._is_ignored(entry.name):
                        continue
                    with suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        if stat.S_ISREG(status.st_mode):
                            look = (status.st_ino, status.st_size, status.st_mtime_ns)
                            found.append((entry.name, look))
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            raise ConfigError(f"{self._inbox} cannot be read: {error.strerror}") from error
        return found

    def _is_ignored(self, name: str) -> bool:
        return any(fnmatch(name, pattern) for pattern in self._ignore)


class Bell:
    """Rings when a file was closed by a writer, or got its name. A context on the loop."""

    def __init__(self, inbox: Path) -> None:
        self._inbox = inbox
        self._rung = asyncio.Event()
        self._inotify: Inotify | None = None

    def __enter__(self) -> Bell:
        """Listen, if the kernel permits; else the interval has to do."""
        try:
            inotify = Inotify()
        except (StoreUnusable, UnsupportedPlatform, OSError) as error:
            logger.info("new files are found by looking, not by notices: %s", error)
            return self
        try:
            inotify.watch(self._inbox, ENTERED | WRITTEN)
            asyncio.get_running_loop().add_reader(inotify.fileno(), self._hear)
        except (StoreUnusable, OSError, NotImplementedError) as error:
            inotify.close()
            logger.info("new files are found by looking, not by notices: %s", error)
        else:
            self._inotify = inotify
        return self

    def __exit__(self, *_: object) -> None:
        """Listen no more."""
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fileno())
            self._inotify.close()
            self._inotify = None

    def silence(self) -> None:
        """Forget what has rung: whoever looks after this sees it."""
        self._rung.clear()

    async def wait(self, clock: Clock, most_s: float) -> None:
        """Wait until it rings, or for so long."""
        ringing = asyncio.ensure_future(self._rung.wait())
        sleeping = asyncio.ensure_future(clock.sleep(most_s))
        try:
            await asyncio.wait([ringing, sleeping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            ringing.cancel()
            sleeping.cancel()
            await asyncio.gather(ringing, sleeping, return_exceptions=True)

    def _hear(self) -> None:
        if self._inotify is not None and list(self._inotify.read()):
            self._rung.set()
