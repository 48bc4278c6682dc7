"""The command that `flock` or `consul lock` runs: it works as long as it lives.

    python -m tests.partners.python.child [waiting]

With `waiting` it only says that it waits, for a shell that becomes the locking command after it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from types import FrameType
from typing import Any

BEAT_S = 0.1


def say(event: str, **more: Any) -> None:
    print(json.dumps({"event": event, "at": time.monotonic(), **more}), flush=True)


def leave(_: int, __: FrameType | None) -> None:
    sys.exit(0)


def main() -> None:
    if "waiting" in sys.argv:
        say("waiting")
        return
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    say("holding", pid=os.getpid())
    try:
        while True:
            time.sleep(BEAT_S)  # sleep: it is the beat
            say("beat")
    finally:
        say("stopped")


if __name__ == "__main__":
    main()
