"""Which objects there shall be for one Singleton: those of the manifests, and whose they are.

Beside what `incumbent manifests` writes, each object has

- an owner reference, so that it is deleted with its Singleton, also while no operator runs. Not the
  lock and not a volume: see `kinds.KEPT`;
- the digest of what was applied: whatever is not wanted any more is found by it, also a field that
  nobody has put anything else into;
- on the Pods, what keeps them from being two. Two Pods with the same words exclude one another,
  as well as their mode can. Between two with different words stands nobody but `plan`.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from incumbent.manifests import Object
from incumbent.manifests.marks import APPLIED, KEPT_BY
from incumbent.manifests.model import Application
from incumbent.manifests.objects import objects_of
from incumbent.operator.definition import SINGLETONS
from incumbent.operator.kinds import KEPT, WORKLOADS, Key, key_of

__all__ = ["Wanted", "kept_by", "newborn", "wanted_of"]

_UNBORN = "-unborn"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What there shall be.

    Attributes:
        objects: in the order in which they are made.
        workload: which of them is the singleton itself.
        kept_by: what keeps its Pods from being two.
        single: whether that is the workload alone, and no election.
        count: how many replicas it begins with.
        scaled: whether somebody else sets the number afterwards.
    """

    objects: Mapping[Key, Object]
    workload: Key
    kept_by: str
    single: bool
    count: int
    scaled: bool

    @property
    def autoscaler(self) -> Key:
        """The autoscaler of the workload, if there is one."""
        return "HorizontalPodAutoscaler", self.workload[1]


def wanted_of(app: Application, singleton: Object) -> Wanted:
    """Return what a Singleton, which means this application, wants."""
    made = {key_of(obj): copy.deepcopy(obj) for obj in objects_of(app)}
    (workload,) = [key for key in made if key[0] in WORKLOADS and key[1] == app.name]
    words = kept_by(app)
    template = made[workload]["spec"]["template"]["metadata"]
    template["annotations"] = {**template.get("annotations", {}), KEPT_BY: words}
    for (kind, _), obj in made.items():
        if kind in KEPT:
            continue
        metadata = obj["metadata"]
        metadata["ownerReferences"] = [_reference(singleton)]
        annotations = metadata.get("annotations", {})
        metadata["annotations"] = {**annotations, APPLIED: _digest(obj)}
    scaled = app.autoscaling is not None
    return Wanted(made, workload, words, app.mode.single, app.count, scaled)


def kept_by(app: Application) -> str:
    """Return what keeps the Pods of this application from being two."""
    if app.mode.single:
        return f"StatefulSet {app.name}" if app.mode == "at-most-one" else f"Deployment {app.name}"
    if app.leased:
        return f"{'EndpointSlice' if app.sliced else 'Lease'} {app.election}"
    where = f"secret {app.store_secret}" if app.store_secret else app.store_url
    return f"election {app.election} in {where}"


def newborn(obj: Object, wanted: Wanted) -> Object:
    """Return the object as it is created: one that does nothing until it is changed."""
    made = copy.deepcopy(obj)
    if key_of(obj) == wanted.workload:
        made["spec"]["replicas"] = 0
    elif key_of(obj) == wanted.autoscaler:
        made["spec"]["scaleTargetRef"]["name"] += _UNBORN
    return made


def _reference(singleton: Object) -> Object:
    return {
        "apiVersion": SINGLETONS.api_version,
        "kind": SINGLETONS.kind,
        "name": singleton["metadata"]["name"],
        "uid": singleton["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _digest(obj: Object) -> str:
    text = json.dumps(obj, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
