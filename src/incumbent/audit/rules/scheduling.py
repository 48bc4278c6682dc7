"""Where do the Pods run, and what takes them away from there?"""

from __future__ import annotations

from collections.abc import Iterator

from incumbent.audit.case import Case
from incumbent.audit.finding import Severity, Sighting, rule
from incumbent.audit.objects import Object, Workload, at, listing, mapping

_TAINTS = (
    "https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/"
    "#taint-based-evictions"
)
_SPREAD = "https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/"
_PRESSURE = "https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/"
_GONE = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_LEAST_S = 5


@rule(
    "INC071",
    Severity.MEDIUM,
    "how long a lost node is waited for is left to chance",
    why="""A Pod stays on a node that does not answer for 300 s, unless it says otherwise, and
    that begins 50 s after the node was last heard of: about six minutes. With next to nothing
    it moves at every hiccup.""",
    fix="""Tolerations for `node.kubernetes.io/not-ready` and `unreachable` with
    `tolerationSeconds` that fit the lease or the outage that is bearable.""",
    links=(_TAINTS,),
)
def waits(case: Case) -> Iterator[Sighting]:
    """Find singletons without tolerations of their own, or with too short ones."""
    for workload, intent in case.singletons:
        base = workload.pod_path("tolerations")
        missing, short = [], None
        for taint in _GONE:
            found = [
                (number, mapping(each))
                for number, each in enumerate(listing(workload.manifest.at(*base)))
                if _tolerates(mapping(each), taint)
            ]
            if not found:
                missing.append(taint.rpartition("/")[2])
            for number, each in found:
                seconds = each.get("tolerationSeconds")
                if isinstance(seconds, int) and seconds < _LEAST_S:
                    short = (number, seconds)
        if missing:
            text = f"{workload}, which is {intent.mode}, says nothing of {' and '.join(missing)}"
            yield Sighting(workload.manifest, base, text)
        elif short:
            text = f"{workload} leaves a node that is not heard of after {short[1]} s"
            yield Sighting(workload.manifest, (*base, short[0]), text)


def _tolerates(toleration: Object, taint: str) -> bool:
    key = toleration.get("key")
    return key == taint or (not key and toleration.get("operator") == "Exists")


@rule(
    "INC072",
    Severity.MEDIUM,
    "the active one and its standbys may share a node",
    why="""One node takes all of them along, and the failover that they are there for does not
    happen.""",
    fix="A `podAntiAffinity` by `kubernetes.io/hostname`, or a topology spread constraint.",
    links=(_SPREAD,),
)
def together(case: Case) -> Iterator[Sighting]:
    """Find elected replicas that nothing keeps apart."""
    for workload, intent in case.elected:
        spread = listing(workload.pod_spec.get("topologySpreadConstraints"))
        apart = mapping(at(workload.pod_spec, "affinity", "podAntiAffinity"))
        if workload.replicas > 1 and not spread and not apart:
            text = f"nothing keeps the replicas of {workload}, which is {intent.mode}, apart"
            yield Sighting(workload.manifest, workload.pod_path("affinity"), text)


@rule(
    "INC073",
    Severity.MEDIUM,
    "it is the first to be evicted",
    why="""Containers without requests make a Pod BestEffort: a node that is short of memory
    evicts it first, without asking the budget and without its grace period. A priority below
    zero is preempted by anything.""",
    fix="""Requests for cpu and memory, equal to the limits for memory; a PriorityClass above
    the rest.""",
    links=(_PRESSURE,),
)
def best_effort(case: Case) -> Iterator[Sighting]:
    """Find singletons without requests, or of a negative priority."""
    low = {
        each.name
        for each in case.inventory.of("PriorityClass")
        if isinstance(each.at("value"), int) and each.at("value") < 0
    }
    for workload, intent in case.singletons:
        priority = str(workload.pod_spec.get("priorityClassName"))
        if priority in low:
            path = workload.pod_path("priorityClassName")
            text = f"{workload}, which is {intent.mode}, has the priority {priority}, below zero"
            yield Sighting(workload.manifest, path, text)
        elif workload.containers and not any(_asks(workload)):
            text = f"no container of {workload}, which is {intent.mode}, requests anything"
            yield Sighting(workload.manifest, workload.containers[0].path, text)


def _asks(workload: Workload) -> Iterator[bool]:
    yield bool(mapping(workload.pod_spec.get("resources")))
    for each in workload.containers:
        resources = mapping(each.body.get("resources"))
        yield bool(mapping(resources.get("requests")) or mapping(resources.get("limits")))
