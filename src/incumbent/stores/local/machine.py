"""What a store asks of the machine that it runs on, beside its files.

One object, given to the store when it is made: the simulator gives a twin, whose threads are late,
whose kernel loses events, and whose processes die between one line and the next.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol, TypeVar

from incumbent.stores.local.inotify import Inotify
from incumbent.stores.local.locks import LockFolder
from incumbent.stores.local.worker import Worker

__all__ = ["Machine", "Thread"]

T = TypeVar("T")


class Thread(Protocol):
    """A thread with a queue. See `incumbent.stores.local.worker.Worker`."""

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Call `job` after everything that was submitted before."""
        ...

    def close(self) -> None:
        """End the thread when its queue is empty."""
        ...


class Machine:
    """The real one."""

    def chance(self, size: int) -> str:
        """Return that many random bytes as text."""
        return os.urandom(size).hex()

    def thread(self) -> Thread:
        """Start the thread in which the store may block."""
        return Worker("incumbent-store")

    def inotify(self) -> Inotify:
        """Return an inotify instance."""
        return Inotify()

    def locks(self, folder: Path) -> LockFolder:
        """Return the lock files in `folder`."""
        return LockFolder(folder)
