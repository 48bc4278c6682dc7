"""A clock that stands still until a test moves it, for the terms of `incumbent.testing`."""

from __future__ import annotations

from incumbent.runtime.term import Term

__all__ = ["ManualClock"]


class ManualClock:
    """Seconds on a clock that moves only when it is told to.

    Args:
        now_s: where it starts. Only differences have a meaning.
    """

    def __init__(self, now_s: float = 1_000.0) -> None:
        self._now_s = now_s

    def __call__(self) -> float:
        """Return the time, as `incumbent.clock.boottime` does."""
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Move on by `seconds`.

        Raises:
            ValueError: they are negative; the clock that trust is counted on never steps back.
        """
        if not seconds >= 0:
            raise ValueError(f"a clock cannot go back: {seconds!r}")
        self._now_s += seconds

    def expire(self, term: Term) -> None:
        """Move on to the instant at which `term`, which reads this clock, is trusted no more.

        Nobody tells the work: so it goes for a holder that was paused and wakes up late.
        """
        self.advance(max(0.0, term.valid_until - self._now_s))
