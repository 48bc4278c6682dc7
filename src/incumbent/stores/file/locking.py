"""One at a time: whoever compares and swaps has locked the folder itself.

A lock file of its own could be removed by hand, and two would then swap at once.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from incumbent.errors import StoreUnavailable

__all__ = ["FOLDER", "alone"]

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_LOCKING: set[int] = set()
"""Descriptors by which this process has locked a folder, at this moment."""


@contextmanager
def alone(folder: int, shown: Path, patience_s: float) -> Iterator[None]:
    """Be the only one who writes, in the folder of this descriptor.

    Raises:
        StoreUnavailable: somebody else does, all that time; `shown` says where.
    """
    fd = os.open(".", FOLDER, dir_fd=folder)
    _LOCKING.add(fd)
    try:
        _lock(fd, shown, patience_s)
        try:
            yield
        finally:
            # Not by closing alone: a child that was forked just now has the file open.
            fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        _LOCKING.discard(fd)
        os.close(fd)


def _lock(fd: int, shown: Path, patience_s: float) -> None:
    give_up_s = time.monotonic() + patience_s
    delay_s = 0.0002
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= give_up_s:
                raise StoreUnavailable(
                    f"{shown} is locked by another process, for {patience_s:g} s now"
                ) from None
        time.sleep(delay_s)
        delay_s = min(2 * delay_s, 0.005)


def _close_in_child() -> None:
    """A child that is forked while we write must not keep others out."""
    for fd in _LOCKING:
        with suppress(OSError):
            os.close(fd)
    _LOCKING.clear()


os.register_at_fork(after_in_child=_close_in_child)
