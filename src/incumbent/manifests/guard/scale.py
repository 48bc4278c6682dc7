"""Scale requests: `kubectl scale`, a HorizontalPodAutoscaler, and whoever else writes to `*/scale`.

`*/scale` takes the scale of every resource, that of custom resources too; `*` would take none of
them. A Scale has no labels, so the mark is looked for in its `status.selector`. The API server
writes that anew from the workload, whatever a PUT has in its status. For a custom resource it is
the text that its operator keeps under `labelSelectorPath`, and may have been written with blanks,
with `==`, or as a set.

A ReplicaSet that a Deployment made has `pod-template-hash` in its selector. One of an older
revision has 0 replicas, and at 1 it would run beside the present one, until the Deployment's
controller scales it down again. That controller does not use the scale subresource, so here nobody
is let pass.
"""

from __future__ import annotations

from incumbent.manifests.guard.policy import Check, Policy, any_of, rule
from incumbent.manifests.marks import SINGLETON

__all__ = ["BEYOND_ONE", "OF_A_DEPLOYMENT", "scale"]

BEYOND_ONE = (
    "this is a singleton: more than one replica would work at once. Keep spec.replicas at 1. "
    "For standbys, let replicas elect one of them (incumbent run), "
    f"in a workload without the label {SINGLETON}"
)
OF_A_DEPLOYMENT = (
    "this is a singleton's ReplicaSet and belongs to a Deployment, whose controller alone may "
    "scale it up: its Pod could be the second one. Scale the Deployment, or roll it back"
)

_SELECTOR = 'oldObject.?status.?selector.orValue("")'
_MARKED = f"""\
{_SELECTOR}.replace(" ", "").replace("==", "=").split(",")
  .exists(term, term in ["{SINGLETON}=true", "{SINGLETON}in(true)"])"""


def scale() -> Policy:
    """Return the policy."""
    return Policy(
        "scale",
        (rule("*", ["*/scale"], "UPDATE"),),
        (
            Check(
                any_of("variables.replicas <= 1", "variables.replicas <= variables.before"),
                BEYOND_ONE,
            ),
            Check(
                any_of(
                    'request.resource.resource != "replicasets"',
                    '!variables.selector.contains("pod-template-hash=")',
                    "variables.replicas <= variables.before",
                ),
                OF_A_DEPLOYMENT,
            ),
        ),
        conditions={"marked": _MARKED},
        variables={
            "selector": _SELECTOR,
            "replicas": "object.?spec.?replicas.orValue(0)",
            "before": "oldObject.?spec.?replicas.orValue(0)",
        },
    )
