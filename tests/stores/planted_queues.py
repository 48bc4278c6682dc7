"""Mistakes in the rules of queues that are shared with others, and what finds each.

Most are found by the simulator, the others on a server of queues in the test's own process. Those
in what ZooKeeper's and etcd's drivers do are in `tests.stores.planted`.
"""

from __future__ import annotations

from tests.simulator.mutants import Mutant, planted

__all__ = ["PLANTED_QUEUES"]

QUEUE = "incumbent.stores.queue.store"

_RULES = "tests/stores/test_queue_rules.py::test_"

PLANTED_QUEUES: tuple[Mutant, ...] = (
    # -- who holds, and for how long
    planted(
        "queue: whoever stands there holds",
        QUEUE,
        "        if line.first is None or line.first.created != node.created:\n",
        "        if line.first is None:\n",
        store="queue",
    ),
    planted(
        "queue: a place that is the first needs no proof",
        QUEUE,
        "            await self._driver.prove(lock, node, place.ttl_s)\n",
        "            await self._driver.look(lock, name)\n",
        store="queue",
    ),
    planted(
        "queue: a proof counts that was not answered",
        QUEUE,
        "            await self._driver.prove(lock, node, place.ttl_s)\n",
        "            with suppress(StoreError):\n"
        "                await self._driver.prove(lock, node, place.ttl_s)\n",
        store="queue",
    ),
    planted(
        "queue: a look at the queue renews",
        QUEUE,
        "            await self._driver.prove(self._lock(lease.name), place.node, place.ttl_s)\n",
        "            await self._driver.look(self._lock(lease.name), lease.name)\n",
        store="queue",
    ),
    planted(
        "queue: a node that is gone is renewed",
        QUEUE,
        "        except Gone:\n            self._give_up(lease.name, place)\n",
        "        except Gone:\n            return lease\n",
        store="queue",
    ),
    planted(
        "queue: a node is held for a second term",
        QUEUE,
        "        if place is not None and place.term:\n            # Rule 1",
        '        if place is not None and place.term == "-":\n            # Rule 1',
        test=f"{_RULES}queue[a_node_is_held_for_one_term_only]",
    ),
    planted(
        "queue: a renewal names no term",
        QUEUE,
        "place.node is None or place.term != lease.key:\n",
        "place.node is None:\n",
        test=f"{_RULES}queue[a_node_is_held_for_one_term_only]",
    ),
    planted(
        "queue: the token of a term that has not begun is seen",
        QUEUE,
        "                token = None  #",
        "                token = first.created  #",
        test=f"{_RULES}queue[who_is_not_the_first_waits_in_the_queue]",
    ),
    # -- what is left behind
    planted(
        "queue: a release names no term",
        QUEUE,
        "        if place is not None and place.term == held.term:\n",
        "        if place is not None:\n",
        test=f"{_RULES}queue[a_late_release_names_its_own_node]",
    ),
    planted(
        "queue: a release without an answer is forgotten",
        QUEUE,
        "        if place is not None and place.term == held.term:\n",
        "        if place is not None and place.term == held.term:\n"
        "            del self._places[held.name]\n",
        store="queue",
    ),
    planted(
        "queue: a place whose node is gone at a renewal is forgotten, and not left",
        QUEUE,
        "            self._give_up(lease.name, place)\n",
        "            self._places.pop(lease.name, None)\n",
        test=f"{_RULES}a_place_whose_node_is_gone_is_left_all_the_same[renewed]",
    ),
    planted(
        "queue: a place whose node is gone at a take is forgotten, and not left",
        QUEUE,
        "        except Gone:\n            self._give_up(name, place)\n",
        "        except Gone:\n            self._places.pop(name, None)\n",
        test=f"{_RULES}a_place_whose_node_is_gone_is_left_all_the_same[taken]",
    ),
    planted(
        "queue: who is not waited for any more goes on waiting",
        QUEUE,
        "        elif place is not None:\n            self._give_up(name, place)\n",
        "        elif place is not None:\n            pass\n",
        store="queue",
    ),
    planted(
        "queue: who withdraws unheard says so once",
        QUEUE,
        "            if await self._closes_within(_LEAVE_EVERY_S):\n                return\n",
        "            return\n",
        store="queue",
    ),
    planted(
        "queue: who comes back asks for ever for the node that it gives up",
        QUEUE,
        "            if term != place.first_term and _same_contender(term, place.first_term):\n",
        "            if term == place.first_term and _same_contender(term, place.first_term):\n",
        test=f"{_RULES}who_withdraws_unheard_leaves_as_soon_as_he_is_heard",
    ),
    planted(
        "queue: what was held and not released stands for as long as its process lives",
        QUEUE,
        "            self._in_background(self._expire(name, place))\n",
        "            pass\n",
        store="queue",
    ),
    planted(
        "queue: a term that was lost is released with its candidate",
        QUEUE,
        "        while renewals != place.renewals:\n            renewals",
        "        while renewals != renewals:\n            renewals",
        test=f"{_RULES}a_term_that_was_held_and_not_released"
        "_is_given_up_after_a_ttl_without_a_renewal",
    ),
    planted(
        "queue: a term that goes on being renewed is given up with who followed it",
        QUEUE,
        "        place.renewals += 1\n",
        "",
        test=f"{_RULES}a_term_that_was_held_and_not_released"
        "_is_given_up_after_a_ttl_without_a_renewal",
    ),
    planted(
        "queue: a place that was taken since is given up in place of the one before",
        QUEUE,
        "            if over or name in self._followed or self._places.get(name) is not place:\n",
        "            place = self._places[name]\n            if over or name in self._followed:\n",
        test=f"{_RULES}who_comes_back_within_the_ttl_stands_at_the_end",
    ),
)
