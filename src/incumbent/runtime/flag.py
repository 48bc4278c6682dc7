"""An event that the keeper can set whatever has become of the threads that wait for it.

A signal handler may raise (SystemExit, KeyboardInterrupt) anywhere in the main thread, also inside
`threading.Event.wait`, whose Python code may then leave its lock taken for ever. The keeper would
block on that lock, and with it every lease of the process. So a flag has no lock of its own: each
who waits brings one, and the keeper only ever releases.
"""

from __future__ import annotations

from _thread import LockType, allocate_lock

__all__ = ["Flag"]


class Flag:
    """Set once, for good; with the methods of `threading.Event` that make sense then."""

    __slots__ = ("_set", "_waiting")

    def __init__(self) -> None:
        self._set = False
        self._waiting: list[LockType] = []

    def is_set(self) -> bool:
        """Tell whether it is set."""
        return self._set

    def set(self) -> None:
        """Set it, and wake everybody. Never blocks."""
        self._set = True
        while self._waiting:
            self._waiting.pop().release()

    def wait(self, timeout: float | None = None) -> bool:  # foreign name: of threading.Event
        """Wait until it is set, or for so many seconds; return whether it is."""
        if not self._set:
            lock = allocate_lock()
            lock.acquire()
            self._waiting.append(lock)
            if not self._set:
                lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout))
        return self._set
