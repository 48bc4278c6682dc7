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
4. Nor has a process that imports the module only for isolated work; nor any for whose environment
   `INCUMBENT_BACKGROUND` is `off`: a shell, a migration, a test.
5. Nor has one that waits while children serve: it watches files, or starts anew who has died. That
   shows itself only after the import, so for the first `LOOK_FOR_S` it is looked at again and
   again, and the work is stopped then.
6. A child of `multiprocessing` that imports the module anew (spawn, forkserver) is a helper like
   one that was forked: the kernel's timer would end a pool's worker, and break the pool. But one
   that was started by uvicorn's supervisor, which has no work by 5, is to serve, and has perhaps
   imported everything by then; so what was put off is begun when it is seen to serve.
7. At the interpreter's exit it is stopped, and hands over; at SIGTERM see `sigterm`.
"""

from __future__ import annotations

import _thread
import atexit
import logging
import multiprocessing
import os
import sys
import threading
from contextlib import suppress
from typing import Any, Protocol

from incumbent.clock import boottime
from incumbent.errors import ConfigError
from incumbent.runtime import isolate
from incumbent.runtime.flag import Flag
from incumbent.workloads import sigterm
from incumbent.workloads.serving import forks_workers, helps, serves_for_another, supervises

__all__ = ["Background"]

AFTER_FORK_S = 0.3
LOOK_FOR_S = 60.0
LOOK_EVERY_S = 0.2
RELEASE_S = 2.0
"""At SIGTERM, for what follows the end of the work, on top of its grace."""


_log = logging.getLogger("incumbent")


class _Work(Protocol):
    @property
    def grace_s(self) -> float: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def forked(self) -> None: ...


class Background:
    """Keeps one piece of work running in this process and in those forked from it."""

    def __init__(self, work: _Work) -> None:
        self._work = work
        self._wanted = False

    def start(self) -> None:
        """Begin here, if this process is one that works; in those forked from it in any case.

        Raises:
            ConfigError: INCUMBENT_BACKGROUND is neither on nor off.
        """
        if not _switched_on():
            return
        if not isolate.loading and helps(sys._getframe()):
            _PUT_OFF.add(self)
            _look_out()
            return
        if not isolate.loading and not forks_workers(sys._getframe()):
            self._start()
        self._wanted = True
        _ALL.add(self)

    def begin(self) -> None:
        """Begin what was put off."""
        _PUT_OFF.discard(self)
        self._wanted = True
        _ALL.add(self)
        self._start()

    def _start(self) -> None:
        self._work.start()
        sigterm.beside(_stop_in_time)
        _look_out()

    @property
    def grace_s(self) -> float:
        """How long the work may take to stop."""
        return self._work.grace_s

    def stop(self) -> None:
        """End it, and return when it has handed over."""
        self._wanted = False
        _PUT_OFF.discard(self)
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
            self._start()


_ALL: set[Background] = set()
_PUT_OFF: set[Background] = set()
_looking = 0
_imported_in: Any = multiprocessing.parent_process()


def _is_helper() -> bool:
    return multiprocessing.parent_process() is not _imported_in


def _forked() -> None:
    for background in list(_ALL):
        background.forked()


def _switched_on() -> bool:
    said = os.environ.get("INCUMBENT_BACKGROUND", "").strip().lower()
    if said in ("", "on", "1", "true", "yes"):
        return True
    if said in ("off", "0", "false", "no"):
        return False
    raise ConfigError(f"INCUMBENT_BACKGROUND={said!r}: use 'on' or 'off'")


def _look_out() -> None:
    """Stop everything if this process turns out not to serve; begin what was put off if it does."""
    global _looking
    if _looking != os.getpid():
        _looking = os.getpid()
        with suppress(RuntimeError):  # The interpreter ends.
            threading.Thread(target=_look, name="incumbent-look", daemon=True).start()


def _look() -> None:
    never = Flag()
    for _ in range(int(LOOK_FOR_S / LOOK_EVERY_S)):
        if supervises():
            _log.info("this process only starts those that serve: they do its work")
            _stop_in_time()
            return
        if _PUT_OFF and serves_for_another():
            for background in list(_PUT_OFF):
                background.begin()
        never.wait(LOOK_EVERY_S)


def _stop_in_time() -> None:
    """Stop all of it at once, and return when it has, or has had its time."""
    ending = [(background, Flag()) for background in list(_ALL)]
    for background, ended in ending:
        try:
            _thread.start_new_thread(_stop_one, (background, ended))
        except RuntimeError:  # There is no thread to be had.
            _stop_one(background, ended)
    limit_s = max((background.grace_s for background, _ in ending), default=0) + RELEASE_S
    until_s = boottime() + limit_s
    for _, ended in ending:
        ended.wait(max(0.0, until_s - boottime()))


def _stop_one(background: Background, ended: Flag) -> None:
    try:
        background.stop()
    except Exception:
        _log.debug("it had failed before", exc_info=True)  # Which was said then.
    finally:
        ended.set()


def _at_exit() -> None:
    sigterm.at_exit()
    for background in list(_ALL):
        _stop_one(background, Flag())


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
