"""A member of redis-py's `Lock`.

    python -m tests.partners.python.redis_lock URL KEY TIMEOUT_S HOW

HOW is "extends", as a careful one does, which asks for its whole time anew with each third of it;
or "lapses", which works on and never looks whether the lock is still its own.
"""

from __future__ import annotations

import signal
import sys
import time
from types import FrameType

from redis import Redis

from tests.partners.python.child import BEAT_S, say


def leave(_: int, __: FrameType | None) -> None:
    sys.exit(0)


def main(url: str, key: str, timeout_s: str, how: str) -> None:
    signal.signal(signal.SIGTERM, leave)
    lock = Redis.from_url(url).lock(key, timeout=float(timeout_s) or None)
    if not lock.acquire(blocking=False):
        say("waiting")
        lock.acquire()
    say("holding")
    extended_at = time.monotonic()
    try:
        while True:
            time.sleep(BEAT_S)  # sleep: it is the beat
            if how == "extends" and time.monotonic() > extended_at + float(timeout_s) / 3:
                lock.reacquire()
                extended_at = time.monotonic()
            say("beat")
    finally:
        say("stopped")
        if how == "extends":
            lock.release()


if __name__ == "__main__":
    main(*sys.argv[1:])
