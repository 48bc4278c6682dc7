"""Mistakes in the rules of pollers, and the test that finds each.

They are tried like those of `tests.stores.planted`; nothing of incumbent is imported here.
"""

from __future__ import annotations

from tests.simulator.mutants import Mutant, planted

__all__ = ["PLANTED_WORK"]

CALLING = "incumbent.workloads.polling.calling"
FACE = "incumbent.runtime.face"
MOUNTS = "incumbent.workloads.polling.mounts"
CLAIMS = "incumbent.workloads.polling.claims"
DIRECTORY = "incumbent.workloads.polling.directory"
ARRIVALS = "incumbent.workloads.polling.arrivals"
POLL = "incumbent.workloads.polling.poll"
ROWS = "incumbent.workloads.polling.rows"
SEALED = "incumbent.workloads.consumer.sealed"
KEYS = "incumbent.workloads.polling.keys"
HORIZON = "incumbent.workloads.polling.horizon"

_POLL = "tests/workloads/polling/test_poll.py::"
_ROWS = "tests/workloads/polling/test_rows.py::"
_FILES = "tests/workloads/polling/test_directory.py::"
_ANEW = f"{_ROWS}test_keys_that_begin_anew_end_the_work_before_a_row_is_passed_over"
_MISUSE = (
    "tests/workloads/test_misuse.py::"
    "test_what_shows_only_in_the_call_ends_the_run_and_is_no_fault_of_the_item"
)
_LATE = f"{_ROWS}test_a_smaller_key_that_is_committed_later_is_not_passed_over"
_CRASHES = f"{_FILES}test_nothing_is_lost_or_left_by_a_crash_before_any_step"
_FORMER = f"{_FILES}test_a_former_holder_changes_nothing_at_whichever_step_it_wakes"

PLANTED_WORK: tuple[Mutant, ...] = (
    # -- the generic poller
    planted(
        "a poller reads its checkpoint and does not seal it",
        POLL,
        "            await progress.open()\n",
        "            progress.value = (await env.archive.read(env.term.name, PART)).value\n",
        test=f"{_POLL}test_the_checkpoint_is_sealed_before_the_first_poll",
    ),
    planted(
        "a call that has begun is not waited for when the term is to end",
        CALLING,
        "            if awaits or gate.shut():\n",
        "            if True:\n",
        test=f"{_POLL}test_it_can_still_save_while_the_term_is_handed_over",
    ),
    planted(
        "a call begins although nobody waits for it any more",
        CALLING,
        "            if self._shut or self._term.ended:\n",
        "            if self._term.ended:\n",
        test=f"{_POLL}test_a_call_that_was_shut_out_never_begins",
    ),
    planted(
        "a poller takes a later holder's token for a failure that passes",
        CALLING,
        "(LeadershipLost, StaleToken, Misuse)",
        "(LeadershipLost, Misuse)",
        test=f"{_POLL}test_a_later_holder_ends_the_run_whatever_the_function_catches",
    ),
    planted(
        "a function that can be run nowhere is a failure of each file",
        CALLING,
        "(LeadershipLost, StaleToken, Misuse)",
        "(LeadershipLost, StaleToken)",
        test=f"{_MISUSE}[sync-hidden0-Directory]",
    ),
    planted(
        "what a call has made to be run later is taken for a result",
        FACE,
        "    if isgenerator(result) or isasyncgen(result):\n",
        "    if False:\n",
        test=f"{_MISUSE}[sync-hidden0-Consumer]",
    ),
    # -- files
    planted(
        "a holder takes the folder of another one with its token for its own",
        CLAIMS,
        "                raise self._namesake() from None\n",
        "                pass\n",
        test=f"{_FILES}test_two_holders_of_one_token_have_not_one_file",
    ),
    planted(
        "a file that has no folder to go to is taken for one that was taken by hand",
        CLAIMS,
        "            if into is not None and os.path.lexists(claim.path):\n",
        "            if False:\n",
        test=f"{_FILES}test_a_folder_that_is_removed_while_at_work_is_made_again[done-a]",
    ),
    planted(
        "a file that cannot be claimed is taken for one that is not there, again and again",
        CLAIMS,
        "            if not os.path.isdir(claim.path.parent):\n",
        "            if False:\n",
        test=f"{_FILES}test_folders_that_are_meddled_with_are_named",
    ),
    planted(
        "why a file has failed is written where another file may be",
        CLAIMS,
        'for ending in ("", *beside)',
        'for ending in ("",)',
        test=f"{_FILES}test_a_reason_replaces_no_file_of_that_name",
    ),
    planted(
        "a mount is told by the number of its device",
        MOUNTS,
        "            if error.errno == errno.EXDEV:\n",
        "            if False:\n",
        test=f"{_FILES}test_another_mount_of_the_same_file_system_is_refused",
    ),
    planted(
        "a file is done before it is handled",
        DIRECTORY,
        "            outcome = await called(env, self._handler, file, awaits=self._awaits)\n",
        "            await self._finished(env, claims, claim, self._done)\n"
        "            outcome = await called(env, self._handler, file, awaits=self._awaits)\n",
        test=_CRASHES,
    ),
    planted(
        "what a predecessor had in hand is not regained",
        CLAIMS,
        "                if token < self._token:\n",
        "                if token < 0:\n",
        test=_CRASHES,
    ),
    planted(
        "a file that was regained is begun as if it were new",
        CLAIMS,
        "attempt, strikes = claim.attempt + 1, claim.strikes + 1\n",
        "attempt, strikes = claim.attempt, claim.strikes\n",
        test=_CRASHES,
    ),
    planted(
        "a predecessor's folder is left, so that it can go on claiming",
        CLAIMS,
        "            os.rmdir(theirs)\n",
        "            pass\n",
        test=_FORMER,
    ),
    planted(
        "a holder looks for others before it makes its own folder",
        CLAIMS,
        "            self._judge(tokens)\n            for token in tokens:\n",
        "            for token in tokens:\n",
        test=f"{_FILES}test_a_holder_with_a_smaller_token_is_told_at_once",
    ),
    planted(
        "who finds its claim gone takes it for done by hand, and goes on",
        CLAIMS,
        "        if tokens and tokens[-1] > self._token:\n",
        "        if False:\n",
        test=_FORMER,
    ),
    planted(
        "a folder that is gone is made anew with all above it",
        CLAIMS,
        "                os.mkdir(folder)\n",
        "                os.makedirs(folder)\n",
        test=_FORMER,
    ),
    planted(
        "a claim is moved over another one of that name",
        CLAIMS,
        "                    attempt += 1\n",
        "                    break\n",
        test=f"{_FILES}test_two_files_of_one_name_in_hand_are_both_kept",
    ),
    planted(
        "a file that is done replaces an older one of that name",
        CLAIMS,
        "_free(into / claim.path.name, beside)",
        "into / claim.path.name",
        test=f"{_FILES}test_each_file_is_handled_and_moved",
    ),
    planted(
        "a crash does not count against a file",
        CLAIMS,
        "attempt, strikes = claim.attempt + 1, claim.strikes + 1\n",
        "attempt, strikes = claim.attempt + 1, claim.strikes\n",
        test=f"{_FILES}test_a_file_that_kills_its_process_is_put_aside_in_the_end",
    ),
    planted(
        "a handover counts against a file",
        CLAIMS,
        "            self._restated(claim, claim.attempt, claim.strikes - 1)\n",
        "            pass\n",
        test=f"{_FILES}test_a_handover_does_not_count_against_a_file",
    ),
    planted(
        "a handler that is stopped with its term counts against its file",
        DIRECTORY,
        "    asyncio.CancelledError,\n    LeadershipLost,\n",
        "    asyncio.CancelledError,\n",
        test=f"{_FILES}test_a_handler_that_stops_when_it_is_told_to_has_not_failed",
    ),
    planted(
        "a file is taken as soon as it is seen",
        ARRIVALS,
        "            seen[name] = (look, since_s if known == look else now_s)\n",
        "            seen[name] = (look, since_s)\n",
        test=f"{_FILES}test_what_is_being_written_is_not_taken",
    ),
    planted(
        "a file that cannot be moved is handled once more",
        DIRECTORY,
        "                failures += 1\n                logger.error(",
        "                raise\n                logger.error(",
        test=f"{_FILES}test_what_cannot_be_moved_is_moved_later_and_not_handled_again",
    ),
    # -- rows
    planted(
        "a cursor does not wait for those who write",
        HORIZON,
        "        self._writers = await self._now(db)\n",
        "        self._writers = set()\n",
        test=f"{_LATE}[psycopg-sync]",
    ),
    planted(
        "a cursor waits for whoever writes now, and so for ever on a busy table",
        HORIZON,
        "            self._writers &= await self._now(db)\n",
        "            self._writers = await self._now(db)\n",
        test=f"{_ROWS}test_those_who_came_later_are_not_waited_for",
    ),
    planted(
        "rows are read past those that are inserted and not committed",
        HORIZON,
        '    locking = " LOCK IN SHARE MODE"\n',
        "    pass\n",
        test=f"{_LATE}[pymysql-sync]",
    ),
    planted(
        "keys are not given the time to settle",
        HORIZON,
        "        if wait_s := await super().wait_s(db):\n",
        "        if wait_s := 0.0:\n",
        test=f"{_ROWS}test_rows_are_read_when_keys_have_settled",
    ),
    planted(
        "a cursor goes on after the edge although a page was full",
        ROWS,
        "        if len(items) < limit:\n",
        "        if True:\n",
        test=f"{_ROWS}test_there_may_be_more_rows_than_are_read_at_a_time",
    ),
    planted(
        "a row is handled although somebody else has done it",
        ROWS,
        '{"key": item.tag.key}) > 0\n',
        '{"key": item.tag.key}) >= 0\n',
        test=f"{_ROWS}test_a_row_that_was_done_since_it_was_read_is_not_handled",
    ),
    planted(
        "the key of rows need not be unique",
        KEYS,
        "    if not unique:\n",
        "    if False:\n",
        test=f"{_ROWS}test_a_key_that_two_rows_may_have_is_refused[sqlite-sync-settings0]",
    ),
    planted(
        "keys that begin anew are not looked for",
        ROWS,
        "                if self._after is not None and self._after != self._table.start:\n",
        "                if False:\n",
        test=f"{_ANEW}[sqlite-sync-while it is at work]",
    ),
    planted(
        "a table has no heirs",
        HORIZON,
        '        if found and found[0] == ("r", True):\n',
        "        if False:\n",
        test=f"{_ROWS}test_a_table_from_which_others_inherit_is_refused",
    ),
    planted(
        "a row that was buried stays new",
        SEALED,
        "isinstance(self._handler, Taker)",
        "False",
        test=f"{_ROWS}test_claimed_rows_are_done_with_their_effect[sqlite-sync]",
    ),
    planted(
        "a claimed row is known by its key, so that it is never handled again",
        ROWS,
        'f"{row[0]}@{self._token}.{next(self._found)}"',
        "str(row[0])",
        test=f"{_ROWS}test_claimed_rows_are_done_with_their_effect[sqlite-sync]",
    ),
    planted(
        "the rows' own session has that of the effects ended",
        ROWS,
        'f"{opening.work}/rows"',
        "opening.work",
        test=f"{_ROWS}test_by_urls[postgresql]",
    ),
)
