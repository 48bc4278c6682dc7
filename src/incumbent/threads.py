"""The threads on which the keeping of leases depends, and how to know that one is on such a thread.

Users' code runs there too, though nobody meant it to: an observer is called on the keeper's thread,
and the garbage collector closes a generator in whatever thread it happens to run. Nothing there may
wait for the keeper, which would wait for itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["KeepersThread", "on_keepers_thread"]


class KeepersThread(threading.Thread):
    """A daemon thread that the keeper is, or that it waits for."""

    def __init__(self, target: Callable[[], None], name: str) -> None:
        super().__init__(target=target, name=name, daemon=True)


def on_keepers_thread() -> bool:
    """Tell whether the caller must not wait for the keeper."""
    return isinstance(threading.current_thread(), KeepersThread)
