"""Every rule of the decision by an example, and what must hold whatever a Pod says of itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incumbent.audit.objects import Object
from incumbent.consent.decision import Asked, Rules, Sight, Verdict, Why, decide
from incumbent.consent.pods import shown
from incumbent.manifests import marks
from tests.consent.kit import ACTIVE, NOW, OWNER, SINGLE, budget, pod

ASKED = Asked("question-1", "default", "reports-0", "ann")
AGO = {
    minutes: shown(NOW - timedelta(minutes=minutes)) for minutes in (0, 1, 2, 4, 30, 59, 90, 300)
}


def verdict(
    made: Object | None = None, *, asked: Asked = ASKED, rules: Rules | None = None, **seen: Any
) -> Verdict:
    return decide(asked, Sight(made or pod(), **seen), rules or Rules(), NOW)


def noted(**more: str) -> dict[str, str]:
    """The annotations of a Pod with an owner, and further ones by the names in `marks`."""
    return {marks.OWNER: OWNER, **{getattr(marks, name): text for name, text in more.items()}}


# -- who is concerned -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {"app": "web"},
        {marks.SINGLETON: "false"},
        {marks.MODE: "active-standby"},
        {marks.MODE: "partly-singleton"},
        {marks.MODE: "active-standby", marks.ROLE: "standby"},
    ],
)
def test_others_and_standbys_pass_and_nothing_is_written(labels: dict[str, str]) -> None:
    found = verdict(pod(labels))
    assert (found.allowed, found.why, found.change) == (True, Why.UNCONCERNED, {})


@pytest.mark.parametrize(
    "labels",
    [SINGLE, {"app": "reports", marks.MODE: "at-most-one"}, {marks.MODE: "at-least-one"}],
)
def test_the_owner_of_an_only_replica_is_asked(labels: dict[str, str]) -> None:
    found = verdict(pod(labels))
    assert (found.allowed, found.why) == (False, Why.ASK_OWNER)
    assert found.retry_s > 0
    assert ("OwnerConsentRequired", f"owner: {OWNER}") in found.causes
    assert ("ConsentCommand", "kubectl incumbent consent reports-0 -n default") in found.causes
    assert OWNER in found.text
    assert "kubectl incumbent consent reports-0 -n default" in found.text
    assert found.change == {
        "annotations": {
            marks.EVICTION_REQUESTED: shown(NOW),
            marks.EVICTION_REQUESTED_BY: "ann",
            marks.EVICTION_REPEATED: shown(NOW),
        }
    }


def test_the_nearest_owner_counts() -> None:
    above = ({"x": "y"}, {marks.OWNER: "the workload's"}, {marks.OWNER: "too far"})
    assert verdict(pod(notes={}), above=above).owner == "the workload's"
    assert verdict(above=above).owner == OWNER


def test_without_an_owner_nobody_is_asked() -> None:
    found = verdict(pod(notes={}))
    assert (found.allowed, found.why) == (True, Why.NO_OWNER)
    assert verdict(pod(notes={marks.OWNER: "  "})).why is Why.NO_OWNER


@pytest.mark.parametrize(
    "gone",
    [
        pod(phase="Succeeded"),
        pod(phase="Failed"),
        pod(phase="Pending"),
        pod(ready=False),
        pod(deletionTimestamp=AGO[0]),
        {"metadata": {"name": "reports-0", "labels": SINGLE}},
    ],
)
def test_what_is_not_running_is_not_protected(gone: Object) -> None:
    found = verdict(gone)
    assert (found.allowed, found.why, found.change) == (True, Why.NOT_RUNNING, {})


# -- requests -------------------------------------------------------------------------------------


def test_the_first_request_is_kept_and_repetitions_are_rarely_written() -> None:
    asked_before = noted(EVICTION_REQUESTED=AGO[30], EVICTION_REPEATED=AGO[4])
    found = verdict(pod(notes=asked_before))
    assert found.change == {}
    assert AGO[30] in found.text
    asked_before[marks.EVICTION_REPEATED] = AGO[30]
    assert verdict(pod(notes=asked_before)).change == {
        "annotations": {marks.EVICTION_REPEATED: shown(NOW)}
    }


@pytest.mark.parametrize(
    "lapsed",
    [
        {"EVICTION_REQUESTED": AGO[300], "EVICTION_REPEATED": AGO[90]},
        {"EVICTION_REQUESTED": AGO[90]},
        {"EVICTION_REQUESTED": "yesterday"},
        {"EVICTION_REQUESTED": "2026-05-04T11:59:00"},
        {"EVICTION_REQUESTED": "9999-12-31T23:59:59-23:00"},
        {"EVICTION_REQUESTED": shown(NOW + timedelta(days=1))},
    ],
)
def test_a_request_that_lapsed_or_is_no_time_is_a_new_one(lapsed: dict[str, str]) -> None:
    rules = Rules(expiry=timedelta(minutes=5))
    found = verdict(pod(notes=noted(**lapsed)), rules=rules)
    assert (found.allowed, found.why) == (False, Why.ASK_OWNER)
    assert found.change["annotations"][marks.EVICTION_REQUESTED] == shown(NOW)


def test_an_expiry_counts_from_the_first_request() -> None:
    notes = noted(EVICTION_REQUESTED=AGO[59], EVICTION_REPEATED=AGO[1])
    assert verdict(pod(notes=notes), rules=Rules(expiry=timedelta(hours=1))).allowed is False
    found = verdict(pod(notes=notes), rules=Rules(expiry=timedelta(minutes=59)))
    assert (found.allowed, found.why) == (True, Why.EXPIRED)
    assert verdict(pod(notes=notes)).allowed is False, "none is the default"


# -- consent --------------------------------------------------------------------------------------


def test_once_is_used_up_by_the_write_that_lets_it_go() -> None:
    found = verdict(pod(notes=noted(CONSENT="once")))
    assert (found.allowed, found.why) == (True, Why.ONCE)
    assert found.change == {
        "labels": {marks.LET_GO: "true"},
        "annotations": {
            marks.CONSENT: None,
            marks.CONSENT_BY: None,
            marks.LET_GO_FOR: f"{shown(NOW)} question-1",
        },
    }


def test_who_consented_is_said() -> None:
    assert verdict(pod(notes=noted(CONSENT="once", CONSENT_BY="ann"))).text == (
        f"ann, for {OWNER}, has consented, once"
    )


def test_until_counts_until_then_and_is_not_used_up() -> None:
    later, over = shown(NOW + timedelta(seconds=1)), shown(NOW)
    found = verdict(pod(notes=noted(CONSENT=f"until {later}")))
    assert (found.allowed, found.why) == (True, Why.UNTIL)
    assert marks.CONSENT not in found.change["annotations"]
    assert verdict(pod(notes=noted(CONSENT=f"until {over}"))).why is Why.ASK_OWNER


@pytest.mark.parametrize("nonsense", ["yes", "Once", "until", "until tomorrow", "until 2026-05-05"])
def test_other_consent_is_none_and_the_refusal_says_so(nonsense: str) -> None:
    found = verdict(pod(notes=noted(CONSENT=nonsense)))
    assert found.why is Why.ASK_OWNER
    assert repr(nonsense) in found.text


def test_a_window_of_the_workload_lets_it_go_and_leaves_once_unused() -> None:
    window = {marks.MAINTENANCE_WINDOW: "0 11 * * MON 2h"}
    found = verdict(pod(notes=noted(CONSENT="once")), above=(window,))
    assert (found.allowed, found.why) == (True, Why.WINDOW)
    assert marks.CONSENT not in found.change["annotations"]
    assert "2026-05-04T13:00:00Z" in found.text


def test_a_window_that_cannot_be_understood_is_not_open_and_the_refusal_says_so() -> None:
    found = verdict(pod(notes=noted(MAINTENANCE_WINDOW="at night")))
    assert found.why is Why.ASK_OWNER
    assert "'at night'" in found.text


# -- what would be in the way ---------------------------------------------------------------------


def test_a_dry_run_gets_the_verdict_and_changes_nothing() -> None:
    dry = replace(ASKED, dry_run=True)
    for notes in (noted(), noted(CONSENT="once")):
        meant, tried = verdict(pod(notes=notes)), verdict(pod(notes=notes), asked=dry)
        assert meant.change
        assert tried == replace(meant, change={})


def test_an_eviction_of_another_uid_is_the_api_servers_to_refuse() -> None:
    found = verdict(pod(notes=noted(CONSENT="once")), asked=replace(ASKED, uid="uid-0"))
    assert (found.allowed, found.why, found.change) == (True, Why.OTHER_POD, {})
    assert verdict(asked=replace(ASKED, uid="uid-1")).why is Why.ASK_OWNER


def test_an_eviction_of_a_version_uses_up_no_consent_that_would_not_help_it() -> None:
    found = verdict(pod(notes=noted(CONSENT="once")), asked=replace(ASKED, version="7"))
    assert (found.allowed, found.why, found.change) == (False, Why.VERSION, {})


def test_a_budget_that_stands_leaves_once_unused() -> None:
    once = pod(notes=noted(CONSENT="once"))
    found = verdict(once, budgets=[budget(let_go=False)])
    assert (found.allowed, found.why) == (False, Why.BUDGET)
    assert marks.CONSENT not in found.change["annotations"]
    assert "the budget reports allows no disruption" in found.text
    two = [budget(let_go=False, allowed=1), budget(let_go=False, allowed=1, name="more")]
    assert "reports and more" in verdict(once, budgets=two).text
    assert verdict(once, budgets=[budget()]).allowed
    assert verdict(once, budgets=[budget(let_go=False, allowed=1)]).allowed


def test_the_label_of_one_that_was_let_go_is_taken_back_after_a_while() -> None:
    labels = {**SINGLE, marks.LET_GO: "true"}
    fresh = noted(LET_GO_FOR=f"{AGO[0]} question-0")
    assert "labels" not in verdict(pod(labels, fresh)).change
    stale = verdict(pod(labels, noted(LET_GO_FOR=f"{AGO[1]} question-0")))
    assert stale.why is Why.ASK_OWNER
    assert stale.change["labels"] == {marks.LET_GO: None}
    assert verdict(pod(labels, noted())).change["labels"] == {marks.LET_GO: None}


# -- the active one -------------------------------------------------------------------------------


def test_an_active_one_is_told_to_hand_over_once_and_passes_without_its_role() -> None:
    first = verdict(pod(ACTIVE), others=1)
    assert (first.allowed, first.why, first.retry_s) == (False, Why.HAND_OVER, 1)
    assert first.change["annotations"][marks.EVICTION_REQUESTED] == shown(NOW)
    assert first.change["annotations"][marks.HANDOVER_REQUESTED] == shown(NOW)
    told = noted(EVICTION_REQUESTED=AGO[0], EVICTION_REPEATED=AGO[0], HANDOVER_REQUESTED=AGO[0])
    assert verdict(pod(ACTIVE, told), others=1).change == {}
    relieved = {key: value for key, value in ACTIVE.items() if key != marks.ROLE}
    assert verdict(pod(relieved, told), others=1).why is Why.UNCONCERNED


class Drain:
    """Evictions of one active Pod, each of which finds what the one before has written."""

    def __init__(self, wait_s: int = 60) -> None:
        self.notes = noted()
        self.rules = Rules(handover=timedelta(seconds=wait_s))

    def ask(self, at_s: float, others: int = 1) -> Why:
        asked = Sight(pod(ACTIVE, self.notes), others=others)
        found = decide(ASKED, asked, self.rules, NOW + timedelta(seconds=at_s))
        for key, text in found.change.get("annotations", {}).items():
            assert text is not None
            self.notes[key] = text
        return found.why


@pytest.mark.parametrize("wait_s", [60, 600])
@pytest.mark.parametrize("every_s", [1, 5, 20, 90])
def test_whoever_goes_on_asking_comes_to_the_end_of_the_wait(every_s: int, wait_s: int) -> None:
    """Also if what lets it go fails after our yes, for a long time."""
    drain = Drain(wait_s)
    times = range(0, 3600, every_s)
    whys = [drain.ask(at_s) for at_s in times]
    assert whys == [Why.HAND_OVER if at_s < wait_s else Why.HANDOVER_OVERDUE for at_s in times]


def test_a_drain_that_was_given_up_has_used_up_nothing_of_the_next_ones_wait() -> None:
    drain = Drain()
    first = [drain.ask(at_s) for at_s in range(0, 40, 5)]
    assert set(first) == {Why.HAND_OVER}
    since = drain.notes[marks.EVICTION_REQUESTED]
    again = [drain.ask(1800 + at_s) for at_s in range(0, 65, 5)]
    assert again == [Why.HAND_OVER] * 12 + [Why.HANDOVER_OVERDUE]
    assert drain.notes[marks.EVICTION_REQUESTED] > since, "to the candidate it is another cause"


def test_the_wait_begins_when_there_is_somebody_to_hand_over_to() -> None:
    drain = Drain()
    alone = [drain.ask(at_s, others=0) for at_s in range(0, 600, 5)]
    assert set(alone) == {Why.ASK_OWNER}
    since = drain.notes[marks.EVICTION_REQUESTED]
    assert since == shown(NOW), "an owner's time counts on"
    both = [drain.ask(600 + at_s) for at_s in range(0, 65, 5)]
    assert both == [Why.HAND_OVER] * 12 + [Why.HANDOVER_OVERDUE]
    assert drain.notes[marks.EVICTION_REQUESTED] == since


@pytest.mark.parametrize("nonsense", ["soon", "2999-01-01T00:00:00Z", "0001-01-01T00:00:00Z"])
def test_a_time_of_a_handover_that_makes_no_sense_is_written_anew(nonsense: str) -> None:
    told = noted(EVICTION_REQUESTED=AGO[1], EVICTION_REPEATED=AGO[0], HANDOVER_REQUESTED=nonsense)
    found = verdict(pod(ACTIVE, told), others=1)
    assert found.why is Why.HAND_OVER
    assert found.change == {"annotations": {marks.HANDOVER_REQUESTED: shown(NOW)}}


def test_each_yes_writes_the_label_anew() -> None:
    """So it meets a removal of it in a write, and cannot rely on a label that just goes."""
    labels = {**SINGLE, marks.LET_GO: "true"}
    notes = noted(CONSENT="until 2999-01-01T00:00:00Z", LET_GO_FOR=f"{AGO[0]} question-0")
    assert verdict(pod(labels, notes)).change == {
        "labels": {marks.LET_GO: "true"},
        "annotations": {marks.LET_GO_FOR: f"{shown(NOW)} question-1"},
    }


def test_an_active_one_with_others_spends_no_consent() -> None:
    assert verdict(pod(ACTIVE, noted(CONSENT="once")), others=2).why is Why.HAND_OVER


def test_an_active_one_alone_is_as_an_only_replica() -> None:
    assert verdict(pod(ACTIVE)).why is Why.ASK_OWNER
    assert verdict(pod(ACTIVE, noted(CONSENT="once"))).why is Why.ONCE
    assert verdict(pod(ACTIVE, {})).why is Why.NO_OWNER


# -- whatever comes -------------------------------------------------------------------------------

_TEXTS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["once", "until 2026-05-04T13:00:00Z", "until x", "* * * * * 1h", *AGO.values()]
    ),
    st.datetimes().map(lambda when: f"{when.isoformat()}Z"),
)
_NOTES = st.dictionaries(
    st.sampled_from(
        [
            marks.OWNER,
            marks.CONSENT,
            marks.MAINTENANCE_WINDOW,
            marks.EVICTION_REQUESTED,
            marks.EVICTION_REPEATED,
            marks.HANDOVER_REQUESTED,
            marks.LET_GO_FOR,
        ]
    ),
    _TEXTS,
)
_LABELS = st.sampled_from(
    [SINGLE, {**SINGLE, marks.LET_GO: "true"}, ACTIVE, {**ACTIVE, **SINGLE}, {"app": "reports"}]
)
_BUDGETS = st.lists(st.builds(budget, allowed=st.integers(0, 1), let_go=st.booleans()), max_size=2)
_LETTING_GO = {Why.WINDOW, Why.UNTIL, Why.ONCE, Why.EXPIRED, Why.HANDOVER_OVERDUE}
_FREE = {Why.UNCONCERNED, Why.NO_OWNER, Why.NOT_RUNNING, Why.OTHER_POD}


@given(
    _LABELS,
    _NOTES,
    st.lists(_NOTES, max_size=2),
    st.integers(0, 2),
    _BUDGETS,
    st.booleans(),
    st.sampled_from(["", "uid-0", "uid-1"]),
    st.sampled_from(["", "7"]),
    st.one_of(st.none(), st.timedeltas(timedelta(0), timedelta(days=99))),
)
def test_whatever_a_pod_says_the_answer_is_yes_with_a_reason_or_not_yet_with_a_way_out(
    labels: dict[str, str],
    notes: dict[str, str],
    above: list[dict[str, str]],
    others: int,
    budgets: list[Object],
    dry_run: bool,
    uid: str,
    version: str,
    expiry: timedelta | None,
) -> None:
    asked = replace(ASKED, dry_run=dry_run, uid=uid, version=version)
    sight = Sight(pod(labels, notes), above, others, budgets)
    found = decide(asked, sight, Rules(expiry=expiry), NOW)
    changes = dict(found.change.get("annotations", {}))
    if found.allowed:
        assert found.why in _LETTING_GO | _FREE
    else:
        assert found.retry_s > 0
        assert found.why in {Why.ASK_OWNER, Why.HAND_OVER, Why.BUDGET, Why.VERSION}
        assert marks.CONSENT not in changes, "a refusal uses up nothing"
    if found.why is Why.ASK_OWNER:
        assert {"OwnerConsentRequired", "ConsentCommand"} <= {kind for kind, _ in found.causes}
        assert notes.get(marks.CONSENT) != "once"
    if found.why is Why.ONCE:
        assert notes[marks.CONSENT] == "once"
        assert dry_run or changes[marks.CONSENT] is None
    if dry_run or version or found.why in _FREE:
        assert not found.change
    if marks.CONSENT in changes:
        assert found.why is Why.ONCE
    assert len(found.text) < 5000
