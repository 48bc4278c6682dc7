"""How long a poller waits: not at all while there is something, and longer while there is not."""

from __future__ import annotations

import random
from collections.abc import Callable

from incumbent.errors import ConfigError
from incumbent.workloads.schedule import seconds_of

__all__ = ["Pace"]

LEAST_S = 0.01


class Pace:
    """The settings of waiting.

    The wait begins with `every`, and doubles up to `max_every` with each poll that finds nothing or
    fails. It is shortened by up to the share `jitter`, so that pollers that began together do not
    ask together for ever.
    """

    def __init__(
        self, every: str | float, max_every: str | float | None = None, jitter: float = 0.1
    ) -> None:
        self.every_s = seconds_of(every)
        self.max_every_s = self.every_s if max_every is None else seconds_of(max_every)
        self.jitter = jitter
        if self.every_s < LEAST_S:
            raise ConfigError(f"every={every!r} is too often: use {LEAST_S} s or more")
        if self.max_every_s < self.every_s:
            raise ConfigError(f"max_every={max_every!r} is less than every={every!r}")
        if not 0 <= jitter <= 1:
            raise ConfigError(f"jitter={jitter!r} must be a share of the wait, from 0 to 1")

    def wait_s(self, idle: int, chance: Callable[[], float] = random.random) -> float:
        """Return the wait after so many polls in a row that found nothing; none after none."""
        if idle == 0:
            return 0.0
        wait_s = min(self.every_s * 2.0 ** min(idle - 1, 60), self.max_every_s)
        return wait_s * (1 - self.jitter * chance())
