"""A member of another library beside our candidates: it follows that library's rules.

It takes a lock when that is free by their rule, works under it, makes it last longer now and then,
and gives it up; or it dies and leaves it; or it gives it up late, when its time is over. Its own
work ends with its lock at the latest: one that works on is what its store declares that it breaks,
and nobody is asked whether our work meets it then.

Its requests take no time: what is late here is ours.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from incumbent.testing.simulator.history import History

__all__ = ["THEIR_FAULTS", "Member", "Robbable", "Theirs"]

_NEARLY = 0.999
"""It ends a little before its lock does: at the same instant, anything may come first."""


class Theirs(Protocol):
    """What a member does to a lock. Times are of the clock that its library judges by."""

    @property
    def rate(self) -> float:
        """How fast that clock goes."""
        ...

    def take(self, name: str, owner: str, for_s: float) -> bool:
        """Take the lock, if it is free."""
        ...

    def extend(self, name: str, owner: str, for_s: float) -> bool:
        """Make it last from now on for so long, if it is this owner's."""
        ...

    def free(self, name: str, owner: str) -> None:
        """Give it up, as they do."""
        ...


@dataclass(slots=True, eq=False)
class _Hold:
    name: str
    owner: str
    for_s: float
    over: bool = False


class Member:
    """One that wants the locks of all elections.

    Args:
        history: what it is a part of.
        theirs: the locks.
    """

    def __init__(self, history: History, theirs: Theirs) -> None:
        self._history = history
        self._world = history.world
        self._rng = history.world.rng
        self._judge = history.judge
        self._theirs = theirs
        self._numbers = itertools.count(1)
        self._holds: dict[str, _Hold] = {}
        self._every_s = history.ttl_s * self._rng.choice((1.5, 2.0, 4.0))
        self._retired = False
        history.on_peace.append(self._retire)
        for name in history.elections:
            # Not before one of ours can lead: what nobody of ours had proves little.
            self._world.after(2 * history.ttl_s * self._rng.random(), self._soon, name)

    def _soon(self, name: str) -> None:
        self._world.after(self._rng.expovariate(1 / self._every_s), self._try, name)

    def _try(self, name: str) -> None:
        """Take the lock if it is free, and plan what becomes of it."""
        if self._retired:
            return
        rng = self._rng
        for_s = self._history.ttl_s * rng.choice((0.2, 0.5, 1.0))
        hold = _Hold(name, f"member-{next(self._numbers)}", for_s)
        if not self._theirs.take(name, hold.owner, for_s):
            self._soon(name)
            return
        self._world.write(hold.owner, f"TAKES {name} for {for_s:.2f} s")
        self._holds[name] = hold
        self._judge.theirs(name, hold.owner)
        lasts_s = for_s / self._theirs.rate * _NEARLY
        extends = rng.random() < 0.4
        self._world.after(lasts_s * (0.5 if extends else 1.0), self._halfway, hold, extends)
        works_s = lasts_s * rng.choice((0.05, 0.3, 0.9, 1.4))
        ends = rng.choice((self._gives_up, self._gives_up, self._dies, self._lags))
        self._world.after(works_s, ends, hold)

    def _halfway(self, hold: _Hold, extends: bool) -> None:
        """Make the lock last longer, once; or find that its time is over."""
        if hold.over:
            return
        if extends and self._theirs.extend(hold.name, hold.owner, hold.for_s):
            self._world.write(hold.owner, f"extends {hold.name}")
            lasts_s = hold.for_s / self._theirs.rate * _NEARLY
            self._world.after(lasts_s, self._halfway, hold, False)
            return
        self._end(hold, "works on without" if not extends else "finds that it lost")

    def _end(self, hold: _Hold, what: str) -> None:
        if not hold.over:
            hold.over = True
            del self._holds[hold.name]
            self._judge.theirs(hold.name, "")
            self._world.write(hold.owner, f"{what} {hold.name}")
            self._soon(hold.name)

    def _gives_up(self, hold: _Hold) -> None:
        """Free the lock; when its time is over, somebody else may have it by now."""
        self._end(hold, "gives up")
        self._theirs.free(hold.name, hold.owner)

    def _dies(self, hold: _Hold) -> None:
        self._end(hold, "dies with")

    def _lags(self, hold: _Hold) -> None:
        """Free the lock some time after the work has ended."""
        self._end(hold, "forgets to give up")
        later_s = self._history.ttl_s * self._rng.random()
        self._world.after(later_s, self._theirs.free, hold.name, hold.owner)

    def _retire(self) -> None:
        """Give up whatever is left, for good."""
        self._retired = True
        for hold in list(self._holds.values()):
            self._gives_up(hold)


# -- what they and people do against the rules ----------------------------------------------------


@runtime_checkable
class Robbable(Protocol):
    """A bench on which this can happen. After it, they and ours may meet for a while."""

    def rob(self, name: str, owner: str, for_s: float) -> None:
        """Give the lock to somebody, whoever has it."""
        ...

    def free(self, name: str, owner: str) -> None:
        """Have that one give it up."""
        ...

    def unlock(self, name: str) -> None:
        """Free the lock, whoever has it."""
        ...

    def step_clock(self, by_s: float) -> None:
        """Set the server's clock."""
        ...


def _bench(h: History) -> Robbable:
    assert isinstance(h.bench, Robbable)
    return h.bench


def robbery(h: History) -> bool:
    """Let somebody take the lock whoever has it, and often give it up before long."""
    bench, name = _bench(h), h.rng.choice(h.elections)
    for_s = h.ttl_s * h.rng.choice((0.05, 0.3, 1.0))
    h.world.write("robber", f"TAKES {name} for {for_s:.2f} s, whoever has it")
    bench.rob(name, "robber", for_s)
    if h.rng.random() < 0.7:
        h.world.after(for_s * h.rng.random(), bench.free, name, "robber")
    return True


def stray_unlock(h: History) -> bool:
    """Free the lock of whoever has it."""
    name = h.rng.choice(h.elections)
    h.world.write("somebody", f"unlocks {name}, whoever has it")
    _bench(h).unlock(name)
    return True


def step_server_clock(h: History) -> bool:
    """Set the clock of the server, by an hour or by about what a lock lasts."""
    by_s = h.rng.choice((3600.0, h.ttl_s, 0.5 * h.ttl_s)) * h.rng.choice((-1, 1))
    h.world.write("server", f"has its clock set by {by_s:.2f} s")
    _bench(h).step_clock(by_s)
    return True


THEIR_FAULTS = ((robbery, 1.2), (stray_unlock, 0.6), (step_server_clock, 0.8))


@runtime_checkable
class Sessions(Protocol):
    """A bench whose locks are held by sessions, with a lock-delay."""

    def end_session(self, name: str) -> bool:
        """End the session of whoever has the lock; False if nobody has."""
        ...


def end_session(h: History) -> bool:
    """End a session before its time: the lock-delay keeps everybody out."""
    assert isinstance(h.bench, Sessions)
    return h.bench.end_session(h.rng.choice(h.elections))
