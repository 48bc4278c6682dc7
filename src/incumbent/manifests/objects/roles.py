"""A Role for the Pods of an application, and its binding to their service account.

What lies in no namespace needs a ClusterRole, which lies in none either.
"""

from __future__ import annotations

from incumbent.manifests import Object
from incumbent.manifests.model import Application
from incumbent.manifests.objects.labels import labels, meta

__all__ = ["CLUSTER_ROLES", "cluster_role", "role"]

_RBAC = "rbac.authorization.k8s.io"
CLUSTER_ROLES = ("ClusterRole", "ClusterRoleBinding")
"""The kinds that lie in no namespace."""


def role(app: Application, name: str, rules: list[Object]) -> list[Object]:
    """Return the Role of this name, and its binding."""
    return _bound(app, ("Role", "RoleBinding"), meta(app, name), rules)


def cluster_role(app: Application, name: str, rules: list[Object]) -> list[Object]:
    """Return the ClusterRole of this name, and its binding."""
    return _bound(app, CLUSTER_ROLES, {"name": name, "labels": labels(app)}, rules)


def _bound(
    app: Application, kinds: tuple[str, str], metadata: Object, rules: list[Object]
) -> list[Object]:
    kind, binding = kinds
    subject = {"kind": "ServiceAccount", "name": app.name, "namespace": app.namespace}
    return [
        {"apiVersion": f"{_RBAC}/v1", "kind": kind, "metadata": metadata, "rules": rules},
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": binding,
            "metadata": metadata,
            "roleRef": {"apiGroup": _RBAC, "kind": kind, "name": metadata["name"]},
            "subjects": [subject],
        },
    ]
