"""The Lease, and the right to it: the least with which a replica can be elected.

The Lease is made here, at installation, without a holder: so nobody needs `create` at run time,
which no rule can limit to a name. `get`, `update` and `watch` are limited to this one. There is no
`delete`: a Lease that vanishes under a live holder is waited out, at best.

The Lease has no `spec`. Whatever applies these manifests again therefore leaves the record alone,
as it leaves alone what it has not written. `kubectl replace` would not: it would depose the holder.
Nor is it removed with a Helm release, whose Pods may still end their work: `keep`.

With `routing: endpointslice` the lock is an EndpointSlice instead. It has no `endpoints`, for the
same reason: whatever applies it again must not empty it.

What is about Pods cannot be limited to names: a Deployment's have random ones. So it is the least
verb each: `watch` to hear of deaths and of labels, `patch` to set a label. `patch` can change more
than a label, of every Pod of the namespace; where that is too much, use the EndpointSlice, whose
rights are by name.
"""

from __future__ import annotations

from incumbent.manifests import Object
from incumbent.manifests.model import Application
from incumbent.manifests.objects.labels import meta
from incumbent.manifests.objects.roles import role
from incumbent.stores.kubernetes.resource import ENDPOINT_SLICES, LEASES
from incumbent.stores.kubernetes.slices import MANAGED_BY, MANAGER, SERVICE

__all__ = ["VERBS", "lock", "rights", "service_account"]

VERBS = ("get", "update", "watch")


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
    record = ENDPOINT_SLICES if app.sliced else LEASES
    rules = [
        {
            "apiGroups": [record.group],
            "resources": [record.plural],
            "resourceNames": [app.election],
            "verbs": list(VERBS),
        }
    ]
    if app.labelled or app.evidence:
        verbs = ["watch", "patch"] if app.labelled else ["watch"]
        rules.append({"apiGroups": [""], "resources": ["pods"], "verbs": verbs})
    return role(app, f"{app.name}-election", rules)


def lock(app: Application) -> Object:
    """Return the Lease or EndpointSlice, which nobody holds."""
    metadata = meta(app, app.election, annotations={"helm.sh/resource-policy": "keep"})
    if not app.sliced:
        return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata}
    metadata["labels"] |= {SERVICE: app.name, MANAGED_BY: MANAGER}
    return {
        "apiVersion": ENDPOINT_SLICES.api_version,
        "kind": ENDPOINT_SLICES.kind,
        "metadata": metadata,
        "addressType": "IPv4",
        "ports": [
            {"name": port.name, "port": port.number, "protocol": "TCP"} for port in app.ports
        ],
    }
