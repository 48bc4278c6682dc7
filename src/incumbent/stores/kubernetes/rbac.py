"""The RBAC rules that this store needs, as the text that belongs into a Role.

There are two. `get`, `update` and `watch` can be limited to the Leases by name. `create` cannot:
when the server authorizes a create it does not know the name yet, and a rule with resourceNames
grants nothing. Where `create` on all Leases of a namespace is too much, create the Lease (without a
holder) at installation, and leave the second rule out.

`list` is optional: it lets a process with many elections follow them all by one watch, and it is
what listing the elections of a namespace needs.
"""

from __future__ import annotations

__all__ = ["NEEDED", "OPTIONAL", "role", "rule"]

NEEDED = ("get", "update", "watch", "create")
OPTIONAL = ("list",)
_NAMED = frozenset({"get", "update", "watch"})


def rule(verbs: tuple[str, ...], name: str) -> str:
    """Return one rule as a line of YAML; `name` limits it where a name can."""
    named = f", resourceNames: [{name}]" if name and set(verbs) <= _NAMED else ""
    listed = ", ".join(verbs)
    return f"{{apiGroups: [coordination.k8s.io], resources: [leases], verbs: [{listed}]{named}}}"


def role(missing: tuple[str, ...], name: str) -> str:
    """Return the rules that add `missing`, one a line."""
    named = tuple(verb for verb in missing if verb in _NAMED)
    others = tuple(verb for verb in missing if verb not in _NAMED)
    return "\n".join(f"- {rule(verbs, name)}" for verbs in (named, others) if verbs)
