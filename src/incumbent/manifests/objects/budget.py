"""One PodDisruptionBudget for each Pod, and never two: with two, every eviction is an error 500.

- An only replica may not be moved before its owner was asked: `maxUnavailable: 0`. The owner stands
  in an annotation. Where evictions are asked about (`incumbent consent-webhook`), consent lets the
  Pod go by a label that the budget leaves out; elsewhere the owner raises the number for a drain,
  and puts it back.
- Of several replicas one may be down. Should it be the active one, it hands over as it stops.

Whole numbers only, and on the labels of the whole workload: on a label that only the active Pod
has, `maxUnavailable` and percentages are counted from the number of all replicas.

`unhealthyPodEvictionPolicy: AlwaysAllow` in every mode: a Pod that is not ready protects nothing,
and would hold up the drain of its node until somebody looks. An eviction is a graceful delete, so
nothing becomes two by it that would not by any delete. What it costs: a drain may interrupt a
singleton that is starting, or is replaying a journal on its volume, once for each node drained.
"""

from __future__ import annotations

from incumbent.manifests import Object
from incumbent.manifests.marks import LET_GO
from incumbent.manifests.model import Application
from incumbent.manifests.objects import waivers
from incumbent.manifests.objects.labels import meta, selector
from incumbent.manifests.objects.workload import owned

__all__ = ["budget", "companion_budget"]


def budget(app: Application) -> Object:
    """Return the budget of the singleton."""
    annotations = owned(app, waivers.of_budget(app))
    metadata = meta(app, app.name, annotations=annotations)
    made = _budget(metadata, selector(app), 0 if app.mode.single else 1)
    if app.mode.single:
        let_go = {"key": LET_GO, "operator": "DoesNotExist"}
        made["spec"]["selector"]["matchExpressions"] = [let_go]
    return made


def companion_budget(app: Application) -> Object:
    """Return the budget of the companion."""
    metadata = meta(app, f"{app.name}-companion", companion=True)
    return _budget(metadata, selector(app, companion=True), 1)


def _budget(metadata: Object, chosen: dict[str, str], unavailable: int) -> Object:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata,
        "spec": {
            "selector": {"matchLabels": chosen},
            "maxUnavailable": unavailable,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
