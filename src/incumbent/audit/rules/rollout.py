"""Can there be two while one is replaced, and can a rollout get stuck?"""

from __future__ import annotations

from collections.abc import Iterator

from incumbent.audit.case import Case
from incumbent.audit.edits import Remove, Set
from incumbent.audit.finding import Severity, Sighting, rule
from incumbent.audit.objects import Workload, at
from incumbent.manifests.modes import Mode

_STRATEGY = "https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#strategy"
_FORCED = "https://kubernetes.io/docs/tasks/run-application/force-delete-stateful-set-pod/"
_ROLLBACK = "https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#forced-rollback"


def surge_of(workload: Workload) -> int | str:
    """Return how many more a rolling update may start."""
    found = at(workload.spec, "strategy", "rollingUpdate", "maxSurge")
    return found if isinstance(found, int | str) else "25%"


def _none(surge: int | str) -> bool:
    return str(surge).rstrip("%") == "0"


def recreated(workload: Workload) -> tuple[Set | Remove, ...]:
    """Return the edits that make a Deployment stop the old Pod before it starts the new one."""
    if "strategy" not in workload.spec:
        return (Set(("spec", "strategy"), {"type": "Recreate"}),)
    rolling = at(workload.spec, "strategy", "rollingUpdate")
    removed = () if rolling is None else (Remove(("spec", "strategy", "rollingUpdate")),)
    return (*removed, Set(("spec", "strategy", "type"), "Recreate"))


@rule(
    "INC011",
    Severity.CRITICAL,
    "every rollout starts the new one beside the old one",
    why="""A rolling update may go beyond the number of replicas by a quarter, rounded up: of
    one replica there are two until the new one is ready and the old one is gone.""",
    fix="`strategy: {type: Recreate}`, which waits until the old Pod is gone.",
    links=(_STRATEGY,),
)
def surges(case: Case) -> Iterator[Sighting]:
    """Find singletons under a rolling update with a surge."""
    for workload, intent in case.alone:
        if workload.strategy != "RollingUpdate" or _none(surge_of(workload)):
            continue
        severity = Severity.CRITICAL if intent.strict else Severity.MEDIUM
        written = at(workload.spec, "strategy", "rollingUpdate", "maxSurge") is not None
        surge = surge_of(workload) if written else f"{surge_of(workload)} by default"
        text = f"{workload} is {intent.said}, and rolled out with a surge of {surge}"
        yield Sighting(
            workload.manifest,
            ("spec", "strategy"),
            text,
            intent.weighed(severity),
            recreated(workload),
        )


@rule(
    "INC012",
    Severity.CRITICAL,
    "`maxSurge: 0` does not keep the new one out",
    why="""Without a surge the old Pod is told to end first, but a Pod that is ending no longer
    counts: the new one starts while the old one still uses its grace period.""",
    fix="`strategy: {type: Recreate}`; a StatefulSet, or an election, if there must never be two.",
    links=("https://github.com/kubernetes/kubernetes/issues/58814", _STRATEGY),
)
def without_surge(case: Case) -> Iterator[Sighting]:
    """Find singletons whose rolling update has no surge."""
    for workload, intent in case.alone:
        if workload.strategy == "RollingUpdate" and _none(surge_of(workload)):
            severity = Severity.CRITICAL if intent.strict else Severity.MEDIUM
            text = f"{workload}, which is {intent.mode}, relies on a rolling update without a surge"
            yield Sighting(
                workload.manifest,
                ("spec", "strategy"),
                text,
                intent.weighed(severity),
                recreated(workload),
            )


@rule(
    "INC013",
    Severity.CRITICAL,
    "at most one is wanted of a controller that keeps at least one",
    why="""A ReplicaSet, alone or under a Deployment, replaces a Pod as soon as it begins to
    end. When the Pod is deleted or evicted, or its node is cut off, there are two for as long
    as the old one runs on; behind a cut that is for as long as the cut lasts.""",
    fix="""A StatefulSet of one replica; or an election with a fencing token (`incumbent run`),
    which also holds when somebody forces the deletion. In a namespace of its own, a quota of
    `count/pods: 1`.""",
    links=(_STRATEGY, "https://github.com/kubernetes/enhancements/issues/5882"),
)
def not_exclusive(case: Case) -> Iterator[Sighting]:
    """Find strict singletons that are no StatefulSet, and have no quota in its stead."""
    for workload, intent in case.alone:
        if not intent.strict or workload.kind == "StatefulSet" or _capped(case, workload):
            continue
        severity = Severity.CRITICAL if intent.stated else Severity.MEDIUM
        text = f"{workload} is {intent.said}; its kind lets two overlap"
        yield Sighting(workload.manifest, ("kind",), text, severity)


def _capped(case: Case, workload: Workload) -> bool:
    return any(
        str(quota.at("spec", "hard", "count/pods")) == "1"
        for quota in case.inventory.of("ResourceQuota")
        if quota.namespace == workload.namespace
    )


@rule(
    "INC014",
    Severity.CRITICAL,
    "a grace period of zero lets go of the name at once",
    why="""A StatefulSet starts the next Pod when the name is free. With a grace period of zero
    the API server frees it before the kubelet has ended anything: two run under one name and
    one identity. Of other workloads every deletion is a forced one in the same way, and the guard
    refuses a template that says so.""",
    fix="A grace period in which the work can end; 30 seconds if nothing is known.",
    links=(_FORCED,),
)
def no_grace(case: Case) -> Iterator[Sighting]:
    """Find StatefulSets, and others that must be alone, whose Pods have no grace period."""
    for workload in case.inventory.workloads:
        path = workload.pod_path("terminationGracePeriodSeconds")
        grace, intent = workload.manifest.at(*path), case.intent(workload)
        named = workload.kind == "StatefulSet"
        if grace != 0 or isinstance(grace, bool) or not (named or intent.alone):
            continue
        severity = Severity.CRITICAL if named or intent.strict else Severity.HIGH
        yield Sighting(
            workload.manifest,
            path,
            f"the Pods of {workload} have a grace period of zero",
            severity if named else intent.weighed(severity),
            edits=(Set(path, 30),),
        )


@rule(
    "INC015",
    Severity.MEDIUM,
    "a broken Pod holds up its own repair",
    why="""With `OrderedReady`, the default, a StatefulSet waits for each Pod to be ready before
    it does anything else, and so it does not replace one that never will be. The mended
    template is not rolled out until somebody deletes the Pod.""",
    fix="""`podManagementPolicy: Parallel`: of one replica it changes nothing else, and the name
    still keeps a second one out. The field cannot be changed later; of one that exists, know to
    delete the broken Pod.""",
    links=(_ROLLBACK, "https://github.com/kubernetes/kubernetes/issues/67250"),
)
def ordered(case: Case) -> Iterator[Sighting]:
    """Find StatefulSets of one replica that wait for it."""
    for workload, intent in case.alone:
        policy = workload.spec.get("podManagementPolicy") or "OrderedReady"
        changes = at(workload.spec, "updateStrategy", "type") in (None, "RollingUpdate")
        if workload.kind == "StatefulSet" and policy == "OrderedReady" and changes:
            yield Sighting(
                workload.manifest,
                ("spec", "podManagementPolicy"),
                f"{workload}, which is {intent.mode}, replaces no Pod that is not ready",
            )


@rule(
    "INC016",
    Severity.MEDIUM,
    "a StatefulSet that nobody frees from a lost node",
    why="""When its node is lost, the Pod stays Terminating, and no other is made: that is how
    at most one is kept. It lasts until the node is back, or somebody confirms that it is off.""",
    fix="""Something that fences lost nodes (NodeHealthCheck with a remediation), or a runbook:
    name who is to be called in the annotation `incumbent.dev/owner`.""",
    links=("https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/",),
)
def unremedied(case: Case) -> Iterator[Sighting]:
    """Find strict StatefulSets without an owner where nothing remediates nodes."""
    from incumbent.manifests import marks

    remedies = ("NodeHealthCheck", "MachineHealthCheck", "SelfNodeRemediationConfig")
    if case.inventory.of(*remedies):
        return
    for workload, intent in case.alone:
        if workload.kind != "StatefulSet" or intent.mode is not Mode.AT_MOST_ONE:
            continue
        if not workload.annotations.get(marks.OWNER):
            text = f"{workload} names no owner, and nothing here remediates a lost node"
            yield Sighting(workload.manifest, ("metadata", "annotations"), text)
