"""The marks by which manifests, guard and audit know a singleton, and what may be said of one.

`SINGLETON` has to stand in the selector: a request to scale carries no labels of its workload, only
the selector as text, and a selector cannot be changed later. So an object is marked at birth.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "ACTIVE_IN",
    "APPLIED",
    "CERTIFICATE_ENDS",
    "CONSENT",
    "CONSENT_BY",
    "EVICTION_REPEATED",
    "EVICTION_REQUESTED",
    "EVICTION_REQUESTED_BY",
    "GUARD",
    "HANDOVER_REQUESTED",
    "KEPT_BY",
    "LET_GO",
    "LET_GO_FOR",
    "MAINTENANCE_WINDOW",
    "MODE",
    "OPERATOR_TERM",
    "OWNER",
    "ROLE",
    "SINGLETON",
    "WAIVE",
    "matches",
]

SINGLETON = "incumbent.dev/singleton"
"""A label, value "true": never more than one replica. In the labels, the selector, the template."""
MODE = "incumbent.dev/mode"
"""A label on the workload and its Pods, one of `modes.Mode`. Not in the selector."""
ROLE = "incumbent.dev/role"
"""A label set on a Pod at run time only, value "active"; never in a template."""
ACTIVE_IN = "incumbent.dev/active-in"
"""An annotation beside that label, as `namespace/election`: in which one it is active."""
OWNER = "incumbent.dev/owner"
"""An annotation: whom to ask before it is moved."""
WAIVE = "waive.incumbent.dev/"
"""The prefix of an annotation: `waive.incumbent.dev/INC031: <reason>`."""
GUARD = "incumbent.dev/guard"
"""A label on a namespace, value "enforce": the guard's bindings select such namespaces."""

KEPT_BY = "incumbent.dev/kept-single-by"
"""An annotation on the Pods that the operator has made: what keeps them from being two."""
APPLIED = "incumbent.dev/applied"
"""An annotation on the objects that the operator has made: the digest of what it last applied."""
OPERATOR_TERM = "incumbent.dev/operator-term"
"""An annotation on workloads: the fencing token of the operator that was the last to look at it."""
EVICTION_REQUESTED = "incumbent.dev/eviction-requested"
"""An annotation on a Pod: when its eviction was first refused, in RFC 3339."""
EVICTION_REQUESTED_BY = "incumbent.dev/eviction-requested-by"
"""An annotation on a Pod: the user whose eviction that was."""
HANDOVER_REQUESTED = "incumbent.dev/handover-requested"
"""An annotation on an active Pod: when this drain first told it to hand over, in RFC 3339."""
EVICTION_REPEATED = "incumbent.dev/eviction-repeated"
"""An annotation on a Pod: about when it was last refused, in RFC 3339."""
CONSENT = "incumbent.dev/consent"
"""An annotation on a Pod: what its owner allows, "once" or "until <RFC 3339>"."""
CONSENT_BY = "incumbent.dev/consent-by"
"""An annotation on a Pod: the user who allowed it, as that one's command has said."""
MAINTENANCE_WINDOW = "incumbent.dev/maintenance-window"
"""An annotation on a workload, or on its Pods: when nobody need be asked; see `consent.windows`."""
LET_GO = "incumbent.dev/let-go"
"""A label on a Pod, value "true": its eviction was let through. A budget leaves such Pods out."""
LET_GO_FOR = "incumbent.dev/let-go-for"
"""An annotation on a Pod: when that was, and the uid of the request."""

CERTIFICATE_ENDS = "incumbent.dev/certificate-ends"
"""An annotation on what asks the webhook, and on its certificate: until when that is good."""


def matches(labels: Mapping[str, object] | None) -> bool:
    """Tell whether these labels, or those of a selector, mark a singleton."""
    return labels is not None and labels.get(SINGLETON) == "true"
