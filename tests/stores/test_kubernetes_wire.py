"""The Lease as JSON: golden records, times, and what counts as whose."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incumbent.core.records import Claim, Holding, StepDownRequest
from incumbent.errors import StoreUnusable
from incumbent.stores.kubernetes import wire

CLAIM = Claim("pod-0_1f0a", "pod-0_1f0a/9c.1", 15.0)
NOON_S = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC).timestamp()


def written(obj: dict[str, Any], version: int) -> dict[str, Any]:
    """What the server makes of what was sent."""
    stored = copy.deepcopy(obj)
    stored["metadata"]["resourceVersion"] = str(version)
    return stored


def test_golden_life_of_a_lease() -> None:
    created = wire.LEASE.created("jobs", "apps", CLAIM, NOON_S)
    assert created == {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": "jobs",
            "namespace": "apps",
            "annotations": {
                "incumbent.dev/format": "1",
                "incumbent.dev/term": "pod-0_1f0a/9c.1",
            },
        },
        "spec": {
            "holderIdentity": "pod-0_1f0a",
            "leaseDurationSeconds": 15,
            "acquireTime": "2026-03-01T12:00:00.000000Z",
            "renewTime": "2026-03-01T12:00:00.000000Z",
            "leaseTransitions": 0,
        },
    }
    renewed = wire.LEASE.renewed(written(created, 100), 100, NOON_S + 5.25)
    assert renewed["metadata"]["resourceVersion"] == "100"
    assert renewed["metadata"]["annotations"] == {
        "incumbent.dev/format": "1",
        "incumbent.dev/term": "pod-0_1f0a/9c.1",
        "incumbent.dev/token": "100",
    }
    assert renewed["spec"] == {
        **created["spec"],
        "renewTime": "2026-03-01T12:00:05.250000Z",
    }
    released = wire.LEASE.released(written(renewed, 101), "pod-1", NOON_S + 6.5)
    assert released["metadata"]["annotations"] == {
        "incumbent.dev/format": "1",
        "incumbent.dev/successor": ('{"to": "pod-1", "released": "2026-03-01T12:00:06.500000Z"}'),
    }
    assert released["spec"] == {
        "holderIdentity": "",
        "leaseDurationSeconds": 1,
        "acquireTime": "2026-03-01T12:00:06.500000Z",
        "renewTime": "2026-03-01T12:00:06.500000Z",
        "leaseTransitions": 0,
    }
    taken = wire.LEASE.taken(written(released, 102), Claim("b", "b/1.1", 7.5), NOON_S + 9)
    assert taken["metadata"]["annotations"] == {
        "incumbent.dev/format": "1",
        "incumbent.dev/term": "b/1.1",
    }
    assert taken["spec"] == {
        "holderIdentity": "b",
        "leaseDurationSeconds": 8,
        "acquireTime": "2026-03-01T12:00:09.000000Z",
        "renewTime": "2026-03-01T12:00:09.000000Z",
        "leaseTransitions": 1,
    }


@given(st.integers(0, 4_000_000_000_000_000))
def test_a_micro_time_has_six_digits(micros: int) -> None:
    text = wire.micro_time(micros)
    assert len(text) == len("2026-03-01T12:00:00.000000Z")
    assert datetime.fromisoformat(text) == datetime.fromtimestamp(micros // 1_000_000, UTC).replace(
        microsecond=micros % 1_000_000
    )


@given(
    st.lists(st.floats(-3.0, 10.0), max_size=20),
    st.sampled_from(["2026-03-01T12:00:00Z", "2026-03-01T12:00:00.999999Z", None, "x", 5]),
)
def test_each_renewal_is_in_a_later_whole_second(steps_s: list[float], first: object) -> None:
    obj = written(wire.LEASE.created("jobs", "apps", CLAIM, NOON_S), 1)
    obj["spec"]["renewTime"] = first
    now_s, last = NOON_S, ""
    for step_s in steps_s:
        now_s += step_s
        obj = wire.LEASE.renewed(obj, 1, now_s)
        text = obj["spec"]["renewTime"]
        assert text[:19] > last[:19]
        last = text


def lease(spec: dict[str, Any], notes: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "metadata": {"name": "jobs", "resourceVersion": "7", "annotations": notes or {}},
        "spec": spec,
    }


FULL = {
    "holderIdentity": "x",
    "leaseDurationSeconds": 15,
    "acquireTime": "2026-03-01T12:00:00.000000Z",
}


@pytest.mark.parametrize(
    ("obj", "why"),
    [
        (lease({"holderIdentity": "x", "acquireTime": "t"}), "leaseDurationSeconds"),
        (lease({**FULL, "leaseDurationSeconds": 0}), "leaseDurationSeconds"),
        (lease({**FULL, "leaseDurationSeconds": "15"}), "leaseDurationSeconds"),
        (lease({**FULL, "leaseDurationSeconds": True}), "leaseDurationSeconds"),
        (lease({**FULL, "holderIdentity": 5}), "holderIdentity"),
        (lease({**FULL, "strategy": "OldestEmulationVersion"}), "coordinated"),
        (lease({"strategy": "OldestEmulationVersion"}), "coordinated"),
        (lease({}, {"incumbent.dev/format": "2"}), "format"),
        (lease(FULL, {"incumbent.dev/format": "2", "incumbent.dev/term": "x/1"}), "format"),
    ],
)
def test_what_cannot_be_understood_is_foreign(obj: dict[str, Any], why: str) -> None:
    seen = wire.LEASE.snapshot("jobs", obj)
    assert seen.holding is Holding.FOREIGN
    assert why in seen.why


@pytest.mark.parametrize(
    "obj",
    [
        lease({}),
        lease({"holderIdentity": None, "leaseDurationSeconds": None}),
        lease({"holderIdentity": ""}),
        {"metadata": {"name": "jobs", "resourceVersion": "7"}},
    ],
)
def test_nobody_holds(obj: dict[str, Any]) -> None:
    assert wire.LEASE.snapshot("jobs", obj).holding is Holding.VACANT


def test_another_programs_lease_is_held_and_has_no_term() -> None:
    seen = wire.LEASE.snapshot("jobs", lease(FULL))
    assert (seen.holding, seen.holder, seen.term, seen.ttl_s) == (Holding.HELD, "x", "", 15.0)
    assert seen.lease_key == "x@2026-03-01T12:00:00.000000Z"


def test_annotations_left_behind_by_an_earlier_holder_do_not_count() -> None:
    notes = {
        "incumbent.dev/format": "2",
        "incumbent.dev/term": "y/1.1",
        "incumbent.dev/token": "9999",
        "incumbent.dev/step-down": json.dumps({"term": "y/1.1", "to": ""}),
    }
    seen = wire.LEASE.snapshot("jobs", lease(FULL, notes))
    assert (seen.holding, seen.term, seen.token, seen.request) == (Holding.HELD, "", None, None)


def test_a_successor_counts_only_with_the_release_that_named_it() -> None:
    held = written(wire.LEASE.created("jobs", "apps", CLAIM, NOON_S), 1)
    free = written(wire.LEASE.released(held, "pod-1", NOON_S + 1), 2)
    assert wire.LEASE.snapshot("jobs", free).successor == "pod-1"
    free["spec"]["renewTime"] = "2026-03-01T13:00:00.000000Z"
    assert wire.LEASE.snapshot("jobs", free).successor == ""


def test_a_request_counts_only_for_the_present_term() -> None:
    held = written(wire.LEASE.created("jobs", "apps", CLAIM, NOON_S), 1)
    request = StepDownRequest(CLAIM.term, "pod-1")
    asked = wire.LEASE.asked(held, request)
    assert wire.LEASE.snapshot("jobs", asked).request == request
    assert wire.LEASE.snapshot("jobs", wire.LEASE.renewed(asked, 1, NOON_S)).request == request
    old = wire.LEASE.asked(held, StepDownRequest("pod-0_1f0a/9c.0"))
    assert wire.LEASE.snapshot("jobs", old).request is None


def test_what_others_wrote_stays() -> None:
    held = written(wire.LEASE.created("jobs", "apps", CLAIM, NOON_S), 1)
    held["metadata"] |= {
        "labels": {"a": "b"},
        "ownerReferences": [{"name": "o"}],
        "managedFields": [{"manager": "m"}],
        "annotations": {**held["metadata"]["annotations"], "theirs": "1"},
    }
    held["spec"]["unknown"] = {"deep": [1]}
    for changed in (
        wire.LEASE.renewed(held, 1, NOON_S),
        wire.LEASE.released(held, "", NOON_S),
        wire.LEASE.taken(held, CLAIM, NOON_S),
        wire.LEASE.asked(held, StepDownRequest(CLAIM.term)),
    ):
        assert changed["metadata"]["labels"] == {"a": "b"}
        assert changed["metadata"]["ownerReferences"] == [{"name": "o"}]
        assert changed["metadata"]["annotations"]["theirs"] == "1"
        assert changed["spec"]["unknown"] == {"deep": [1]}
        assert "managedFields" not in changed["metadata"]


def test_a_version_must_be_a_number() -> None:
    obj = lease(FULL)
    obj["metadata"]["resourceVersion"] = "a7"
    with pytest.raises(StoreUnusable, match="a7"):
        wire.LEASE.snapshot("jobs", obj)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
FIELDS = st.sampled_from(
    ["holderIdentity", "leaseDurationSeconds", "acquireTime", "renewTime", "leaseTransitions"]
)
NOTES = st.sampled_from(
    [wire.FORMAT_KEY, wire.TERM_KEY, wire.TOKEN_KEY, wire.SUCCESSOR_KEY, wire.STEP_DOWN_KEY]
)


@given(st.dictionaries(FIELDS, JSON), st.dictionaries(NOTES, st.text() | JSON.map(json.dumps)))
def test_no_record_breaks_the_reader(spec: dict[str, Any], notes: dict[str, str]) -> None:
    obj = lease(spec, notes)
    seen = wire.LEASE.snapshot("jobs", obj)
    assert seen.serial == 7
    if seen.holding is not Holding.FOREIGN:
        wire.LEASE.taken(obj, CLAIM, NOON_S)
