"""Mistakes in the rules of pollers, and the test that finds each.

They are tried like those of `tests.stores.planted`; nothing of incumbent is imported here.
"""

from __future__ import annotations

from tests.simulator.mutants import Mutant, planted

__all__ = ["PLANTED_WORK"]

CALLING = "incumbent.workloads.polling.calling"
CLAIMS = "incumbent.workloads.polling.claims"
DIRECTORY = "incumbent.workloads.polling.directory"
ARRIVALS = "incumbent.workloads.polling.arrivals"
POLL = "incumbent.workloads.polling.poll"

_POLL = "tests/workloads/polling/test_poll.py::"
_FILES = "tests/workloads/polling/test_directory.py::"
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
        "not isinstance(error, (LeadershipLost, StaleToken))",
        "not isinstance(error, LeadershipLost)",
        test=f"{_POLL}test_a_later_holder_ends_the_run_whatever_the_function_catches",
    ),
    # -- files
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
        "_free(into / claim.path.name)",
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
)
