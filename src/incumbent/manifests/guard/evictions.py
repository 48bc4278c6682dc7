"""Evictions that force: `kubectl drain --grace-period=0`, and whoever else asks for 0 seconds.

An eviction with a grace period of 0 deletes the Pod at once, as a forced deletion does, and what it
deletes does not pass through the admission of deletions again. An Eviction shows the Pod's name and
nothing of the Pod. So this is refused for all Pods of a namespace, also for unmarked ones; and as a
drain breaks off at a refusal, only in namespaces that ask for it by the label
`incumbent.dev/guard: enforce`, or that the settings name.

With any other grace period, or with none, an eviction is a graceful deletion, and passes.
"""

from __future__ import annotations

from incumbent.manifests.guard.pods import untrusted
from incumbent.manifests.guard.policy import Check, Policy, rule
from incumbent.manifests.guard.settings import Settings
from incumbent.manifests.marks import GUARD

__all__ = ["evictions"]

_FORCE = (
    "this may be a singleton's Pod: evicted with a grace period of 0 it may run on beside the "
    "next one. Evict it with 1 second or more, as kubectl drain does without --grace-period=0"
)


def evictions(settings: Settings) -> Policy:
    """Return the policy."""
    return Policy(
        "evictions",
        (rule("", ["pods/eviction"], "CREATE"),),
        (Check("object.?deleteOptions.?gracePeriodSeconds.orValue(30) != 0", _FORCE),),
        conditions={"not-by-a-kubelet": untrusted(settings)},
        namespaces={GUARD: "enforce"},
    )
