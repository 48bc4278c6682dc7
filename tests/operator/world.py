"""A cluster in memory: what an API server, its controllers and the nodes make of steps.

Only what decides whether two can be active is in it: workloads, an autoscaler, ReplicaSets, Pods,
who keeps whom, versions. The order of everything is drawn by a seed. Operators read, plan, and
carry their steps out whenever they come to it, so any step may be late by any number of others.
People change the Singleton, delete it and make it anew, and do as they like with what it has made.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from incumbent.manifests import Object, marks
from incumbent.manifests.model import Application
from incumbent.operator import plan as planner
from incumbent.operator.desired import Wanted, wanted_of
from incumbent.operator.kinds import WORKLOADS, Key, key_of
from incumbent.operator.observed import Observed, controller_of, deleting, kept_by_of
from incumbent.operator.steps import Apply, Claim, Create, Delete, Step

__all__ = ["LOST", "OWNER", "Two", "World", "history", "settle", "small"]

OWNER = "0b0b"
LOST = "lost-node"


class Two(AssertionError):
    """Two workloads are to work, or Pods that nothing keeps apart."""


def small(app: Application) -> Wanted:
    """Return what a Singleton wants, without what cannot make two."""
    made = wanted_of(app, {"metadata": {"name": app.name, "uid": OWNER}})
    kept = {made.workload, made.autoscaler}
    return replace(made, objects={k: obj for k, obj in made.objects.items() if k in kept})


@dataclass
class Operator:
    """One that may be killed, or be late with everything.

    Attributes:
        pending: the steps that it has decided on.
        stopped: for how many of its moves it stands still.
    """

    token: int | None
    pending: list[Step] = field(default_factory=list)
    stopped: int = 0


class World:
    """The objects of one Singleton."""

    def __init__(self, specs: list[Wanted], rng: random.Random) -> None:
        self._specs = specs
        self.rng = rng
        self._counter = 0
        self._ending = rng.choice((0.03, 0.2, 0.6))
        self._collecting = rng.choice((0.03, 0.3))
        self.owner = OWNER
        self.wanted = specs[0]
        self.objects: dict[Key, Object] = {}
        self.sets: list[Object] = []
        self.pods: list[Object] = []

    # -- the API server ---------------------------------------------------------------------------

    def carry_out(self, step: Step) -> None:
        """Do a step, or refuse it as the API server does."""
        found = self.objects.get(step.key)
        match step:
            case Create():
                if found is None:
                    made = copy.deepcopy(step.obj)
                    made["metadata"]["uid"] = f"u{self._next()}"
                    entry = {"manager": "incumbent-operator", "operation": "Update"}
                    made["metadata"]["managedFields"] = [{**entry, "fieldsV1": _owning(made)}]
                    self._store(made)
            case Claim():
                if self._same(step.obj, found):
                    made = copy.deepcopy(step.obj)
                    made["metadata"]["managedFields"] = step.entries
                    self._store(made)
            case Apply():
                if self._same(step.obj, found):
                    made = copy.deepcopy(step.obj)
                    self._check_beginning(made, found)
                    entry = {"manager": "incumbent-operator", "operation": "Apply"}
                    made["metadata"]["managedFields"] = [{**entry, "fieldsV1": _owning(made)}]
                    if "replicas" not in made["spec"] and found is not None:
                        made["spec"]["replicas"] = found["spec"].get("replicas", 1)
                    self._store(made)
            case Delete():
                if self._same(step.obj, found) and found is not None:
                    if step.foreground:
                        found["metadata"]["deletionTimestamp"] = "now"
                        self._store(found)
                    else:
                        del self.objects[step.key]
        self.check()

    def _same(self, told: Object, found: Object | None) -> bool:
        return found is not None and all(
            told["metadata"][name] == found["metadata"][name] for name in ("uid", "resourceVersion")
        )

    def _store(self, obj: Object) -> None:
        obj["metadata"]["resourceVersion"] = str(self._next())
        self.objects[key_of(obj)] = obj

    def _next(self) -> int:
        self._counter += 1
        return self._counter

    # -- its controllers, and the nodes -----------------------------------------------------------

    def workloads(self) -> list[Object]:
        return [obj for key, obj in self.objects.items() if key[0] in WORKLOADS]

    def live(self) -> None:
        """Let each controller, and the nodes, come to a part of what they have to do."""
        parts = [self._nodes, self._deployments, self._stateful, self._make, self._collect]
        for part in self.rng.sample(parts, len(parts)):
            part()
            self.check()
        self._scale()
        self.check()

    def _kept(self, objects: list[Object], uid: str) -> list[Object]:
        return [obj for obj in objects if controller_of(obj).get("uid") == uid]

    def _nodes(self) -> None:
        """Pods are gone some time after they were deleted, and some are deleted."""
        for pod in list(self.pods):
            if deleting(pod):
                ends = self.rng.random() < self._ending
                if ends and pod["spec"].get("nodeName") != LOST:
                    self.pods.remove(pod)
            elif self.rng.random() < self._ending / 10:
                _delete(pod)

    def _deployments(self) -> None:
        for obj in [obj for obj in self.workloads() if obj["kind"] == "Deployment"]:
            uid = obj["metadata"]["uid"]
            own = self._kept(self.sets, uid)
            if deleting(obj):
                for one in own:
                    _delete(one)
                if not own:
                    del self.objects[key_of(obj)]
                continue
            strays = [one for one in self.sets if not controller_of(one) and _selects(obj, one)]
            for one in strays:
                if self.rng.random() < self._collecting:
                    one["metadata"]["ownerReferences"] = [_reference(uid)]
            first, *others = own or [self._set(obj)]
            for one in others:
                one["spec"]["replicas"] = 0
            if not any(self._kept(self.pods, one["metadata"]["uid"]) for one in others):
                first["spec"]["replicas"] = obj["spec"].get("replicas", 1)

    def _set(self, deployment: Object) -> Object:
        made = self._child("ReplicaSet", deployment)
        made["spec"] = {"replicas": 0, "template": deployment["spec"]["template"]}
        self.sets.append(made)
        return made

    def _make(self) -> None:
        """ReplicaSets make Pods beside those that are ending."""
        for one in list(self.sets):
            own = self._kept(self.pods, one["metadata"]["uid"])
            if deleting(one):
                for pod in own:
                    _delete(pod)
                if not own:
                    self.sets.remove(one)
                continue
            active = [pod for pod in own if not deleting(pod)]
            if len(active) < one["spec"]["replicas"]:
                self.pods.append(self._pod(one))
            elif len(active) > one["spec"]["replicas"]:
                _delete(active[0])

    def _stateful(self) -> None:
        """The next Pod has the same name, and so waits until the former one is gone."""
        for obj in [obj for obj in self.workloads() if obj["kind"] == "StatefulSet"]:
            uid = obj["metadata"]["uid"]
            own = self._kept(self.pods, uid)
            if deleting(obj):
                for pod in own:
                    _delete(pod)
                if not own:
                    del self.objects[key_of(obj)]
                continue
            name = f"{obj['metadata']['name']}-0"
            former = [pod for pod in self.pods if pod["metadata"]["name"] == name]
            for pod in former:
                if not controller_of(pod) and not deleting(pod):
                    pod["metadata"]["ownerReferences"] = [_reference(uid)]
            if obj["spec"]["replicas"] and not former:
                self.pods.append(self._pod(obj))
                self.pods[-1]["metadata"]["name"] = name
            elif not obj["spec"]["replicas"]:
                for pod in own:
                    _delete(pod)

    def _pod(self, by: Object) -> Object:
        made = self._child("Pod", by)
        made["metadata"] |= copy.deepcopy(by["spec"]["template"]["metadata"])
        made["spec"] = {}
        return made

    def _child(self, kind: str, by: Object) -> Object:
        """Return what is kept by something; of which workload it is at birth, is for `check`."""
        number, uid = self._next(), by["metadata"]["uid"]
        metadata = {"name": f"{kind.lower()}-{number}", "uid": f"u{number}"}
        metadata["ownerReferences"] = [_reference(uid)]  # type: ignore[assignment]
        return {"kind": kind, "metadata": metadata, "root": by.get("root", uid)}

    def _collect(self) -> None:
        """The garbage collector comes by, now here, now there: all is deleted in the background."""
        there = {obj["metadata"]["uid"] for obj in (*self.objects.values(), *self.sets)}

        def due(obj: Object) -> bool:
            by = controller_of(obj).get("uid")
            return bool(by) and by not in there and self.rng.random() < self._collecting

        for key, obj in list(self.objects.items()):
            if controller_of(obj).get("uid") != self.owner and due(obj):
                del self.objects[key]
        self.sets = [one for one in self.sets if not due(one)]
        for pod in self.pods:
            if due(pod):
                _delete(pod)

    def _scale(self) -> None:
        for key, obj in self.objects.items():
            if key[0] != "HorizontalPodAutoscaler":
                continue
            target = self.objects.get(("Deployment", obj["spec"]["scaleTargetRef"]["name"]))
            if target is not None and target["spec"].get("replicas", 1) > 0:
                most = obj["spec"]["maxReplicas"]
                target["spec"]["replicas"] = self.rng.randint(1, most)
                target["metadata"]["managedFields"] = []
                self._store(target)
                return

    # -- people, and operators --------------------------------------------------------------------

    def change(self) -> None:
        """Let somebody change the Singleton."""
        self.wanted = self.rng.choice(self._specs)

    def meddle(self) -> None:
        """Let somebody do what an operator neither knows of nor can keep from happening."""
        ways = [self.make_anew, self.tidy, self._to_zero]
        ways += [lambda: self.delete(orphan=False)] * 2 + [lambda: self.delete(orphan=True)]
        self.rng.choice(ways)()
        self.check()

    def make_anew(self) -> None:
        """Delete the Singleton, and make it once more."""
        self.owner = f"u{self._next()}"

    def delete(self, *, orphan: bool) -> None:
        """Delete a workload, which is gone at once; what it has made is orphaned, or goes later."""
        for obj in [obj for obj in self.workloads() if not deleting(obj)][:1]:
            del self.objects[key_of(obj)]
            for one in (*self.sets, *self.pods):
                if orphan and controller_of(one).get("uid") == obj["metadata"]["uid"]:
                    one["metadata"]["ownerReferences"] = []

    def tidy(self) -> None:
        """Delete what nobody keeps: there is nobody else to do it."""
        self.sets = [one for one in self.sets if controller_of(one)]
        for pod in self.pods:
            if not controller_of(pod):
                _delete(pod)

    def _to_zero(self) -> None:
        for obj in self.workloads()[:1]:
            if marks.matches(obj["metadata"]["labels"]):
                obj["spec"]["replicas"] = 0
                self._store(obj)

    def plan(self, token: int | None, meanwhile: Callable[[], None] = lambda: None) -> planner.Plan:
        """Let an operator read and plan; a few things happen between one read and the next."""
        wanted, owner = _owned_by(self.wanted, self.owner), self.owner
        objects = copy.deepcopy(self.objects)
        meanwhile()
        pods = copy.deepcopy(self.pods)
        meanwhile()
        return planner.plan(
            wanted, Observed(owner, objects, [*pods, *copy.deepcopy(self.sets)]), token
        )

    # -- the promise ------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise if two could be active that nothing keeps apart."""
        at_work = [key_of(obj) for obj in self.workloads() if obj["spec"].get("replicas", 1) > 0]
        if len(at_work) > 1:
            raise Two(f"{at_work} are at work")
        kinds = {kept_by_of(pod) for pod in self.pods}
        if len(kinds) > 1:
            raise Two(f"Pods of {sorted(kinds)} at once")
        roots = {pod["root"] for pod in self.pods if marks.matches(pod["metadata"]["labels"])}
        if len(roots) > 1:
            raise Two(f"Pods of {len(roots)} workloads at once, all kept single by {kinds}")
        self._check_numbers()

    def _check_beginning(self, made: Object, found: Object | None) -> None:
        """Raise if an only replica is set going while there is a Pod, of whomever."""
        if found is None or made["kind"] not in WORKLOADS or found["spec"].get("replicas", 1):
            return
        if marks.matches(made["metadata"]["labels"]) and made["spec"]["replicas"] and self.pods:
            raise Two(f"{key_of(made)} is set going beside {self.pods[0]['metadata']['name']}")

    def _check_numbers(self) -> None:
        for obj in self.workloads():
            mark = obj["spec"]["selector"]["matchLabels"].get("incumbent.dev/singleton")
            if mark == "true" and obj["spec"].get("replicas", 1) > 1:
                raise Two(f"{key_of(obj)} has {obj['spec']['replicas']} replicas")


def _reference(uid: str) -> Object:
    return {"uid": uid, "controller": True}


def _delete(obj: Object) -> None:
    obj["metadata"]["deletionTimestamp"] = "now"


def _selects(deployment: Object, one: Object) -> bool:
    labels = one["spec"]["template"]["metadata"]["labels"]
    return bool(deployment["spec"]["selector"]["matchLabels"].items() <= labels.items())


def _owned_by(wanted: Wanted, uid: str) -> Wanted:
    made = copy.deepcopy(wanted)
    for obj in made.objects.values():
        obj["metadata"]["ownerReferences"][0]["uid"] = uid
    return made


def _owning(obj: Object) -> dict[str, Any]:
    return {"f:spec": {f"f:{name}": {} for name in obj["spec"]}}


def history(specs: list[Wanted], seed: int, *, operators: list[int | None], moves: int) -> World:
    """Play one history, and have it end in peace: return the world after it.

    Raises:
        Two: on the way.
    """
    rng = random.Random(seed)
    world = World(specs, rng)
    found = [Operator(token) for token in operators]
    for _ in range(moves):
        operator = rng.choice(found)
        move = rng.random()
        if operator.stopped and move < 0.65:
            operator.stopped -= 1
        elif move < 0.45 and operator.pending:
            world.carry_out(operator.pending.pop(0))
        elif move < 0.65 and not operator.pending:
            others = [one for one in found if one is not operator]
            operator.pending = list(world.plan(operator.token, partial(stir, world, others)).steps)
            if rng.random() < 0.2:
                operator.stopped = rng.randrange(120)
        elif move < 0.653:
            operator.pending = []
        elif move < 0.67:
            world.change()
        elif move < 0.69:
            world.meddle()
        else:
            world.live()
    settle(world, max((one.token for one in found if one.token is not None), default=None))
    return world


def stir(world: World, operators: list[Operator]) -> None:
    """Let this and that happen."""
    for _ in range(world.rng.choice((0, 0, 1, 4))):
        pending = [one.pending for one in operators if one.pending and not one.stopped]
        if pending and world.rng.random() < 0.5:
            world.carry_out(pending[0].pop(0))
        else:
            world.live()
        if world.rng.random() < 0.02:
            world.meddle()


def settle(world: World, token: int | None, rounds: int = 1000) -> None:
    """Let one operator go on alone, and people do as it says, until there is nothing to do."""
    quiet = 0
    for _ in range(rounds):
        planned = world.plan(token)
        for step in planned.steps:
            world.carry_out(step)
        if planned.held is not None:
            world.tidy()
        world.live()
        done = not planned.steps and planned.held is None and bool(world.pods)
        quiet = quiet + 1 if done and not any(map(deleting, world.workloads())) else 0
        if quiet > 5:
            return
    raise AssertionError(f"it does not come to rest: {world.plan(token)}")
