"""A Role for the Pods of an application, and its binding to their service account."""

from __future__ import annotations

from incumbent.manifests import Object
from incumbent.manifests.model import Application
from incumbent.manifests.objects.labels import meta

__all__ = ["role"]

_RBAC = "rbac.authorization.k8s.io"


def role(app: Application, name: str, rules: list[Object]) -> list[Object]:
    """Return the Role of this name, and its binding."""
    subject = {"kind": "ServiceAccount", "name": app.name, "namespace": app.namespace}
    return [
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "Role",
            "metadata": meta(app, name),
            "rules": rules,
        },
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": meta(app, name),
            "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": name},
            "subjects": [subject],
        },
    ]
