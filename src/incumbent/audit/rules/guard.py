"""Is there something that refuses a second one, and does it see every door?

A guard is recognised by what it does: a ValidatingAdmissionPolicy that speaks of `replicas` guards
the number, one on the deletion of Pods that speaks of `gracePeriodSeconds` guards against force.
The doors are judged over all guards of the set together, since one may have one policy for each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from incumbent.audit.case import Case
from incumbent.audit.edits import Remove, Set
from incumbent.audit.finding import Severity, Sighting, rule
from incumbent.audit.inventory import Inventory
from incumbent.audit.objects import Manifest, Object, Workload, listing, mapping, strings
from incumbent.audit.selectors import selects
from incumbent.manifests import marks

_POLICY = "https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/"
_QUOTA = "https://kubernetes.io/docs/concepts/policy/resource-quotas/#object-count-quota"
_EVICTION = "https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/"
_SCALED = ("deployments", "replicasets", "statefulsets", "replicationcontrollers")


def _rules(policy: Manifest) -> list[Object]:
    return [
        mapping(each) for each in listing(policy.at("spec", "matchConstraints", "resourceRules"))
    ]


def _resources(policy: Manifest, operation: str) -> set[str]:
    return {
        str(resource)
        for each in _rules(policy)
        if {operation, "*"} & set(map(str, listing(each.get("operations"))))
        for resource in listing(each.get("resources"))
    }


def _logic(policy: Manifest) -> str:
    spec = mapping(policy.at("spec"))
    return json.dumps([spec.get(key) for key in ("validations", "variables", "matchConditions")])


def number_guards(inventory: Inventory) -> list[Manifest]:
    """Return the policies that judge a number of replicas."""
    return [
        each
        for each in inventory.of("ValidatingAdmissionPolicy")
        if "replicas" in _logic(each) and _resources(each, "UPDATE")
    ]


def force_guards(inventory: Inventory) -> list[Manifest]:
    """Return the policies that judge how Pods are deleted."""
    return [
        each
        for each in inventory.of("ValidatingAdmissionPolicy")
        if "gracePeriodSeconds" in _logic(each) and "pods" in _resources(each, "DELETE")
    ]


def _capped(case: Case, namespace: str) -> bool:
    return any(
        str(each.at("spec", "hard", "count/pods")) == "1"
        for each in case.inventory.of("ResourceQuota")
        if each.namespace == namespace
    )


@rule(
    "INC081",
    Severity.CRITICAL,
    "nothing refuses a second one",
    why="""`kubectl scale`, a patch, an autoscaler: each may raise the number, and Kubernetes has no
    field that says "never more than one". The guard of a cluster is mostly kept elsewhere; so in
    files it is looked for only if the namespace is there, or if no guard could know it.""",
    fix=f"""Install the guard's policies, bound so that they hold in its namespace, and mark it by
    `{marks.SINGLETON}` in its selector; or give it a namespace of its own with a quota of
    `count/pods: 1`.""",
    links=(_POLICY, _QUOTA),
)
def unguarded(case: Case) -> Iterator[Sighting]:
    """Find stated singletons whose number anybody may raise."""
    live, guards = case.read_at is not None, number_guards(case.inventory)
    if case.unseen & {"ValidatingAdmissionPolicy", "Namespace"} or (guards and not live):
        return
    for workload, intent in case.alone:
        if not intent.stated or _capped(case, workload.namespace) or _guarded(case, workload):
            continue
        place = case.inventory.namespace(workload.namespace)
        known = _is_known(workload)
        # The guard is kept elsewhere: with the cluster, or with the namespace that asks for it.
        if not live and known and (place is None or place.labels.get(marks.GUARD) == "enforce"):
            continue
        text = f"nothing keeps {workload}, which is {intent.mode}, from being scaled up"
        if not known:
            text += f"; without {marks.SINGLETON} in its selector no guard knows it"
        severity = Severity.CRITICAL if live else Severity.MEDIUM
        yield Sighting(workload.manifest, ("spec", "replicas"), text, severity)


def _is_known(workload: Workload) -> bool:
    return marks.matches(strings(workload.selector.get("matchLabels")))


def _guarded(case: Case, workload: Workload) -> bool:
    """Tell whether a guard of the set denies in the namespace, and knows the workload."""
    place = case.inventory.namespace(workload.namespace)
    labels = {} if place is None else place.labels
    for policy in number_guards(case.inventory):
        if marks.SINGLETON in json.dumps(policy.at("spec")) and not _is_known(workload):
            continue
        for each in _bindings(case.inventory, policy):
            where = mapping(each.at("spec", "matchResources", "namespaceSelector"))
            if "Deny" in listing(each.at("spec", "validationActions")) and selects(where, labels):
                return True
    return False


def _bindings(inventory: Inventory, policy: Manifest) -> list[Manifest]:
    return [
        each
        for each in inventory.of("ValidatingAdmissionPolicyBinding")
        if each.at("spec", "policyName") == policy.name
    ]


@rule(
    "INC082",
    Severity.CRITICAL,
    "the guard looks for labels, and a Scale has none",
    why="""A request to a scale subresource carries a Scale: a name, two numbers and the
    selector as a string. An `objectSelector`, or an expression over `metadata.labels`, never
    applies to it, and `kubectl scale` passes.""",
    fix="""Test `object.status.selector` (the mark has to stand in `matchLabels`), or select by
    namespace.""",
    links=("https://github.com/kubernetes/kubernetes/issues/113594", _POLICY),
)
def guards_by_label(case: Case) -> Iterator[Sighting]:
    """Find guards of scale subresources that need labels."""
    for policy in number_guards(case.inventory):
        if not any(
            each.endswith("/scale") or each == "*/*" for each in _resources(policy, "UPDATE")
        ):
            continue
        if mapping(policy.at("spec", "matchConstraints", "objectSelector")):
            path = ("spec", "matchConstraints", "objectSelector")
            yield Sighting(policy, path, f"{policy} selects objects by label, also a Scale")
        elif "metadata.labels" in _logic(policy) and "status.selector" not in _logic(policy):
            text = f"{policy} asks a Scale for its labels"
            yield Sighting(policy, ("spec", "validations"), text)
        for binding in _bindings(case.inventory, policy):
            path = ("spec", "matchResources", "objectSelector")
            if mapping(binding.at(*path)):
                yield Sighting(binding, path, f"{binding} selects objects by label, also a Scale")


@rule(
    "INC083",
    Severity.CRITICAL,
    "the guard leaves doors open",
    why="""`deployments` does not mean `deployments/scale`, and `*` means no subresource at all.
    Whatever is left out stays open: the other kinds, and resources of others that have a scale.""",
    fix="""`*/scale` in one rule, and the kinds themselves (deployments, statefulsets, …) in
    another.""",
    links=(_POLICY,),
)
def open_doors(case: Case) -> Iterator[Sighting]:
    """Find what no guard of the number looks at."""
    guards = number_guards(case.inventory)
    seen = {resource for policy in guards for resource in _resources(policy, "UPDATE")}
    if not guards or "*/*" in seen:
        return
    scales = {f"{each}/scale" for each in _SCALED} - seen
    missing = sorted(scales) if "*/scale" not in seen else []
    missing += [each for each in _SCALED[:3] if each not in seen and "*" not in seen]
    if missing:
        path = ("spec", "matchConstraints", "resourceRules")
        text = f"{', '.join(map(str, guards))} sees nothing of {', '.join(missing)}"
        yield Sighting(guards[0], path, text)


@rule(
    "INC084",
    Severity.HIGH,
    "a policy that nothing enforces",
    why="A policy does nothing until a binding says where it holds and that it denies.",
    fix="A ValidatingAdmissionPolicyBinding with `validationActions: [Deny]`.",
    links=(_POLICY,),
)
def unbound(case: Case) -> Iterator[Sighting]:
    """Find guards without a binding that denies."""
    for policy in (*number_guards(case.inventory), *force_guards(case.inventory)):
        bindings = _bindings(case.inventory, policy)
        if not bindings:
            yield Sighting(policy, ("metadata", "name"), f"no binding names {policy}")
        for each in bindings:
            path = ("spec", "validationActions")
            if "Deny" not in listing(each.at(*path)):
                yield Sighting(each, path, f"{each} does not deny")


@rule(
    "INC085",
    Severity.HIGH,
    "a quota on `pods` does not count a Pod that is ending",
    why="""It leaves out finished Pods, and those whose deletion should be over: just the one
    that goes on running behind a cut. Once it is no longer counted, the second one is let in.""",
    fix="`count/pods: 1`, which counts every Pod object.",
    links=(_QUOTA,),
)
def quota_of_pods(case: Case) -> Iterator[Sighting]:
    """Find quotas of one Pod by the wrong name."""
    for quota in case.inventory.of("ResourceQuota"):
        hard = mapping(quota.at("spec", "hard"))
        if str(hard.get("pods")) == "1" and "count/pods" not in hard:
            path = ("spec", "hard", "pods")
            edits = (Remove(path), Set(("spec", "hard", "count/pods"), "1"))
            yield Sighting(quota, path, f"{quota} allows one Pod, by `pods`", edits=edits)


@rule(
    "INC086",
    Severity.HIGH,
    "the quota and the rolling update wait for each other",
    why="""With `count/pods: 1` there is no room for the new Pod while the old one is there, and
    a rolling update does not stop the old one before the new one is ready: the rollout stands
    still for ever.""",
    fix="`strategy: {type: Recreate}`, or a StatefulSet.",
    links=(_QUOTA,),
)
def deadlocked(case: Case) -> Iterator[Sighting]:
    """Find rolling Deployments under a quota of one Pod."""
    from incumbent.audit.rules.rollout import recreated

    for workload in case.inventory.long_running:
        if workload.strategy == "RollingUpdate" and _capped(case, workload.namespace):
            text = f"{workload} is rolled in {workload.namespace}, where one Pod is allowed"
            yield Sighting(workload.manifest, ("spec", "strategy"), text, edits=recreated(workload))


@rule(
    "INC087",
    Severity.MEDIUM,
    "the guard lets a Pod be deleted by force",
    why="""`kubectl delete --force` frees the name before anybody has ended the process: the
    next one starts beside it. The number was never raised.""",
    fix="""A policy on DELETE of `pods` that refuses `gracePeriodSeconds` of zero, but for the
    group `system:nodes` and for the garbage collector of Pods.""",
    links=(
        "https://kubernetes.io/docs/tasks/run-application/force-delete-stateful-set-pod/",
        _POLICY,
    ),
)
def force_unguarded(case: Case) -> Iterator[Sighting]:
    """Find guards of the number without one against force."""
    guards = number_guards(case.inventory)
    if guards and not force_guards(case.inventory):
        text = f"{guards[0]} guards the number, and nothing refuses a deletion by force"
        yield Sighting(guards[0], ("metadata", "name"), text)


@rule(
    "INC088",
    Severity.HIGH,
    "a drain ends at the guard instead of waiting",
    why="""`kubectl drain` waits and tries again only after 429. A policy cannot answer 429, and
    a webhook that answers 403 or 500 ends the drain, or sends tools in circles.""",
    fix="""Keep Pods by a PodDisruptionBudget, or by a webhook that answers 429 with
    `retryAfterSeconds`.""",
    links=("https://github.com/kubereboot/kured/issues/1269", _EVICTION),
)
def aborts_drains(case: Case) -> Iterator[Sighting]:
    """Find policies on evictions, and a webhook that is known to answer 500."""
    for policy in case.inventory.of("ValidatingAdmissionPolicy"):
        # One that only refuses a grace period of zero lets a drain pass.
        asked = _resources(policy, "CREATE") & {"pods/eviction", "*/eviction", "pods/*"}
        if asked and "gracePeriodSeconds" not in _logic(policy):
            path = ("spec", "matchConstraints", "resourceRules")
            yield Sighting(policy, path, f"{policy} answers an eviction with 403 or 422")
    for webhook in _eviction_webhooks(case.inventory):
        if "strimzi-drain-cleaner" in webhook.name:
            text = f"{webhook} answers an eviction with 500"
            yield Sighting(webhook, ("webhooks",), text, Severity.MEDIUM)


def _eviction_webhooks(inventory: Inventory) -> list[Manifest]:
    return [
        each
        for each in inventory.of("ValidatingWebhookConfiguration")
        if "pods/eviction" in json.dumps(each.at("webhooks"))
    ]


@rule(
    "INC089",
    Severity.HIGH,
    "every drain of the cluster hangs on one Pod",
    why="""A webhook on evictions is asked for every Pod of the cluster. With `failurePolicy:
    Fail`, the default, no node can be drained while the webhook is down, and it may well be on
    the node that is drained.""",
    fix="""A `namespaceSelector`, `failurePolicy: Ignore` with a budget behind it, and two
    replicas on different nodes.""",
    links=("https://github.com/strimzi/drain-cleaner/issues/58",),
)
def fragile_webhook(case: Case) -> Iterator[Sighting]:
    """Find eviction webhooks that are wide and strict, or run once."""
    for configuration in _eviction_webhooks(case.inventory):
        for number, each in enumerate(listing(configuration.at("webhooks"))):
            webhook = mapping(each)
            strict = webhook.get("failurePolicy", "Fail") == "Fail"
            if strict and not mapping(webhook.get("namespaceSelector")):
                text = f"{configuration} fails every eviction of the cluster while it is down"
                yield Sighting(configuration, ("webhooks", number), text)
            service = mapping(mapping(webhook.get("clientConfig")).get("service"))
            for workload in case.inventory.long_running:
                found = case.inventory.services(workload)
                if workload.replicas == 1 and any(
                    meant.manifest.name == service.get("name")
                    and meant.manifest.namespace == service.get("namespace")
                    for meant in found
                ):
                    text = f"{workload}, which answers for {configuration}, has one replica"
                    yield Sighting(workload.manifest, ("spec", "replicas"), text)
