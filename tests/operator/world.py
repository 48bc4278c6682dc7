"""A cluster in memory: what an API server, its controllers and the nodes make of steps.

Only what decides whether two can be active is in it: workloads, an autoscaler, Pods, versions. The
order of everything is drawn by a seed. Operators read, plan, and carry their steps out whenever
they come to it, so any step may be late by any number of others.
"""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, field, replace
from typing import Any

from incumbent.manifests import Object
from incumbent.manifests.model import Application
from incumbent.operator import plan as planner
from incumbent.operator.desired import Wanted, wanted_of
from incumbent.operator.kinds import WORKLOADS, Key, key_of
from incumbent.operator.observed import Observed, deleting, kept_by_of
from incumbent.operator.steps import Apply, Claim, Create, Delete, Step

__all__ = ["Two", "World", "history", "small"]

OWNER = "0b0b"


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
        self._rng = rng
        self._counter = 0
        self._ending = rng.choice((0.03, 0.2, 0.6))
        self.wanted = specs[0]
        self.objects: dict[Key, Object] = {}
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
        """Let Pods come, end, and be gone; and what was deleted in the foreground after them."""
        for pod in [pod for pod in self.pods if self._ends(pod)]:
            if self._rng.random() < self._ending:
                self.pods.remove(pod)
        for obj in self.workloads():
            own = [pod for pod in self.pods if pod["owner"] == obj["metadata"]["uid"]]
            if deleting(obj):
                if not own:
                    del self.objects[key_of(obj)]
            elif len(own) < obj["spec"].get("replicas", 1):
                template = obj["spec"]["template"]["metadata"]
                self.pods.append(
                    {
                        "kind": "Pod",
                        "metadata": {"name": f"p{self._next()}", **template},
                        "spec": {},
                        "owner": obj["metadata"]["uid"],
                    }
                )
        self._scale()
        self.check()

    def _ends(self, pod: Object) -> bool:
        uids = [obj["metadata"]["uid"] for obj in self.workloads() if not deleting(obj)]
        return pod["owner"] not in uids or self._rng.random() < 0.1

    def _scale(self) -> None:
        for key, obj in self.objects.items():
            if key[0] != "HorizontalPodAutoscaler":
                continue
            target = self.objects.get(("Deployment", obj["spec"]["scaleTargetRef"]["name"]))
            if target is not None and target["spec"].get("replicas", 1) > 0:
                most = obj["spec"]["maxReplicas"]
                target["spec"]["replicas"] = self._rng.randint(1, most)
                target["metadata"]["managedFields"] = []
                self._store(target)
                return

    # -- people, and operators --------------------------------------------------------------------

    def change(self) -> None:
        """Let somebody change the Singleton."""
        self.wanted = self._rng.choice(self._specs)

    def plan(self, token: int | None) -> planner.Plan:
        """Let an operator read and plan."""
        pods = copy.deepcopy(self.pods)
        return planner.plan(self.wanted, Observed(OWNER, copy.deepcopy(self.objects), pods), token)

    # -- the promise ------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise if two could be active that nothing keeps apart."""
        at_work = [key_of(obj) for obj in self.workloads() if obj["spec"].get("replicas", 1) > 0]
        if len(at_work) > 1:
            raise Two(f"{at_work} are at work")
        kinds = {kept_by_of(pod) for pod in self.pods}
        if len(kinds) > 1:
            raise Two(f"Pods of {sorted(kinds)} at once")
        self._check_numbers()

    def _check_numbers(self) -> None:
        for obj in self.workloads():
            mark = obj["spec"]["selector"]["matchLabels"].get("incumbent.dev/singleton")
            if mark == "true" and obj["spec"].get("replicas", 1) > 1:
                raise Two(f"{key_of(obj)} has {obj['spec']['replicas']} replicas")


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
            operator.pending = list(world.plan(operator.token).steps)
            if rng.random() < 0.2:
                operator.stopped = rng.randrange(120)
        elif move < 0.653:
            operator.pending = []
        elif move < 0.67:
            world.change()
        else:
            world.live()
    settle(world, max((one.token for one in found if one.token is not None), default=None))
    return world


def settle(world: World, token: int | None, rounds: int = 1000) -> None:
    """Let one operator go on alone, until there is nothing to do for a while."""
    quiet = 0
    for _ in range(rounds):
        planned = world.plan(token)
        for step in planned.steps:
            world.carry_out(step)
        world.live()
        quiet = quiet + 1 if not planned.steps and planned.held is None else 0
        if quiet > 5:
            return
    raise AssertionError(f"it does not come to rest: {world.plan(token)}")
