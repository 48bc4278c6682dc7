"""Which process of a web server this is: some only start, or watch, those that serve.

Each of them has imported the application, and none of them may do its work: one that forks workers
would be ended by the kernel's timer with the whole server, one that starts them anew would leave
them without anybody, and one that watches files for changes has the code from before the first of
them, for ever.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["forks_workers", "helps", "serves_for_another", "supervises"]

_BEGINNING = ("multiprocessing.process", "_bootstrap")
"""Below it is what a child of `multiprocessing` was started for."""
_MULTIPROCESSING = ("multiprocessing.spawn", "multiprocessing.forkserver")
_POOLS = (("multiprocessing.pool", "worker"), ("concurrent.futures.process", "_process_worker"))


def forks_workers(frame: FrameType | None) -> bool:
    """Tell whether gunicorn's arbiter loads the application in order to fork workers with it."""
    found = False
    for module, function in _calls(frame):
        if module == "gunicorn.arbiter":
            if function == "spawn_worker":
                return False
            found = True
    return found


def supervises() -> bool:
    """Tell whether the main thread only waits for children that serve in its place.

    That cannot be told before: Flask's reloader (Werkzeug's) and uvicorn's supervisors start them
    after the import, by a call that the program may only just be about to make. In a worker of
    uvicorn a method of its supervisor runs, too, but not `run`.
    """
    return any(
        (module == "werkzeug._reloader" and function == "restart_with_reloader")
        or (module.startswith("uvicorn.supervisors.") and function == "run")
        for module, function in _calls(_main_frame())
    )


def helps(frame: FrameType | None) -> bool:
    """Tell whether a child of `multiprocessing` imports this only to help the one that started it.

    It does so before it begins with what it was started for (a script, as `__mp_main__`, and what
    is needed for its orders), and as a worker of a pool at any time. A function that it was started
    for, and that imports this, may well be a server's.
    """
    for call in _calls(frame):
        if call in _POOLS:
            return True
        if call == _BEGINNING:
            return False
        if call[0] in _MULTIPROCESSING:
            return True
    return False


def serves_for_another() -> bool:
    """Tell whether this is a process that uvicorn's supervisor has started, and it serves by now.

    It has then set its handler of SIGTERM, by which the work is stopped. A process that was forked
    from there has those calls, too, but for something else.
    """
    for call in _calls(_main_frame()):
        if call == _BEGINNING:
            return False
        if call == ("uvicorn._subprocess", "subprocess_started"):
            return signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    return False


def _main_frame() -> FrameType | None:
    main = threading.main_thread().ident
    return None if main is None else sys._current_frames().get(main)


def _calls(frame: FrameType | None) -> Iterator[tuple[str, str]]:
    """Yield the module and the function of each call, the innermost first."""
    while frame is not None:
        yield str(frame.f_globals.get("__name__")), frame.f_code.co_name
        frame = frame.f_back
