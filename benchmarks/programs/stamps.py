"""How a program says what happened to it: one JSON line, stamped with CLOCK_BOOTTIME."""

from __future__ import annotations

import json
import os
import time
from typing import Any

__all__ = ["now_ns", "tell"]


def now_ns() -> int:
    """Return the boot-time clock, which all processes of a host share."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def tell(event: str, at_ns: int | None = None, **more: Any) -> None:
    """Write an event in one system call, so that lines of several threads do not mix."""
    stamp = now_ns() if at_ns is None else at_ns
    line = json.dumps({"event": event, "boottime_ns": stamp, **more}) + "\n"
    os.write(1, line.encode())
