"""Work that begins when its module is imported, and is there again after each fork.

A web server that has several workers imports the application in each of them, or forks after it has
imported it. One decorator has to do for all: the work contends in every process that has the
module, and one of them does it.

Rules
-----
1. It is a daemon thread, and nobody's start waits for it. Errors are logged and tried again: a web
   worker lives on without its singleton, and a database may come up after it.
2. In a forked child it begins after a moment, in which a child that only executes another program
   has done so. Children of `multiprocessing` that were forked are helpers of this process, and have
   none.
3. At the interpreter's exit it is stopped, and hands over.
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import threading
import weakref
from typing import Any, Protocol

from incumbent.errors import ConfigError, Withdrawn
from incumbent.runtime import isolate

__all__ = ["Background"]

AFTER_FORK_S = 0.3
AGAIN_S = 10.0

log = logging.getLogger("incumbent")


class _Work(Protocol):
    @property
    def election(self) -> Any: ...

    def run(self) -> Any: ...


class Background:
    """Keeps one piece of work running in this process and in those forked from it."""

    def __init__(self, name: str, work: _Work) -> None:
        self.name = name
        self._work = work
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        _ALL.add(self)

    def start(self, after_s: float = 0.0) -> None:
        """Begin; not where the module is imported only for isolated work."""
        if isolate.loading:
            return
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._serve,
            args=(after_s, self._stopping),
            name=f"incumbent-{self.name}",
            daemon=True,
        )
        self._thread.start()

    def stop(self) -> None:
        """End it, and return when it has handed over."""
        thread, self._thread = self._thread, None
        self._stopping.set()
        while thread is not None and thread.is_alive():
            self._work.election.withdraw()
            thread.join(0.05)

    def forked(self) -> None:
        """In a forked child: begin anew, if it was running."""
        if self._thread is not None:
            self.start(AFTER_FORK_S)

    def _serve(self, after_s: float, stopping: threading.Event) -> None:
        if stopping.wait(after_s) or (after_s and _is_helper()):
            return
        while not stopping.is_set():
            try:
                self._work.run()
                return
            except Withdrawn:
                return
            except ConfigError:
                log.exception("%s does not run in the background of this process", self.name)
                return
            except Exception:
                log.exception("%s: it is begun again in %g s", self.name, AGAIN_S)
            stopping.wait(AGAIN_S)


_ALL: weakref.WeakSet[Background] = weakref.WeakSet()
_imported_in = multiprocessing.parent_process()


def _is_helper() -> bool:
    return multiprocessing.parent_process() is not _imported_in


def _forked() -> None:
    for background in list(_ALL):
        background.forked()


def _stop() -> None:
    for background in list(_ALL):
        background.stop()


atexit.register(_stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
