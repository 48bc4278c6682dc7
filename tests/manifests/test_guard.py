"""The guard on a real API server: every door with it, without it, and for what is not marked."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from incumbent.manifests.guard import Settings, policies, quota
from incumbent.manifests.marks import GUARD, SINGLETON
from incumbent.manifests.objects import objects_of
from incumbent.manifests.objects.guard import CLUSTER_WIDE
from tests.manifests.doors import DOORS, PASSAGES, Door, Passage, evict, fail_by, force_by
from tests.manifests.kit import EVERY
from tests.manifests.scene import KUBELET, MERGE, POD_GC, Client, Installed, Scene, wait_until
from tests.manifests.world import Shell, World, a_namespace
from tests.servers.kubernetes import ApiError


def _named(made: Door | Passage) -> str:
    return made.name


# -- every door -----------------------------------------------------------------------------------


@pytest.mark.parametrize("door", DOORS, ids=_named)
def test_the_guard_keeps_it_shut(world: World, door: Door) -> None:
    scene = world.scene("strict")
    door.prepare(scene)
    with pytest.raises(ApiError) as refused:
        door.knock(scene)
    assert refused.value.status in (403, 422)
    assert f"-singleton-{door.policy}'" in str(refused.value)
    assert door.words in str(refused.value)
    assert not door.came_in(scene)


@pytest.mark.parametrize("door", DOORS, ids=_named)
def test_without_the_guard_it_is_open(world: World, door: Door) -> None:
    scene = world.scene("nobody")
    door.prepare(scene)
    door.knock(scene)
    assert door.came_in(scene)


@pytest.mark.parametrize("door", [door for door in DOORS if door.shows_mark], ids=_named)
def test_what_is_not_marked_goes_through(world: World, door: Door) -> None:
    scene = world.scene("strict", marked=False)
    door.prepare(scene)
    door.knock(scene)
    assert door.came_in(scene)


@pytest.mark.parametrize("passage", PASSAGES, ids=_named)
def test_what_makes_no_second_one_goes_on(world: World, passage: Passage) -> None:
    scene = world.scene("strict")
    passage.prepare(scene)
    passage.act(scene)
    assert passage.done(scene)


# -- how custom resources write their selector ----------------------------------------------------


@pytest.mark.parametrize(
    "selector",
    [f"{SINGLETON}=true", f"app = x, {SINGLETON} == true", f"a=b,{SINGLETON} in (true)"],
)
def test_the_mark_is_read_however_an_operator_writes_it(world: World, selector: str) -> None:
    scene = world.scene("strict")
    scene.make("Thing")
    scene.patch("Thing", {"status": {"selector": selector}}, "status")
    with pytest.raises(ApiError, match="-singleton-scale'"):
        scene.patch("Thing", {"spec": {"replicas": 2}}, "scale")


@pytest.mark.parametrize(
    "selector", ["", f"{SINGLETON}=false", f"{SINGLETON}!=true", f"x{SINGLETON}=true"]
)
def test_other_selectors_are_not_the_mark(world: World, selector: str) -> None:
    scene = world.scene("strict", marked=False)
    scene.make("Thing")
    scene.patch("Thing", {"status": {"selector": selector}}, "status")
    scene.patch("Thing", {"spec": {"replicas": 2}}, "scale")
    assert scene.replicas("Thing") == 2


# -- what was there before the guard --------------------------------------------------------------


@pytest.fixture(scope="module")
def late(world: World) -> Callable[[Callable[[Scene], Any]], Scene]:
    """Make something in a namespace, and guard the namespace then."""

    def guarded_after(prepare: Callable[[Scene], Any]) -> Scene:
        name = a_namespace(world.client, "late")
        scene = Scene(world.client, name)
        prepare(scene)
        change = {"metadata": {"labels": world.labels["strict"]}}
        scene.client.send("PATCH", f"/api/v1/namespaces/{name}", change, MERGE)
        pods = f"/api/v1/namespaces/{name}/pods?dryRun=All"
        bare = Scene(world.client, name).pod(owned=False)
        wait_until(lambda: not world.client.may("POST", pods, bare), "it is guarded")
        return scene

    return guarded_after


def test_what_was_beyond_one_can_come_down_and_not_go_up(
    late: Callable[[Callable[[Scene], Any]], Scene],
) -> None:
    rolling = {"type": "RollingUpdate"}
    scene = late(lambda scene: scene.make("Deployment", replicas=3, strategy=rolling))
    scene.patch("Deployment", {"metadata": {"labels": {"seen": "yes"}}})
    for sub in ("", "scale"):
        with pytest.raises(ApiError, match="more than one replica"):
            scene.patch("Deployment", {"spec": {"replicas": 4}}, sub)
    scene.patch("Deployment", {"spec": {"replicas": 3}}, "scale")
    scene.patch("Deployment", {"spec": {"replicas": 2}}, "scale")
    with pytest.raises(ApiError, match="starts the new Pod beside the old one"):
        scene.patch("Deployment", {"spec": {"template": {"spec": {"hostname": "x"}}}})
    recreate = {"type": "Recreate", "rollingUpdate": None}
    scene.patch("Deployment", {"spec": {"replicas": 1, "strategy": recreate}})
    scene.patch("Deployment", {"spec": {"template": {"spec": {"hostname": "x"}}}})
    assert scene.replicas("Deployment") == 1


def test_what_was_marked_by_half_can_still_be_deleted(
    late: Callable[[Callable[[Scene], Any]], Scene],
) -> None:
    def prepare(scene: Scene) -> None:
        made = scene.workload("StatefulSet")
        made["spec"]["selector"] = {"matchLabels": {"app": scene.name}}
        made["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 0
        made["metadata"]["finalizers"] = ["guard.test/kept"]
        scene.create(made)

    scene = late(prepare)
    scene.client.send("DELETE", scene.path("StatefulSet"))
    scene.patch("StatefulSet", {"metadata": {"finalizers": None}})
    assert not scene.exists("StatefulSet")


# -- the settings ---------------------------------------------------------------------------------


def test_the_garbage_collector_can_be_refused(world: World) -> None:
    scene = world.scene("no-gc")
    scene.create(scene.pod())
    with pytest.raises(ApiError, match="let a user delete the Pod whom the guard exempts"):
        force_by(POD_GC)(scene)
    with pytest.raises(ApiError, match="for its kubelet to say"):
        fail_by(POD_GC)(scene)
    force_by(KUBELET)(scene)
    assert not scene.exists()


def test_by_default_all_namespaces_are_guarded_but_for_evictions(client: Client) -> None:
    installed = Installed(client, policies(Settings(prefix=f"all-{secrets.token_hex(3)}")))
    installed.install()
    try:
        scene = Scene(client, a_namespace(client, "any"))
        scene.make("Deployment")
        with pytest.raises(ApiError, match="-singleton-scale'"):
            scene.patch("Deployment", {"spec": {"replicas": 2}}, "scale")
        for labels, lets_pass in (({}, True), ({GUARD: "enforce"}, False)):
            scene = Scene(client, a_namespace(client, "any", **labels))
            scene.create(scene.pod())
            if lets_pass:
                evict("v1", gracePeriodSeconds=0)(scene)
            else:
                with pytest.raises(ApiError, match="-singleton-evictions'"):
                    evict("v1", gracePeriodSeconds=0)(scene)
            assert scene.exists() is not lets_pass
    finally:
        installed.remove()


def test_the_guard_of_one_application_guards_its_namespace_and_no_other(client: Client) -> None:
    own, other = (Scene(client, a_namespace(client, "own")) for _ in range(2))
    app = replace(EVERY["guarded"], namespace=own.namespace)
    made = [obj for obj in objects_of(app) if obj["kind"] in CLUSTER_WIDE]
    installed = Installed(client, made)
    installed.install()
    try:
        for scene in (own, other):
            scene.make("StatefulSet")
            scene.create(scene.pod())
        for knock, words in (
            (lambda scene: scene.patch("StatefulSet", {"spec": {"replicas": 2}}, "scale"), "scale"),
            (evict("v1", gracePeriodSeconds=0), "evictions"),
        ):
            with pytest.raises(ApiError, match=rf"'{own.namespace}\.reports-singleton-{words}'"):
                knock(own)
            knock(other)
        assert (own.replicas("StatefulSet"), other.replicas("StatefulSet")) == (1, 2)
        assert (own.exists(), other.exists()) == (True, False)
    finally:
        installed.remove()


def test_the_quota_lets_one_pod_exist(client: Client) -> None:
    scene = Scene(client, a_namespace(client, "quota"))
    scene.create(scene.pod())
    scene.client.send("DELETE", scene.path("Pod"))
    assert scene.is_ending()
    made = quota(scene.namespace)
    path = f"/api/v1/namespaces/{scene.namespace}/resourcequotas"
    scene.client.send("POST", path, made)
    # It stands for the controller, which counts and does not run here.
    status = {"hard": made["spec"]["hard"], "used": {"count/pods": "1"}}
    scene.client.send(
        "PATCH", f"{path}/{made['metadata']['name']}/status", {"status": status}, MERGE
    )
    second = Scene(client, scene.namespace, marked=False)
    pods = second.path("Pod").rpartition("/")[0]
    dry = f"{pods}?dryRun=All"
    wait_until(lambda: not client.may("POST", dry, second.pod()), "it is counted")
    with pytest.raises(ApiError, match="exceeded quota: incumbent-singleton"):
        second.create(second.pod())


# -- kubectl --------------------------------------------------------------------------------------


COMMANDS = {
    "scale": ("Deployment", "scale deployment {} --replicas=2", "singleton-scale"),
    "scale a set": ("StatefulSet", "scale sts {} --replicas=2", "singleton-scale"),
    "patch": (
        "Deployment",
        'patch deployment {} -p {{"spec":{{"replicas":2}}}}',
        "singleton-workloads",
    ),
    "delete by force": ("Pod", "delete pod {} --force --grace-period=0", "singleton-pods"),
    "take a label off": ("Pod", "label pod {} app-", "singleton-pods"),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_kubectl_is_told_why(world: World, shell: Shell, command: tuple[str, str, str]) -> None:
    kind, line, policy = command
    for how, marked in (("strict", True), ("strict", False), ("nobody", True)):
        scene = world.scene(how, marked=marked)
        if kind == "Pod":
            scene.create(scene.pod())
        else:
            scene.make(kind)
        done = shell.run(scene, *line.format(scene.name).split())
        if how == "strict" and marked:
            assert done.returncode != 0
            assert f"-{policy}' with binding" in done.stderr
            assert "this is a singleton" in done.stderr
        else:
            assert done.returncode == 0, done.stderr


def test_kubectl_restarts_what_is_recreated(world: World, shell: Shell) -> None:
    scene = world.scene("strict")
    scene.make("Deployment")
    done = shell.run(scene, "rollout", "restart", f"deployment/{scene.name}")
    assert done.returncode == 0, done.stderr
    template = scene.get("Deployment")["spec"]["template"]
    assert "kubectl.kubernetes.io/restartedAt" in template["metadata"]["annotations"]


def test_kubectl_shows_the_warning_where_nothing_is_refused(world: World, shell: Shell) -> None:
    scene = world.scene("warned")
    scene.make("Deployment")
    done = shell.run(scene, "scale", "deployment", scene.name, "--replicas=2")
    assert done.returncode == 0
    assert "Warning: Validation failed for ValidatingAdmissionPolicy" in done.stderr
    assert "more than one replica would work at once" in done.stderr
    assert scene.replicas("Deployment") == 2
