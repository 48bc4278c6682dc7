"""What one candidate has seen of the record, and how long that must stand still before a take.

Rules
-----
1. **What stands still counts from the moment we saw it**, for the record's own TTL: for that long
   its holder may trust it. Whatever else is seen begins anew.
2. **What we did not see, we wait out.** A record that vanished may have a live holder behind it,
   and so may one that went back in time (`serial` or `token` lower than seen before). Both are
   vacant only after a whole TTL: ours, the one seen before, or its own, whichever is longest.
3. **Our own record, found while we are not leading, is a leftover** (a take whose reply was lost,
   a term that we lost). Its work has ended, or never began: it may be taken over at once, with a
   new nonce, hence a new token. A record with our *name* but a nonce that is not ours belongs to
   somebody else with our identity: it is waited out, and reported.
4. **A vacancy may be meant for another.** It is left to whom the last holder named, or to anybody
   else if we are the one who was asked to step down: for `RESERVE_S`, or until somebody followed.

Warning: what is remembered here (the highest serial and token) outlives the terms of the candidate;
what is being watched does not.
"""

from __future__ import annotations

import math

from incumbent.core.records import Held, Holding, Snapshot, same_candidate

__all__ = ["RESERVE_S", "Remark", "Watch"]

RESERVE_S = 3.0
"""How long a vacancy that is meant for somebody else is left to them; at most one TTL."""

Remark = tuple[str, str]
"""A code and a text: what people should know of a record."""


class Watch:
    """What is being watched, and when it may be taken.

    Args:
        identity: the candidate.
        ttl_s: the TTL that it takes for.
        absent_is_vacant: see `Elector`.
    """

    __slots__ = (
        "_absent_is_vacant",
        "_doubtful",
        "_high_serial",
        "_high_token",
        "_identity",
        "_ttl_s",
        "_yield_until",
        "seen",
        "take_at",
    )

    def __init__(self, identity: str, ttl_s: float, *, absent_is_vacant: bool) -> None:
        self._identity = identity
        self._ttl_s = ttl_s
        self._absent_is_vacant = absent_is_vacant
        self._high_serial = 0
        self._high_token = 0
        self._yield_until = -math.inf
        self._doubtful = False
        self.seen: Snapshot | None = None
        self.take_at = math.inf

    def is_old(self, snapshot: Snapshot) -> bool:
        """Tell whether it is older than what was seen last, or comes from a store that forgot."""
        return snapshot.serial < self._high_serial

    def is_same(self, snapshot: Snapshot) -> bool:
        """Tell whether it is what is being watched already."""
        seen = self.seen
        if seen is None:
            return False
        return seen.holding is snapshot.holding and seen.watched == snapshot.watched

    def begin(self, snapshot: Snapshot, now: float, *, own: bool) -> Remark | None:
        """Start to count for `snapshot`, which carries a nonce of our `own` or not."""
        went_back = self.is_old(snapshot) or (
            snapshot.token is not None and snapshot.token < self._high_token
        )
        wait_s, remark = self._how_long(snapshot, now, own=own, went_back=went_back)
        self._doubtful = went_back
        self.seen = snapshot
        self.take_at = now + wait_s
        self._high_serial = snapshot.serial
        self._high_token = max(self._high_token, snapshot.token or 0)
        return remark

    def _how_long(
        self, snapshot: Snapshot, now: float, *, own: bool, went_back: bool
    ) -> tuple[float, Remark | None]:
        """Return how long `snapshot` must stand still before it may be taken over."""
        ttl_s, seen = self._ttl_s, self.seen
        longest_s = max(ttl_s, seen.ttl_s if seen else 0.0, snapshot.ttl_s)
        match snapshot.holding:
            case Holding.FOREIGN:
                return math.inf, (snapshot.state, snapshot.describe())
            case Holding.ABSENT:
                if self._absent_is_vacant and not self._high_serial and not snapshot.ttl_s:
                    return 0.0, None
                return longest_s, None
            case Holding.VACANT:
                if went_back:
                    return longest_s, _went_back(snapshot)
                if snapshot.successor:
                    meant = same_candidate(snapshot.successor, self._identity)
                    return 0.0 if meant else min(RESERVE_S, ttl_s), None
                return max(0.0, self._yield_until - now), None
            case Holding.HELD:
                if went_back:
                    return longest_s, _went_back(snapshot)
                if own:
                    return 0.0, None
                self._yield_until = -math.inf  # Somebody has followed.
                if snapshot.holder == self._identity:
                    text = f"{snapshot.describe()}, which is our identity but not our term"
                    return snapshot.ttl_s, ("duplicate-identity", text)
                return snapshot.ttl_s, None

    def believe_death(self, lease_key: str, now: float) -> bool:
        """Take at once what is held under this lease; tell whether that is what is watched.

        Not if the record went back in time: its holder may well be dead, and whoever came after it,
        of whom the record knows nothing any more, alive and trusted.
        """
        seen = self.seen
        if (
            seen is None
            or self._doubtful
            or seen.holding is not Holding.HELD
            or seen.lease_key != lease_key
            or not lease_key
        ):
            return False
        self.take_at = min(self.take_at, now)
        return True

    def leave_to_others(self, now: float) -> None:
        """Leave the vacancy that we make to everybody else first."""
        self._yield_until = now + min(RESERVE_S, self._ttl_s)

    def took(self, held: Held) -> int | None:
        """Remember a term of ours; return a token seen before that is no less than its."""
        self._high_serial = held.snapshot.serial
        if held.token is not None and held.token <= self._high_token:
            return self._high_token
        self._high_token = held.token or self._high_token
        return None

    def end(self) -> None:
        """Watch nothing, until something is seen."""
        self.seen = None
        self.take_at = math.inf


def _went_back(snapshot: Snapshot) -> Remark:
    text = f"{snapshot.describe()}, in a store that went back in time; waiting one whole TTL"
    return "rollback", text
