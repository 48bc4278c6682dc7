"""Work that begins when its module is imported, and is there again after each fork.

A web server that has several workers imports the application in each of them, or forks after it has
imported it. One decorator has to do for all: the work contends in every process that serves, and
one of them does it.

Rules
-----
1. Nobody's start waits for it, and its failure is not the server's: see `standing`.
2. In a forked child it begins after a moment, in which a child that only executes another program
   has done so. Children of `multiprocessing` that were forked are helpers of this process, and have
   none.
3. A process that only forks the workers has none either (gunicorn's arbiter that preloads the
   application): were it to lead, the kernel's timer would end the whole server. It is known by what
   imports us: the arbiter, and not in a worker.
4. Nor has a process that imports the module only for isolated work.
5. At the interpreter's exit it is stopped, and hands over.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
import threading
from types import FrameType
from typing import Any, Protocol

from incumbent.runtime import isolate

__all__ = ["Background"]

AFTER_FORK_S = 0.3


class _Work(Protocol):
    def start(self) -> None: ...

    def stop(self) -> None: ...

    def forked(self) -> None: ...


class Background:
    """Keeps one piece of work running in this process and in those forked from it."""

    def __init__(self, work: _Work) -> None:
        self._work = work
        self._wanted = False

    def start(self) -> None:
        """Begin here, if this process is one that works; in those forked from it in any case."""
        self._wanted = True
        _ALL.add(self)
        if not isolate.loading and not _in_arbiter(sys._getframe()):
            self._work.start()

    def stop(self) -> None:
        """End it, and return when it has handed over."""
        self._wanted = False
        _ALL.discard(self)
        self._work.stop()

    def forked(self) -> None:
        """In a forked child: begin anew, if it was wanted."""
        self._work.forked()
        if self._wanted:
            timer = threading.Timer(AFTER_FORK_S, self._begin)
            timer.daemon = True
            timer.start()

    def _begin(self) -> None:
        if self._wanted and not _is_helper():
            self._work.start()


_ALL: set[Background] = set()
_imported_in: Any = multiprocessing.parent_process()


def _is_helper() -> bool:
    return multiprocessing.parent_process() is not _imported_in


def _in_arbiter(frame: FrameType | None) -> bool:
    """Tell whether gunicorn's arbiter loads the application in order to fork workers with it."""
    found = False
    while frame is not None:
        if frame.f_globals.get("__name__") == "gunicorn.arbiter":
            if frame.f_code.co_name == "spawn_worker":
                return False
            found = True
        frame = frame.f_back
    return found


def _forked() -> None:
    for background in list(_ALL):
        background.forked()


def _stop() -> None:
    for background in list(_ALL):
        background.stop()


atexit.register(_stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
