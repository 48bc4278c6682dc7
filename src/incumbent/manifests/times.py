"""How the seconds in a Pod follow from the TTL of its lease and from how long the work needs.

Theory
------
The kubelet kills a Pod `terminationGracePeriodSeconds` after it has asked it to stop. Killed before
the lease is given up, a standby waits a whole TTL for what a release gives it in milliseconds. So
the Pod's time holds the whole bounded stop, two attempts at the write that releases, and 5 s in
which kubelet and runtime may be slow:

    elected        terminationGracePeriodSeconds = ceil(grace + kill + 2·attempt) + 5
    not elected    terminationGracePeriodSeconds = ceil(grace) + 5     (grace: 25 s if unsaid)

`grace`, `kill` and `attempt` are those of `core.timing`. Where only a part of the process is
elected, other work ends at the same time: at least 30 s there.

`tolerationSeconds` is how long a Pod stays bound to a node that is unreachable or not ready. It is
counted after the node was found to be so, 50 s by default.

    elected        max(30, 2·TTL)    a standby has taken over after one TTL. What moves later is
                                     only the next standby: a node that comes back may keep it
    at least one   30                the successor begins then, and its outage ends. Nearer to 0
                                     every short cut makes a second one
    at most one    300               no successor begins, however short it is: all that it does is
                                     to end the Pod once the node is back. A cut that is shorter
                                     leaves the work alone
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from incumbent.core.timing import Timing
from incumbent.errors import ConfigError

__all__ = ["NODE_GRACE_S", "Times", "of_elected", "of_single"]

NODE_GRACE_S = 50
"""How long a node is silent until it counts as unreachable, if the cluster does not say less."""
SLACK_S = 5
USUAL_GRACE_S = 25.0
LEAST_PARTLY_S = 30
LONGEST_GRACE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Times:
    """The seconds of one Pod.

    Attributes:
        ttl_s: of the lease; 0 where nothing is elected.
        trusted_s: how long a term is trusted after its last confirmed renewal; 0 likewise.
        grace_s: from asking the work to stop to killing it.
        stop_s: the whole stop of the work.
        termination_s: `terminationGracePeriodSeconds`.
        toleration_s: `tolerationSeconds`.
    """

    ttl_s: float
    trusted_s: float
    grace_s: float
    stop_s: float
    termination_s: int
    toleration_s: int

    @property
    def moved_s(self) -> int:
        """After how long silence a Pod is to be replaced."""
        return NODE_GRACE_S + self.toleration_s


def of_single(grace_s: float | None, toleration_s: int | None, *, strict: bool) -> Times:
    """Return the times of an only replica; `strict`: at most one.

    Raises:
        ConfigError: the grace is none.
    """
    grace_s = USUAL_GRACE_S if grace_s is None else grace_s
    if not 0 < grace_s <= LONGEST_GRACE_S:
        raise ConfigError(
            f"grace_s: {grace_s:g} must be more than 0 and at most {LONGEST_GRACE_S:g}: with 0 a "
            "Pod is removed from the records before its process has ended"
        )
    if toleration_s is None:
        toleration_s = 300 if strict else 30
    return Times(0, 0, grace_s, grace_s, math.ceil(grace_s) + SLACK_S, toleration_s)


def of_elected(
    ttl_s: float,
    grace_s: float | None,
    toleration_s: int | None,
    *,
    whole_seconds: bool,
    partly: bool,
) -> Times:
    """Return the times of a replica of which all, or a part, is elected.

    Raises:
        ImpossibleTiming: TTL and grace do not work out.
    """
    if grace_s is None:
        usual_s = Timing.plan(ttl_s, whole_seconds=whole_seconds).grace_s
        grace_s = math.floor(usual_s * 10) / 10 or usual_s
    timing = Timing.plan(ttl_s, grace_s=grace_s, whole_seconds=whole_seconds)
    needed_s = math.ceil(timing.stop_s + 2 * timing.attempt_s) + SLACK_S
    return Times(
        ttl_s=timing.ttl_s,
        trusted_s=timing.validity_s,
        grace_s=timing.grace_s,
        stop_s=timing.stop_s,
        termination_s=max(LEAST_PARTLY_S, needed_s) if partly else needed_s,
        toleration_s=max(30, math.ceil(2 * ttl_s)) if toleration_s is None else toleration_s,
    )
