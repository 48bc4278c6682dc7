"""The right of a replica that hands over before it is evicted: to look at Pods, its own first.

What is refused is the eviction of an *active* Pod, which is one with the role label. So the label
is set wherever a handover is asked for, also if calls find the active one otherwise; the right to
set it is beside that to the lock (`election`).

No name can limit it, for the Pods of a Deployment have random ones. So it is there only where it is
asked for (`Application.handover`).

A cordon is seen at the node alone, and nodes lie in no namespace: that right is a ClusterRole,
`get` and no more, of all nodes, since nobody knows on which a Pod will be. It is there only where
it is asked for (`Application.handover_cordon`). The namespace stands before the first dot of its
name, where kustomize and Helm exchange it: two installations would share it otherwise.
"""

from __future__ import annotations

from incumbent.manifests import Object
from incumbent.manifests.model import Application
from incumbent.manifests.objects.roles import cluster_role, role

__all__ = ["handover_rights"]


def handover_rights(app: Application) -> list[Object]:
    """Return the Role and its binding, and the ClusterRole with its own where cordons count."""
    pods = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
    found = role(app, f"{app.name}-handover", [pods])
    if app.handover_cordon:
        nodes = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}
        found += cluster_role(app, f"{app.namespace}.{app.name}-cordon", [nodes])
    return found
