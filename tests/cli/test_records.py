"""Records in words, and what changed between two of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from incumbent.cli.records import as_json, change, note
from incumbent.core.records import Holding, Snapshot, StepDownRequest, absent

HELD = Snapshot(
    name="bill",
    holding=Holding.HELD,
    version=7,
    serial=7,
    holder="a_1",
    term="a_1/x.1",
    token=7,
    ttl_s=5.0,
    lease_key="s",
    lease_version=1,
)
VACANT = replace(HELD, holding=Holding.VACANT, version=8, lease_key="", lease_version="void")
FOREIGN = Snapshot("bill", Holding.FOREIGN, version="?", serial=0, why="format 9")


@pytest.mark.parametrize(
    ("before", "now", "event"),
    [
        (None, HELD, "now"),
        (None, absent("bill"), "now"),
        (HELD, HELD, ""),
        (HELD, replace(HELD, lease_version=2), "renewed"),
        (HELD, replace(HELD, version=9, request=StepDownRequest("a_1/x.1")), "asked"),
        (HELD, replace(HELD, version=9), "changed"),
        (HELD, VACANT, "vacant"),
        (VACANT, VACANT, ""),
        (VACANT, replace(VACANT, version=9), "vacant"),
        (VACANT, HELD, "elected"),
        (HELD, replace(HELD, term="a_1/x.2", token=9), "elected"),
        (HELD, absent("bill"), "absent"),
        (absent("bill"), absent("bill", 3), ""),
        (HELD, FOREIGN, "foreign"),
    ],
)
def test_what_changed(before: Snapshot | None, now: Snapshot, event: str) -> None:
    assert change(before, now) == event


def test_a_request_that_is_gone_is_no_new_request() -> None:
    asked = replace(HELD, version=8, request=StepDownRequest("a_1/x.1", "b"))
    assert change(asked, replace(HELD, version=9)) == "changed"
    assert as_json(asked)["request"] == {"to": "b"}
    assert as_json(replace(asked, request=StepDownRequest("t")))["request"] == {"to": None}


@pytest.mark.parametrize(
    ("snapshot", "text"),
    [
        (HELD, ""),
        (replace(HELD, request=StepDownRequest("t", "b")), "asked to step down for 'b'"),
        (replace(HELD, term=""), "written by another program"),
        (VACANT, "last held by a_1"),
        (replace(VACANT, successor="b"), "meant for 'b'; last held by a_1"),
        (replace(VACANT, successor="b", holder=""), "meant for 'b'"),
        (replace(VACANT, holder=""), ""),
        (FOREIGN, "left alone: format 9"),
    ],
)
def test_what_is_said_of_a_record(snapshot: Snapshot, text: str) -> None:
    assert note(snapshot) == text


def test_a_vacancy_has_no_holder() -> None:
    found = as_json(VACANT)
    assert (found["state"], found["holder"], found["last_holder"]) == ("vacant", None, "a_1")
    assert as_json(FOREIGN)["why"] == "format 9"
