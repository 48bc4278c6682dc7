"""Reconciling on a real API server: what is made, changed, kept, and told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from incumbent.errors import LeadershipLost
from incumbent.manifests import Object
from incumbent.manifests.marks import OPERATOR_TERM
from incumbent.manifests.modes import Mode
from incumbent.manifests.objects import objects_of
from incumbent.manifests.parts import Autoscaling, Resources
from incumbent.operator.cluster import Cluster
from incumbent.operator.definition import SINGLETONS
from incumbent.operator.desired import wanted_of
from incumbent.operator.kinds import KEPT, KINDS
from incumbent.operator.observed import MANAGER, Observed
from incumbent.operator.plan import plan
from incumbent.operator.steps import Apply, Create, Delete
from incumbent.stores.kubernetes.api import Conflict
from incumbent.stores.kubernetes.resource import Resource
from tests.manifests.kit import EVERY, PLAIN
from tests.operator.cluster import Stage
from tests.servers.kubernetes import ApiServer


@pytest.fixture
def stage(defined: ApiServer, namespace: str) -> Iterator[Stage]:
    found = Stage(defined, namespace)
    yield found
    found.server.close()


def test_everything_is_made_and_then_nothing_is_left_to_do(stage: Stage) -> None:
    app = replace(EVERY["full-partly-singleton"], namespace=stage.namespace)
    stage.apply(app)
    stage.operate()
    for obj in objects_of(app):
        found = stage.get(obj["kind"], obj["metadata"]["name"])
        assert obj["metadata"]["labels"].items() <= found["metadata"]["labels"].items()
        entries = found["metadata"]["managedFields"]
        operations = [one["operation"] for one in entries if one["manager"] == MANAGER]
        assert operations == (["Update"] if obj["kind"] in KEPT else ["Apply"]), obj["kind"]
        owners = found["metadata"].get("ownerReferences", [])
        assert [one["kind"] for one in owners] == ([] if obj["kind"] in KEPT else ["Singleton"])
    before = _versions(stage)
    stage.operate()
    assert _versions(stage) == before


def _versions(stage: Stage) -> dict[str, str]:
    found = {}
    for kind, of in KINDS.items():
        for obj in stage.server.request("GET", of.path(stage.namespace))["items"]:
            metadata = obj["metadata"]
            found[f"{kind}/{metadata['name']}"] = metadata["resourceVersion"]
    return found


def test_what_is_not_wanted_any_more_is_taken_away(stage: Stage) -> None:
    app = replace(EVERY["full-partly-singleton"], namespace=stage.namespace)
    stage.apply(app)
    stage.operate()
    assert stage.names("HorizontalPodAutoscaler") == ["reports", "reports-companion"]
    stage.apply(replace(app, autoscaling=None, companion=None, owner="", readiness=None))
    stage.operate()
    assert stage.names("HorizontalPodAutoscaler") == []
    assert stage.names("Deployment") == ["reports"]
    container = stage.get("Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert "tcpSocket" in container["readinessProbe"]
    assert "exec" not in container["readinessProbe"], "a field that was created can be taken away"
    assert "incumbent.dev/owner" not in stage.get("Deployment")["metadata"]["annotations"]
    assert "reports-companion" in stage.names("PersistentVolumeClaim"), "a volume is kept"


def test_another_mode_waits_until_the_old_pods_are_gone(stage: Stage) -> None:
    first, second = PLAIN[Mode.AT_LEAST_ONE], PLAIN[Mode.AT_MOST_ONE]
    stage.apply(first)
    stage.operate()
    pod = stage.start()
    stage.apply(second)
    for _ in range(2):
        stage.operate()
        (workload,) = stage.workloads()
        assert "deletionTimestamp" in workload["metadata"]
    assert stage.condition("Held") == ("True", "WaitingForOldPods")
    stage.collect()
    stage.operate()
    assert stage.workloads() == [], "the Pod is still there"
    assert stage.condition("Held") == ("True", "WaitingForOldPods")
    stage.end(pod)
    stage.operate()
    (workload,) = stage.workloads()
    assert workload["kind"] == "StatefulSet"
    assert workload["spec"]["replicas"] == 1
    assert stage.condition("Held") == ("False", "NothingInTheWay")
    assert stage.get("Service")["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize("mode", [Mode.AT_LEAST_ONE, Mode.AT_MOST_ONE])
def test_the_pods_of_a_deleted_workload_are_waited_for(stage: Stage, mode: Mode) -> None:
    stage.apply(PLAIN[mode])
    stage.operate()
    pod = stage.start()
    stage.delete()
    for _ in range(2):
        assert stage.operate(), "it is looked at again"
        assert stage.workloads() == []
        assert stage.condition("Held") == ("True", "WaitingForOldPods")
        assert f"Pod {pod} on some-node" in stage.message("Held")
        stage.collect()
    assert [(kind, reason) for kind, reason, note in stage.events() if pod in note] == [
        ("Warning", "WaitingForOldPods")
    ]
    stage.end(pod)
    stage.operate()
    assert [obj["spec"]["replicas"] for obj in stage.workloads()] == [1]
    assert stage.condition("Held") == ("False", "NothingInTheWay")
    stage.start()
    stage.operate()
    assert stage.condition("Held") == ("False", "NothingInTheWay"), "those are its own"


def test_pods_are_read_after_what_makes_them_and_who_keeps_them_after_that(stage: Stage) -> None:
    """One that comes while others are read is seen, and so is to whom it belongs."""
    stage.apply(PLAIN[Mode.AT_LEAST_ONE])
    stage.operate()

    class Slow(Cluster):
        async def _list(self, of: Resource, namespace: str, selector: str) -> list[Object]:
            found = await super()._list(of, namespace, selector)
            if of.kind == "Deployment":
                await asyncio.to_thread(stage.start)
            elif of.kind == "Pod":
                await asyncio.to_thread(stage.change_set, _marked)
            return found

    path = f"{SINGLETONS.path(stage.namespace)}/reports"
    singleton = stage.server.request("GET", path)

    async def look(cluster: Cluster) -> Observed:
        return await cluster.observe(singleton, [])

    pod, one = stage.run(look, made=Slow).running
    assert (pod["kind"], one["kind"]) == ("Pod", "ReplicaSet")
    assert one["metadata"]["annotations"] == {"seen": "late"}


def _marked(found: Object) -> None:
    found["metadata"]["annotations"] = {"seen": "late"}


def test_a_singleton_that_is_made_anew_waits_for_what_the_former_one_has_made(stage: Stage) -> None:
    app = PLAIN[Mode.AT_LEAST_ONE]
    stage.apply(app)
    stage.operate()
    pod = stage.start()
    stage.make_anew(app)
    before = _versions(stage)
    stage.operate()
    assert _versions(stage) == before
    assert stage.condition("Held") == ("True", "WaitingForCollection")
    assert "Deployment reports" in stage.message("Held")
    assert stage.condition("Degraded")[0] == "False", "nobody has to do anything"
    stage.collect_former()
    stage.collect()
    stage.operate()
    assert stage.workloads() == []
    assert stage.condition("Held") == ("True", "WaitingForOldPods")
    stage.end(pod)
    stage.operate()
    assert [obj["spec"]["replicas"] for obj in stage.workloads()] == [1]


def test_what_was_orphaned_is_waited_for_and_it_is_said_that_nobody_ends_it(stage: Stage) -> None:
    stage.apply(PLAIN[Mode.AT_LEAST_ONE])
    stage.operate()
    pod = stage.start()

    def orphan(found: Object) -> None:
        del found["metadata"]["ownerReferences"]
        del found["metadata"]["labels"]["app.kubernetes.io/managed-by"]

    stage.change_set(orphan)
    stage.delete()
    stage.end(pod)
    stage.operate()
    assert stage.workloads() == [], "the ReplicaSet is about to make the next one"
    (name,) = [one["metadata"]["name"] for one in stage.sets()]
    assert f"No workload keeps ReplicaSet {name}" in stage.message("Held")
    stage.change_set(_scaled(0))
    stage.operate()
    assert [obj["spec"]["replicas"] for obj in stage.workloads()] == [1]


def test_an_only_replica_is_not_set_going_beside_its_own_that_is_ending(stage: Stage) -> None:
    stage.apply(PLAIN[Mode.AT_LEAST_ONE])
    stage.operate()
    pod = stage.start()
    stage.change("Deployment", "reports", _scaled(0), "somebody")
    stage.operate()
    assert stage.get("Deployment")["spec"]["replicas"] == 0
    assert pod in stage.message("Held")
    stage.end(pod)
    stage.change_set(_scaled(0))
    stage.operate()
    assert stage.get("Deployment")["spec"]["replicas"] == 1


def test_another_election_is_another_workload(stage: Stage) -> None:
    app = PLAIN[Mode.ACTIVE_STANDBY]
    stage.apply(app)
    stage.operate()
    uid = stage.get("Deployment")["metadata"]["uid"]
    stage.apply(replace(app, image="registry.example/reports:2"))
    stage.operate()
    assert stage.get("Deployment")["metadata"]["uid"] == uid, "an image comes by a rollout"
    stage.apply(PLAIN[Mode.PARTLY_SINGLETON])
    stage.operate()
    assert stage.condition("Progressing") == ("True", "Replacing")
    assert stage.condition("Held") == ("False", "NothingInTheWay")
    stage.apply(replace(app, lease="nightly"))
    stage.operate()
    assert "deletionTimestamp" in stage.get("Deployment")["metadata"]
    stage.collect()
    stage.operate()
    assert stage.get("Deployment")["metadata"]["uid"] != uid
    assert stage.names("Lease") == ["nightly", "reports"], "and the old record is kept"


# -- beside others --------------------------------------------------------------------------------


def test_labels_and_annotations_of_others_survive(stage: Stage) -> None:
    stage.apply(PLAIN[Mode.AT_LEAST_ONE])
    stage.operate()

    def mark(obj: Object) -> None:
        obj["metadata"]["labels"]["team"] = "finance"
        obj["metadata"]["annotations"] = {**obj["metadata"]["annotations"], "seen": "by-gitops"}

    stage.change("Deployment", "reports", mark, "argocd")
    stage.apply(replace(PLAIN[Mode.AT_LEAST_ONE], image="registry.example/reports:2"))
    stage.operate()
    metadata = stage.get("Deployment")["metadata"]
    assert metadata["labels"]["team"] == "finance"
    assert metadata["annotations"]["seen"] == "by-gitops"
    assert "forced" not in stage.status


def test_a_second_replica_is_taken_back_and_it_is_said_whose_it_was(stage: Stage) -> None:
    stage.apply(PLAIN[Mode.AT_MOST_ONE])
    stage.operate()
    for _ in range(2):
        stage.change("StatefulSet", "reports", _scaled(2), "somebody")
        stage.operate()
        assert stage.get("StatefulSet")["spec"]["replicas"] == 1
    (forced,) = stage.status["forced"]
    assert forced["object"] == "StatefulSet/reports"
    assert '"somebody"' in forced["what"]
    assert ".spec.replicas" in forced["what"]
    assert "FieldsSetBack" in [reason for _, reason, _ in stage.events()]


def _scaled(count: int) -> Any:
    def change(obj: Object) -> None:
        obj["spec"]["replicas"] = count

    return change


def test_the_number_of_an_autoscaler_is_left_alone(stage: Stage) -> None:
    app = replace(PLAIN[Mode.PARTLY_SINGLETON], autoscaling=Autoscaling(2, 9))
    stage.apply(app)
    stage.operate()
    assert stage.get("Deployment")["spec"]["replicas"] == 2
    target = stage.get("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert target["name"] == "reports"
    path = f"{KINDS['Deployment'].path(stage.namespace)}/reports/scale"
    for version, count in enumerate((7, 0)):
        scale = stage.server.request("GET", path)
        scale["spec"]["replicas"] = count
        stage.server.request("PUT", f"{path}?fieldManager=autoscaler", scale)
        stage.apply(replace(app, image=f"registry.example/reports:{version}"))
        stage.operate()
        assert stage.get("Deployment")["spec"]["replicas"] == count, "0 is a pause, not a birth"
    assert "forced" not in stage.status


def test_two_controllers_do_not_fight(stage: Stage) -> None:
    """Against somebody who insists, what is no matter of safety is set back ever more rarely."""
    times = [0.0]
    stage.remember(clock=lambda: times[0])
    stage.apply(PLAIN[Mode.ACTIVE_STANDBY])
    stage.operate()

    def count_after(passed_s: float) -> int:
        times[0] += passed_s
        stage.change("Deployment", "reports", _scaled(9), "somebody")
        stage.operate()
        return int(stage.get("Deployment")["spec"]["replicas"])

    assert count_after(0.0) == 2
    assert count_after(0.5) == 9
    assert stage.condition("Degraded") == ("True", "FieldsSetByOthers")
    assert count_after(1.0) == 2
    assert count_after(1.5) == 9, "twice as long the second time"


def test_a_name_that_is_taken(stage: Stage) -> None:
    foreign = objects_of(replace(PLAIN[Mode.AT_LEAST_ONE], namespace=stage.namespace))
    (deployment,) = [obj for obj in foreign if obj["kind"] == "Deployment"]
    stage.server.request("POST", KINDS["Deployment"].path(stage.namespace), deployment)
    stage.apply(PLAIN[Mode.AT_MOST_ONE])
    stage.operate()
    assert stage.names("StatefulSet") == []
    assert stage.names("ServiceAccount") == []
    assert stage.condition("Degraded") == ("True", "NameTaken")
    assert stage.condition("Held") == ("True", "NameTaken")


def test_a_spec_that_cannot_be_meant_changes_nothing(stage: Stage) -> None:
    stage.apply(PLAIN[Mode.AT_MOST_ONE])
    stage.operate()
    before = _versions(stage)
    stage.apply(replace(PLAIN[Mode.AT_MOST_ONE], grace_s=30))
    path = f"/apis/incumbent.dev/v1alpha1/namespaces/{stage.namespace}/singletons/reports"
    patch = {"spec": {"graceSeconds": -1}}
    stage.server.request("PATCH", path, patch, content_type="application/merge-patch+json")
    stage.operate()
    assert _versions(stage) == before
    assert stage.condition("Degraded") == ("True", "InvalidSpec")
    (told,) = [one for one in stage.status["conditions"] if one["type"] == "Degraded"]
    assert told["message"].startswith("graceSeconds")
    assert told["observedGeneration"] == stage.status["observedGeneration"] == 3


def test_an_amount_that_is_written_otherwise_is_no_difference_for_ever(stage: Stage) -> None:
    stage.apply(replace(PLAIN[Mode.AT_MOST_ONE], resources=Resources("1000m", "1024Mi")))
    assert not stage.operate()
    before = _versions(stage)
    assert not stage.operate()
    assert _versions(stage) == before
    assert stage.condition("Progressing") == ("True", "RollingOut")


def test_what_the_api_server_refuses_is_said(stage: Stage) -> None:
    stage.apply(EVERY["full-at-most-one"])
    stage.operate()
    app = EVERY["full-at-most-one"]
    assert app.storage is not None
    stage.apply(replace(app, storage=replace(app.storage, size="2Gi")))
    assert stage.operate(), "it is tried again"
    assert stage.condition("Degraded") == ("True", "Refused")


# -- late, and deposed ----------------------------------------------------------------------------


def test_every_late_step_is_refused(stage: Stage) -> None:
    """Of the steps that were decided on before somebody else wrote, none has an effect."""
    app = replace(PLAIN[Mode.ACTIVE_STANDBY], namespace=stage.namespace)
    stage.apply(app)
    stage.operate(token=3)
    path = f"/apis/incumbent.dev/v1alpha1/namespaces/{stage.namespace}/singletons/reports"
    resource = {"kind": "Singleton", **stage.server.request("GET", path)}
    old = wanted_of(replace(app, image="registry.example/reports:0"), resource)
    other = wanted_of(replace(PLAIN[Mode.AT_MOST_ONE], namespace=stage.namespace), resource)

    async def decided(cluster: Any) -> list[Any]:
        observed = await cluster.observe(resource, old.objects)
        return [*plan(old, observed, 3).steps, *plan(other, observed, 3).steps]

    steps = stage.run(decided)
    assert {type(step) for step in steps} == {Apply, Delete}
    stage.operate(token=7)
    assert stage.get("Deployment")["metadata"]["annotations"][OPERATOR_TERM] == "7"
    late = [step for step in steps if step.key == ("Deployment", "reports")]
    assert {type(step) for step in late} == {Apply, Delete}
    creation = Create(old.objects["Deployment", "reports"])
    before = _versions(stage)
    for step in [*late, creation]:
        with pytest.raises(Conflict):
            stage.carry_out(step)
    assert _versions(stage) == before


def test_an_apply_creates_nothing(stage: Stage) -> None:
    app = replace(PLAIN[Mode.ACTIVE_STANDBY], namespace=stage.namespace)
    stage.apply(app)
    stage.operate(token=3)
    late = {"kind": "Deployment", **stage.get("Deployment")}
    late["apiVersion"] = "apps/v1"
    del late["metadata"]["managedFields"]
    path = f"{KINDS['Deployment'].path(stage.namespace)}/reports"
    stage.server.request("DELETE", path)
    with pytest.raises(Conflict):
        stage.carry_out(Apply(late))
    assert stage.names("Deployment") == []


def test_a_deposed_operator_stops(stage: Stage) -> None:
    stage.apply(PLAIN[Mode.ACTIVE_STANDBY])
    stage.operate(token=7)
    before = _versions(stage)
    with pytest.raises(LeadershipLost, match="term 7"):
        stage.operate(token=3)
    assert _versions(stage) == before


def test_the_term_is_asked_before_each_write(stage: Stage) -> None:
    stage.apply(PLAIN[Mode.ACTIVE_STANDBY])
    asked = []

    def over() -> None:
        asked.append(1)
        if len(asked) > 3:
            raise LeadershipLost("over")

    with pytest.raises(LeadershipLost):
        stage.operate(token=3, check=over)
    assert len(_versions(stage)) == 2, "two were made, and one of them claimed"
