"""What may be evicted, who can release it, and does the budget mean any Pod at all?"""

from __future__ import annotations

from collections.abc import Iterator

from incumbent.audit.case import Case
from incumbent.audit.edits import Edit, Remove, Set
from incumbent.audit.finding import Severity, Sighting, rule
from incumbent.audit.inventory import Meant, is_role_key
from incumbent.audit.objects import Manifest, Workload, mapping
from incumbent.audit.selectors import named_keys, selects, without
from incumbent.manifests import marks

_BUDGET = "https://kubernetes.io/docs/tasks/run-application/configure-pdb/"
_DISRUPTIONS = "https://kubernetes.io/docs/concepts/workloads/pods/disruptions/"
_V1 = ("policy/v1",)


@rule(
    "INC031",
    Severity.MEDIUM,
    "no budget: a drain takes the singleton away without a word",
    why="""Whoever drains a node evicts every Pod that no PodDisruptionBudget keeps. Of a
    singleton that is an outage, and nobody is asked.""",
    fix="""A PodDisruptionBudget (`policy/v1`) over its Pods: `maxUnavailable: 0` to be asked
    before each move, with the annotation `incumbent.dev/owner` that says whom to ask.""",
    links=(_BUDGET,),
)
def no_budget(case: Case) -> Iterator[Sighting]:
    """Find singletons without a budget."""
    for workload, intent in case.singletons:
        if not case.inventory.budgets(workload) and workload.replicas:
            text = f"no PodDisruptionBudget selects the Pods of {workload}, which is {intent.mode}"
            severity = Severity.MEDIUM if intent.alone else Severity.LOW
            yield Sighting(workload.manifest, ("metadata", "name"), text, severity)


@rule(
    "INC032",
    Severity.HIGH,
    "a budget that never allows anything, and nobody who could release it",
    why="""A drain waits until somebody deletes the budget or the Pod. If nobody is named, nodes
    stay cordoned for days, or the platform goes over the budget by force.""",
    fix="""Say whom to ask in the annotation `incumbent.dev/owner`, on the budget or on the
    workload.""",
    links=(_DISRUPTIONS,),
)
def unreleased(case: Case) -> Iterator[Sighting]:
    """Find budgets that allow no eviction and have no owner."""
    for workload in case.inventory.long_running:
        for meant in case.inventory.budgets(workload):
            budget = meant.manifest
            path = _forbidding(meant, workload.replicas)
            owned = budget.annotations.get(marks.OWNER) or workload.annotations.get(marks.OWNER)
            if path and not owned:
                text = f"{budget} never lets {workload} be evicted, and no owner is named"
                yield Sighting(budget, path, text)


def _forbidding(meant: Meant, replicas: int) -> tuple[str, ...]:
    """Return the path of what forbids every eviction, or ()."""
    budget, pods = meant.manifest, 1 if meant.by else replicas
    most, least = budget.at("spec", "maxUnavailable"), budget.at("spec", "minAvailable")
    if most in (0, "0%", "0"):
        return ("spec", "maxUnavailable")
    if least == "100%" or (isinstance(least, int) and pods and least >= pods and not meant.by):
        return ("spec", "minAvailable")
    if isinstance(least, str) and least.endswith("%") and pods == 1 and least != "0%":
        return ("spec", "minAvailable")
    return ()


@rule(
    "INC033",
    Severity.HIGH,
    "a broken Pod keeps its node from being drained",
    why="""A budget counts Pods that are ready. By default one that runs but is not ready may
    not be evicted either while the budget is not met, and a Pod that crashes in a loop never
    meets it.""",
    fix="""`unhealthyPodEvictionPolicy: AlwaysAllow`. Where a Pod that is not ready may still be
    needed for its data, write `IfHealthyBudget`, and it counts as decided.""",
    links=(f"{_BUDGET}#unhealthy-pod-eviction-policy",),
)
def unhealthy_kept(case: Case) -> Iterator[Sighting]:
    """Find budgets over singletons that leave this open."""
    for _, budget in _over_singletons(case):
        if budget.at("spec", "unhealthyPodEvictionPolicy") is None:
            path = ("spec", "unhealthyPodEvictionPolicy")
            text = f"{budget} keeps a Pod that is not ready from being evicted"
            yield Sighting(budget, path, text, edits=(Set(path, "AlwaysAllow"),))


@rule(
    "INC034",
    Severity.HIGH,
    "two budgets mean one Pod",
    why="""The eviction of a Pod that two budgets select is answered with 500, and a drain ends
    there.""",
    fix="One budget for each Pod.",
    links=("https://github.com/kubernetes/kubernetes/issues/75957", _DISRUPTIONS),
)
def two_budgets(case: Case) -> Iterator[Sighting]:
    """Find Pods of one workload under several budgets."""
    for workload in case.inventory.long_running:
        found = case.inventory.budgets(workload)
        for one in found[1:]:
            text = f"{found[0].manifest} and {one.manifest} both select Pods of {workload}"
            yield Sighting(one.manifest, ("spec", "selector"), text)


@rule(
    "INC035",
    Severity.HIGH,
    "a budget over the active Pod counts all Pods",
    why="""`maxUnavailable` and a percentage are computed from the number that the *controller*
    is to have. With the label on one Pod of three, one healthy is fewer than asked for ever,
    and the active one is never let go.""",
    fix="`minAvailable: 1`, as a number.",
    links=(_BUDGET,),
)
def share_of_a_role(case: Case) -> Iterator[Sighting]:
    """Find budgets that select by a label of run time and are no plain number."""
    for workload in case.inventory.long_running:
        for meant in case.inventory.budgets(workload):
            budget = meant.manifest
            if not meant.by:
                continue
            path = _share(budget)
            if path:
                label, value = ", ".join(sorted(meant.by)), budget.at(*path)
                text = f"{budget} selects by {label} and has {path[-1]} {value}"
                yield Sighting(budget, path, text, edits=_as_number(budget))


def _share(budget: Manifest) -> tuple[str, ...]:
    if budget.at("spec", "maxUnavailable") is not None:
        return ("spec", "maxUnavailable")
    return ("spec", "minAvailable") if isinstance(budget.at("spec", "minAvailable"), str) else ()


def _as_number(budget: Manifest) -> tuple[Edit, ...]:
    most = budget.at("spec", "maxUnavailable") is not None
    removed: tuple[Edit, ...] = (Remove(("spec", "maxUnavailable")),) if most else ()
    return (*removed, Set(("spec", "minAvailable"), 1))


@rule(
    "INC036",
    Severity.HIGH,
    "a budget that means no Pod",
    why="It guards nothing, and says nothing: a label was mistyped, or has changed since.",
    fix="Make the selector of the budget the labels of the template.",
    links=(_BUDGET,),
)
def means_nothing(case: Case) -> Iterator[Sighting]:
    """Find budgets whose selector no template matches."""
    for budget in case.inventory.of("PodDisruptionBudget"):
        there = [each for each in case.inventory.workloads if each.namespace == budget.namespace]
        if not there or _frozen(budget, there):
            continue
        selector = mapping(budget.at("spec", "selector"))
        pods = case.inventory.pods_in(budget.namespace)
        # What an operator made has no template here; its Pods show on a cluster.
        if any(selects(selector, each.labels) for each in pods):
            continue
        if not any(
            budget is meant.manifest for each in there for meant in case.inventory.budgets(each)
        ):
            wanted = named_keys(mapping(budget.at("spec", "selector")))
            text = f"no Pod of this set has what {budget} selects by: {', '.join(sorted(wanted))}"
            yield Sighting(budget, ("spec", "selector"), text)


def _frozen(budget: Manifest, workloads: list[Workload]) -> str:
    """Return the label, set by hand, without which the budget would mean a workload; or ""."""
    selector = mapping(budget.at("spec", "selector"))
    for workload in workloads:
        missing = {key for key in named_keys(selector) if key not in workload.pod_labels}
        by_hand = {
            key
            for key in missing
            if not is_role_key(key) and mapping(selector.get("matchLabels")).get(key) == "true"
        }
        left = without(selector, missing)
        only = len(missing) == 1 and missing == by_hand and named_keys(left)
        if only and selects(left, workload.pod_labels):
            return missing.pop()
    return ""


@rule(
    "INC037",
    Severity.LOW,
    "a budget for a label set by hand asks for one Pod that is mostly not there",
    why="""While no Pod has the label, one is asked for and none is healthy: monitoring says for
    ever that the budget is not met.""",
    fix="`maxUnavailable: 0`, which asks for nothing while the label is on no Pod.",
)
def empty_freeze(case: Case) -> Iterator[Sighting]:
    """Find budgets with `minAvailable` over a label that only people set."""
    for budget in case.inventory.of("PodDisruptionBudget"):
        there = [each for each in case.inventory.workloads if each.namespace == budget.namespace]
        least = budget.at("spec", "minAvailable")
        label = _frozen(budget, there)
        if label and least not in (None, 0, "0%"):
            edits = (Remove(("spec", "minAvailable")), Set(("spec", "maxUnavailable"), 0))
            text = f"{budget} asks for {least} with the label {label}, which no template has"
            yield Sighting(budget, ("spec", "minAvailable"), text, edits=edits)


@rule(
    "INC038",
    Severity.MEDIUM,
    "a share of Pods that no controller counts",
    why="""`maxUnavailable` and percentages need a controller that says how many there should be. Of
    Pods without one none is expected, and such a budget allows nothing.""",
    fix="`minAvailable` as a number, or a controller for the Pods.",
    links=(f"{_BUDGET}#arbitrary-controllers-and-selectors",),
)
def share_of_bare_pods(case: Case) -> Iterator[Sighting]:
    """Find budgets over bare Pods that are no plain number."""
    for workload in case.inventory.workloads:
        if workload.kind != "Pod":
            continue
        for meant in case.inventory.budgets(workload):
            path = _share(meant.manifest)
            if path:
                budget = meant.manifest
                text = f"{budget} has {path[-1]} and selects {workload}, which has no controller"
                yield Sighting(budget, path, text)


@rule(
    "INC039",
    Severity.HIGH,
    "a version of the API that is gone",
    why="""`policy/v1beta1` was removed from Kubernetes: the API server does not take the
    budget, and the singleton has none.""",
    fix="`apiVersion: policy/v1`.",
    links=("https://kubernetes.io/docs/reference/using-api/deprecation-guide/",),
)
def old_version(case: Case) -> Iterator[Sighting]:
    """Find budgets of another version."""
    for budget in case.inventory.of("PodDisruptionBudget"):
        version = budget.at("apiVersion")
        if version not in _V1:
            edits = (Set(("apiVersion",), "policy/v1"),)
            yield Sighting(budget, ("apiVersion",), f"{budget} is of {version}", edits=edits)


def _over_singletons(case: Case) -> Iterator[tuple[Workload, Manifest]]:
    seen: set[int] = set()
    for workload, _ in case.singletons:
        for meant in case.inventory.budgets(workload):
            if id(meant.manifest) not in seen:
                seen.add(id(meant.manifest))
                yield workload, meant.manifest
