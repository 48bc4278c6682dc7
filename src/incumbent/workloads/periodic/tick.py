"""What a user's function is given: which tick it runs for, and whether it may still act."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from incumbent.clock import boottime
from incumbent.runtime.term import Term

if TYPE_CHECKING:
    from incumbent.fencing import Fence

__all__ = ["RunFailed", "RunTimedOut", "Tick"]

_LONGEST_RESOURCE = 200


class RunFailed(Exception):
    """A run has failed, and the text says all that there is to say: it is logged in one line."""


class RunTimedOut(RunFailed, TimeoutError):
    """It was ended because it had had its time."""


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

    def record(self, connection: Any) -> bool:
        """Seal the database with this term's token, and note this tick: True the first time.

        All of it is part of the transaction that `connection` is in, as your own writes are. So the
        effect of a tick is there once, also if its run was interrupted after the commit and is
        begun again: with False it is there already, do nothing. The tables are those of
        `incumbent.fencing.progress.tables`.

        Raises:
            StaleToken: a later term was here; nothing was written.
            LeadershipLost: the term is over.
            ConfigError: `connection` is of a kind that is not known, or commits by itself.
        """
        return self._fence().once(connection, self.id)

    async def record_async(self, connection: Any) -> bool:
        """Do the same on a connection of asyncio.

        Raises:
            StaleToken, LeadershipLost, ConfigError: see `record`.
        """
        return await self._fence().once_async(connection, self.id)

    def _fence(self) -> Fence:
        resource = f"{self.term.name}/{self.job}"
        if len(resource) > _LONGEST_RESOURCE:
            resource = sha256(resource.encode()).hexdigest()
        return self.term.fence(resource)

    def remaining_s(self) -> float | None:
        """Return the time that the run has left by its `timeout_s`; None if it has no limit."""
        return None if self._until is None else max(0.0, self._until - self._clock())

    def __repr__(self) -> str:
        """Return what identifies the run."""
        return f"<Tick {self.job} {self.id} attempt={self.attempt} token={self.term.token}>"
