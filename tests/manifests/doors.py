"""Every door through which a singleton could become two, as a request to the real API server.

A door is prepared by what is allowed, then knocked at. `came_in` says whether what was asked for
has happened, so that it is told from a request that did nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from incumbent.manifests.marks import LET_GO, ROLE, SINGLETON
from tests.manifests.scene import (
    APPLY,
    DEPLOYMENTS,
    FENCER,
    HPA,
    JSON_PATCH,
    KUBELET,
    POD_GC,
    Scene,
)

Act = Callable[[Scene], Any]

SCALED = ("Deployment", "StatefulSet", "ReplicaSet", "ReplicationController", "Thing")
FORCED = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}


@dataclass(frozen=True)
class Door:
    """One door.

    Attributes:
        name: of the test.
        policy: which policy keeps it shut.
        words: of its message.
        prepare: makes what is knocked at.
        knock: the request.
        came_in: whether it has done what it asks for.
        shows_mark: whether the request shows whether it is for a marked one.
    """

    name: str
    policy: str
    words: str
    prepare: Act
    knock: Act
    came_in: Callable[[Scene], bool]
    shows_mark: bool = True


@dataclass(frozen=True)
class Passage:
    """What a marked one may go on doing.

    Attributes:
        name: of the test.
        prepare: makes what it is done to.
        act: the request.
        done: whether it has had its effect.
    """

    name: str
    prepare: Act
    act: Act
    done: Callable[[Scene], bool]


def nothing(_: Scene) -> None:
    pass


# -- the number of replicas -----------------------------------------------------------------------


def _put_scale(kind: str, who: tuple[str, ...] = ()) -> Act:
    def knock(scene: Scene) -> None:
        path = scene.path(kind, sub="scale")
        scale = scene.client.send("GET", path)
        scale["spec"]["replicas"] = 2
        scale["status"]["selector"] = "app=somebody-else"
        scene.client.send("PUT", path, scale, who=who)

    return knock


def _put(kind: str) -> Act:
    def knock(scene: Scene) -> None:
        found = scene.get(kind)
        found["spec"]["replicas"] = 2
        scene.client.send("PUT", scene.path(kind), found)

    return knock


def _apply(scene: Scene) -> None:
    path = f"{scene.path('Deployment')}?fieldManager=test&force=true"
    scene.client.send("PATCH", path, scene.workload("Deployment", replicas=2), APPLY)


def _json_patch(scene: Scene) -> None:
    change = [{"op": "replace", "path": "/spec/replicas", "value": 2}]
    scene.client.send("PATCH", scene.path("Deployment"), change, JSON_PATCH)


def _beyond_one(kind: str) -> tuple[Door, ...]:
    def door(how: str, policy: str, knock: Act, prepare: Act = nothing) -> Door:
        words = "more than one replica would work at once"
        return Door(
            f"{how} {kind}",
            policy,
            words,
            prepare,
            knock,
            lambda scene: scene.exists(kind) and scene.replicas(kind) == 2,
        )

    def prepare(scene: Scene) -> None:
        scene.make(kind)

    two = {"spec": {"replicas": 2}}
    return (
        door("PATCH scale", "scale", lambda scene: scene.patch(kind, two, "scale"), prepare),
        door("PUT scale", "scale", _put_scale(kind), prepare),
        door("autoscaler", "scale", _put_scale(kind, HPA), prepare),
        door("PATCH", "workloads", lambda scene: scene.patch(kind, two), prepare),
        door("PUT", "workloads", _put(kind), prepare),
        door("create", "workloads", lambda s: s.create(s.workload(kind, replicas=2))),
        *(
            (
                door("apply", "workloads", _apply, prepare),
                door("JSON patch", "workloads", _json_patch, prepare),
            )
            if kind == "Deployment"
            else ()
        ),
    )


def _older_revision(scene: Scene) -> None:
    """Make what a Deployment leaves of an older revision."""
    labels = {**scene.labels, "pod-template-hash": "old"}
    made = scene.workload("ReplicaSet", labels, replicas=0)
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": scene.name}
    made["metadata"]["ownerReferences"] = [{**owner, "uid": scene.name, "controller": True}]
    scene.create(made, DEPLOYMENTS)


def _scale_up_older(sub: str) -> Act:
    return lambda scene: scene.patch("ReplicaSet", {"spec": {"replicas": 1}}, sub)


# -- the workload as such -------------------------------------------------------------------------


def _half_marked(scene: Scene) -> None:
    made = scene.workload("Deployment")
    made["spec"]["selector"] = {"matchLabels": {"app": scene.name}}
    scene.create(made)


def _take_the_mark_out(scene: Scene) -> None:
    found = scene.get("ReplicationController")
    found["spec"]["selector"] = {"app": scene.name}
    scene.client.send("PUT", scene.path("ReplicationController"), found)


def _rolling(scene: Scene) -> None:
    scene.create(scene.workload("Deployment", strategy={"type": "RollingUpdate"}))


def _change(kind: str, **spec: Any) -> Act:
    return lambda scene: scene.patch(kind, {"spec": spec})


def _no_grace(scene: Scene) -> None:
    made = scene.workload("StatefulSet")
    made["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 0
    scene.create(made)


def _has(kind: str, *path: str, value: object) -> Callable[[Scene], bool]:
    def came_in(scene: Scene) -> bool:
        if not scene.exists(kind):
            return False
        found: Any = scene.get(kind)
        for key in path:
            found = found.get(key, {})
        return bool(found == value)

    return came_in


# -- Pods -----------------------------------------------------------------------------------------


def _pod(**spec: Any) -> Act:
    return lambda scene: scene.create(scene.pod(**spec))


def _graceless_pod(scene: Scene) -> None:
    """Make one from before the guard: it is let in by whom the guard exempts."""
    scene.create(scene.pod(terminationGracePeriodSeconds=0), FENCER)


def _ending_pod(scene: Scene) -> None:
    scene.create(scene.pod())
    scene.client.send("DELETE", scene.path("Pod"))
    assert scene.is_ending()


def _delete(body: Any = None, query: str = "") -> Act:
    return lambda scene: scene.client.send("DELETE", scene.path("Pod") + query, body)


def _delete_all(body: Any = None) -> Act:
    def knock(scene: Scene) -> None:
        folder = scene.path("Pod").rpartition("/")[0]
        scene.client.send("DELETE", f"{folder}?labelSelector=app%3D{scene.name}", body)

    return knock


def evict(version: str, **options: int) -> Act:
    def knock(scene: Scene) -> None:
        eviction: dict[str, Any] = {
            "apiVersion": f"policy/{version}",
            "kind": "Eviction",
            "metadata": {"name": scene.name, "namespace": scene.namespace},
        }
        if options:
            eviction["deleteOptions"] = options
        scene.client.send("POST", scene.path("Pod", sub="eviction"), eviction)

    return knock


def _relabel(sub: str) -> Act:
    return lambda scene: scene.patch("Pod", {"metadata": {"labels": {"app": None}}}, sub)


def _unmark(scene: Scene) -> None:
    scene.patch("Pod", {"metadata": {"labels": {SINGLETON: None, "app": "y"}}})


def _phase(phase: str) -> Act:
    return lambda scene: scene.patch("Pod", {"status": {"phase": phase}}, "status")


def _gone(scene: Scene) -> bool:
    return not scene.exists()


_FORCE = "deleted with a grace period of 0"
_LABEL = "if a label is gone by which it was selected"
_UNLABELLED = _has("Pod", "metadata", "labels", "app", value={})

DOORS: tuple[Door, ...] = (
    *(door for kind in SCALED for door in _beyond_one(kind)),
    Door(
        "scale up an older revision",
        "scale",
        "belongs to a Deployment",
        _older_revision,
        _scale_up_older("scale"),
        _has("ReplicaSet", "spec", "replicas", value=1),
    ),
    Door(
        "PATCH up an older revision",
        "workloads",
        "belongs to a Deployment",
        _older_revision,
        _scale_up_older(""),
        _has("ReplicaSet", "spec", "replicas", value=1),
    ),
    Door(
        "marked in the template only",
        "workloads",
        "not in spec.selector.matchLabels",
        nothing,
        _half_marked,
        lambda scene: scene.exists("Deployment"),
    ),
    Door(
        "the mark taken out of a ReplicationController",
        "workloads",
        "stays one",
        lambda scene: scene.make("ReplicationController"),
        _take_the_mark_out,
        lambda s: s.get("ReplicationController")["spec"]["selector"] == {"app": s.name},
    ),
    Door(
        "a DaemonSet",
        "workloads",
        "a Pod on every node",
        nothing,
        lambda scene: scene.make("DaemonSet"),
        lambda scene: scene.exists("DaemonSet"),
    ),
    Door(
        "create with a rolling update",
        "workloads",
        "starts the new Pod beside the old one",
        nothing,
        _rolling,
        lambda scene: scene.exists("Deployment"),
    ),
    Door(
        "PATCH to a rolling update",
        "workloads",
        "starts the new Pod beside the old one",
        lambda scene: scene.make("Deployment"),
        _change("Deployment", strategy={"type": "RollingUpdate"}),
        _has("Deployment", "spec", "strategy", "type", value="RollingUpdate"),
    ),
    Door(
        "create with no grace period",
        "workloads",
        "terminationGracePeriodSeconds: 0 in its Pod template",
        nothing,
        _no_grace,
        lambda scene: scene.exists("StatefulSet"),
    ),
    Door(
        "PATCH to no grace period",
        "workloads",
        "terminationGracePeriodSeconds: 0 in its Pod template",
        lambda scene: scene.make("StatefulSet"),
        _change("StatefulSet", template={"spec": {"terminationGracePeriodSeconds": 0}}),
        lambda s: (
            s.get("StatefulSet")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 0
        ),
    ),
    Door(
        "PATCH the first ordinal",
        "workloads",
        "with another spec.ordinals.start",
        lambda scene: scene.make("StatefulSet"),
        _change("StatefulSet", ordinals={"start": 1}),
        _has("StatefulSet", "spec", "ordinals", "start", value=1),
    ),
    Door("force in the body", "pods", _FORCE, _pod(), _delete(FORCED), _gone),
    Door(
        "force in the query", "pods", _FORCE, _pod(), _delete(None, "?gracePeriodSeconds=0"), _gone
    ),
    Door("force on what is ending", "pods", _FORCE, _ending_pod, _delete(FORCED), _gone),
    Door("force on a collection", "pods", _FORCE, _pod(), _delete_all(FORCED), _gone),
    Door("delete what has no grace", "pods", _FORCE, _graceless_pod, _delete(), _gone),
    Door(
        "delete a collection that has no grace",
        "pods",
        _FORCE,
        _graceless_pod,
        _delete_all(),
        _gone,
    ),
    Door(
        "create a Pod without grace",
        "pods",
        "with terminationGracePeriodSeconds: 0 each deletion or eviction",
        nothing,
        _pod(terminationGracePeriodSeconds=0),
        lambda scene: scene.exists(),
    ),
    Door(
        "create a Pod by hand",
        "pods",
        "has no controller",
        nothing,
        _pod(owned=False),
        lambda scene: scene.exists(),
    ),
    Door("take a label off", "pods", _LABEL, _pod(), _relabel(""), _UNLABELLED),
    Door("take a label off by the status", "pods", _LABEL, _pod(), _relabel("status"), _UNLABELLED),
    Door(
        "take the mark off",
        "pods",
        _LABEL,
        _pod(),
        _unmark,
        _has("Pod", "metadata", "labels", value={"app": "y"}),
    ),
    *(
        Door(
            f"call it {phase}",
            "pods",
            "for its kubelet to say that it has ended",
            _pod(),
            _phase(phase),
            _has("Pod", "status", "phase", value=phase),
        )
        for phase in ("Failed", "Succeeded")
    ),
    *(
        Door(
            f"force by an eviction of {version}",
            "evictions",
            "evicted with a grace period of 0",
            _pod(),
            evict(version, gracePeriodSeconds=0),
            _gone,
            shows_mark=False,
        )
        for version in ("v1", "v1beta1")
    ),
)


# -- what stays possible --------------------------------------------------------------------------


def _scaled(kind: str, number: int, before: int) -> Passage:
    return Passage(
        f"scale {kind} from {before} to {number}",
        lambda scene: scene.make(kind, replicas=before),
        lambda scene: scene.patch(kind, {"spec": {"replicas": number}}, "scale"),
        lambda scene: scene.replicas(kind) == number,
    )


def _rolled_out(kind: str) -> Passage:
    return Passage(
        f"roll out a {kind}",
        lambda scene: scene.make(kind),
        _change(kind, template={"metadata": {"annotations": {"restarted": "now"}}}),
        lambda s: "annotations" in s.get(kind)["spec"]["template"]["metadata"],
    )


def force_by(who: tuple[str, ...]) -> Act:
    return lambda scene: scene.client.send("DELETE", scene.path("Pod"), FORCED, who=who)


def fail_by(who: tuple[str, ...]) -> Act:
    return lambda scene: scene.patch("Pod", {"status": {"phase": "Failed"}}, "status", who)


def _ended_pod(scene: Scene) -> None:
    scene.create(scene.pod())
    fail_by(KUBELET)(scene)


def _role(value: str | None) -> Act:
    return lambda scene: scene.patch("Pod", {"metadata": {"labels": {ROLE: value}}})


def _let_go_pod(scene: Scene) -> None:
    """Make one whose eviction was let through, and failed."""
    scene.create(scene.pod())
    scene.patch("Pod", {"metadata": {"labels": {LET_GO: "true"}}})


def _active_pod(scene: Scene) -> None:
    scene.create(scene.pod())
    _role("active")(scene)


def _emptied(scene: Scene) -> None:
    """Make a StatefulSet without Pods, as its controller reports it."""
    scene.make("StatefulSet", replicas=0)
    scene.patch("StatefulSet", {"status": {"replicas": 0, "observedGeneration": 1}}, "status")


def _is_failed(scene: Scene) -> bool:
    return bool(scene.get("Pod")["status"]["phase"] == "Failed")


PASSAGES: tuple[Passage, ...] = (
    *(_scaled(kind, 0, before=1) for kind in SCALED),
    *(_scaled(kind, 1, before=0) for kind in SCALED),
    _rolled_out("Deployment"),
    _rolled_out("StatefulSet"),
    Passage(
        "the controller of Deployments scales an older revision up",
        _older_revision,
        lambda s: s.patch("ReplicaSet", {"spec": {"replicas": 1}}, who=DEPLOYMENTS),
        _has("ReplicaSet", "spec", "replicas", value=1),
    ),
    Passage(
        "another first ordinal where there are no Pods",
        _emptied,
        _change("StatefulSet", ordinals={"start": 1}),
        _has("StatefulSet", "spec", "ordinals", "start", value=1),
    ),
    Passage("delete", _pod(), _delete(), Scene.is_ending),
    Passage("delete a collection", _pod(), _delete_all(), Scene.is_ending),
    Passage("delete with 1 second", _pod(), _delete({"gracePeriodSeconds": 1}), Scene.is_ending),
    Passage("delete what has no node yet", _pod(node=""), _delete(), _gone),
    Passage("force on what has no node yet", _pod(node=""), _delete(FORCED), _gone),
    Passage("delete what has ended", _ended_pod, _delete(), _gone),
    Passage("force on what has ended", _ended_pod, _delete(FORCED), _gone),
    Passage("evict", _pod(), evict("v1"), Scene.is_ending),
    Passage("evict with 1 second", _pod(), evict("v1", gracePeriodSeconds=1), Scene.is_ending),
    Passage("the kubelet finishes a deletion", _ending_pod, force_by(KUBELET), _gone),
    Passage("the kubelet says that it has ended", _pod(), fail_by(KUBELET), _is_failed),
    Passage("the garbage collector forces", _pod(), force_by(POD_GC), _gone),
    Passage("the garbage collector says that it has ended", _pod(), fail_by(POD_GC), _is_failed),
    Passage("who is exempt forces", _pod(), force_by(FENCER), _gone),
    Passage(
        "its role is set",
        _pod(),
        _role("active"),
        _has("Pod", "metadata", "labels", ROLE, value="active"),
    ),
    Passage(
        "its role is taken away",
        _active_pod,
        _role(None),
        _has("Pod", "metadata", "labels", ROLE, value={}),
    ),
    Passage(
        "what was let go is held again",
        _let_go_pod,
        lambda scene: scene.patch("Pod", {"metadata": {"labels": {LET_GO: None}}}),
        _has("Pod", "metadata", "labels", LET_GO, value={}),
    ),
)
