"""What the user's own code does to its process while it leads.

`none` waits. `blocked` is in a call that lets the interpreter's lock go (a slow disk, a database).
`busy` computes in Python. `gil` computes in C and holds the lock for some 50 ms at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["LOADS", "piece"]

LOADS = ("none", "blocked", "busy", "gil")
_PIECE_S = 0.5
_HELD_S = 0.05


def piece(load: str) -> Callable[[], None]:
    """Return a function that is such code for about half a second."""
    if load == "gil":
        count = _summands()
        return lambda: _hold_lock(count)
    return {"none": _blocked, "blocked": _blocked, "busy": _busy}[load]


def _blocked() -> None:
    time.sleep(_PIECE_S)


def _busy() -> None:
    end_s = time.monotonic() + _PIECE_S
    number = 0
    while time.monotonic() < end_s:
        number = (number * 31 + 7) % 1_000_003


def _summands() -> int:
    """Return how long a `range` can be summed up in one call without letting the lock go."""
    count = 100_000
    started_s = time.perf_counter()
    sum(range(count))
    return max(1, int(count * _HELD_S / (time.perf_counter() - started_s)))


def _hold_lock(count: int) -> None:
    end_s = time.monotonic() + _PIECE_S
    while time.monotonic() < end_s:
        sum(range(count))
