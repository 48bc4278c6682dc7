"""Who is active and how it came to that one: from Leases as our store writes them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from incumbent.core.records import Bar, Claim
from incumbent.manifests import Object
from incumbent.manifests.modes import Mode
from incumbent.operator.reconciling import Reconciler
from incumbent.operator.tenure import RELEASED, SILENT, UNKNOWN, Tenure, pod_of, seen
from incumbent.stores.kubernetes.resource import LEASES
from incumbent.stores.kubernetes.wire import LEASE
from tests.manifests.kit import PLAIN
from tests.operator.cluster import Stage
from tests.servers.kubernetes import ApiServer

_VERSIONS = itertools.count(100)


def _stored(obj: Object) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(next(_VERSIONS))}}


def _empty() -> Object:
    return _stored({"metadata": {"name": "reports", "namespace": "default"}})


def _taken(obj: Object, pod: str, at: float = 0.0) -> Object:
    identity = f"{pod}_uid-of-{pod}"
    return _stored(LEASE.taken(obj, Claim(identity, f"{identity}/1", 15.0), at))


def _renewed(obj: Object, token: int) -> Object:
    return _stored(LEASE.renewed(obj, token, 100.0))


def _released(obj: Object) -> Object:
    return _stored(LEASE.released(obj, "", 200.0))


def _followed(*leases: Object) -> Tenure:
    found: Tenure | None = None
    for lease in leases:
        found = seen(found, lease)
    assert found is not None
    return found


def test_the_first_holder_came_from_nobody() -> None:
    held = _taken(_empty(), "a", at=5.0)
    tenure = _followed(_empty(), held)
    assert (pod_of(tenure.identity), tenure.why, tenure.former) == ("a", "", "")
    assert tenure.since == "1970-01-01T00:00:05.000000Z"
    assert tenure.token is None
    assert _followed(_empty(), held, _renewed(held, 17)).token == 17


def test_one_that_gave_up_and_one_that_was_silent() -> None:
    first = _taken(_empty(), "a")
    vacant = _released(first)
    assert _followed(first, vacant).identity == ""
    planned = _followed(first, vacant, _taken(vacant, "b"))
    assert (planned.why, pod_of(planned.former)) == (RELEASED, "a")
    crashed = _followed(first, _taken(first, "b"))
    assert (crashed.why, pod_of(crashed.former)) == (SILENT, "a")


def test_what_nobody_saw_is_not_guessed() -> None:
    first = _taken(_empty(), "a")
    before = Tenure(identity="a_uid-of-a", lease_key="other", watched=False)
    assert seen(before, _taken(first, "b")).why == UNKNOWN
    assert seen(None, first).why == ""


def test_a_record_that_is_barred_has_no_holder_that_could_be_told() -> None:
    barred = _stored(LEASE.barred(_taken(_empty(), "a"), Bar("moved", "nonce"), 300.0))
    assert not _followed(barred).watched


# -- as a status tells it -------------------------------------------------------------------------


@pytest.fixture
def stage(defined: ApiServer, namespace: str) -> Iterator[Stage]:
    found = Stage(defined, namespace)
    yield found
    found.server.close()


def _write(stage: Stage, operator: Reconciler, how: Any, *, watched: bool = True) -> None:
    """Write the record, and let the watch tell the operator of it."""
    path = f"{LEASES.path(stage.namespace)}/{stage.name}"
    lease = stage.server.request("PUT", path, how(stage.server.request("GET", path)))
    if watched:
        operator.held(lease, True)


def test_an_election_from_beginning_to_end(stage: Stage) -> None:
    stage.apply(PLAIN[Mode.ACTIVE_STANDBY])
    operator = stage.remember()
    stage.operate()
    assert stage.condition("Ready") == ("False", "NoReplicaReady")
    first, second = stage.start(), stage.start()
    stage.operate()
    assert stage.condition("Ready") == ("False", "NobodyActive")
    _write(stage, operator, lambda lease: LEASE.taken(lease, _claim(first), 5.0))
    stage.operate()
    _write(stage, operator, lambda lease: LEASE.renewed(lease, 23, 6.0))
    stage.operate()
    status = stage.status
    assert (status["holder"], status["token"]) == (first, 23)
    assert status["since"] == "1970-01-01T00:00:05.000000Z"
    assert "lastHandover" not in status
    assert stage.condition("Ready") == ("True", "Active")
    assert stage.condition("Ready") == ("True", "Active")
    assert stage.condition("Progressing") == ("False", "Done")
    # Faster than anybody reads: the watch passes each of them on.
    _write(stage, operator, lambda lease: LEASE.released(lease, "", 7.0))
    _write(stage, operator, lambda lease: LEASE.taken(lease, _claim(second), 8.0))
    stage.operate()
    handover = stage.status["lastHandover"]
    assert handover == {
        "from": first,
        "to": second,
        "at": "1970-01-01T00:00:08.000000Z",
        "why": "Released",
    }
    assert "token" not in stage.status, "that of the former term is not this one's"
    _write(stage, operator, lambda lease: LEASE.taken(lease, _claim(first), 40.0))
    stage.operate()
    assert stage.status["lastHandover"]["why"] == "Silent"
    _write(stage, operator, lambda lease: LEASE.taken(lease, _claim("stranger"), 60.0))
    stage.operate()
    assert stage.condition("Ready") == ("False", "HeldElsewhere")
    told = [(kind, reason) for kind, reason, _ in stage.events()]
    assert told[:5] == [
        ("Warning", "NoReplicaReady"),
        ("Warning", "NobodyActive"),
        ("Normal", "Active"),
        ("Normal", "HandedOver"),
        ("Warning", "TakenOver"),
    ]
    assert sorted(told[5:]) == [("Warning", "HeldElsewhere"), ("Warning", "TakenOver")]


def test_what_happened_while_no_operator_was_there(stage: Stage) -> None:
    stage.apply(PLAIN[Mode.ACTIVE_STANDBY])
    operator = stage.remember()
    stage.operate()
    first, second = stage.start(), stage.start()
    _write(stage, operator, lambda lease: LEASE.taken(lease, _claim(first), 5.0))
    stage.operate()
    stage.remember()
    _write(stage, operator, lambda lease: LEASE.taken(lease, _claim(second), 9.0), watched=False)
    stage.operate()
    handover = stage.status["lastHandover"]
    assert (handover["from"], handover["to"], handover["why"]) == (first, second, "Unknown")


def test_what_is_read_before_the_watch_tells_it_is_not_judged(stage: Stage) -> None:
    """Else a release and a take, read as one change, would look like a silent holder's end."""
    stage.apply(PLAIN[Mode.ACTIVE_STANDBY])
    operator = stage.remember()
    stage.operate()
    first, second = stage.start(), stage.start()
    _write(stage, operator, lambda lease: LEASE.taken(lease, _claim(first), 5.0))
    stage.operate()
    told = [LEASE.released(stage.get("Lease"), "", 7.0)]
    _write(stage, operator, lambda lease: LEASE.released(lease, "", 7.0), watched=False)
    _write(stage, operator, lambda lease: LEASE.taken(lease, _claim(second), 8.0), watched=False)
    stage.operate()
    assert "lastHandover" not in stage.status
    for lease in (*told, stage.get("Lease")):
        operator.held(lease, True)
    stage.operate()
    assert stage.status["lastHandover"]["why"] == "Released"


def _claim(pod: str) -> Claim:
    return Claim(f"{pod}_uid", f"{pod}_uid/1", 15.0)


def test_an_only_replica_and_a_second_one(stage: Stage) -> None:
    stage.apply(PLAIN[Mode.AT_LEAST_ONE])
    stage.operate()
    first = stage.start()
    stage.operate()
    assert stage.status["holder"] == first
    assert stage.condition("Ready") == ("True", "Active")
    second = stage.start()
    stage.operate()
    assert stage.condition("Degraded") == ("True", "MoreThanOne")
    stage.end(first)
    stage.operate()
    assert stage.condition("Degraded") == ("False", "AsMeant")
    handover = stage.status["lastHandover"]
    assert (handover["from"], handover["to"], handover["why"]) == (first, second, "Replaced")


def test_a_status_is_written_once(stage: Stage) -> None:
    stage.apply(PLAIN[Mode.AT_LEAST_ONE])
    stage.operate()
    path = f"/apis/incumbent.dev/v1alpha1/namespaces/{stage.namespace}/singletons/reports"
    before = stage.server.request("GET", path)["metadata"]["resourceVersion"]
    stage.operate()
    assert stage.server.request("GET", path)["metadata"]["resourceVersion"] == before
    # The API server tells of its own affairs there, too.
    assert [reason for _, reason, _ in stage.events() if reason == "NoReplicaReady"] == [
        "NoReplicaReady"
    ]
