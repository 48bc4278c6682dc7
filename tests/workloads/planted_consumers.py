"""Mistakes in the consumers and their sources, and the test that finds each.

They are tried like those of `tests.simulator.mutants`. Nothing of incumbent is imported here: who
tries a mistake has to be able to plant it first.
"""

from __future__ import annotations

from tests.simulator.mutants import Mutant, planted

__all__ = ["PLANTED_CONSUMERS"]

BEGUN = "incumbent.workloads.consumer.begun"
HAND = "incumbent.workloads.consumer.hand"
MACHINE = "incumbent.workloads.consumer.machine"
SEALED = "incumbent.workloads.consumer.sealed"
SERVER = "incumbent.workloads.postgresql"
PLACE = "incumbent.workloads.consumer.places.postgresql"
QUEUE = "incumbent.workloads.sources.postgresql"
STREAM = "incumbent.workloads.sources.redis"

_TEST = "tests/workloads/test_consumer.py::test_"
_DEATHS = "tests/workloads/test_consumer_deaths.py::test_"
_TROUBLE = "tests/workloads/test_consumer_trouble.py::test_"
_POSTGRES = "tests/workloads/test_consumer_postgresql.py::test_"
_REDIS = "tests/workloads/test_consumer_redis.py::test_"

PLANTED_CONSUMERS: tuple[Mutant, ...] = (
    planted(
        "consumer: nothing is sealed when the term begins",
        SEALED,
        "        return await self._transact(self._fence.checkpoint_in)\n",
        '        return ""\n',
        test=f"{_TEST}a_position_is_committed_with_the_effect[sync]",
    ),
    planted(
        "consumer: an item is handled without a seal and an id",
        SEALED,
        "        return await self._fence.once_in(",
        "        return True\n        return await self._fence.once_in(",
        test=f"{_TEST}what_the_broker_did_not_hear_is_not_done_again[sync]",
    ),
    planted(
        "consumer: the broker is told before the commit",
        MACHINE,
        "            outcome = await self._handed(left if",
        "            await self._told(left)\n            outcome = await self._handed(left if",
        test=f"{_TEST}items_are_handled_in_order_and_told_after_the_commit[sync-1]",
    ),
    planted(
        "consumer: what is new comes before what is regained",
        MACHINE,
        "        while items := await self._source.regain(limit):\n"
        "            await self._work(items)\n"
        "        while True:\n"
        "            items = await self._source.next(limit)\n"
        "            await self._work(items)\n",
        "        while True:\n"
        "            items = await self._source.next(limit)\n"
        "            await self._work(items)\n"
        "            await self._work(await self._source.regain(limit))\n",
        test=f"{_TEST}a_successor_begins_with_what_was_in_hand[sync]",
    ),
    planted(
        "consumer: what cannot be buried is given and handled in a hot loop",
        MACHINE,
        "            items = await self._source.next(limit)\n",
        "            items = await self._source.next(limit)\n            self._wait_s = 0.0\n",
        test=f"{_TROUBLE}one_that_cannot_be_buried_is_no_hot_loop[sync]",
    ),
    planted(
        "consumer: a failure whose text nobody can keep is never settled",
        MACHINE,
        "        reason = said(error)\n",
        '        reason = f"{type(error).__name__}: {error}"\n',
        test=f"{_TROUBLE}whatever_a_failure_says_it_is_buried_and_the_rest_goes_on[sync-error0]",
    ),
    planted(
        "consumer: a failed item goes to the end of those in hand",
        MACHINE,
        "                    left[0].attempt += 1\n",
        "                    left[0].attempt += 1\n                    left.append(left.pop(0))\n",
        test=f"{_TEST}what_fails_is_tried_again_then_buried_and_the_rest_goes_on_in_order[sync]",
    ),
    planted(
        "consumer: a dead letter is not marked as done",
        MACHINE,
        "lambda: self._hand.bury(item, reason, keep=not in_source)",
        "self._hand.open",
        test=f"{_TEST}the_dead_letters_may_be_the_sources[sync]",
    ),
    planted(
        "consumer: a commit of which nobody heard is taken for one",
        SEALED,
        "            meant = self._meant(error)\n            gone =",
        "            meant = self._meant(error)\n"
        "            if committing and isinstance(meant, SourceUnavailable):\n"
        "                return result\n"
        "            gone =",
        test=f"{_TEST}a_commit_of_which_nobody_heard_is_asked_about[sync]",
    ),
    planted(
        "consumer: a commit of which nobody heard is taken for none, and the item for another",
        SEALED,
        "self._fence.once_in(db, item.id, item.position",
        'self._fence.once_in(db, f"{item.id} {id(self._connection)}", item.position',
        test=f"{_TEST}a_commit_of_which_nobody_heard_is_asked_about[sync]",
    ),
    planted(
        "consumer: one that fails in a batch takes the others along",
        HAND,
        "                if len(some) > 1:\n",
        "                if False:\n",
        test=f"{_TEST}one_of_a_batch_that_fails_does_not_take_the_others_along[sync]",
    ),
    planted(
        "consumer: what the hand has done when the term ends is not told",
        MACHINE,
        "            if self._hand.settled:\n",
        "            if False:\n",
        test=f"{_TEST}a_planned_handover_tells_what_is_done_and_hands_the_rest_on[sync]",
    ),
    planted(
        "consumer: a database that is away is a failure of the item",
        HAND,
        "            except SourceUnavailable as error:\n",
        "            except SourceUnavailable as error:\n"
        "                return Outcome(self.settled, failed=error)\n"
        "            except ZeroDivisionError as error:\n",
        test=f"{_TEST}a_database_that_is_away_is_no_fault_of_the_item[sync]",
    ),
    planted(
        "consumer: a transaction of which a statement failed is committed",
        SEALED,
        "            await self._place.whole(self._connection)\n",
        "",
        test=f"{_POSTGRES}a_statement_that_fails_in_silence_does_not_pass_for_done[sync]",
    ),
    planted(
        "consumer: nobody asks for the term before the commit",
        SEALED,
        "            self.term.check()\n            committing = True\n",
        "            committing = True\n",
        test=f"{_TEST}a_handler_that_outlives_its_term_commits_nothing[sync]",
    ),
    planted(
        "consumer: several items share a transaction without being told",
        PLACE,
        'await self._cursor.execute("COMMIT; BEGIN")',
        'await self._cursor.execute("SELECT 1")',
        PLACE,
        '            self._cursor.execute("COMMIT; BEGIN")\n        return',
        '            self._cursor.execute("SELECT 1")\n        return',
        test=f"{_POSTGRES}each_item_is_committed_before_the_next_one_begins[sync]",
    ),
    planted(
        "consumer: what one handler set for its transaction holds for the next one",
        PLACE,
        '            self._cursor.execute("COMMIT; BEGIN")\n        return',
        '            self._cursor.execute("COMMIT AND CHAIN")\n        return',
        test=f"{_POSTGRES}each_item_is_committed_before_the_next_one_begins[sync]",
    ),
    planted(
        "consumer: the transaction of an item that does not come stays open",
        SEALED,
        "        begun, self._begun = self._begun, None\n        if begun is not None:\n",
        "        begun = None\n        if begun is not None:\n",
        test=f"{_POSTGRES}no_transaction_is_open_while_the_broker_is_told[sync]",
    ),
    planted(
        "consumer: a commit that also begins is taken for none, and the item for another",
        SEALED,
        "self._fence.once_in(db, item.id, item.position",
        'self._fence.once_in(db, f"{item.id} {id(self._connection)}", item.position',
        SEALED,
        "taking = None if self._joined is None else self._joined.taking(item)",
        "taking = None",
        test=f"{_POSTGRES}a_commit_that_also_begins_is_asked_about_if_nobody_heard_of_it[sync]",
    ),
    planted(
        "queue: rows are read in the order of their numbers",
        QUEUE,
        "AND tx < pg_snapshot_xmin(pg_current_snapshot())\nORDER BY tx, id LIMIT",
        "ORDER BY tx, id LIMIT",
        test=f"{_POSTGRES}what_commits_late_is_waited_for[sync]",
    ),
    planted(
        "queue: a predecessor's session keeps its row",
        SERVER,
        "    await execute(_END_EARLIER, _earlier(work, term.token, part))\n",
        "    return\n",
        test=f"{_POSTGRES}the_open_transaction_of_a_predecessor_is_ended[sync]",
    ),
    planted(
        "queue: a head that somebody has locked is jumped over",
        QUEUE,
        "ORDER BY tx, id LIMIT 1 FOR UPDATE\n",
        "ORDER BY tx, id LIMIT 1\n",
        QUEUE,
        'return f"DELETE FROM {self._table} WHERE id = :id", {"id": item.tag}',
        "return (\n"
        '            f"DELETE FROM {self._table} WHERE id IN (SELECT id FROM {self._table} "\n'
        '            "WHERE id = :id FOR UPDATE SKIP LOCKED)"\n'
        '        ), {"id": item.tag}',
        test=f"{_POSTGRES}the_open_transaction_of_somebody_else_is_waited_for[sync]",
    ),
    planted(
        "queue: rows from another server wait for ever",
        QUEUE,
        "        if future:\n",
        "        if False:\n",
        test=f"{_POSTGRES}what_was_restored_from_another_server_is_refused[sync]",
    ),
    planted(
        "stream: new entries before the pending ones",
        STREAM,
        "        self._after, self._left = _ZERO, True\n",
        "        self._after, self._left = _ZERO, False\n",
        STREAM,
        "        if int(summary[0]) > len(entries):\n",
        "        if False:\n",
        test=f"{_REDIS}what_a_predecessor_had_in_hand_comes_first[sync]",
    ),
    planted(
        "stream: what others of the group have is left to them",
        STREAM,
        "            await self._look(stream)\n            await self._claim()\n",
        "            await self._look(stream)\n",
        STREAM,
        "            await self._claim()\n        else:\n",
        "            pass\n        else:\n",
        test=f"{_REDIS}what_a_predecessor_had_in_hand_comes_first[sync]",
    ),
    planted(
        "stream: nobody counts what a former holder takes",
        STREAM,
        "        if int(summary[0]) > len(entries):\n",
        "        if False:\n",
        test=f"{_REDIS}what_a_former_holder_takes_late_is_regained_in_its_place[sync]",
    ),
    planted(
        "stream: a group that was lost begins anew",
        STREAM,
        '        begin = position if position and known <= last else "0"\n',
        '        begin = "0"\n',
        STREAM,
        "            elif _number(text) <= self._floor:\n",
        "            elif False:\n",
        test=f"{_REDIS}a_server_that_forgets_acknowledgements_gets_no_item_done_twice[sync]",
    ),
    planted(
        "stream: a position of another stream passes over what is new",
        STREAM,
        '        begin = position if position and known <= last else "0"\n',
        '        begin = position or "0"\n',
        test=f"{_REDIS}a_server_that_lost_entries_numbers_new_ones_as_it_likes[sync]",
    ),
    planted(
        "stream: what is done in this term is done again when the group is set back",
        STREAM,
        "        self._floor = max(self._floor, _number(items[-1].position))\n",
        "",
        test=f"{_REDIS}a_group_that_is_set_back_in_a_live_term_gets_no_item_done_twice"
        "[sync-set back]",
    ),
    planted(
        "stream: another stream in a live term is passed over",
        STREAM,
        " < self._floor:\n                raise",
        " < (0, 0):\n                raise",
        test=f"{_REDIS}a_stream_that_is_another_one_in_a_live_term_is_not_passed_over[sync]",
    ),
    planted(
        "stream: what may be new is passed over in silence",
        STREAM,
        "                self._doubtful = position\n",
        "                pass\n",
        test=f"{_REDIS}what_cannot_be_told_from_what_is_done_is_an_error_in_the_log[sync]",
    ),
    planted(
        "stream: what others take in a live term is waited for",
        STREAM,
        "            await self._claim()\n        else:\n",
        "            pass\n        else:\n",
        test=f"{_REDIS}what_a_foreign_consumer_takes_is_claimed_in_its_place_and_said_once[sync]",
    ),
    planted(
        "stream: large entries are asked for over and over",
        STREAM,
        "                    self._most = count // 2\n",
        "                    self._most = count\n",
        test=f"{_REDIS}large_entries_over_a_slow_way_are_asked_for_by_less",
    ),
    planted(
        "stream: deleted entries are passed over in silence",
        STREAM,
        "                self._tell_deleted(_text(number))\n",
        "                pass\n",
        test=f"{_REDIS}deleted_entries_are_not_passed_over_in_silence[sync]",
    ),
    planted(
        "consumer: a term that ends in order counts as a death",
        MACHINE,
        "        if self._begun is None:\n            return\n",
        "        return\n",
        test=f"{_DEATHS}terms_that_end_in_order_count_for_nothing[aio]",
    ),
    planted(
        "consumer: the first of a batch is blamed for the others",
        MACHINE,
        "        self._careful = self._machine.prefetch\n",
        "",
        test=f"{_DEATHS}after_a_death_items_share_no_transaction[sync-1-committed0]",
    ),
    planted(
        "consumer: what is done and comes again is blamed",
        BEGUN,
        "        if await done(db, self._work.resource, item):\n            return None\n",
        "",
        test=f"{_DEATHS}what_is_done_and_comes_again_is_not_blamed[sync]",
    ),
    planted(
        "consumer: a term counts itself twice",
        BEGUN,
        "            former -= 1\n",
        "            pass\n",
        test=f"{_DEATHS}a_former_holder_changes_nothing_and_the_same_term_counts_once",
    ),
    planted(
        "consumer: a former holder notes with which item it had begun",
        BEGUN,
        "        await self._work.checkpoint_in(db)\n        if await done",
        "        if await done",
        test=f"{_DEATHS}a_former_holder_changes_nothing_and_the_same_term_counts_once",
    ),
    planted(
        "consumer: nobody counts who has died of an item",
        MACHINE,
        "            if self._begins and (deadly",
        "            if not left and (deadly",
        test=f"{_DEATHS}five_deaths_are_too_many_unless_more_are_asked_for[sync-None]",
    ),
)
