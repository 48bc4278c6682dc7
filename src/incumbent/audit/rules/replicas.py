"""How many can there be, by number or by whoever raises the number?"""

from __future__ import annotations

from collections.abc import Iterator

from incumbent.audit.case import Case
from incumbent.audit.electors import electors, may_write_leases
from incumbent.audit.finding import Severity, Sighting, rule
from incumbent.audit.selectors import selects
from incumbent.manifests.modes import Mode

_SCALING = "https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/"
_SURGE_OPT_OUT = "eviction-autoscaler.azure.com/pdb-create"
_SURGE_NAMESPACE = "eviction-autoscaler.azure.com/enable"


@rule(
    "INC001",
    Severity.CRITICAL,
    "several replicas, and nothing elects one of them",
    why="""Every replica does the work. Kubernetes runs as many as it is told and knows of no
    active one.""",
    fix="""One replica; or an elector: `incumbent run NAME -- CMD` as the command, and the right
    to `get`, `update` and `watch` its Lease.""",
)
def without_elector(case: Case) -> Iterator[Sighting]:
    """Find what is to be one and has several replicas that nothing tells apart."""
    for workload, intent in case.singletons:
        if workload.replicas < 2:
            continue
        found = electors(workload) or may_write_leases(case.inventory, workload)
        if intent.alone or not found:
            text = f"{workload} has {workload.replicas} replicas and is {intent.said}"
            lack = "" if intent.alone else "; no container elects and no role lets it write a Lease"
            yield Sighting(workload.manifest, ("spec", "replicas"), text + lack)


@rule(
    "INC002",
    Severity.CRITICAL,
    "an autoscaler may raise the number of a singleton",
    why="""A HorizontalPodAutoscaler or KEDA asks for more replicas as the load grows, or at
    once if its least number is more than one.""",
    fix="Take the autoscaler away, or give it a greatest number of 1.",
    links=(_SCALING,),
)
def autoscaled(case: Case) -> Iterator[Sighting]:
    """Find autoscalers whose target must be alone."""
    for workload, intent in case.alone:
        for scaler in case.inventory.scalers(workload):
            keda = scaler.kind == "ScaledObject"
            path = ("spec", "maxReplicaCount" if keda else "maxReplicas")
            most = scaler.at(*path)
            most = most if isinstance(most, int) else 100
            if most > 1:
                text = f"{scaler} may give {workload}, which is {intent.mode}, {most} replicas"
                yield Sighting(scaler, path, text, intent.weighed(Severity.CRITICAL))


@rule(
    "INC003",
    Severity.HIGH,
    "an autoscaler may leave nobody",
    why="""With a least number of zero the last replica goes when there is little to do, and
    with it the one that would notice that there is something to do. HorizontalPodAutoscalers
    may do so since Kubernetes 1.37; KEDA does it unless told otherwise.""",
    fix="A least number of at least 1.",
    links=(_SCALING,),
)
def autoscaled_to_none(case: Case) -> Iterator[Sighting]:
    """Find autoscalers that may go down to zero."""
    for workload, intent in case.singletons:
        for scaler in case.inventory.scalers(workload):
            keda = scaler.kind == "ScaledObject"
            key = "minReplicaCount" if keda else "minReplicas"
            if scaler.at("spec", key) == 0 or (keda and scaler.at("spec", key) is None):
                text = f"{scaler} may leave {workload}, which is {intent.mode}, no replica"
                yield Sighting(scaler, ("spec", key), text, intent.weighed(Severity.HIGH))


@rule(
    "INC004",
    Severity.CRITICAL,
    "a tool adds a replica while a node is drained",
    why="""Azure's eviction autoscaler answers a budget that allows no eviction by one replica
    more. For a singleton that is the second one.""",
    fix=f"""Annotate the workload with `{_SURGE_OPT_OUT}: "false"`, delete its
    EvictionAutoScaler, and let a guard refuse the scale-up.""",
    links=("https://github.com/Azure/eviction-autoscaler",),
)
def surged_on_drain(case: Case) -> Iterator[Sighting]:
    """Find singletons that such a tool has in its care."""
    for workload, intent in case.alone:
        for each in case.inventory.of("EvictionAutoScaler"):
            target = str(each.at("spec", "targetKind") or "deployment").lower()
            named = (each.at("spec", "targetName") or each.name, target, each.namespace)
            if named == (workload.name, workload.kind.lower(), workload.namespace):
                text = f"{each} scales {workload}, which is {intent.mode}"
                yield Sighting(each, ("spec", "targetName"), text)
        place = case.inventory.namespace(workload.namespace)
        if place is None or place.annotations.get(_SURGE_NAMESPACE) != "true":
            continue
        if workload.annotations.get(_SURGE_OPT_OUT) != "false":
            text = f"{place} has the eviction autoscaler, and {workload} has not opted out"
            yield Sighting(workload.manifest, ("metadata", "annotations"), text)


@rule(
    "INC005",
    Severity.CRITICAL,
    "two workloads claim the same Pods",
    why="""Each controller counts the Pods that its selector matches. With overlapping selectors
    they adopt and delete each other's, a Service or a budget means both, and a Pod of the one
    passes for the active one of the other.""",
    fix="Give each workload a label of its own in `spec.selector.matchLabels` and in its template.",
    links=("https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#selector",),
)
def overlapping(case: Case) -> Iterator[Sighting]:
    """Find pairs of which one selects the Pods of the other."""
    found = case.inventory.long_running
    for number, one in enumerate(found):
        for other in found[number + 1 :]:
            if one.namespace != other.namespace or not (one.selector and other.selector):
                continue
            if selects(one.selector, other.pod_labels) or selects(other.selector, one.pod_labels):
                text = f"{other} and {one} select each other's Pods"
                yield Sighting(other.manifest, ("spec", "selector"), text)


@rule(
    "INC006",
    Severity.HIGH,
    "a Pod without a controller",
    why="Nobody makes another one when its node is lost, when it is evicted, or when it is done.",
    fix="A StatefulSet of one replica, or a Deployment.",
    links=("https://kubernetes.io/docs/concepts/workloads/pods/",),
)
def bare_pod(case: Case) -> Iterator[Sighting]:
    """Find Pods that nothing replaces; those of a hook or of one run are meant so."""
    for workload in case.inventory.workloads:
        if workload.kind != "Pod" or "helm.sh/hook" in workload.annotations:
            continue
        is_static = "kubernetes.io/config.mirror" in workload.annotations
        if is_static or workload.pod_spec.get("restartPolicy") in ("Never", "OnFailure"):
            continue
        yield Sighting(workload.manifest, ("kind",), f"nothing makes {workload} anew")


@rule(
    "INC007",
    Severity.HIGH,
    "nobody runs",
    why="A singleton with no replica does no work, and nothing will start one.",
    fix="`replicas: 1`; or take the workload away.",
)
def none_asked_for(case: Case) -> Iterator[Sighting]:
    """Find singletons with zero replicas."""
    for workload, intent in case.singletons:
        if workload.replicas == 0:
            text = f"{workload}, which is {intent.mode}, has no replica"
            yield Sighting(workload.manifest, ("spec", "replicas"), text)


@rule(
    "INC008",
    Severity.NOTE,
    "one replica, and nobody says whether there may be two",
    why="""Nothing but the author knows whether a second one does harm. Without a word of it
    nobody who drains, scales or rolls out can know either, and most rules here cannot judge.""",
    fix=f"""Label it `incumbent.dev/mode` with one of {", ".join(Mode)}; or pass `--mode
    NAME=MODE`. If two are fine, say so with two replicas, or waive this.""",
)
def unstated(case: Case) -> Iterator[Sighting]:
    """Find Deployments of one replica of which nothing more is known."""
    for workload in case.inventory.long_running:
        written = workload.spec.get("replicas") == 1
        if written and case.intent(workload).mode is None and not case.inventory.scalers(workload):
            text = f"{workload} has one replica, and no mode"
            yield Sighting(workload.manifest, ("spec", "replicas"), text)
