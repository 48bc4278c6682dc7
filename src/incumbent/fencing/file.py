"""Seal and check beside a file: a token in `PATH.fence`, under a lock while the file is written.

For writers on one host, all of which go through this; nothing keeps others from the file itself.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from incumbent.errors import ConfigError

__all__ = ["sealing"]


@contextmanager
def sealing(path: Path, token: int) -> Iterator[int]:
    """Hold the lock, and give the greatest token that was seen; ours is on the disk by then."""
    beside = path.with_name(path.name + ".fence")
    fd = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        text = os.pread(fd, 64, 0).decode("ascii", "replace").strip() or "0"
        if not text.isdecimal():
            raise ConfigError(f"{beside} holds {text!r}, and no token: remove or mend it")
        highest = int(text)
        if token > highest:
            # Of a fixed width, so that one write replaces the other as a whole.
            os.pwrite(fd, b"%020d\n" % token, 0)
            os.fsync(fd)
        yield max(token, highest)
    finally:
        os.close(fd)
