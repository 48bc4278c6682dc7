"""The kinds of object that an operator makes or looks at, and what is special about some."""

from __future__ import annotations

from incumbent.manifests import Object
from incumbent.stores.kubernetes.resource import ENDPOINT_SLICES, LEASES, Resource

__all__ = ["KEPT", "KINDS", "REPLICA_SETS", "WORKLOADS", "Key", "key_of"]

Key = tuple[str, str]
"""Kind and name: the namespace is always that of the Singleton."""

_RBAC = "rbac.authorization.k8s.io"
KINDS: dict[str, Resource] = {
    kind: Resource(group, version, plural, kind)
    for kind, group, version, plural in (
        ("ServiceAccount", "", "v1", "serviceaccounts"),
        ("Role", _RBAC, "v1", "roles"),
        ("RoleBinding", _RBAC, "v1", "rolebindings"),
        *((of.kind, of.group, of.version, of.plural) for of in (LEASES, ENDPOINT_SLICES)),
        ("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims"),
        ("Service", "", "v1", "services"),
        ("Deployment", "apps", "v1", "deployments"),
        ("StatefulSet", "apps", "v1", "statefulsets"),
        ("HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers"),
        ("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets"),
    )
}
"""What is made, in the order in which it is."""
REPLICA_SETS = Resource("apps", "v1", "replicasets", "ReplicaSet")

WORKLOADS = ("Deployment", "StatefulSet")
KEPT = ("Lease", "EndpointSlice", "PersistentVolumeClaim")
"""Made if it is not there, and then neither changed nor deleted, also not with the Singleton.

A lock that vanishes under Pods that are still ending makes its successor one that nobody holds.
And what a volume holds is nobody's to throw away but the user's.
"""


def key_of(obj: Object) -> Key:
    """Return the kind and the name of an object."""
    return obj["kind"], obj["metadata"]["name"]
