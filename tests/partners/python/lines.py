"""What a member says and hears: the lines of `tests.partners.member`, and SIGTERM."""

from __future__ import annotations

import json
import signal
import time
from types import FrameType
from typing import Any

__all__ = ["BEAT_S", "Leave", "leave_in_order", "say"]

BEAT_S = 0.1


class Leave(BaseException):
    """SIGTERM has come: give the lock up in order."""


def say(event: str, **more: Any) -> None:
    print(json.dumps({"event": event, "at": time.monotonic(), **more}), flush=True)


def leave_in_order() -> None:
    """Raise `Leave` in the main thread at the first SIGTERM."""

    def leave(_: int, __: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Leave

    signal.signal(signal.SIGTERM, leave)
