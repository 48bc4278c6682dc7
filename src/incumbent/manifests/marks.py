"""The marks by which manifests, guard and audit know a singleton, and what may be said of one.

`SINGLETON` has to stand in the selector: a request to scale carries no labels of its workload, only
the selector as text, and a selector cannot be changed later. So an object is marked at birth.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "APPLIED",
    "GUARD",
    "KEPT_BY",
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


def matches(labels: Mapping[str, object] | None) -> bool:
    """Tell whether these labels, or those of a selector, mark a singleton."""
    return labels is not None and labels.get(SINGLETON) == "true"
