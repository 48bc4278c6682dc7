"""Being told by the kernel that a file was changed, closed or removed.

Python's standard library has no inotify, so three functions of the C library are called directly.
Only what the stores here need: watches on files and folders, read by an event loop.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from incumbent.errors import StoreUnusable, UnsupportedPlatform

__all__ = [
    "CLOSED",
    "ENTERED",
    "GONE",
    "LEFT",
    "MODIFIED",
    "MOVED",
    "OVERFLOWN",
    "READ",
    "REMOVED",
    "Inotify",
    "Notice",
]

MODIFIED = 0x002
CLOSED = 0x008
READ = 0x010
"""Somebody who had opened the file for reading only has closed it, or died."""
GONE = 0x004 | 0x800
"""The attributes changed (deleting an open file changes its link count), or it moved."""
MOVED = 0x800
"""The file or folder itself was renamed."""
ENTERED = 0x080
"""A file of the folder got its name by being renamed."""
REMOVED = 0x200
"""A file of the folder was deleted."""
LEFT = 0x040 | REMOVED
"""A file of the folder has that name no more."""
OVERFLOWN = 0x4000
"""Events were lost. Look at everything."""
_IGNORED = 0x8000
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)
_HEADER = struct.Struct("iIII")


class Notice(NamedTuple):
    """Something that has happened.

    Attributes:
        number: of the watch; -1 for an overflow.
        mask: what.
        name: of the file in a watched folder that it happened to; "" if it was the folder itself.
    """

    number: int
    mask: int
    name: str = ""


class Inotify:
    """One inotify instance. `fileno()` becomes readable when there are events."""

    def __init__(self) -> None:
        if not sys.platform.startswith("linux"):
            raise UnsupportedPlatform(
                "this store wakes its standbys by inotify, which only Linux has: use another "
                "store here"
            )
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._call("inotify_init1", _NONBLOCK_CLOEXEC)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def watch(self, path: Path, mask: int) -> int:
        """Watch `path`; return the number of the watch.

        Raises:
            FileNotFoundError: there is no such file.
            StoreUnusable: the kernel's limit of watches is reached.
        """
        return self._call("inotify_add_watch", self._fd, os.fsencode(path), mask)

    def unwatch(self, number: int) -> None:
        """Watch no more; no error if the file is gone already."""
        self._libc.inotify_rm_watch(self._fd, number)

    def read(self) -> Iterator[Notice]:
        """Return what has happened, without waiting."""
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        offset = 0
        while offset < len(data):
            number, mask, _, length = _HEADER.unpack_from(data, offset)
            offset += _HEADER.size
            name = data[offset : offset + length].rstrip(b"\0")
            offset += length
            if not mask & _IGNORED:
                yield Notice(number, mask, os.fsdecode(name))

    def close(self) -> None:
        """Close the instance."""
        os.close(self._fd)

    def _call(self, function: str, *values: int | bytes) -> int:
        result = int(getattr(self._libc, function)(*values))
        if result >= 0:
            return result
        number = ctypes.get_errno()
        if number in (errno.EMFILE, errno.ENOSPC):
            limit = "max_user_instances" if number == errno.EMFILE else "max_user_watches"
            raise StoreUnusable(f"the kernel's limit is reached: raise fs.inotify.{limit}")
        raise OSError(number, os.strerror(number))
