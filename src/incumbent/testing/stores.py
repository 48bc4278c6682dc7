"""A store for each test, in memory: fast, and with nobody in it but the test's own candidates."""

from __future__ import annotations

import itertools

from incumbent.stores.memory import MemoryStore

__all__ = ["memory_store"]

_NUMBERS = itertools.count(1)


def memory_store(beside: MemoryStore | None = None) -> MemoryStore:
    """Return a new store in this process's memory, for `Election(store=...)`.

    Candidates of one store object are candidates of one process: a second one for the same
    election queues behind the first. To see what another *process* would do, give the other
    candidate a store that is `beside` the first: the elections are the same, and it is a standby.

    Args:
        beside: a store whose elections are shared; None for elections of its own.
    """
    shelf = beside.shelf if beside is not None else None
    return MemoryStore(shelf, f"incumbent-testing-{next(_NUMBERS)}")
