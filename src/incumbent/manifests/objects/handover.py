"""The right of a replica that hands over before it is evicted: to look at Pods, its own first.

No name can limit it, for the Pods of a Deployment have random ones. So it is there only where it is
asked for (`Application.handover`).
"""

from __future__ import annotations

from incumbent.manifests import Object
from incumbent.manifests.model import Application
from incumbent.manifests.objects.labels import meta

__all__ = ["handover_rights"]

_RBAC = "rbac.authorization.k8s.io"


def handover_rights(app: Application) -> list[Object]:
    """Return the Role and its binding."""
    name = f"{app.name}-handover"
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
    subject = {"kind": "ServiceAccount", "name": app.name, "namespace": app.namespace}
    return [
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "Role",
            "metadata": meta(app, name),
            "rules": [rule],
        },
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": meta(app, name),
            "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": name},
            "subjects": [subject],
        },
    ]
