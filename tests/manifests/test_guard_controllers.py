"""The guard against those who are no request of ours: the autoscaler, and `kubectl drain`.

The controllers are the real ones: that of HorizontalPodAutoscalers asks for a second replica by
itself, and that of StatefulSets makes the next Pod as soon as the name of the first is free. That
is how it is seen that a door makes two. No scheduler and no kubelet runs, so a Pod is given to a
node by hand, and nobody ever says that it has ended.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from incumbent.manifests import Object
from tests.manifests.scene import Scene
from tests.manifests.world import Shell, World
from tests.servers import build
from tests.servers.kubernetes import ApiServer
from tests.servers.process import ChildProcess

_CONTROLLERS = ("horizontal-pod-autoscaler-controller", "statefulset-controller")
_REFUSED = "this is a singleton: more than one replica would work at once"
COLUMNS = {
    "guarded": ("strict", True),
    "unguarded": ("nobody", True),
    "unmarked": ("strict", False),
}


@pytest.fixture(scope="module", autouse=True)
def controllers(
    api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ChildProcess]:
    program = ChildProcess(
        "kube-controller-manager",
        [
            build.ensure("kube-controller-manager"),
            f"--kubeconfig={api_server.kubeconfig()}",
            f"--controllers={','.join(_CONTROLLERS)}",
            "--horizontal-pod-autoscaler-sync-period=500ms",
            "--leader-elect=false",
            "--secure-port=0",
            "--use-service-account-credentials",
        ],
        log_path=tmp_path_factory.mktemp("controllers") / "log",
    )
    program.spawn()
    yield program
    program.kill()


# -- the autoscaler -------------------------------------------------------------------------------


def _autoscaled(scene: Scene, kind: str) -> Object:
    """Make an autoscaler that wants two, and return what it has come to say of it."""
    path = f"/apis/autoscaling/v2/namespaces/{scene.namespace}/horizontalpodautoscalers"
    target = {"apiVersion": "apps/v1", "kind": kind, "name": scene.name}
    spec = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 3}
    made = scene.client.send("POST", path, {"metadata": {"name": scene.name}, "spec": spec})

    def _able(found: Object) -> Object | None:
        listed = found.get("status", {}).get("conditions", ())
        return next(
            (
                one
                for one in listed
                if one["reason"] in ("FailedUpdateScale", "SucceededRescale", "ReadyForNewScale")
            ),
            None,
        )

    found = scene.client.watched(
        f"{path}?fieldSelector=metadata.name%3D{scene.name}",
        lambda found: _able(found) is not None,
        since=made["metadata"]["resourceVersion"],
    )
    condition = _able(found)
    assert condition is not None
    return condition


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_the_autoscaler_itself_is_refused_and_says_why(
    world: World, kind: str, column: str
) -> None:
    how, marked = COLUMNS[column]
    scene = world.scene(how, marked=marked)
    scene.make(kind)
    condition = _autoscaled(scene, kind)
    assert condition["type"] == "AbleToScale"
    if column != "guarded":
        assert condition["reason"] == "SucceededRescale"
        assert scene.replicas(kind) == 2
        return
    assert (condition["status"], condition["reason"]) == ("False", "FailedUpdateScale")
    assert "-singleton-scale'" in condition["message"]
    assert _REFUSED in condition["message"]
    assert scene.replicas(kind) == 1
    events = f"/api/v1/namespaces/{scene.namespace}/events"
    event = scene.client.watched(
        f"{events}?fieldSelector=involvedObject.name%3D{scene.name}",
        lambda found: found.get("reason") == "FailedRescale",
    )
    assert event["type"] == "Warning"
    assert _REFUSED in event["message"]


# -- a drain --------------------------------------------------------------------------------------


class Node:
    """A node of the test's own, with the only Pod of a StatefulSet on it."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.name = scene.name
        scene.client.send("POST", "/api/v1/nodes", {"metadata": {"name": self.name}})
        scene.make("StatefulSet")
        self.first = self.pod()
        binding = {"target": {"kind": "Node", "name": self.name}, "metadata": {"name": self._pod}}
        scene.client.send("POST", f"{self._pods}/{self._pod}/binding", binding)

    @property
    def _pod(self) -> str:
        return f"{self.scene.name}-0"

    @property
    def _pods(self) -> str:
        return f"/api/v1/namespaces/{self.scene.namespace}/pods"

    def pod(self, *, other_than: str = "") -> Object:
        """Return the Pod as soon as there is one, or another one."""
        return self.scene.client.watched(
            f"{self._pods}?fieldSelector=metadata.name%3D{self._pod}",
            lambda found: found["metadata"]["uid"] not in ("", other_than),
        )

    @property
    def uid(self) -> str:
        uid: str = self.first["metadata"]["uid"]
        return uid

    def remove(self) -> None:
        self.scene.client.send("DELETE", f"/api/v1/nodes/{self.name}")


DRAINS = {
    "evicts": ("--grace-period=0", "evictions", "evicted with a grace period of 0"),
    "deletes": (
        "--grace-period=0 --disable-eviction",
        "pods",
        "deleted with a grace period of 0 it may run on beside the next one",
    ),
}


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("drain", DRAINS)
def test_a_drain_without_grace_makes_two_and_is_refused(
    world: World, shell: Shell, drain: str, column: str
) -> None:
    options, policy, words = DRAINS[drain]
    how, marked = COLUMNS[column]
    node = Node(world.scene(how, marked=marked))
    try:
        done = shell.run(node.scene, "drain", node.name, "--timeout=50s", *options.split())
        # An eviction shows nothing of the Pod, so it is refused for the unmarked as well.
        if column == "guarded" or (column == "unmarked" and policy == "evictions"):
            assert done.returncode != 0
            assert f"-singleton-{policy}'" in done.stderr
            assert words in done.stderr
            kept = node.pod()["metadata"]
            assert kept["uid"] == node.uid
            assert "deletionTimestamp" not in kept
        else:
            assert done.returncode == 0, done.stderr
            # The first one was never said to have ended, and here is the next.
            assert node.pod(other_than=node.uid)["metadata"]["uid"] != node.uid
    finally:
        node.remove()
