"""Who would "repair" a singleton: policies and tools that want more replicas?"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from incumbent.audit.case import Case
from incumbent.audit.finding import Severity, Sighting, rule
from incumbent.audit.objects import Manifest, listing, mapping
from incumbent.manifests import marks

_MORE_THAN_ONE = re.compile(r"^\s*(?:>\s*[1-9]|>=\s*[2-9]|[2-9]\d*)")


@rule(
    "INC009",
    Severity.CRITICAL,
    "a policy would raise the number, or add a second budget",
    why="""Polaris mutates what has fewer than two replicas, and Kyverno policies set a number
    or generate a budget for every Deployment. To them a singleton is a mistake.""",
    fix=f"Exclude what carries the label `{marks.SINGLETON}` or `{marks.MODE}` from the policy.",
    links=("https://kyverno.io/docs/policy-types/cluster-policy/match-exclude/",),
)
def repaired(case: Case) -> Iterator[Sighting]:
    """Find policies in the set that change singletons."""
    if not case.singletons:
        return
    for policy in case.inventory.of("ClusterPolicy", "Policy"):
        if policy.group != "kyverno.io":
            continue
        for number, each in enumerate(listing(policy.at("spec", "rules"))):
            does = _does(mapping(each))
            if does and not _spares(mapping(each)):
                text = f"{policy}, rule {mapping(each).get('name')}, {does} also for singletons"
                yield Sighting(policy, ("spec", "rules", number), text)
    for webhook in case.inventory.of("MutatingWebhookConfiguration"):
        if "polaris" in webhook.name and not _spares_by_selector(webhook):
            text = f"{webhook} lets Polaris change every workload"
            yield Sighting(webhook, ("webhooks",), text)


def _does(entry: dict[str, object]) -> str:
    generated = mapping(entry.get("generate"))
    if generated.get("kind") == "PodDisruptionBudget":
        return "generates a PodDisruptionBudget"
    if _replicas(entry.get("mutate")):
        return "sets the number of replicas"
    if _replicas(entry.get("validate")):
        return "demands several replicas"
    return ""


def _replicas(value: object) -> bool:
    """Tell whether `replicas` is set or asked for somewhere below, with more than one."""
    if isinstance(value, dict):
        for key, each in value.items():
            plain = str(key).strip("+=()")
            if plain == "replicas" and _MORE_THAN_ONE.match(str(each)):
                return True
            if _replicas(each):
                return True
    return isinstance(value, list) and any(map(_replicas, value))


def _spares(entry: dict[str, object]) -> bool:
    text = json.dumps([entry.get("exclude"), entry.get("match"), entry.get("preconditions")])
    return marks.SINGLETON in text or marks.MODE in text


def _spares_by_selector(webhook: Manifest) -> bool:
    selectors = [mapping(each).get("objectSelector") for each in listing(webhook.at("webhooks"))]
    text = json.dumps(selectors)
    return marks.SINGLETON in text or marks.MODE in text
