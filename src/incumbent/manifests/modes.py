"""The four modes, and of each who can be two, and for how long.

The first two are for applications that know nothing of an election: the platform keeps them single,
as well as it can. The others elect through a lease of this project.

    at-least-one      a Deployment of one replica: availability before consistency
    at-most-one       a StatefulSet of one replica: consistency before availability
    active-standby    several replicas, and `incumbent run` starts the process in one of them
    partly-singleton  replicas scale behind a Service, and one component in them is elected

The tables count *active* instances, and say what follows from how Kubernetes works with its default
times: 50 s until a node counts as lost, 40 s and a round of 20 s until the Pods of a deleted node
are removed. What the last two promise rests on the clocks: rates that differ by no more than rho.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from incumbent.manifests.times import Times

__all__ = ["Exposure", "Mode", "assumption", "exposures", "summary"]


class Mode(StrEnum):
    """How an application is kept single."""

    AT_LEAST_ONE = "at-least-one"
    AT_MOST_ONE = "at-most-one"
    ACTIVE_STANDBY = "active-standby"
    PARTLY_SINGLETON = "partly-singleton"

    @property
    def single(self) -> bool:
        """Tell whether there is one replica, and must never be a second."""
        return self in (Mode.AT_LEAST_ONE, Mode.AT_MOST_ONE)

    @property
    def elected(self) -> bool:
        """Tell whether a lease decides who is active."""
        return not self.single


@dataclass(frozen=True, slots=True)
class Exposure:
    """What one cause can do.

    Attributes:
        cause: what happens.
        at_once: how many can be active at one instant.
        two_for: how long they can be two, "–" if never.
        nobody_for: how long nobody may be active.
    """

    cause: str
    at_once: str
    two_for: str
    nobody_for: str


_SUMMARIES = {
    Mode.AT_LEAST_ONE: "Somebody is active soon again, whatever happens; two can be.",
    Mode.AT_MOST_ONE: "Never two, unless somebody removes a Pod that may still run; "
    "a lost node is waited for.",
    Mode.ACTIVE_STANDBY: "Never two valid terms; after a failure another replica within the TTL.",
    Mode.PARTLY_SINGLETON: "All replicas answer; of the elected component never two valid terms.",
}


def summary(mode: Mode) -> str:
    """Return in one sentence what a mode is worth."""
    return _SUMMARIES[mode]


def assumption(mode: Mode) -> str:
    """Return what the table of a mode rests on."""
    return _ELECTED_IF if mode.elected else _SINGLE_IF


def exposures(
    mode: Mode, times: Times, *, leased: bool = True, guarded: bool = False
) -> tuple[Exposure, ...]:
    """Return the table of a mode, with the seconds of one application.

    Args:
        mode: how it is kept single.
        times: the seconds of its Pods.
        leased: whether the election is kept by the API server, where there is one.
        guarded: whether the API server refuses what would make two of an only replica.
    """
    if mode is Mode.AT_LEAST_ONE:
        rows = _at_least_one(times)
    elif mode is Mode.AT_MOST_ONE:
        rows = _at_most_one(times)
    else:
        rows = _elected(times, leased=leased)
    if guarded:
        rows = tuple((row[0], *_REFUSED) if row[0] in _GUARDED else row for row in rows)
    return tuple(Exposure(*row) for row in rows)


_SINGLE_IF = (
    "How soon a node counts as lost (50 s), and how long a start takes, is the cluster's affair."
)
_ELECTED_IF = (
    "While clock rates differ by no more than 10 %. A write that is already on its way is stopped "
    "by a fencing token only."
)
_Row = tuple[str, str, str, str]
_BACK = "until the node answers again, and up to 20 s"
_NONE = "–"
_POD = "terminationGracePeriodSeconds"
_GUARDED = ("scaled up", "force delete")
_REFUSED = ("1", _NONE, "none: the guard refuses it")
_ASKED = "as long as it is asked for, unless a guard refuses"


def _at_least_one(t: Times) -> tuple[_Row, ...]:
    moved = f"50 + tolerationSeconds = {t.moved_s} s after the cut"
    overlap = f"up to {_POD} = {t.termination_s} s"
    ended = f"the old one's end, {overlap}, and a start"
    return (
        ("scaled up", "n", _ASKED, _NONE),
        ("rollout", "1", _NONE, ended),
        ("Pod deleted, evicted or drained", "2", overlap, "a start, if the old one ends sooner"),
        (
            "link of the node cut",
            "2",
            f"from {moved}, {_BACK}",
            f"none; others reach nobody for {t.moved_s} s",
        ),
        ("only the API server cut off", "2", f"from {moved}, {_BACK}; both reach the rest", _NONE),
        ("kubelet dead", "2", f"from {moved}, until the kubelet is back", _NONE),
        ("power loss", "1", _NONE, f"50 + tolerationSeconds = {t.moved_s} s, and a start"),
        (
            "force delete",
            "2",
            f"{overlap}; on a lost node {_BACK}; unless a guard refuses",
            "a start",
        ),
        ("out-of-service taint on a node that runs", "2", _BACK, "a start"),
        ("Node object deleted while it runs", "2", _BACK, "about 60 s, and a start"),
        ("all nodes cut off", "1", _NONE, "none: nothing is moved then"),
    )


def _at_most_one(t: Times) -> tuple[_Row, ...]:
    overlap = f"up to {_POD} = {t.termination_s} s"
    ended = f"the old one's end, {overlap}, and a start"
    stuck = "nobody can reach it until the node answers again; it works on"
    return (
        ("scaled up", "n", _ASKED, _NONE),
        ("rollout", "1", _NONE, ended),
        ("Pod deleted, evicted or drained", "1", _NONE, ended),
        ("link of the node cut", "1", _NONE, f"{stuck}; after {t.moved_s} s it ends then"),
        (
            "only the API server cut off",
            "1",
            _NONE,
            "its name does not resolve until the node answers again; it works on",
        ),
        ("kubelet dead", "1", _NONE, "its name does not resolve until the kubelet is back"),
        ("power loss", "1", _NONE, "until the node is back, or is removed by hand"),
        ("force delete", "2", f"{overlap}; on a lost node {_BACK}; unless a guard refuses", _NONE),
        ("out-of-service taint on a node that runs", "2", _BACK, _NONE),
        ("Node object deleted while it runs", "2", f"from about 60 s later, {_BACK}", _NONE),
        ("all nodes cut off", "1", _NONE, "none: nothing is moved then"),
    )


def _elected(t: Times, *, leased: bool) -> tuple[_Row, ...]:
    found = f"TTL = {t.ttl_s:g} s since the last renewal, and two round trips"
    stop = f"the stop, up to grace + kill = {t.stop_s:.3g} s, and two writes"
    ended = f"; the old one ends within W = {t.trusted_s:.3g} s"
    return (
        ("scaled up", "1", _NONE, _NONE),
        ("rollout", "1", _NONE, f"{stop}, each time the active one is replaced"),
        ("Pod deleted, evicted or drained", "1", _NONE, stop),
        ("link of the node cut", "1", _NONE, found + ended),
        (
            "only the API server cut off",
            "1",
            _NONE,
            found + ended if leased else "none: the store is elsewhere",
        ),
        ("kubelet dead", "1", _NONE, "none: it goes on and renews"),
        ("power loss", "1", _NONE, found),
        ("force delete", "1", _NONE, f"none while it runs; then {found}"),
        ("out-of-service taint on a node that runs", "1", _NONE, "as a force delete"),
        ("Node object deleted while it runs", "1", _NONE, "as a force delete"),
        ("all nodes cut off", "0", _NONE, f"from W = {t.trusted_s:.3g} s on, until one is back"),
    )
