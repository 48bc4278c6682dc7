"""Which process of a web server this is: some only start, or watch, those that serve.

Each of them has imported the application, and none of them may do its work: one that forks workers
would be ended by the kernel's timer with the whole server, and one that watches files for changes
has the code from before the first of them, for ever.
"""

from __future__ import annotations

import sys
import threading
from types import FrameType

__all__ = ["forks_workers", "may_come_to_watch", "watches_files"]

_RELOADER = "werkzeug._reloader"


def forks_workers(frame: FrameType | None) -> bool:
    """Tell whether gunicorn's arbiter loads the application in order to fork workers with it."""
    found = False
    while frame is not None:
        if frame.f_globals.get("__name__") == "gunicorn.arbiter":
            if frame.f_code.co_name == "spawn_worker":
                return False
            found = True
        frame = frame.f_back
    return found


def may_come_to_watch() -> bool:
    """Tell whether something is loaded by which this process could watch files."""
    return "werkzeug" in sys.modules or "flask" in sys.modules


def watches_files() -> bool:
    """Tell whether the main thread waits for a child that serves in its place.

    That cannot be told before: Flask's reloader (Werkzeug's) starts the child after the import, by
    a call that the program may only just be about to make.
    """
    main = threading.main_thread().ident
    if main is None or _RELOADER not in sys.modules:
        return False
    frame = sys._current_frames().get(main)
    while frame is not None:
        if (
            frame.f_globals.get("__name__") == _RELOADER
            and frame.f_code.co_name == "restart_with_reloader"
        ):
            return True
        frame = frame.f_back
    return False
