"""The Pods of singletons: what ends one, or has it replaced, before it has ended.

A forced deletion takes the Pod's object away at once; its controller makes the next one, and
whether the containers run on is nobody's knowledge. It is asked for by a grace period of 0, in the
request or in the Pod, and a deletion of a whole collection is asked about each Pod.

The API server puts 0 into the request itself where a Pod was never given to a node, or has ended;
so such a request does not show who wanted it. In both cases nothing runs, and it may pass.

There are four other ways to the same end, and a forced deletion that is refused leads to them:

- `status.phase` Failed or Succeeded, written by somebody who is not the kubelet: a StatefulSet and
  a ReplicaSet replace such a Pod, and its next deletion is a forced one.
- A label of the selector, taken away or changed: the controller lets the Pod go and makes another.
  It goes through `pods` and through `pods/status`. Which labels are the selector's a Pod does not
  tell, so all that were there stay, apart from the role and from that of an eviction that was let
  through, which are no selector's of a workload.
- A Pod with a grace period of 0 from the beginning: an eviction would delete it by force, and an
  eviction does not show it.
- A Pod without a controller, made by hand beside the controller's own.
"""

from __future__ import annotations

from incumbent.manifests.guard.policy import Check, Policy, any_of, quoted, rule
from incumbent.manifests.guard.settings import Settings
from incumbent.manifests.marks import LET_GO, ROLE, SINGLETON

__all__ = ["pods", "untrusted"]

_FORCE = (
    "this is a singleton's Pod: deleted with a grace period of 0 it may run on beside the next "
    "one. Delete it with 1 second or more. If its node is lost, have the node powered off first"
)
_BY_TAINT = ", and then taint it node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
_BY_OTHERS = ", and then let a user delete the Pod whom the guard exempts"
_GRACE = (
    "this is a singleton's Pod, and with terminationGracePeriodSeconds: 0 each deletion or "
    "eviction of it is a forced one. Set 1 or more, in the Pod template of its workload"
)
_BARE = (
    "this is a singleton's Pod and has no controller: nothing keeps it from being the second one. "
    f"Let a StatefulSet or a Deployment make it, or leave out the label {SINGLETON}"
)
_RELABEL = (
    "this is a singleton's Pod: if a label is gone by which it was selected, its controller starts "
    f"another one beside it. Add labels, but leave those that are there; {ROLE} may change"
)
_PHASE = (
    "this is a singleton's Pod, and it is for its kubelet to say that it has ended: one that is"
    " called Failed or Succeeded is replaced while it may still run. Delete it with a grace "
    "period"
)


def untrusted(settings: Settings) -> str:
    """Return, in CEL, whether a request is from one who has to be asked."""
    users = ", ".join(map(quoted, settings.trusted))
    return (
        '!("system:nodes" in request.userInfo.?groups.orValue([]))'
        f" && !(request.userInfo.username in [{users}])"
    )


def pods(settings: Settings) -> Policy:
    """Return the policy."""
    lost = _BY_TAINT if settings.pod_gc else _BY_OTHERS
    return Policy(
        "pods",
        (
            rule("", ["pods"], "CREATE", "UPDATE", "DELETE"),
            rule("", ["pods/status"], "UPDATE"),
        ),
        (
            Check(
                any_of(
                    'request.operation != "DELETE"',
                    "variables.grace != 0",
                    'oldObject.?spec.?nodeName.orValue("") == ""',
                    _has_ended("oldObject"),
                ),
                _FORCE + lost,
            ),
            Check(
                any_of('request.operation != "CREATE"', "variables.ownGrace != 0"),
                _GRACE,
                "Invalid",
            ),
            Check(
                any_of(
                    'request.operation != "CREATE"',
                    "object.metadata.?ownerReferences.orValue([])"
                    ".exists(owner, owner.?controller.orValue(false))",
                ),
                _BARE,
                "Invalid",
            ),
            Check(
                any_of(
                    'request.operation != "UPDATE"',
                    f'variables.labelsBefore[?{quoted(SINGLETON)}].orValue("") != "true"',
                    f"variables.labelsBefore.all(key, key in [{quoted(ROLE)}, {quoted(LET_GO)}]"
                    " || variables.labels[?key] == variables.labelsBefore[?key])",
                ),
                _RELABEL,
            ),
            Check(
                any_of(
                    'request.operation != "UPDATE"',
                    "!" + _has_ended("object"),
                    _has_ended("oldObject"),
                ),
                _PHASE,
            ),
        ),
        conditions={"not-by-a-kubelet": untrusted(settings)},
        variables={
            "ownGrace": (
                "(object == null ? oldObject : object)"
                ".?spec.?terminationGracePeriodSeconds.orValue(30)"
            ),
            "grace": "request.?options.?gracePeriodSeconds.orValue(variables.ownGrace)",
            "labels": "object == null ? {} : object.metadata.?labels.orValue({})",
            "labelsBefore": "oldObject == null ? {} : oldObject.metadata.?labels.orValue({})",
        },
        labels={SINGLETON: "true"},
    )


def _has_ended(which: str) -> str:
    return f'({which}.?status.?phase.orValue("") in ["Succeeded", "Failed"])'
