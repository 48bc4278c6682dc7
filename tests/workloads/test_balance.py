"""Every replica applies the rules to what it can see; the group ends up even, in few moves."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from incumbent.workloads.spread.balance import Place, Rules, View
from incumbent.workloads.spread.pauses import Pauses

MEMBERS = [f"host-{number}_r" for number in range(20)]


class Group:
    """Replicas and elections. A handover takes one step, and nobody else moves meanwhile."""

    def __init__(self, seed: int, elections: int, members: int, **rules: object) -> None:
        self.rng = random.Random(seed)
        self.members = self.rng.sample(MEMBERS, members)
        self.rules = dict.fromkeys(self.members, Rules(**rules))  # type: ignore[arg-type]
        self.names = [f"e{number}" for number in range(elections)]
        self.holder = {name: self.rng.choice(self.members) for name in self.names}
        self.moves: list[tuple[str, str, str]] = []

    def view(self, me: str) -> View:
        places = {name: Place(held, f"{held}/{name}") for name, held in self.holder.items()}
        return View(me, places, self.rules.get(me, Rules()))

    @property
    def loads(self) -> Counter[str]:
        loads = Counter(dict.fromkeys(self.members, 0))
        loads.update(self.holder.values())
        return loads

    def step(self) -> bool:
        """The most impatient replica that wants something gets it; tell whether anybody did."""
        loads = self.loads
        for me in sorted(self.rng.sample(self.members, len(self.members)), key=loads.__getitem__):
            name = self.view(me).next_move()
            if name is not None:
                self.moves.append((name, self.holder[name], me))
                self.holder[name] = me
                return True
        return False

    def settle(self) -> int:
        before = len(self.moves)
        while self.step():
            assert len(self.moves) - before <= len(self.names), "it goes on for ever"
        return len(self.moves) - before

    def dies(self, member: str) -> None:
        """The others take what it had, each as it comes."""
        self.members.remove(member)
        for name, held in self.holder.items():
            if held == member:
                self.holder[name] = self.rng.choice(self.members)

    def joins(self) -> None:
        member = self.rng.choice([each for each in MEMBERS if each not in self.members])
        self.members.append(member)
        self.rules[member] = next(iter(self.rules.values()))


def least_moves(holders: list[str], members: list[str]) -> int:
    """How many must move so that nobody is above its share; counted as one would by hand."""
    loads = Counter(dict.fromkeys(members, 0))
    loads.update(holders)
    least, more = divmod(len(holders), len(loads))
    shares = [least + 1] * more + [least] * (len(loads) - more)
    by_load = sorted(loads.values(), reverse=True)
    return sum(max(0, load - share) for load, share in zip(by_load, shares, strict=True))


@pytest.mark.parametrize("seed", range(60))
def test_from_any_start_and_through_deaths_and_joins_it_is_even_after_the_fewest_moves(
    seed: int,
) -> None:
    rng = random.Random(seed)
    group = Group(seed, rng.choice([1, 2, 7, 30]), rng.randint(1, 10))
    for _ in range(4):
        least = least_moves(list(group.holder.values()), group.members)
        assert group.settle() == least
        assert max(group.loads.values()) - min(group.loads.values()) <= 1
        assert group.settle() == 0
        if rng.random() < 0.5 and len(group.members) > 1:
            group.dies(rng.choice(group.members))
        else:
            group.joins()


@pytest.mark.parametrize("seed", range(10))
def test_a_group_that_is_even_is_left_alone(seed: int) -> None:
    group = Group(seed, 10, 4)
    group.holder = {name: group.members[n % 4] for n, name in enumerate(group.names)}
    assert not group.step()


def test_five_hundred_elections_over_twenty_replicas_of_which_one_has_all() -> None:
    group = Group(1, 500, 20)
    group.holder = dict.fromkeys(group.names, group.members[0])
    assert group.settle() == 475
    assert set(group.loads.values()) == {25}


@pytest.mark.parametrize("seed", range(40))
def test_whoever_moves_at_the_same_time_does_not_move_for_ever(seed: int) -> None:
    """The turn keeps this from happening; a replica that does not heed it costs moves, no more."""
    group = Group(seed, 30, 6)
    for _ in range(200):
        wanted = {me: group.view(me).next_move() for me in group.members}
        if not any(wanted.values()):
            break
        for me in group.rng.sample(group.members, group.rng.randint(1, len(group.members))):
            name = wanted[me]
            if name is not None:
                group.holder[name] = me
    else:
        pytest.fail("it goes on for ever")
    assert max(group.loads.values()) - min(group.loads.values()) <= 1


@pytest.mark.parametrize("seed", range(30))
def test_each_election_comes_home_once_and_the_rest_is_even(seed: int) -> None:
    group = Group(seed, 40, 5)
    away = {name: group.rng.choice(MEMBERS) for name in group.rng.sample(group.names, 12)}
    rules = Rules(preferred={name: member.partition("_")[0] for name, member in away.items()})
    group.rules = dict.fromkeys(group.members, rules)
    group.settle()
    homeward = [name for name, _, to in group.moves if away.get(name) == to]
    assert len(homeward) == len(set(homeward))
    for name, home in away.items():
        assert group.holder[name] == home or home not in group.members
    bound = Counter(home for home in away.values() if home in group.members)
    free = [load for member, load in group.loads.items() if load > bound[member]]
    assert not free or max(free) - min(group.loads.values()) <= 1


def test_what_is_at_home_is_left_there() -> None:
    places = {name: Place("a_1", name) for name in "xyz"}
    assert View("b_1", places, Rules(dict.fromkeys("xyz", "a"))).next_move() is None
    assert View("b_1", places, Rules(dict.fromkeys("xy", "a"))).next_move() == "z"


def test_two_replicas_of_the_home_share_what_is_at_home() -> None:
    group = Group(0, 10, 2)
    group.members = ["a_1", "a_2", "b_1"]
    group.rules = dict.fromkeys(group.members, Rules(preferred=dict.fromkeys(group.names, "a")))
    group.holder = dict.fromkeys(group.names, "b_1")
    group.settle()
    assert group.loads == {"a_1": 5, "a_2": 5, "b_1": 0}


def test_who_may_have_only_two_has_two_and_nobody_waits_for_it() -> None:
    group = Group(0, 12, 1)
    group.members = ["a_1", "b_1", "c_1"]
    group.rules = {"a_1": Rules(), "b_1": Rules(at_most=2), "c_1": Rules()}
    group.holder = dict.fromkeys(group.names, "a_1")
    assert group.settle() == 7
    assert group.loads == {"a_1": 5, "b_1": 2, "c_1": 5}


def test_at_most_comes_before_home() -> None:
    places = {"x": Place("b_1", "t"), "y": Place("a_1", "u")}
    home = {"x": "a"}
    assert View("a_1", places, Rules(home, at_most=1)).next_move() is None
    assert View("a_1", places, Rules(home, at_most=2)).next_move() == "x"


def test_the_important_move_last_and_are_taken_first() -> None:
    names = [f"e{number}" for number in range(9)]
    priority = {"e3": 5, "e7": 9}
    group = Group(0, 9, 1)
    group.members = ["a_1", "b_1"]
    group.rules = dict.fromkeys(group.members, Rules(priority=priority))
    group.holder = dict.fromkeys(names, "a_1")
    assert group.settle() == 4
    assert {group.holder["e3"], group.holder["e7"]} == {"a_1"}
    assert sorted(names, key=group.view("b_1").rank)[:2] == ["e7", "e3"]


def test_whoever_has_less_is_less_patient() -> None:
    group = Group(0, 9, 1)
    group.members = ["a_1", "b_1", "c_1"]
    group.holder = dict(zip(group.names, ["a_1"] * 6 + ["b_1"] * 3, strict=True))
    assert [group.view(me).patience() for me in ("c_1", "b_1", "a_1")] == [0.0, 0.5, 1.0]
    assert [group.view(me).somebody_has_less for me in ("c_1", "b_1", "a_1")] == [
        False,
        False,
        True,
    ]
    assert View("a_1", {}, Rules()).patience() == 0.0


def test_every_replica_takes_what_is_equal_in_an_order_of_its_own() -> None:
    group = Group(0, 50, 2)
    orders = [sorted(group.names, key=group.view(me).rank) for me in group.members]
    assert orders[0] != orders[1]


TOLD: dict[str, tuple[Place, Callable[[View], bool]]] = {
    "who is named has it": (
        Place("b_1", "t", leaving=True, to="a"),
        lambda view: view.loads == {"a_1": 1},
    ),
    "who hands over to anybody has it no more": (
        Place("b_1", "t", leaving=True),
        lambda view: not view.loads,
    ),
    "a vacancy for somebody is theirs": (
        Place("", "", leaving=True, to="b_1"),
        lambda view: view.loads == {"b_1": 1},
    ),
    "who cannot be asked is not": (
        Place("b_1"),
        lambda view: view.loads == {"b_1": 1} and view.next_move() is None,
    ),
}


@pytest.mark.parametrize("case", TOLD)
def test_what_counts_as_whose(case: str) -> None:
    place, holds = TOLD[case]
    assert holds(View("a_1", {"x": place}, Rules({"x": "a"})))


def test_what_failed_here_is_not_asked_for() -> None:
    places = {name: Place("b_1", name) for name in "xyz"}
    assert View("a_1", places, Rules(), unwilling="xyz").next_move() is None
    assert View("a_1", places, Rules(), unwilling="xy").next_move() == "z"


def test_what_went_away_is_not_asked_home_but_for_balance() -> None:
    places = {name: Place("b_1", name) for name in "xy"}
    home = Rules({"x": "a"})
    assert View("a_1", {"x": places["x"]}, home).next_move() == "x"
    assert View("a_1", {"x": places["x"]}, home, left_away="x").next_move() is None
    assert View("a_1", places, Rules(dict.fromkeys("xy", "a")), left_away="xy").next_move()


def test_each_pause_is_twice_as_long_until_all_was_well() -> None:
    pauses = Pauses(1.0, 5.0)
    assert [pauses.next("x") for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert pauses.next("y") == 1.0
    assert [pauses.next("x", anew=True), pauses.next("x")] == [1.0, 2.0]


def test_what_is_under_way_is_not_asked_for_again() -> None:
    places = {
        "x": Place("b_1", "t", leaving=True, to="a_1"),
        "y": Place("b_1", "u"),
        "z": Place("b_1", "v"),
    }
    rules = Rules(priority={"y": 1, "z": 2})
    assert View("a_1", places, rules).next_move() is None
    assert View("c_1", places, rules).next_move() == "y"
