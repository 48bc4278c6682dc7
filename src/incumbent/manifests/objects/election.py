"""The Lease, and the right to it: the least with which a replica can be elected.

The Lease is made here, at installation, without a holder: so nobody needs `create` at run time,
which no rule can limit to a name. `get`, `update` and `watch` are limited to this one. There is no
`delete`: a Lease that vanishes under a live holder is waited out, at best.

The Lease has no `spec`. Whatever applies these manifests again therefore leaves the record alone,
as it leaves alone what it has not written. `kubectl replace` would not: it would depose the holder.
Nor is it removed with a Helm release, whose Pods may still end their work: `keep`.
"""

from __future__ import annotations

from incumbent.manifests import Object
from incumbent.manifests.model import Application
from incumbent.manifests.objects.labels import meta

__all__ = ["VERBS", "lease", "rights", "service_account"]

VERBS = ("get", "update", "watch")
_RBAC = "rbac.authorization.k8s.io"


def service_account(app: Application) -> Object:
    """Return who the Pods are. No token but where a Pod asks for one."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": meta(app, app.name),
        "automountServiceAccountToken": False,
    }


def rights(app: Application) -> list[Object]:
    """Return the Role and its binding."""
    name = f"{app.name}-election"
    rule = {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": [app.election],
        "verbs": list(VERBS),
    }
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


def lease(app: Application) -> Object:
    """Return the Lease, which nobody holds."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": meta(app, app.election, annotations={"helm.sh/resource-policy": "keep"}),
    }
