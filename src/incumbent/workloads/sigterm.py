"""What SIGTERM does to the work of this process, where nobody else has said what it shall do.

Python's default ends the process without unwinding: nothing is released, and others wait a TTL.
Servers of every kind handle the signal therefore (Celery's worker, gunicorn, uvicorn), and so does
work here; but never in the place of somebody else.

Rules
-----
1. A handler is set where the default one is, on the main thread, and nowhere else. Whoever sets one
   later has it; whoever restores what was before, as uvicorn does, restores ours.
2. Work that runs on the main thread (`heeded`) is told to stop. When it has, the lease is released,
   and `SystemExit(143)` is raised where it was run, or out of the event loop: what else was entered
   there is left, too. It does not just return: a program that would begin anew could not be ended.
3. Else the work in the background (`beside`) is stopped, and then the signal does what it does by
   default. Not in the handler: the main thread may hold a lock, a logger's say, that the work needs
   in order to end.
4. uvicorn handles the signal by itself while it loads an application, and ends by raising it again
   under the handler that was there before. There its own shutdown waits for ours, as for its
   connections.
5. A forked child has none of the work: there the default handler is set again. At once, since one
   of Python's runs only when the child comes by.
6. A handler may interrupt the main thread anywhere: it takes no lock, and starts threads by
   `_thread` alone (`threading.Thread.start` takes one).
"""

from __future__ import annotations

import _thread
import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from incumbent.runtime.flag import Flag

__all__ = ["STATUS", "Heeded", "at_exit", "beside", "heeded", "leave_loop"]

STATUS = 128 + signal.SIGTERM
LOOK_EVERY_S = 0.05

Stop = Callable[[], None]


class Heeded:
    """One piece of work on the main thread.

    Attributes:
        told: whether the signal has come.
        ended: whether nothing of it is left.
    """

    def __init__(self, stop: Stop) -> None:
        self.stop = stop
        self.told = False
        self.ended = False


class _State:
    """What the handler knows. One for the process; a forked child has a new one."""

    def __init__(self) -> None:
        self.heeded: list[Heeded] = []
        self.stop_all: Stop | None = None
        self.stopping = False
        self.stopped = Flag()


_state = _State()


@contextmanager
def heeded(stop: Stop) -> Iterator[Heeded]:
    """Have SIGTERM call `stop` while the body runs, if that is ours to say.

    Args:
        stop: is called by the signal's handler: it must not wait, nor take a lock.

    Raises:
        SystemExit: the signal came, and the body has returned.
    """
    one = Heeded(stop)
    ours, state = _take_over(), _state
    if ours:
        state.heeded.append(one)
    try:
        yield one
    finally:
        if ours:
            state.heeded.remove(one)
            _give_back()
    if one.told:
        raise SystemExit(STATUS)


async def leave_loop(one: Heeded) -> None:
    """Leave the event loop by `SystemExit`, if the signal came and no other work in it goes on.

    By a callback: a task that raises it has an exception that nobody fetches, and asyncio says so.
    `asyncio.run` cancels all tasks then, this one among them, and raises it on.

    Raises:
        CancelledError: it did.
    """
    one.ended = True
    if one.told:
        loop = asyncio.get_running_loop()
        if all(other.ended for other in _state.heeded if other.told):
            loop.call_soon(_exit)
        await loop.create_future()


def _exit() -> None:
    raise SystemExit(STATUS)


def beside(stop_all: Stop) -> None:
    """Have SIGTERM call `stop_all`, in a thread, before it does what it does by default.

    Args:
        stop_all: stops the work in the background, and returns when it has, or has had its time.
    """
    server = _uvicorn()
    if server is not None:
        _wait_in(server, stop_all)
    elif _take_over():
        _state.stop_all = stop_all


def at_exit() -> None:
    """Wait for what the signal has begun to stop, if the program ends by itself meanwhile."""
    if _state.stopping:
        _state.stopped.wait()


def _take_over() -> bool:
    if threading.current_thread() is not threading.main_thread():
        return False
    now = signal.getsignal(signal.SIGTERM)
    if now is _on_term:
        return True
    if now is not signal.SIG_DFL:
        return False
    with suppress(ValueError):  # A subinterpreter has no signals.
        signal.signal(signal.SIGTERM, _on_term)
        return True
    return False


def _give_back() -> None:
    unused = not _state.heeded and _state.stop_all is None
    if unused and signal.getsignal(signal.SIGTERM) is _on_term:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _on_term(number: int, frame: FrameType | None) -> None:
    state = _state
    if state.stopped.is_set():
        _default()
    elif state.heeded:
        for one in list(state.heeded):
            one.told = True
            one.stop()
    elif state.stop_all is None:
        _default()
    elif not state.stopping:
        state.stopping = True
        _thread.start_new_thread(_stop_and_end, (state, state.stop_all))


def _stop_and_end(state: _State, stop_all: Stop) -> None:
    try:
        stop_all()
    finally:
        state.stopped.set()
        main = threading.main_thread()
        if main.ident is not None and main.is_alive():  # Else the program has ended by itself.
            signal.pthread_kill(main.ident, signal.SIGTERM)


def _default() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)
    raise SystemExit(STATUS)  # The first process of a container has survived that.


def _forked() -> None:
    global _state
    _state = _State()
    with suppress(ValueError):  # A subinterpreter has no signals.
        if signal.getsignal(signal.SIGTERM) is _on_term:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _uvicorn() -> Any:
    """Return the server that handles the signal, if that is uvicorn's."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    known = type(server).__module__.partition(".")[0] == "uvicorn"
    return server if known and hasattr(server, "shutdown") else None


def _wait_in(server: Any, stop_all: Stop) -> None:
    if getattr(server.shutdown, "_incumbent", False):
        return
    theirs = server.shutdown

    async def shutdown(*args: Any, **values: Any) -> None:
        ours = asyncio.ensure_future(asyncio.to_thread(stop_all))
        try:
            await theirs(*args, **values)
        finally:
            while not ours.done() and not getattr(server, "force_exit", False):
                await asyncio.wait([ours], timeout=LOOK_EVERY_S)

    shutdown._incumbent = True  # type: ignore[attr-defined]
    server.shutdown = shutdown


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
