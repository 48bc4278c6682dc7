"""Who may touch the locks, and can those who must create one?"""

from __future__ import annotations

from collections.abc import Iterator

from incumbent.audit.case import Case
from incumbent.audit.electors import electors
from incumbent.audit.finding import Severity, Sighting, rule
from incumbent.audit.objects import Manifest, Object, listing

_RBAC = "https://kubernetes.io/docs/concepts/security/rbac-good-practices/"
_LOCKED_BY_NAME = {"get", "update", "patch", "delete"}


@rule(
    "INC065",
    Severity.MEDIUM,
    "the elector may touch the locks of others",
    why="""Without `resourceNames`, or with `*`, a mistake or a break-in in one application can
    take or free every lock of the namespace.""",
    fix="""`get`, `update`, `watch` on its own Lease by name. `create` cannot be limited to a
    name: make the Lease at installation and leave `create` out.""",
    links=(_RBAC,),
)
def wide_rights(case: Case) -> Iterator[Sighting]:
    """Find rules over Leases without a name, for what elects."""
    seen: set[tuple[int, int]] = set()
    for workload in case.inventory.workloads:
        if not (case.intent(workload).elected or electors(workload)):
            continue
        for role, number, entry in case.inventory.rules(workload):
            why = _wide(entry)
            if why and (id(role), number) not in seen:
                seen.add((id(role), number))
                text = f"{role} gives the ServiceAccount of {workload} {why}"
                yield Sighting(role, ("rules", number), text)


def _wide(entry: Object) -> str:
    groups = set(map(str, listing(entry.get("apiGroups"))))
    resources = set(map(str, listing(entry.get("resources"))))
    verbs = set(map(str, listing(entry.get("verbs"))))
    if not (groups & {"coordination.k8s.io", "*"} and resources & {"leases", "*"}):
        return ""
    if "*" in verbs:
        return "every verb on Leases"
    if "*" in resources and verbs & _LOCKED_BY_NAME:
        return f"{', '.join(sorted(verbs))} on every resource, Leases too"
    named = verbs & (_LOCKED_BY_NAME - {"get"})
    if named and not listing(entry.get("resourceNames")):
        return f"{', '.join(sorted(named))} on all Leases, without resourceNames"
    if "delete" in verbs:
        return "delete on its Lease, which no elector needs"
    return ""


@rule(
    "INC066",
    Severity.HIGH,
    "`create` by name grants nothing",
    why="""When a creation is authorized, the server does not know the name yet: a rule with
    `resourceNames` never applies to it, and the elector is refused.""",
    fix="""A rule of its own for `create`, without `resourceNames`; or make the Lease at
    installation.""",
    links=("https://kubernetes.io/docs/reference/access-authn-authz/rbac/#referring-to-resources",),
)
def create_by_name(case: Case) -> Iterator[Sighting]:
    """Find rules that let somebody create Leases by name, and no other that really does."""
    for role in case.inventory.of("Role", "ClusterRole"):
        rules = [entry for entry in listing(role.at("rules")) if isinstance(entry, dict)]
        for number, entry in enumerate(rules):
            if _creates(entry) and listing(entry.get("resourceNames")) and not _may_create(role):
                text = f"{role} lets Leases be created by name"
                yield Sighting(role, ("rules", number), text)


def _creates(entry: Object) -> bool:
    return "leases" in listing(entry.get("resources")) and "create" in listing(entry.get("verbs"))


def _may_create(role: Manifest) -> bool:
    rules = [entry for entry in listing(role.at("rules")) if isinstance(entry, dict)]
    return any(_creates(entry) and not listing(entry.get("resourceNames")) for entry in rules)
