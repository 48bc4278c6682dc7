"""The RBAC rules that this store needs, as the text that belongs into a Role.

There are two. `get`, `update` and `watch` can be limited to the Leases by name. `create` cannot:
when the server authorizes a create it does not know the name yet, and a rule with resourceNames
grants nothing. Where `create` on all Leases of a namespace is too much, create the Lease (without a
holder) at installation, and leave the second rule out.

`list` is optional: it lets a process with many elections follow them all by one watch, and it is
what listing the elections of a namespace needs.

Where the record is no Lease, the rules are the same for another resource.

With `?session=1` nothing can be limited by name: the Lease of a session has a random one, and one
watch brings all. `delete` is optional there.
"""

from __future__ import annotations

from dataclasses import dataclass

from incumbent.stores.kubernetes.resource import LEASES, Resource

__all__ = ["EACH", "SESSIONS", "Rights", "role", "rule"]


@dataclass(frozen=True, slots=True)
class Rights:
    """The verbs on the resource that one mode needs.

    Attributes:
        needed: without these it does not work.
        optional: without these it works.
        why: what the optional ones are for.
        by_name: whether a right to some names is enough.
    """

    needed: tuple[str, ...]
    optional: tuple[str, ...]
    why: str
    by_name: bool


EACH = Rights(
    ("get", "update", "watch", "create"),
    ("list",),
    "needed only to list elections, and to follow many by one watch",
    by_name=True,
)
SESSIONS = Rights(
    ("get", "list", "watch", "update", "create"),
    ("delete",),
    "needed only to clear away the sessions of processes that are gone",
    by_name=False,
)
_NAMED = frozenset({"get", "update", "watch"})


def rule(verbs: tuple[str, ...], name: str, of: Resource = LEASES) -> str:
    """Return one rule as a line of YAML; `name` limits it where a name can."""
    named = f", resourceNames: [{name}]" if name and set(verbs) <= _NAMED else ""
    listed = ", ".join(verbs)
    group = of.group or '""'
    return f"{{apiGroups: [{group}], resources: [{of.plural}], verbs: [{listed}]{named}}}"


def role(missing: tuple[str, ...], name: str, of: Resource = LEASES) -> str:
    """Return the rules that add `missing`, one a line."""
    named = tuple(verb for verb in missing if verb in _NAMED)
    others = tuple(verb for verb in missing if verb not in _NAMED)
    return "\n".join(f"- {rule(verbs, name, of)}" for verbs in (named, others) if verbs)
