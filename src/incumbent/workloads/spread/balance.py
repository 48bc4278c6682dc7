"""Which handover would even out a spread, as one replica sees it; which election it takes first.

Pure: what is known goes in, a name or nothing comes out. Why there need be no list of replicas is
said at the head of the package.

Rules
-----
1. **One's load is the number of elections that are or will be one's own.** Whoever is named to
   follow in a handover that is under way has the load already, and whoever hands over has it no
   more: so nobody asks twice for the same evening out.
2. **Only what evens out.** An election moves from the most loaded to who has at least two fewer,
   or to its home. The sum of the squares of the loads falls with each move of the first kind, the
   number of elections away from home with each of the second, and no move of the first kind ever
   leads away from a home that is there. Hence it ends, from wherever it began.
3. **As few as can be.** A move from the most to the least loaded brings one of them nearer to its
   share and neither away from it. So if the least loaded moves first (`patience`), and nobody has a
   home, there are exactly as many moves as elections lie above the shares.
4. **Home comes before share, and `at_most` before home.** Rule 2 holds for replicas that agree on
   the homes. Where they do not (a deploy that moves one), each would fetch the same election home
   for ever, and so would a home where the work always fails. Hence a replica that lost one in
   either way leaves it away, for as long as its `Member` says.
5. **The important move last and are taken first.**
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from incumbent.core.records import same_candidate

__all__ = ["Place", "Rules", "View"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where one election is.

    Attributes:
        holder: who has it, or "" for nobody, or nobody that is known.
        term: the nonce of the holder's term, by which it can be asked to hand over; "" if it cannot
            be asked.
        leaving: whether it is being handed over, or lies vacant for somebody who was named.
        to: who was named, or "" for anybody.
    """

    holder: str = ""
    term: str = ""
    leaving: bool = False
    to: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the user wants beyond equal shares.

    Attributes:
        preferred: for some elections, the candidate that is its home, or what that begins with.
        priority: how important an election is; 0 if it is not here.
        at_most: how many this replica may hold, whatever becomes of the others.
    """

    preferred: Mapping[str, str] = field(default_factory=dict)
    priority: Mapping[str, int] = field(default_factory=dict)
    at_most: int | None = None

    def at_home(self, name: str, candidate: str) -> bool:
        """Tell whether `candidate` is the home of the election."""
        home = self.preferred.get(name)
        return home is not None and same_candidate(home, candidate)


class View:
    """What one replica knows at one instant.

    Args:
        me: its identity.
        places: every election of the group.
        rules: what the user wants.
        unwilling: elections whose work just failed here.
        left_away: elections that are not asked home now.
    """

    def __init__(
        self,
        me: str,
        places: Mapping[str, Place],
        rules: Rules,
        unwilling: Collection[str] = (),
        left_away: Collection[str] = (),
    ) -> None:
        self.me = me
        self.rules = rules
        self._places = places
        self._unwilling = unwilling
        self._left_away = left_away
        self.loads = self._count()

    def _count(self) -> Counter[str]:
        loads: Counter[str] = Counter()
        for place in self._places.values():
            whose = self._named(place.to) if place.leaving else place.holder
            if whose:
                loads[whose] += 1
        return loads

    def _named(self, to: str) -> str:
        """Return the identity of who was named: an operator may have named only its first part."""
        if not to or same_candidate(to, self.me):
            return self.me if to else ""
        holders = (place.holder for place in self._places.values())
        return next((holder for holder in holders if same_candidate(to, holder)), to)

    @property
    def load(self) -> int:
        """How many elections are or will be ours."""
        return self.loads[self.me]

    @property
    def excess(self) -> int:
        """How many more we have than whoever has the fewest.

        That may be a replica that has nothing, which nobody sees. In a group that is even there is
        such a one only if nobody has more than one: else it would have asked for one.
        """
        fewest = min(self.loads.values(), default=0)
        return max(0, self.load - (fewest if fewest > 1 else 0))

    @property
    def somebody_has_less(self) -> bool:
        """Whether another replica is known that has less than we have, and so should move first."""
        return any(load < self.load for load in self.loads.values())

    @property
    def full(self) -> bool:
        """Whether we may have no more."""
        return self.rules.at_most is not None and self.load >= self.rules.at_most

    def next_move(self) -> str | None:
        """Return the election that we should ask for, if any."""
        if self.full:
            return None
        return self._homeward() or self._evening()

    def patience(self) -> float:
        """Return how long to wait before asking: between 0, for who has nothing, and 1.

        The least loaded moves first. That cannot be settled once and for all, since nobody knows of
        a replica that has nothing yet; nor must anybody wait for ever for one that has fewer, which
        may be all that it is allowed to have.
        """
        return self.load / max(1, *self.loads.values()) if self.loads else 0.0

    def _homeward(self) -> str | None:
        wanted = [
            name
            for name in self._movable()
            if name not in self._left_away
            and self.rules.at_home(name, self.me)
            and not self.rules.at_home(name, self._places[name].holder)
        ]
        return min(wanted, key=self.rank, default=None)

    def _evening(self) -> str | None:
        by_giver: dict[str, list[str]] = {}
        for name in self._movable():
            if not self._belongs_elsewhere(name):
                by_giver.setdefault(self._places[name].holder, []).append(name)
        givers = [giver for giver in by_giver if self.loads[giver] >= self.load + 2]
        if not givers:
            return None
        giver = max(givers, key=lambda each: (self.loads[each], each))
        return min(by_giver[giver], key=self._last_to_move)

    def _movable(self) -> list[str]:
        return [
            name
            for name, place in self._places.items()
            if place.holder
            and place.holder != self.me
            and place.term
            and not place.leaving
            and name not in self._unwilling
        ]

    def _belongs_elsewhere(self, name: str) -> bool:
        """Tell whether its home is known to be there, and is not ours."""
        if self.rules.at_home(name, self.me):
            return False
        return any(self.rules.at_home(name, holder) for holder in self.loads)

    def _last_to_move(self, name: str) -> tuple[int, bool, bytes]:
        """Order what might be moved: whoever's home comes back would have to move it once more."""
        priority = self.rules.priority.get(name, 0)
        return (priority, name in self.rules.preferred, _dice(self.me, name))

    def rank(self, name: str) -> tuple[int, bool, bytes]:
        """Order what is vacant: which shall we take first?

        What is equally important every replica takes in an order of its own, so that several do not
        reach for the same.
        """
        priority = self.rules.priority.get(name, 0)
        return (-priority, not self.rules.at_home(name, self.me), _dice(self.me, name))

    def leaves_to_home(self, name: str) -> bool:
        """Tell whether a vacancy should be offered first to its home, which may be there."""
        return name in self.rules.preferred and not self.rules.at_home(name, self.me)


def _dice(me: str, name: str) -> bytes:
    return blake2b(f"{me} {name}".encode(), digest_size=8).digest()
