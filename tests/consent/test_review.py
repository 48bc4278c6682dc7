"""What an API server asks, in both versions of an eviction, and what comes of anything else."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incumbent.consent.decision import Asked, Verdict, Why
from incumbent.consent.review import Unreadable, answer, asked_of, not_yet
from tests.consent.kit import body, review


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_both_versions_of_an_eviction_ask_the_same(version: str) -> None:
    expected = Asked("question-1", "default", "reports-0", "ann")
    assert asked_of(body(review(version))) == expected


def test_a_dry_run_is_told_in_either_place() -> None:
    assert asked_of(body(review(dry_run=True))).dry_run
    assert asked_of(body(review(dryRun=["All"]))).dry_run
    assert not asked_of(body(review(dryRun=[], gracePeriodSeconds=1))).dry_run


def test_what_the_eviction_is_only_for_is_read() -> None:
    found = asked_of(body(review(preconditions={"uid": "u", "resourceVersion": "9"})))
    assert (found.uid, found.version) == ("u", "9")


def _with(**more: Any) -> dict[str, Any]:
    made = review()
    made["request"] = {**made["request"], **more}
    return made


@pytest.mark.parametrize(
    ("question", "uid"),
    [
        ([], ""),
        ({}, ""),
        ({"kind": "AdmissionReview"}, ""),
        ({"kind": "AdmissionReview", "request": {"uid": 7}}, ""),
        ({"kind": "Other", "request": {"uid": "q"}}, "q"),
        (_with(subResource="log"), "question-1"),
        (_with(operation="DELETE"), "question-1"),
        (_with(resource=None), "question-1"),
        (_with(name="", object=None), "question-1"),
        (_with(namespace=""), "question-1"),
    ],
)
def test_what_is_no_question_is_told_with_the_uid_that_it_has(question: object, uid: str) -> None:
    with pytest.raises(Unreadable) as caught:
        asked_of(body(question))
    assert caught.value.review == uid


_ODD: st.SearchStrategy[object] = st.sampled_from(
    [None, True, 7, "", "text", [], ["All"], {}, {"metadata": 1}, [[]]]
)
_PARTS = st.dictionaries(st.sampled_from(sorted(review()["request"])), _ODD)


@given(st.one_of(st.binary(), _ODD.map(body), _PARTS.map(lambda more: body(_with(**more)))))
def test_nothing_else_is_raised_whatever_comes(text: bytes) -> None:
    with contextlib.suppress(Unreadable):
        found = asked_of(text)
        assert found.review
        assert found.name
        assert found.namespace


def test_a_refusal_is_429_with_the_time_and_the_causes() -> None:
    verdict = Verdict(False, Why.ASK_OWNER, "ask", 3, (("ConsentCommand", "do"),))
    response = answer("q", verdict)["response"]
    assert (response["uid"], response["allowed"]) == ("q", False)
    assert response["status"] == {
        "code": 429,
        "reason": "TooManyRequests",
        "message": "ask",
        "details": {
            "retryAfterSeconds": 3,
            "causes": [{"reason": "ConsentCommand", "message": "do"}],
        },
    }
    assert answer("q", not_yet(Why.UNABLE, "x"))["response"]["status"]["code"] == 429


def test_a_yes_has_no_status() -> None:
    made = answer("q", Verdict(True, Why.ONCE, "may go"))
    assert made["response"] == {"uid": "q", "allowed": True}
    assert json.dumps(made)
