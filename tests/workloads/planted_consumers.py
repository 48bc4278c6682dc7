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
FILE = "incumbent.workloads.consumer.places.sqlite"
OWN = "incumbent.workloads.consumer.places.own"
PROGRESS = "incumbent.fencing.progress"
QUEUE = "incumbent.workloads.sources.postgresql"
STREAM = "incumbent.workloads.sources.redis"

_TEST = "tests/workloads/test_consumer.py::test_"
_DEATHS = "tests/workloads/test_consumer_deaths.py::test_"
_TROUBLE = "tests/workloads/test_consumer_trouble.py::test_"
_POSTGRES = "tests/workloads/test_consumer_postgresql.py::test_"
_ENDED = "tests/workloads/test_consumer_ended.py::test_"
_SESSIONS = "tests/workloads/test_consumer_sessions.py::test_"
_IDS = "tests/workloads/test_consumer_ids.py::test_"
_REDIS = "tests/workloads/test_consumer_redis.py::test_"

PLANTED_CONSUMERS: tuple[Mutant, ...] = (
    planted(
        "consumer: nothing is sealed when the term begins",
        SEALED,
        "        return await self._transact(self._read)\n",
        '        return ""\n',
        test=f"{_TEST}a_position_is_committed_with_the_effect[sync]",
    ),
    planted(
        "consumer: an item is handled without a seal and an id",
        SEALED,
        "        noted = await self._noted(db, item)\n        if not",
        "        return True\n        if not",
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
        "            meant = self._meant(error, committing=committing)\n            gone =",
        "            meant = self._meant(error, committing=committing)\n"
        "            if committing and isinstance(meant, SourceUnavailable):\n"
        "                return result\n"
        "            gone =",
        test=f"{_TEST}a_commit_of_which_nobody_heard_is_asked_about[sync]",
    ),
    planted(
        "consumer: a commit of which nobody heard is taken for none, and the item for another",
        SEALED,
        "self._fence.noted_in(db, item.id, item.position",
        'self._fence.noted_in(db, f"{item.id} {id(self._connection)}", item.position',
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
        "        await self._place.whole(self._connection, db, self._held)\n",
        "",
        test=f"{_POSTGRES}a_statement_that_fails_in_silence_does_not_pass_for_done[sync]",
    ),
    planted(
        "consumer: nobody asks for the term before the commit",
        SEALED,
        "            self.term.check()\n            self._theirs = committing = True\n",
        "            self._theirs = committing = True\n",
        test=f"{_TEST}a_handler_that_outlives_its_term_commits_nothing[sync]",
    ),
    planted(
        "consumer: several items share a transaction without being told",
        PLACE,
        'f"COMMIT; BEGIN; SAVEPOINT {_SAVEPOINT}"',
        'f"SAVEPOINT {_SAVEPOINT}"',
        test=f"{_POSTGRES}each_item_is_committed_before_the_next_one_begins[sync]",
    ),
    planted(
        "consumer: what one handler set for its transaction holds for the next one",
        PLACE,
        'f"COMMIT; BEGIN; SAVEPOINT {_SAVEPOINT}"',
        'f"COMMIT AND CHAIN; SAVEPOINT {_SAVEPOINT}"',
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
        "self._fence.noted_in(db, item.id, item.position",
        'self._fence.noted_in(db, f"{item.id} {id(self._connection)}", item.position',
        SEALED,
        "taking = None if self._joined is None else self._joined.taking(item)",
        "taking = None",
        test=f"{_POSTGRES}a_commit_that_also_begins_is_asked_about_if_nobody_heard_of_it[sync]",
    ),
    planted(
        "consumer: what a handler has begun is committed as if it were sealed",
        PLACE,
        "        if held:\n            await self._send",
        "        if False:\n            await self._send",
        test=f"{_ENDED}a_transaction_that_a_handler_begins_is_not_taken_for_ours[postgresql-1]",
    ),
    planted(
        "consumer: what a handler has begun is committed, and the next one begun",
        PLACE,
        'before = self._same(held) + b"; " if held else b""',
        'before = b""',
        test=f"{_ENDED}what_follows_the_end_of_the_transaction_is_not_committed"
        "[postgresql-1-COMMIT]",
    ),
    planted(
        "consumer: of a batch the last seal is as good as the first",
        PLACE,
        "        if held and held != noted.transaction:\n",
        "        if False:\n",
        test=f"{_ENDED}a_transaction_that_a_handler_begins_is_not_taken_for_ours[postgresql-2]",
    ),
    planted(
        "consumer: nobody looks for the savepoint",
        OWN,
        'f"RELEASE SAVEPOINT {_SAVEPOINT}"',
        '"SELECT 1"',
        test=f"{_ENDED}what_follows_the_end_of_the_transaction_is_not_committed[function-1-COMMIT]",
    ),
    planted(
        "consumer: nobody looks for the number of the transaction",
        OWN,
        "            if str(number) != held:\n",
        "            if False:\n",
        test=f"{_ENDED}what_follows_the_end_of_the_transaction_is_not_committed"
        "[psycopg-1-ROLLBACK]",
    ),
    planted(
        "consumer: SQLite is not told what a handler may",
        FILE,
        "        if action != sqlite3.SQLITE_TRANSACTION or self._ours:\n",
        "        if action:\n",
        test=f"{_ENDED}sqlite_refuses_it_before_it_happens[with-sqlite]",
    ),
    planted(
        "consumer: an item of which a part is committed counts as done",
        SEALED,
        "        asked = [item for item in items if item.id in self._unsent]\n",
        "        asked: list[Item] = []\n",
        test=f"{_ENDED}an_item_of_which_a_part_is_committed_is_neither_done_nor_tried_again"
        "[psycopg]",
    ),
    planted(
        "queue: what a producer has sent twice stays in the table",
        PROGRESS,
        "{taking} AND EXISTS (SELECT 1 FROM held WHERE token <= :token) RETURNING 1",
        "{taking} AND EXISTS (SELECT 1 FROM noted) RETURNING 1",
        test=f"{_IDS}what_a_producer_has_sent_twice_is_taken_out_twice[sync]",
    ),
    planted(
        "queue: a row that is not there is noted as done",
        SEALED,
        "        if not noted.known and not noted.first:\n",
        "        if False:\n",
        test=f"{_IDS}a_row_that_was_taken_out_by_hand_is_passed_over_without_a_trace[sync]",
    ),
    planted(
        "queue: a row is its number",
        QUEUE,
        'name or f"#{tx}/{id_}"',
        "name or str(id_)",
        test=f"{_IDS}numbers_of_rows_may_come_again[sync]",
    ),
    planted(
        "consumer: ids are forgotten as soon as fewer are to be kept",
        SEALED,
        "        return max(self._remember, self._former) if self._left else self._remember\n",
        "        return self._remember\n",
        test=f"{_IDS}fewer_ids_are_kept_only_when_all_that_may_come_again_has_come[sync]",
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
        'f"DELETE FROM {self._full_name} WHERE id = :id AND tx = CAST(:tx AS xid8)"',
        "(\n"
        '            f"DELETE FROM {self._full_name} WHERE id IN (SELECT id "\n'
        '            f"FROM {self._full_name} "\n'
        '            "WHERE id = :id AND tx = CAST(:tx AS xid8) FOR UPDATE SKIP LOCKED)"\n'
        "        )",
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
    planted(
        "consumer: what is prepared stays in sessions that a pooler lends to others",
        SERVER,
        "    if process != connection.info.backend_pid:\n",
        "    if False:\n",
        test=f"{_SESSIONS}behind_a_pooler_nothing_is_prepared[sync]",
    ),
)
