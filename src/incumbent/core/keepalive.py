"""One lease's renewals: when to try, how long an attempt may last, when to give up.

The machine is told of every confirmed write to the lease and answers with the next thing to do.
Rules:

1. One attempt in flight. Its answer counts only if it names that attempt: a reply that arrives
   after its time limit belongs to nobody.
2. An attempt may last `attempt_s`, and never past the instant at which the stop must begin.
3. A failed or unknown attempt is no loss. It is tried again after `retry_every_s` for as long as
   there is patience.
4. At `send of the last confirmed + patience` the lease is `Failing`: the work must begin to stop.
   From then on nothing is renewed any more; see promise 5, a release is never sent on this path,
   and a renewal that races with the stop would make the lease outlive its work.
5. A lease under which nothing is held is not renewed (`rest`); whoever wants to use it again looks
   first whether it is still trusted for long enough (`usable`).
6. A refusal is the store's own word that the lease is somebody else's or gone: `Revoked`, at once.
7. In a store that cannot renew, nothing is ever sent. At the instant of rule 4 the lease is
   `Expiring` instead: the stop begins just as early, but by plan. No request is under way that
   could make the lease outlive its work, so it may be released as after a step-down.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from incumbent.core.fence import Trust
from incumbent.core.timing import Timing

__all__ = ["Expiring", "Failing", "Keepalive", "KeepaliveEffect", "Pulse", "Renew", "Revoked"]


class Pulse(Enum):
    """The states of a keepalive."""

    RESTING = "resting"
    RENEWING = "renewing"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Renew:
    """Send a renewal now; give up on it after `timeout_s`."""

    attempt: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Failing:
    """No renewal was confirmed for as long as can be afforded. Stop the work."""

    cause: str


@dataclass(frozen=True, slots=True)
class Expiring:
    """The lease cannot be renewed, and just enough of it is left to stop the work."""

    cause: str


@dataclass(frozen=True, slots=True)
class Revoked:
    """The store says that the lease is not ours. The trust is void already."""

    cause: str


KeepaliveEffect = Renew | Failing | Expiring | Revoked

_AS_LONG = "this store renews nothing, and the stop needs the rest of the term"


class Keepalive:
    """The renewals of one lease, whose first confirmed write was sent at `sent_at`.

    The first of them comes after `first_share` of the period: leases that were taken together, but
    differ in this, are not renewed together for ever. In a store that cannot renew there is none.
    """

    __slots__ = (
        "_attempt",
        "_cause",
        "_due",
        "_idle",
        "_renews",
        "_sent_at",
        "_timing",
        "state",
        "trust",
    )

    def __init__(
        self,
        timing: Timing,
        trust: Trust,
        sent_at: float,
        first_share: float = 1.0,
        *,
        renews: bool = True,
    ) -> None:
        self._timing = timing
        self._renews = renews
        self._attempt = 0
        self._sent_at = sent_at
        self._cause = "no renewal was answered"
        self._idle = False
        self.trust = trust
        self.state = Pulse.RESTING
        trust.confirm(sent_at, timing.validity_s)
        self._due = sent_at + timing.renew_every_s * first_share if renews else math.inf

    @property
    def stop_at(self) -> float:
        """When the work must begin to stop unless a renewal is confirmed before."""
        return self.trust.valid_until - self._timing.stop_s

    @property
    def wake_at(self) -> float:
        """When `tick` wants to be called next; infinity if never."""
        match self.state:
            case _ if self._idle:
                return math.inf
            case Pulse.RESTING:
                return min(self._due, self.stop_at)
            case Pulse.RENEWING:
                return self.stop_at
            case Pulse.ENDED:
                return math.inf

    def tick(self, now: float) -> KeepaliveEffect | None:
        """Do what is due at `now`."""
        if self.state is Pulse.ENDED or self._idle:
            return None
        if now >= self.stop_at:
            self.state = Pulse.ENDED
            return Failing(self._cause) if self._renews else Expiring(_AS_LONG)
        if self.state is Pulse.RESTING and now >= self._due:
            self._attempt += 1
            self._sent_at = now
            self.state = Pulse.RENEWING
            return Renew(self._attempt, min(self._timing.attempt_s, self.stop_at - now))
        return None

    def rest(self) -> None:
        """Renew no more for now: nothing is held under this lease."""
        self._idle = True

    def resume(self) -> None:
        """Renew again: something is held under this lease, which was found `usable`."""
        self._idle = False

    def usable(self, now: float) -> bool:
        """Tell whether a term can begin under this lease: one attempt fits before the stop."""
        return self.state is not Pulse.ENDED and now + self._timing.attempt_s < self.stop_at

    def confirmed(self, attempt: int) -> None:
        """Count the answer of `attempt`, if it is the one in flight."""
        if self._in_flight(attempt):
            self.trust.confirm(self._sent_at, self._timing.validity_s)
            self.state = Pulse.RESTING
            self._due = self._sent_at + self._timing.renew_every_s

    def failed(self, attempt: int, now: float, cause: str) -> None:
        """Note that `attempt` failed, or that nobody knows; try again soon."""
        if self._in_flight(attempt):
            self._cause = cause
            self.state = Pulse.RESTING
            self._due = now + self._timing.retry_every_s

    def refused(self, attempt: int, cause: str) -> Revoked | None:
        """Note the store's word that the lease is not ours."""
        if not self._in_flight(attempt):
            return None
        return self.revoke(cause)

    def revoke(self, cause: str) -> Revoked | None:
        """End at once: the lease was seen in other hands, or is about to be given up.

        The trust is void also where the renewals have ended before: a term might still begin on it.
        """
        self.trust.void()
        if self.state is Pulse.ENDED:
            return None
        self.state = Pulse.ENDED
        return Revoked(cause)

    def end(self) -> None:
        """Renew no more; what is trusted already stays trusted until its time is over."""
        self.state = Pulse.ENDED

    def _in_flight(self, attempt: int) -> bool:
        return self.state is Pulse.RENEWING and attempt == self._attempt
