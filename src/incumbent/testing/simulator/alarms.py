"""The twin of the kernel's timer behind `runtime.alarms`: it goes on in a suspended host.

It knows CLOCK_BOOTTIME and hands in its callbacks from outside, so a process that is paused or
suspended finds them when it goes on, behind the answers that came before them.
"""

from __future__ import annotations

from collections.abc import Callable

from incumbent.testing.simulator.loop import SimLoop
from incumbent.testing.simulator.world import HostClock, World

__all__ = ["SimAlarms"]

_LATENCY_S = 1e-6
"""How late an alarm is at least; it must be more than the rounding errors of a clock."""


class _Entry:
    __slots__ = ("callback", "instant")

    def __init__(self, instant: float, callback: Callable[[], object]) -> None:
        self.instant = instant
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None

    def call(self) -> None:
        callback, self.callback = self.callback, None
        if callback is not None:
            callback()


class SimAlarms:
    """Calls at instants of a host's CLOCK_BOOTTIME, on the loop of one process."""

    def __init__(self, world: World, clock: HostClock, loop: SimLoop) -> None:
        self._world = world
        self._clock = clock
        self._loop = loop
        self._waiting: set[_Entry] = set()

    def call_at(self, instant: float, callback: Callable[[], object]) -> _Entry:
        """Call at `instant`."""
        entry = _Entry(instant, callback)
        self._waiting.add(entry)
        self._plan(entry)
        return entry

    def replan(self) -> None:
        """Take note that the clock's rate has changed."""
        for entry in sorted(self._waiting, key=lambda entry: entry.instant):
            self._plan(entry)

    def _plan(self, entry: _Entry) -> None:
        instant = self._clock.true_of_boot(entry.instant)
        self._world.at(instant + _LATENCY_S, self._due, entry)

    def _due(self, entry: _Entry) -> None:
        if entry not in self._waiting:
            return
        if entry.callback is None:
            self._waiting.discard(entry)
        elif self._clock.boot() >= entry.instant:
            self._waiting.discard(entry)
            self._loop.deliver(entry.call)
