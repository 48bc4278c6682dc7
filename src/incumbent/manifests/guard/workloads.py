"""Workloads as a whole: created, applied, patched or replaced.

Beside the number of replicas there are four ways to two that no number shows:

- A rolling update of a Deployment. Old and new ReplicaSet have one replica each, so all that can be
  asked for is the strategy `Recreate`.
- A grace period of 0 in the Pod template: each deletion of the Pod is a forced one then.
- `spec.ordinals.start` of a StatefulSet. Its controller starts the Pod with the new number, waits
  until that one is ready, and only then ends the Pod with the old one. At 0 replicas it is free.
- An older ReplicaSet of a Deployment, scaled up beside the present one.

And there is one way around the guard: a mark in the Pod template only. Pods have it then, and a
Scale does not show it.

The selectors of Deployments, StatefulSets and ReplicaSets cannot be changed, so the mark stays for
as long as the object does. That of a ReplicationController can, and is kept here. To delete a
workload and to make it anew without the mark remains possible, and should.
"""

from __future__ import annotations

from incumbent.manifests.guard.policy import Check, Policy, any_of, quoted, rule
from incumbent.manifests.guard.scale import BEYOND_ONE, OF_A_DEPLOYMENT
from incumbent.manifests.guard.settings import CONTROLLERS, Settings
from incumbent.manifests.marks import SINGLETON

__all__ = ["workloads"]

_EMPTY = """\
oldObject != null
&& oldObject.?spec.?replicas.orValue(1) == 0
&& oldObject.?status.?replicas.orValue(0) == 0
&& oldObject.?status.?observedGeneration.orValue(0) == oldObject.metadata.?generation.orValue(0)"""
"""No replicas are wanted, and none is left, as its controller has said since it was told so."""
_KIND = "request.resource.resource"
_RECREATE = (
    "this is a singleton: a rolling update starts the new Pod beside the old one. "
    "Set spec.strategy to {type: Recreate}"
)
_GRACE = (
    "this is a singleton, and with terminationGracePeriodSeconds: 0 in its Pod template each "
    "deletion is a forced one: the next Pod starts while the old one may still run. Set 1 or "
    "more"
)
_HALF = (
    f"this has the label {SINGLETON} in its Pod template and not in spec.selector.matchLabels. "
    "A scale request shows the selector and no labels, so it could not be refused. "
    "Make it anew with the label in both, or in neither"
)
_LEAVES = (
    f"this is a singleton and stays one: keep the label {SINGLETON} in its selector. If it may be "
    "several, delete it, wait until its Pod is gone, and make another one without the label"
)
_EVERYWHERE = (
    "this is a DaemonSet, which has a Pod on every node, and is marked as a singleton. Make it a "
    f"StatefulSet or a Deployment of one replica, or leave out the label {SINGLETON}"
)
_ORDINAL = (
    "this is a singleton: with another spec.ordinals.start the next Pod starts before the old one "
    "ends. Scale it to 0, wait until status.replicas is 0, and change it then"
)


def workloads(settings: Settings) -> Policy:
    """Return the policy."""
    apps = ("deployments", "statefulsets", "replicasets", "daemonsets")
    custom = [resource.split("/") for resource in settings.custom]
    operations = ("CREATE", "UPDATE")
    return Policy(
        "workloads",
        (
            rule("apps", apps, *operations),
            rule("", ["replicationcontrollers"], *operations),
            *(rule(group, [plural], *operations) for group, plural in custom),
        ),
        _CHECKS,
        conditions={
            "marked": any_of(_selects("object"), _selects("oldObject"), _labels("object")),
        },
        variables={
            "is": _selects("object"),
            "was": _selects("oldObject"),
            "replicas": "object.?spec.?replicas.orValue(1)",
            "before": "oldObject == null ? 0 : oldObject.?spec.?replicas.orValue(1)",
            "sameTemplate": (
                "oldObject != null && object.?spec.?template == oldObject.?spec.?template"
            ),
            "strategy": 'object.?spec.?strategy.?type.orValue("")',
            "strategyBefore": (
                'oldObject == null ? "Recreate" : oldObject.?spec.?strategy.?type.orValue("")'
            ),
            "grace": "object.?spec.?template.?spec.?terminationGracePeriodSeconds.orValue(30)",
            "start": "object.?spec.?ordinals.?start.orValue(0)",
            "startBefore": (
                "oldObject == null ? variables.start : oldObject.?spec.?ordinals.?start.orValue(0)"
            ),
            "isEmpty": _EMPTY,
        },
    )


def _selects(which: str) -> str:
    """Return whether `object` or `oldObject`, which may be null, has the mark in its selector."""
    mark = f"[?{quoted(SINGLETON)}]"
    return f"""\
({which} != null && (
  {_KIND} == "replicationcontrollers"
  ? {which}.?spec.?selector{mark}
  : {which}.?spec.?selector.?matchLabels{mark}
).orValue("") == "true")"""


def _labels(which: str) -> str:
    """Return whether `object` or `oldObject`, which may be null, has the mark in its template."""
    mark = f"[?{quoted(SINGLETON)}]"
    return f"""\
({which} != null &&
  {which}.?spec.?template.?metadata.?labels{mark}.orValue("") == "true")"""


def _is_no(kind: str) -> str:
    return f"{_KIND} != {quoted(kind)}"


_CHECKS = (
    Check(any_of("variables.is", "variables.was", _labels("oldObject")), _HALF, "Invalid"),
    Check(any_of("variables.is", "!variables.was"), _LEAVES, "Invalid"),
    Check(any_of(_is_no("daemonsets"), "!variables.is", "variables.was"), _EVERYWHERE, "Invalid"),
    Check(
        any_of(
            "!variables.is",
            "variables.replicas <= 1",
            "(variables.was && variables.replicas <= variables.before)",
        ),
        BEYOND_ONE,
    ),
    Check(
        any_of(
            _is_no("deployments"),
            "!variables.is",
            'variables.strategy == "Recreate"',
            '(variables.strategyBefore != "Recreate" && variables.sameTemplate)',
        ),
        _RECREATE,
        "Invalid",
    ),
    Check(
        any_of("!variables.is", "variables.grace != 0", "variables.sameTemplate"),
        _GRACE,
        "Invalid",
    ),
    Check(
        any_of(
            _is_no("statefulsets"),
            "!variables.was",
            "variables.start == variables.startBefore",
            "variables.isEmpty",
        ),
        _ORDINAL,
    ),
    Check(
        any_of(
            _is_no("replicasets"),
            "!variables.is",
            "variables.replicas <= variables.before",
            "!object.metadata.?ownerReferences.orValue([])"
            '.exists(owner, owner.kind == "Deployment" && owner.?controller.orValue(false))',
            *(f"request.userInfo.username == {quoted(user)}" for user in CONTROLLERS),
        ),
        OF_A_DEPLOYMENT,
    ),
)
