"""What goes into an elector, and what comes out.

Events are things that happened; each that answers a request names the attempt it answers, so that
a late reply is recognised. Effects are things to do; the driver carries each out and reports back
with an event. Neither holds anything but values.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from incumbent.core.records import Held, Snapshot

__all__ = [
    "BeginTerm",
    "Close",
    "Closed",
    "Effect",
    "EndKeepalive",
    "Event",
    "Evidence",
    "Follow",
    "GiveBack",
    "LeaseExpiring",
    "LeaseFailing",
    "LeaseRevoked",
    "Look",
    "LookFailed",
    "Note",
    "ReadBack",
    "ReadBackDone",
    "ReadBackFailed",
    "Release",
    "ReleaseDone",
    "ReleaseFailed",
    "Seen",
    "Start",
    "StepDown",
    "StopWork",
    "Stuck",
    "Take",
    "TakeDone",
    "TakeFailed",
    "TakeNotSent",
    "TakeRefused",
    "TakeUnknown",
    "Tick",
    "Unfollow",
    "VoidTerm",
    "Waiting",
    "Why",
    "WorkEnded",
]


class Why(Enum):
    """Why a term ends."""

    STEP_DOWN = "step-down"
    """Somebody asked for it: this process, or a request in the record."""
    CLOSED = "closed"
    """The candidate withdraws."""
    FINISHED = "finished"
    """The work ended by itself."""
    EXPIRED = "expired"
    """Its time is over, in a store that cannot renew."""
    LOST = "lost"
    """No renewal was confirmed in time."""
    DEPOSED = "deposed"
    """The store says that the term is over."""

    @property
    def planned(self) -> bool:
        """Tell whether the lease is still ours, so that it may be released after the work."""
        return self in (Why.STEP_DOWN, Why.CLOSED, Why.FINISHED, Why.EXPIRED)


# -- events ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """Become a candidate."""


@dataclass(frozen=True, slots=True)
class Tick:
    """The time asked for by `wake_at` has come. Harmless at any other time."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The store reported the record.

    `fresh` is the answer of a read; a watch may be late, and older than what is known already.
    """

    snapshot: Snapshot
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class LookFailed:
    """The read asked for by `Look` was not answered."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The store has proof that everything that worked under this lease is dead."""

    lease_key: str
    why: str


@dataclass(frozen=True, slots=True)
class TakeDone:
    """The take of this attempt was confirmed; it is trusted until `valid_until`."""

    attempt: int
    held: Held
    valid_until: float


@dataclass(frozen=True, slots=True)
class TakeRefused:
    """The record was at another version. Nothing was changed."""

    attempt: int
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class TakeFailed:
    """The take certainly did not happen."""

    attempt: int
    cause: str


@dataclass(frozen=True, slots=True)
class TakeNotSent:
    """The take waited until what it was decided on was old (`Elector.take_stands`). Decide anew."""

    attempt: int


@dataclass(frozen=True, slots=True)
class TakeUnknown:
    """The take may have happened, or may yet happen."""

    attempt: int
    cause: str


@dataclass(frozen=True, slots=True)
class ReadBackDone:
    """The record after a take of unknown outcome.

    `held` is set if the record carries the nonce of that attempt: it did happen.
    """

    attempt: int
    snapshot: Snapshot
    held: Held | None
    valid_until: float


@dataclass(frozen=True, slots=True)
class ReadBackFailed:
    """Still unknown."""

    attempt: int
    cause: str


@dataclass(frozen=True, slots=True)
class LeaseExpiring:
    """The lease cannot be renewed, and only the time of the stop is left of it."""

    cause: str


@dataclass(frozen=True, slots=True)
class LeaseFailing:
    """The lease was not renewed in time; the stop must begin."""

    cause: str


@dataclass(frozen=True, slots=True)
class LeaseRevoked:
    """The store refused a renewal: the lease is not ours any more."""

    cause: str


@dataclass(frozen=True, slots=True)
class StepDown:
    """Hand over to `to`, or to anybody."""

    to: str = ""
    cause: str = "asked to"


@dataclass(frozen=True, slots=True)
class WorkEnded:
    """The work of the term has ended, confirmed: nothing of it runs any more.

    `valid_until` is how long the term is trusted: a release is sent before, or not at all.
    """

    valid_until: float


@dataclass(frozen=True, slots=True)
class ReleaseDone:
    """The release was confirmed, or the record was not ours any more."""

    attempt: int
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class ReleaseFailed:
    """The release did not happen, or nobody knows."""

    attempt: int
    cause: str


@dataclass(frozen=True, slots=True)
class Close:
    """Withdraw: stop the work, release, and be no candidate any more."""


Event = (
    Start
    | Tick
    | Seen
    | LookFailed
    | Evidence
    | TakeDone
    | TakeRefused
    | TakeFailed
    | TakeNotSent
    | TakeUnknown
    | ReadBackDone
    | ReadBackFailed
    | LeaseExpiring
    | LeaseFailing
    | LeaseRevoked
    | StepDown
    | WorkEnded
    | ReleaseDone
    | ReleaseFailed
    | Close
)


# -- effects --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Follow:
    """Be notified of the record's changes, and of its state now."""


@dataclass(frozen=True, slots=True)
class Unfollow:
    """Be notified no more."""


@dataclass(frozen=True, slots=True)
class Look:
    """Read the record once."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Not elected now; nothing will be tried before `until` unless the record changes."""

    snapshot: Snapshot
    until: float


@dataclass(frozen=True, slots=True)
class Take:
    """Compare and swap: take the record, if it is still exactly `over`."""

    attempt: int
    term: str
    over: Snapshot


@dataclass(frozen=True, slots=True)
class ReadBack:
    """Find out whether the take of `attempt` happened: does the record carry `term`?"""

    attempt: int
    term: str


@dataclass(frozen=True, slots=True)
class BeginTerm:
    """Elected. Begin to renew, then start the work."""

    held: Held


@dataclass(frozen=True, slots=True)
class VoidTerm:
    """The term is over now: whoever asks must be told so before anything else happens."""

    cause: str


@dataclass(frozen=True, slots=True)
class StopWork:
    """Ask the work to stop; it must have ended by `deadline`."""

    why: Why
    cause: str
    deadline: float


@dataclass(frozen=True, slots=True)
class Stuck:
    """The work did not end in time. Its lease is neither renewed any more nor ever released."""

    cause: str


@dataclass(frozen=True, slots=True)
class EndKeepalive:
    """Renew this term no more. No renewal may be in flight when a later effect is carried out."""


@dataclass(frozen=True, slots=True)
class Release:
    """Give up this exact term, for the benefit of `successor` or of anybody."""

    attempt: int
    term: str
    successor: str


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Go on trying to give up this exact term, whose candidate goes: nothing works under it.

    It may not even have begun. Where each election has a lease of its own, that just expires.
    """

    term: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something that people should know; `code` is a stable word for programs."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Closed:
    """No candidate any more."""


Effect = (
    Follow
    | Unfollow
    | Look
    | Waiting
    | Take
    | ReadBack
    | BeginTerm
    | VoidTerm
    | StopWork
    | Stuck
    | EndKeepalive
    | Release
    | GiveBack
    | Note
    | Closed
)
