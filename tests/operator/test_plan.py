"""The planner: at no step two, however steps are mixed, late, or cut off; and in the end all done.

Each rule that keeps two apart has a planted mistake that the histories find.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from incumbent.manifests.marks import KEPT_BY, OPERATOR_TERM
from incumbent.manifests.model import Application
from incumbent.manifests.modes import Mode
from incumbent.operator import observed as seen
from incumbent.operator import plan as planner
from incumbent.operator import remains
from incumbent.operator.desired import wanted_of
from incumbent.operator.kinds import KEPT, KINDS, key_of
from incumbent.operator.observed import MANAGER, Observed
from incumbent.operator.plan import plan
from incumbent.operator.steps import Apply, Claim, Create, Delete
from tests.manifests.kit import EVERY, FULL, PLAIN
from tests.operator.kit import SAYABLE
from tests.operator.world import LOST, OWNER, Two, World, history, settle, small

_STANDBY = PLAIN[Mode.ACTIVE_STANDBY]
_SCALED = replace(FULL[Mode.PARTLY_SINGLETON], namespace="default", companion=None)
APPLICATIONS = [
    PLAIN[Mode.AT_LEAST_ONE],
    PLAIN[Mode.AT_MOST_ONE],
    _STANDBY,
    replace(_STANDBY, lease="other"),
    _SCALED,
]
SPECS = [small(app) for app in APPLICATIONS]
_HISTORIES = 20
_MOVES = 600


def _is_done(world: World) -> None:
    """The workload that is wanted is there, alone, and at work."""
    wanted = world.wanted
    assert [key_of(obj) for obj in world.workloads()] == [wanted.workload]
    (workload,) = world.workloads()
    assert workload["spec"]["replicas"] >= 1
    if not wanted.scaled:
        assert workload["spec"]["replicas"] == wanted.count
    assert {pod["metadata"]["annotations"][KEPT_BY] for pod in world.pods} == {wanted.kept_by}


@pytest.mark.parametrize("operators", [[None], [None, None], [3, 7]], ids=str)
def test_never_two_and_in_the_end_what_is_wanted(operators: list[int | None]) -> None:
    for seed in range(_HISTORIES):
        _is_done(history(SPECS, seed, operators=operators, moves=_MOVES))


_UNLESS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "what something else keeps single is not waited for": (
        remains,
        "_says_otherwise",
        lambda obj, wanted: False,
    ),
    "what a workload that is gone has made is not waited for": (
        remains,
        "_is_kept",
        lambda obj, present, sets: True,
    ),
    "a workload is known by its name": (
        remains,
        "_is_kept",
        lambda obj, present, sets: present is not None,
    ),
    "one that stands still is set going at once": (remains, "_may_go_on", lambda obj: False),
    "it is born at work": (planner, "newborn", lambda obj, wanted: copy.deepcopy(obj)),
}


@pytest.mark.parametrize("mistake", _UNLESS)
def test_a_mistake_is_found(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*_UNLESS[mistake])
    with pytest.raises(Two):
        _play(6 * _HISTORIES)


def _play(histories: int) -> None:
    for seed in range(histories):
        history(SPECS, seed, operators=[None, None], moves=_MOVES)


def _world(app: Application) -> World:
    """A world in which this application is at work."""
    world = World([small(app)], random.Random(1))
    settle(world, 3)
    return world


def _to(world: World, app: Application, token: int | None = 7) -> None:
    world.wanted = small(app)
    settle(world, token)


@pytest.mark.parametrize("refused", [True, False], ids=["refused", "if it were not refused"])
def test_a_late_start_of_what_is_not_wanted_any_more(
    refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World([small(PLAIN[Mode.AT_MOST_ONE])], random.Random(1))
    for _ in range(2):
        for step in world.plan(3).steps:
            world.carry_out(step)
    (late,) = world.plan(3).steps
    assert isinstance(late, Apply)
    assert late.obj["spec"]["replicas"] == 1
    _to(world, PLAIN[Mode.AT_LEAST_ONE])
    if refused:
        world.carry_out(late)
        return
    monkeypatch.setattr(World, "_same", lambda self, told, found: True)
    with pytest.raises(Two):
        world.carry_out(late)


@pytest.mark.parametrize(("before", "after"), [*permutations(APPLICATIONS[:4], 2)])
def test_a_pod_that_does_not_end_is_waited_for(before: Application, after: Application) -> None:
    world = _world(before)
    (pod, *_) = world.pods
    pod["spec"]["nodeName"] = LOST
    world.wanted = small(after)
    for _ in range(30):
        for step in world.plan(3).steps:
            world.carry_out(step)
        world.live()
    held = world.plan(3).held
    assert held is not None
    assert held.reason == "WaitingForOldPods"
    assert f"Pod {pod['metadata']['name']} on {LOST}" in held.message
    world.pods.remove(pod)
    settle(world, 3)
    _is_done(world)


def test_an_autoscaler_of_a_former_singleton_is_gone_before_anything_is_made() -> None:
    world = _world(_SCALED)
    world.delete(orphan=False)
    world.make_anew()
    world.wanted = small(PLAIN[Mode.AT_LEAST_ONE])
    planned = world.plan(3)
    assert planned.steps == ()
    assert planned.held is not None
    assert planned.held.reason == "WaitingForCollection"
    assert "HorizontalPodAutoscaler reports" in planned.held.message
    settle(world, 3)
    _is_done(world)


@pytest.mark.parametrize("app", APPLICATIONS[:2])
def test_nothing_is_made_beside_what_was_orphaned(app: Application) -> None:
    world = _world(app)
    world.delete(orphan=True)
    for _ in range(30):
        assert world.plan(3).steps == ()
        world.live()
    held = world.plan(3).held
    assert held is not None
    assert "No workload keeps" in held.message
    settle(world, 3)
    _is_done(world)


def test_of_its_own_a_pod_that_has_failed_keeps_no_workload_from_going() -> None:
    """An evicted Pod stays as an object, and a ReplicaSet does not take it away."""
    world = _world(PLAIN[Mode.AT_LEAST_ONE])
    (workload,), (pod,) = world.workloads(), world.pods
    workload["spec"]["replicas"] = world.sets[0]["spec"]["replicas"] = 0
    assert world.plan(3).held is not None
    pod["status"] = {"phase": "Failed"}
    assert world.plan(3).held is None
    pod["metadata"]["deletionTimestamp"] = "now"
    assert world.plan(3).held is not None
    del pod["metadata"]["deletionTimestamp"]
    pod["metadata"]["ownerReferences"] = []
    assert world.plan(3).held is not None, "somebody else's may be at work all the same"


def test_where_the_election_stays_nothing_is_waited_for() -> None:
    world = _world(_STANDBY)
    world.wanted = small(replace(_STANDBY, image="registry.example/reports:2"))
    (step,) = world.plan(3).steps
    assert isinstance(step, Apply), "another image comes by a rollout"
    world.wanted = small(PLAIN[Mode.PARTLY_SINGLETON])
    planned = world.plan(3)
    (step,) = planned.steps
    assert isinstance(step, Delete), "a rollout would wait where each node has a standby"
    assert planned.held is None
    assert world.pods
    world.objects.clear()
    (step,) = world.plan(3).steps
    assert isinstance(step, Create)


# -- rules against other harm -----------------------------------------------------------------


def test_a_name_that_somebody_else_has_is_left_alone() -> None:
    wanted = small(PLAIN[Mode.AT_MOST_ONE])
    foreign = copy.deepcopy(small(PLAIN[Mode.AT_LEAST_ONE]).objects["Deployment", "reports"])
    del foreign["metadata"]["ownerReferences"]
    planned = plan(wanted, Observed(OWNER, {key_of(foreign): foreign}, []), 3)
    assert planned.steps == ()
    assert planned.held is not None
    assert planned.held.reason == "NameTaken"
    assert "Deployment reports" in planned.held.message


def test_an_operator_of_an_earlier_term_does_nothing() -> None:
    world = _world(_STANDBY)
    _to(world, _STANDBY, 7)
    (workload,) = world.workloads()
    assert workload["metadata"]["annotations"][OPERATOR_TERM] == "7"
    world.wanted = small(replace(_STANDBY, replicas=5))
    planned = world.plan(3)
    assert planned.steps == ()
    assert planned.held is not None
    assert planned.held.reason == "Deposed"
    assert world.plan(7).steps


def test_a_new_term_marks_the_workload_before_anything_else() -> None:
    world = _world(_STANDBY)
    late = world.plan(3)
    assert late.steps == ()
    (step,) = world.plan(7).steps
    assert isinstance(step, Apply)
    assert step.obj["metadata"]["annotations"][OPERATOR_TERM] == "7"


def test_what_was_created_is_claimed_and_then_applied() -> None:
    wanted = small(_SCALED)
    world = World([wanted], random.Random(1))
    kinds = []
    for _ in range(4):
        steps = world.plan(None).steps
        kinds.append([type(step) for step in steps])
        for step in steps:
            world.carry_out(step)
    assert kinds == [[Create] * 2, [Claim] * 2, [Apply] * 2, []]


def test_an_autoscaler_is_born_without_a_target() -> None:
    wanted = small(_SCALED)
    made = [step.obj for step in plan(wanted, Observed(OWNER, {}, []), 3).steps]
    (scaler,) = [obj for obj in made if obj["kind"] == "HorizontalPodAutoscaler"]
    (workload,) = [obj for obj in made if obj["kind"] == "Deployment"]
    assert scaler["spec"]["scaleTargetRef"]["name"] != workload["metadata"]["name"]
    assert workload["spec"]["replicas"] == 0


def test_a_number_that_an_autoscaler_has_set_is_not_ours() -> None:
    world = World([small(_SCALED)], random.Random(1))
    settle(world, 3)
    (workload,) = world.workloads()
    workload["spec"]["replicas"] = 9
    workload["metadata"]["managedFields"] = []
    (step,) = world.plan(7).steps
    assert isinstance(step, Apply)
    assert "replicas" not in step.obj["spec"]


def test_an_autoscaler_of_yesterday_goes_before_anything_is_made() -> None:
    world = World([small(_SCALED)], random.Random(1))
    settle(world, 3)
    world.wanted = small(PLAIN[Mode.AT_LEAST_ONE])
    steps = world.plan(3).steps
    assert [type(step) for step in steps] == [Delete, Delete]
    assert {step.key[0] for step in steps} == {"Deployment", "HorizontalPodAutoscaler"}


@pytest.mark.parametrize("name", SAYABLE)
def test_every_kind_that_there_can_be_is_known(name: str) -> None:
    """One that is not could be neither read, nor made, nor taken away."""
    app = replace(EVERY[name], namespace="default")
    wanted = wanted_of(app, {"metadata": {"name": app.name, "uid": OWNER}})
    assert {kind for kind, _ in wanted.objects} <= set(KINDS)


def test_a_lease_and_a_volume_are_made_once_and_kept() -> None:
    app = replace(FULL[Mode.ACTIVE_STANDBY], namespace="default")
    wanted = wanted_of(app, {"metadata": {"name": app.name, "uid": OWNER}})
    kept = {key: obj for key, obj in wanted.objects.items() if key[0] in KEPT}
    assert sorted(key[0] for key in kept) == ["Lease", "PersistentVolumeClaim"]
    assert all("ownerReferences" not in obj["metadata"] for obj in kept.values())
    others = [obj for key, obj in wanted.objects.items() if key not in kept]
    assert all(obj["metadata"]["ownerReferences"][0]["uid"] == OWNER for obj in others)
    changed = {key: {**obj, "spec": {"holderIdentity": "x"}} for key, obj in kept.items()}
    steps = plan(wanted, Observed(OWNER, changed, []), 3).steps
    assert not {step.key for step in steps} & set(kept)
    less = wanted_of(PLAIN[Mode.AT_MOST_ONE], {"metadata": {"name": app.name, "uid": OWNER}})
    assert not {step.key for step in plan(less, Observed(OWNER, changed, []), 3).steps} & set(kept)


def test_what_is_there_beside_what_is_wanted_is_no_difference() -> None:
    assert not seen.differs({"a": {"b": 1}, "none": {}}, {"a": {"b": 1, "c": 2}, "d": 3})
    assert not seen.differs([{"a": 1}], [{"a": 1, "b": 2}])
    assert seen.differs([{"a": 1}], [{"a": 1}, {"b": 2}])
    assert seen.differs({"a": 1}, {})
    assert seen.differs({"a": {"b": 1}}, {"a": {"b": 2}})


def test_ownership_is_read_from_the_account_of_fields() -> None:
    def entry(operation: str, manager: str = MANAGER, **more: str) -> dict[str, Any]:
        fields: dict[str, Any] = {"f:spec": {"f:replicas": {}}}
        return {"manager": manager, "operation": operation, "fieldsV1": fields, **more}

    def obj(*entries: dict[str, Any]) -> dict[str, Any]:
        return {"metadata": {"managedFields": list(entries)}}

    other = entry("Update", "kubectl")
    assert seen.claimable(obj(entry("Update"), other)) == [entry("Apply"), other]
    assert seen.claimable(obj(entry("Apply"), other)) is None
    assert seen.claimable(obj(entry("Update", subresource="status"))) is None
    assert seen.applied_by_us(obj(other, entry("Apply")), "spec", "replicas")
    assert not seen.applied_by_us(obj(other), "spec", "replicas")
    assert not seen.applied_by_us(obj(entry("Apply")), "spec", "template")
