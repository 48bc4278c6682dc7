"""Mistakes in how elections are spread; a test has to find each. See `tests.simulator.hunt`."""

from __future__ import annotations

from tests.simulator.mutants import planted

__all__ = ["PLANTED_SPREAD"]

BALANCE = "incumbent.workloads.spread.balance"
GATE = "incumbent.workloads.spread.gate"
MEMBER = "incumbent.workloads.spread.member"
PAUSES = "incumbent.workloads.spread.pauses"

_RULES = "tests/workloads/test_balance.py::test_"
_REPLICAS = "tests/workloads/test_spread.py::test_"

PLANTED_SPREAD = (
    planted(
        "what is handed over counts as the load of who had it",
        BALANCE,
        "            whose = self._named(place.to) if place.leaving else place.holder\n",
        "            whose = place.holder\n",
        test=_RULES + "what_counts_as_whose",
    ),
    planted(
        "one fewer is few enough to ask",
        BALANCE,
        "self.loads[giver] >= self.load + 2]",
        "self.loads[giver] >= self.load + 1]",
        test=_RULES + "a_group_that_is_even_is_left_alone",
    ),
    planted(
        "who has the fewest to give is asked",
        BALANCE,
        "        giver = max(givers, ",
        "        giver = min(givers, ",
        test=_RULES
        + "from_any_start_and_through_deaths_and_joins_it_is_even_after_the_fewest_moves",
    ),
    planted(
        "the most loaded is the least patient",
        BALANCE,
        "        return self.load / max(1, *self.loads.values()) if self.loads else 0.0\n",
        "        return 1 - self.load / max(1, *self.loads.values()) if self.loads else 0.0\n",
        test=_RULES + "whoever_has_less_is_less_patient",
    ),
    planted(
        "the important move first",
        BALANCE,
        "        return (priority, name in",
        "        return (-priority, name in",
        test=_RULES + "the_important_move_last_and_are_taken_first",
    ),
    planted(
        "an election is asked for again while it is handed over",
        BALANCE,
        "            and not place.leaving\n",
        "",
        test=_RULES + "what_is_under_way_is_not_asked_for_again",
    ),
    planted(
        "what is at home is asked for by others",
        BALANCE,
        "            if not self._belongs_elsewhere(name):\n",
        "            if name:\n",
        test=_RULES + "what_is_at_home_is_left_there",
    ),
    planted(
        "who wants one asks, whoever has the turn",
        MEMBER,
        "            self._turn = _Turn(self, self._settings)\n            self._turn.enter()\n",
        "            self._ask()\n",
        test=_REPLICAS + "only_who_has_the_turn_asks",
    ),
    planted(
        "takes on their way do not count",
        MEMBER,
        "have + len(self._taking) < at_most",
        "have < at_most",
        test=_REPLICAS + "nobody_has_more_than_it_may_and_takes_again_when_there_is_room",
    ),
    planted(
        "vacancies are taken in any order",
        GATE,
        "sorted(due, key=self._rank)[:at_a_time]",
        "due[:at_a_time]",
        test=_REPLICAS + "the_important_are_taken_first",
    ),
    planted(
        "who has more reaches for a vacancy as soon as others",
        GATE,
        "            await asyncio.sleep(min(self._late() * TICK_S, self._limit_s))\n",
        "            await asyncio.sleep(0)\n",
        test=_REPLICAS + "the_less_loaded_take_first",
    ),
    planted(
        "the home of a vacancy is offered it with all others",
        GATE,
        "(self._limit_s if to_the_last else 0.0)",
        "0.0",
        test=_REPLICAS + "the_home_is_offered_a_vacancy_first",
    ),
    planted(
        "the turn is kept when what was asked for has come",
        MEMBER,
        "        if place is None or (place.holder and place.term != term):\n",
        "        if place is None:\n",
        test=_REPLICAS + "a_turn_is_given_back_as_soon_as_what_was_asked_for_has_come",
    ),
    planted(
        "who was asked to hand over what belongs to it asks for it back at once",
        MEMBER,
        "        if why is Why.STEP_DOWN:\n",
        "        if why is Why.LOST:\n",
        test=_REPLICAS + "homes_that_contradict_one_another_come_to_rest",
    ),
    planted(
        "what failed at home is asked home again",
        MEMBER,
        "        self._leave_away(name, None)\n",
        "",
        test=_REPLICAS + "a_home_where_the_work_failed_leaves_it_to_who_holds_it",
    ),
    planted(
        "what failed at home once is asked home never again",
        MEMBER,
        "        self._let_home(name)\n        self.saw(",
        "        self.saw(",
        test=_REPLICAS + "a_home_where_the_work_failed_leaves_it_to_who_holds_it",
    ),
    planted(
        "pauses do not grow",
        PAUSES,
        "2 * before_s",
        "before_s",
        test=_RULES + "each_pause_is_twice_as_long_until_all_was_well",
    ),
    planted(
        "what was asked away is asked home all the same",
        BALANCE,
        "            if name not in self._left_away\n            and ",
        "            if ",
        test=_RULES + "what_went_away_is_not_asked_home_but_for_balance",
    ),
)
