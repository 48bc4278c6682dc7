"""The only clock that trust is counted on: CLOCK_BOOTTIME.

CLOCK_MONOTONIC stands still while a machine is suspended, so a laptop or a migrated guest that
wakes up would go on trusting a term that others have long taken over. CLOCK_BOOTTIME goes on
counting. No wall clock takes part in any decision: a step of one changes nothing.

Both are slewed by a time daemon, which is why `core.timing` asks for the greatest rate error.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Clock", "boottime"]

Clock = Callable[[], float]
"""Returns seconds on a clock that never steps. Only differences have a meaning."""

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", None)

if _BOOTTIME is None:
    # Elsewhere than on Linux the library imports and its tests run; what needs the kernel refuses.
    boottime: Clock = time.monotonic
else:

    def boottime(_read: Callable[[int], float] = time.clock_gettime, _id: int = _BOOTTIME) -> float:
        """Return seconds since boot, suspended time included."""
        return _read(_id)
