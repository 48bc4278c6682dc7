"""Mistakes in what answers evictions, and the test that finds each.

They are tried like those of `tests.simulator.mutants`. Nothing of incumbent is imported here: who
tries a mistake has to be able to plant it first.
"""

from __future__ import annotations

from tests.simulator.mutants import Mutant, planted

__all__ = ["PLANTED"]

PODS = "incumbent.consent.pods"
DECISION = "incumbent.consent.decision"
REVIEW = "incumbent.consent.review"
DESK = "incumbent.consent.desk"
HANDOVER = "incumbent.consent.handover"
SWEEP = "incumbent.consent.sweep"

_DESK = "tests/consent/test_desk.py::test_"
_DECISION = "tests/consent/test_decision.py::test_"
_REVIEW = "tests/consent/test_review.py::test_"
_HANDOVER = "tests/consent/test_handover.py::test_"
_SWEEP = "tests/consent/test_sweep.py::test_"

PLANTED: tuple[Mutant, ...] = (
    planted(
        "consent: written whatever has become of the Pod",
        PODS,
        '        "uid": at(pod, "metadata", "uid"),\n'
        '        "resourceVersion": at(pod, "metadata", "resourceVersion"),\n',
        "",
        test=f"{_DESK}of_many_that_ask_two_replicas_at_once_one_uses_the_consent",
    ),
    planted(
        "consent: written into whatever has the Pod's name",
        PODS,
        '        "uid": at(pod, "metadata", "uid"),\n'
        '        "resourceVersion": at(pod, "metadata", "resourceVersion"),\n',
        "",
        test=f"{_DESK}the_next_pod_of_the_same_name_has_no_consent",
    ),
    planted(
        "consent: once is not used up",
        DECISION,
        "            used = {marks.CONSENT: None, marks.CONSENT_BY: None}\n",
        "            used = {marks.CONSENT_BY: None}\n",
        test=f"{_DECISION}once_is_used_up_by_the_write_that_lets_it_go",
    ),
    planted(
        "consent: a yes does not wait for its write",
        DESK,
        "            except (Conflict, OutcomeUnknown):\n                continue\n",
        "            except (Conflict, OutcomeUnknown):\n                pass\n",
        test=f"{_DESK}of_many_that_ask_two_replicas_at_once_one_uses_the_consent",
    ),
    planted(
        "consent: a write whose answer was lost is not read back",
        DESK,
        "if case.verdict is not None and _wrote(sight, asked):",
        "if case.verdict is None and _wrote(sight, asked):",
        test=f"{_DESK}a_write_whose_answer_is_lost_is_read_back",
    ),
    planted(
        "consent: what was seen to wait falls to the failure policy",
        DESK,
        "        if verdict is None:\n            text",
        "        if verdict is None or not verdict.allowed:\n            text",
        test=f"{_DESK}what_is_known_to_wait_waits_also_if_that_cannot_be_recorded",
    ),
    planted(
        "consent: a yes that was not written down is said",
        DESK,
        "        if not verdict.allowed:\n            return replace(",
        "        if verdict.allowed:\n            return verdict\n"
        "        if not verdict.allowed:\n            return replace(",
        test=f"{_DESK}a_yes_that_cannot_be_written_down_is_not_yet",
    ),
    planted(
        "consent: a dry run in the eviction's own options is none",
        REVIEW,
        'at(request, "dryRun") is True or bool(dry)',
        'at(request, "dryRun") is True',
        test=f"{_DESK}a_dry_run_in_the_evictions_own_options_writes_nothing",
    ),
    planted(
        "consent: once is used up before the budgets are looked at",
        DECISION,
        "        if standing:\n",
        "        if standing and why is not Why.ONCE:\n",
        test=f"{_DECISION}a_budget_that_stands_leaves_once_unused",
    ),
    planted(
        "consent: a request of another month counts for an expiry",
        PODS,
        "now - max(requested, repeated) < LAPSES",
        "now - max(requested, repeated) < 9999 * LAPSES",
        test=f"{_DECISION}a_request_that_lapsed_or_is_no_time_is_a_new_one",
    ),
    planted(
        "consent: the label is taken back under the eviction that it was set for",
        DECISION,
        "if marks.LET_GO in self._labels and not self._lingers():",
        "if marks.LET_GO in self._labels:",
        test=f"{_DECISION}the_label_of_one_that_was_let_go_is_taken_back_after_a_while",
    ),
    planted(
        "consent: the label of a failed eviction stays",
        DECISION,
        "if marks.LET_GO in self._labels and not self._lingers():",
        "if False:",
        test=f"{_DECISION}the_label_of_one_that_was_let_go_is_taken_back_after_a_while",
    ),
    planted(
        "consent: the first request is moved on",
        DECISION,
        "        if self._requested is None:\n            notes[marks.EVICTION_REQUESTED]",
        "        if True:\n            notes[marks.EVICTION_REQUESTED]",
        test=f"{_DECISION}the_first_request_is_kept_and_repetitions_are_rarely_written",
    ),
    planted(
        "consent: a drain that was given up has used up the handover's wait",
        DECISION,
        "        if self._has_paused():\n",
        "        if False:\n",
        test=f"{_DECISION}a_drain_that_was_given_up_has_used_up_nothing_of_the_next_ones_wait",
    ),
    planted(
        "consent: the handover's wait runs while there is nobody to hand over to",
        DECISION,
        "        told_at = self._told_to_hand_over()\n",
        "        told_at = self._requested\n",
        test=f"{_DECISION}the_wait_begins_when_there_is_somebody_to_hand_over_to",
    ),
    planted(
        "consent: each try of a drain is a drain of its own",
        DECISION,
        "        return latest is not None and self._now - latest > PAUSE\n",
        "        return latest is not None and self._now > latest\n",
        test=f"{_DECISION}whoever_goes_on_asking_comes_to_the_end_of_the_wait",
    ),
    planted(
        "consent: a repetition is written down too late to be one",
        DECISION,
        "every = PAUSE_SEEN_EVERY if self._kind is Kind.ACTIVE else REPEATED_EVERY",
        "every = REPEATED_EVERY",
        test=f"{_DECISION}whoever_goes_on_asking_comes_to_the_end_of_the_wait",
    ),
    planted(
        "consent: a yes relies on a label that is there",
        DECISION,
        '        labels: dict[str, str | None] = {marks.LET_GO: "true"}\n'
        "        notes: dict[str, str | None] = {\n",
        "        if marks.LET_GO in self._labels and not more:\n"
        "            return Verdict(True, why, text, owner=self.owner)\n"
        '        labels: dict[str, str | None] = {marks.LET_GO: "true"}\n'
        "        notes: dict[str, str | None] = {\n",
        test=f"{_SWEEP}a_yes_and_a_removal_that_meet_leave_the_label",
    ),
    planted(
        "sweep: the label goes under the eviction that it was set for",
        SWEEP,
        " >= STANDS_S:\n",
        " >= 0:\n",
        test=f"{_SWEEP}a_label_is_taken_off_when_it_was_seen_to_stand",
    ),
    planted(
        "sweep: a label that was set anew counts from the first one",
        SWEEP,
        'get(marks.LET_GO_FOR, "")\n    return',
        'get(marks.LET_GO, "")\n    return',
        test=f"{_SWEEP}one_that_was_set_anew_stands_anew",
    ),
    planted(
        "sweep: written whatever has become of the Pod",
        PODS,
        '        "resourceVersion": at(pod, "metadata", "resourceVersion"),\n',
        "",
        test=f"{_SWEEP}a_yes_and_a_removal_that_meet_leave_the_label",
    ),
    planted(
        "sweep: the label of one that ends is taken off",
        SWEEP,
        " for pod in pods if not _ends(pod)}",
        " for pod in pods}",
        test=f"{_SWEEP}one_that_ends_is_left_alone",
    ),
    planted(
        "handover: for nobody",
        HANDOVER,
        "if not fresh or not await self._somebody(client, pod):",
        "if not fresh:",
        test=f"{_HANDOVER}it_hands_over_once_when_its_eviction_is_wanted_and_another_is_there",
    ),
    planted(
        "handover: again and again",
        HANDOVER,
        "        self._done |= fresh\n",
        "",
        test=f"{_HANDOVER}it_hands_over_once_when_its_eviction_is_wanted_and_another_is_there",
    ),
    planted(
        "handover: to one that is to go as well",
        PODS,
        "        and not is_wanted_away(other, now)\n",
        "",
        test=f"{_HANDOVER}two_that_are_both_to_go_do_not_pass_it_to_and_fro",
    ),
    planted(
        "handover: to one whose node is cordoned",
        HANDOVER,
        "            if not await self._cordoned(client, str(at(other",
        "            if True or await self._cordoned(client, str(at(other",
        test=f"{_HANDOVER}it_hands_over_when_its_node_is_cordoned_to_one_whose_node_is_not",
    ),
)
