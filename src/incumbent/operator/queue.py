"""Which Singletons are to be looked after, and when: each once at a time, and not in a hurry.

A Singleton that is woken while it is being looked after comes again afterwards. One that failed
comes again later, each time twice as late. Times are those of the event loop.
"""

from __future__ import annotations

import asyncio

__all__ = ["Name", "Queue"]

Name = tuple[str, str]
"""The namespace and the name of a Singleton."""

SETTLING_S = 0.05
"""How long a wake-up waits for others of the same Singleton, which come in swarms."""
_FIRST_S = 0.5
_LONGEST_S = 60.0


class Queue:
    """The Singletons that are due."""

    def __init__(self) -> None:
        self._due: dict[Name, float] = {}
        self._busy: set[Name] = set()
        self._failures: dict[Name, int] = {}
        self._changed = asyncio.Event()

    def wake(self, name: Name, after_s: float = SETTLING_S) -> None:
        """Have it looked after, at the latest after so many seconds."""
        at = asyncio.get_running_loop().time() + after_s
        self._due[name] = min(at, self._due.get(name, at))
        self._changed.set()

    def due_at(self, name: Name) -> float:
        """Return when it is due, in the event loop's time."""
        return self._due[name]

    async def take(self) -> Name:
        """Return the next one, when it is due."""
        loop = asyncio.get_running_loop()
        while True:
            self._changed.clear()
            due = {name: at for name, at in self._due.items() if name not in self._busy}
            if due:
                name = min(due, key=due.__getitem__)
                left_s = due[name] - loop.time()
                if left_s <= 0:
                    del self._due[name]
                    self._busy.add(name)
                    return name
            else:
                left_s = None
            try:
                async with asyncio.timeout(left_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def done(self, name: Name, *, failed: bool) -> None:
        """Say that it was looked after; one that failed is due again by itself."""
        self._busy.discard(name)
        self._changed.set()
        if not failed:
            self._failures.pop(name, None)
            return
        failures = self._failures[name] = self._failures.get(name, 0) + 1
        self.wake(name, min(_LONGEST_S, _FIRST_S * 2 ** min(failures - 1, 10)))
