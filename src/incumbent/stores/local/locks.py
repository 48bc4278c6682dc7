"""Evidence of death: a kernel lock that the holder's whole process tree inherits.

Each session has a file of its own with an exclusive `flock`. Such a lock belongs to the *open file
description*, not to a process: whoever inherited the descriptor keeps it, and the kernel drops it
when the last of them has closed it or died, by whatever signal. So a lock that can be had proves
that everything that inherited the descriptor is gone. Four warnings:

1. A process id proves nothing: it is reused, and says nothing of the children.
2. A child that *closed* the descriptor is not covered. `incumbent run` hands it to its command; for
   children that a library user starts, `Term.pass_fds` is there to be passed on.
3. So the lock of a session that was not ended is never given back while this process lives, not
   even when its store is closed: some work of ours may be going on.
4. Not seeing a file, not being allowed to open it, being out of descriptors: all that is silence,
   and the TTL is waited out.

Why `flock` and not a record lock of `fcntl`: those belong to the process, are not inherited, and
are dropped when the process closes *any* descriptor of that file.

How one hears of it: closing the last descriptor of a file that was open for writing is an inotify
event (IN_CLOSE_WRITE). The kernel sends it a moment *before* it drops the lock, so after the event
the lock is tried a few times; without an event it is not tried at all, except once at first sight.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from contextlib import suppress
from pathlib import Path

__all__ = ["LockFolder"]


class LockFolder:
    """The lock files of one database's sessions."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}
        self._mappings: dict[str, mmap.mmap] = {}

    def create(self) -> None:
        """Make the folder if need be.

        Raises:
            OSError: it cannot be made.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True)

    def path(self, key: str) -> Path:
        """Return the lock file of a session."""
        return self._folder / f"{key}.lock"

    def hold(self, chance: str) -> str:
        """Create and lock the file of a new session of ours; return the session's key.

        The descriptor is inheritable: children that are told nothing keep it too. Whoever may read
        the folder may read the file, and so try its lock.

        Args:
            chance: what makes the key unlike all others.

        Raises:
            OSError: the file exists, or cannot be made.
        """
        # Under its name it is never seen unlocked: somebody who sweeps would take it for a relic.
        self.create()  # Somebody may have removed it since.
        unnamed = self._folder / f"{chance}.new"
        fd = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (rights := os.stat(self._folder).st_mode & 0o666) != 0o600:
                os.fchmod(fd, rights)
            os.ftruncate(fd, 1)  # What is empty cannot be mapped.
            mapping = mmap.mmap(fd, 1)
            mapping.madvise(mmap.MADV_DONTFORK)  # A child may close what it was given.
            key = f"{chance}-{_number(fd)}"
            os.rename(unnamed, self.path(key))
        except OSError:
            os.close(fd)
            raise
        os.set_inheritable(fd, True)
        self._held[key], self._mappings[key] = fd, mapping
        return key

    def descriptor(self, key: str) -> int | None:
        """Return the descriptor of our own session `key`."""
        return self._held.get(key)

    def drop(self, key: str) -> None:
        """Close our descriptor of `key`, and remove the file: the session is over."""
        fd = self._held.pop(key, None)
        self.remove(key)
        if fd is not None:
            self._mappings.pop(key).close()
            os.close(fd)

    def remove(self, key: str) -> None:
        """Remove the file of a session that is over."""
        with suppress(OSError):
            self.path(key).unlink()

    def is_dead(self, key: str) -> bool:
        """Tell whether everything that inherited the lock of `key` is gone, for certain."""
        return key not in self._held and _is_free(self.path(key), _number_in(key))

    def is_relic(self, key: str) -> bool:
        """Tell whether nobody has locked whatever file has the name of this session's."""
        return key not in self._held and _is_free(self.path(key))

    def files(self) -> list[Path]:
        """Return every lock file in the folder."""
        return list(self._folder.glob("*.lock"))

    def sweep_unnamed(self) -> None:
        """Remove what processes left that were killed before their file had its name.

        Somebody who is just making one may fail by this, and tries again.
        """
        for file in self._folder.glob("*.new"):
            if _is_free(file):
                with suppress(OSError):
                    file.unlink()


def _is_free(file: Path, number: str = "") -> bool:
    """Tell whether nobody has locked a file, which must have this number, if one is given."""
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return not number or number == _number(fd)
    except OSError:
        return False
    finally:
        os.close(fd)


def _number(fd: int) -> str:
    return f"{os.fstat(fd).st_ino:x}"


def _number_in(key: str) -> str:
    return key.rpartition("-")[2] or "?"
