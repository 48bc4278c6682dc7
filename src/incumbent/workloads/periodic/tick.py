"""What a user's function is given: which tick it runs for, and whether it may still act."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from incumbent.clock import boottime
from incumbent.runtime.term import Term

__all__ = ["Tick"]


class Tick:
    """One run of a periodic task.

    Attributes:
        id: the same for every attempt and on every host: the tick's instant in UTC, as in
            "2026-03-29T01:00:00Z"; of a run that was ordered, "now-" and the order's own id.
        due: when it was due, in the schedule's time zone.
        attempt: 1 for the first; a retry, or a rerun after an interruption, has a greater one.
        job: the task's name.
        manual: whether an operator ordered it.
        term: under which it runs.
    """

    __slots__ = ("_clock", "_until", "attempt", "due", "id", "job", "manual", "term")

    def __init__(
        self,
        *,
        id: str,
        due: datetime,
        attempt: int,
        job: str,
        manual: bool,
        term: Term,
        timeout_s: float | None,
        clock: Callable[[], float] = boottime,
    ) -> None:
        self.id = id
        self.due = due
        self.attempt = attempt
        self.job = job
        self.manual = manual
        self.term = term
        self._clock = clock
        self._until = None if timeout_s is None else clock() + timeout_s

    @property
    def token(self) -> int:
        """The fencing token of the term."""
        if self.term.token is None:
            raise AssertionError("periodic work is refused without tokens")
        return self.term.token

    @property
    def lost(self) -> Any:
        """Set as soon as the term is to end: see `Term.lost`."""
        return self.term.lost

    def check(self) -> None:
        """Return if this run may still act now.

        Raises:
            LeadershipLost: the term is over, or is to end: return, or let this end the run.
            TimeoutError: the run has had its time. A thread cannot be stopped from outside, so
                there it is by this that it ends.
        """
        self.term.check()
        if self._until is not None and self._clock() >= self._until:
            raise TimeoutError(f"the run of {self.job!r} for {self.id} has had its time")

    def remaining_s(self) -> float | None:
        """Return the time that the run has left by its `timeout_s`; None if it has no limit."""
        return None if self._until is None else max(0.0, self._until - self._clock())

    def __repr__(self) -> str:
        """Return what identifies the run."""
        return f"<Tick {self.job} {self.id} attempt={self.attempt} token={self.term.token}>"
