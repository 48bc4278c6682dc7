"""True time, and the clocks of hosts that differ from it.

Theory
------
A `World` has one time line. Everything that happens is an entry in one queue, in the order of true
time; entries of the same instant keep the order in which they were made. All that is random comes
from one generator, so a history is decided by its seed.

No candidate can read true time. It has a `HostClock`, whose rate is off by up to rho and whose
readings have nothing to do with those of other hosts:

    boot   CLOCK_BOOTTIME: goes on while the host is suspended; trust is counted on it
    mono   CLOCK_MONOTONIC: stands still meanwhile; the event loop's timers are on it
    wall   steps about; no decision may depend on it
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from typing import Any

__all__ = ["HostClock", "World"]


class World:
    """What has been, what is to come, and chance."""

    __slots__ = ("_count", "_queue", "_transcript", "now", "rng", "steps")

    def __init__(self, seed: int, *, transcript: bool = False) -> None:
        self.now = 0.0
        self.rng = random.Random(seed)
        self.steps = 0
        self._count = 0
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._transcript: list[str] | None = [] if transcript else None

    def at(self, instant: float, call: Callable[..., None], *args: Any) -> None:
        """Call back at an instant of true time, or now if it has passed."""
        self._count += 1
        heapq.heappush(self._queue, (max(instant, self.now), self._count, call, args))

    def after(self, delay_s: float, call: Callable[..., None], *args: Any) -> None:
        """Call back after some true time."""
        self.at(self.now + delay_s, call, *args)

    def step(self) -> bool:
        """Do the next thing; False if there is none."""
        if not self._queue:
            return False
        self.now, _, call, args = heapq.heappop(self._queue)
        self.steps += 1
        call(*args)
        return True

    @property
    def transcript(self) -> tuple[str, ...]:
        """What was written down, if anybody asked for it."""
        return tuple(self._transcript or ())

    @property
    def writing(self) -> bool:
        """Whether a transcript is kept; spares the work of composing its lines."""
        return self._transcript is not None

    def write(self, who: str, text: str) -> None:
        """Add a line to the transcript."""
        if self._transcript is not None:
            self._transcript.append(f"{self.now:10.4f}  {who:<14} {text}")


class HostClock:
    """The clocks of one host; they outlive its processes."""

    __slots__ = ("_boot", "_mono", "_since", "_wall_ahead_s", "_world", "rate", "suspended")

    def __init__(self, world: World, rate: float, boot: float) -> None:
        self._world = world
        self._since = world.now
        self._boot = boot
        self._mono = boot / 2
        self._wall_ahead_s = 1.7e9
        self.rate = rate
        self.suspended = False

    def boot(self) -> float:
        """Read CLOCK_BOOTTIME."""
        return self._boot + (self._world.now - self._since) * self.rate

    def mono(self) -> float:
        """Read CLOCK_MONOTONIC."""
        if self.suspended:
            return self._mono
        return self._mono + (self._world.now - self._since) * self.rate

    def wall(self) -> float:
        """Read the wall clock."""
        return self.boot() + self._wall_ahead_s

    def true_of_boot(self, instant: float) -> float:
        """Return the true time at which `boot` will read `instant`, as things are."""
        return self._since + (instant - self._boot) / self.rate

    def true_of_mono(self, instant: float) -> float:
        """Return the true time at which `mono` will read `instant`, as things are."""
        if self.suspended:
            return math.inf
        return self._since + (instant - self._mono) / self.rate

    def set_rate(self, rate: float) -> None:
        """Go on at another rate, as when a time daemon begins to slew."""
        self._rebase()
        self.rate = rate

    def suspend(self) -> None:
        """Stop `mono`."""
        self._rebase()
        self.suspended = True

    def resume(self) -> None:
        """Let `mono` go on."""
        self._rebase()
        self.suspended = False

    def step_wall(self, by_s: float) -> None:
        """Set the wall clock."""
        self._wall_ahead_s += by_s

    def _rebase(self) -> None:
        self._boot, self._mono = self.boot(), self.mono()
        self._since = self._world.now
