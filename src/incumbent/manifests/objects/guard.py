"""The guard of one application: the policies of `manifests.guard`, for its namespace alone.

A cluster may have a guard of its own (`incumbent guard`), which knows each marked singleton. This
one comes and goes with the application, and so has to share nothing:

- Its names begin with namespace and name. Of two applications that wrote the same policies, the
  first that is removed would take away the guard of the other, and Helm would refuse the second.
- It is bound by the label with its name that the API server itself gives to each namespace, and
  that nobody can take away. A label of ours would need the Namespace among the objects; whoever
  deletes what is written here would then delete the whole namespace. It takes the place of the
  label by which a namespace asks for the policy on evictions as well.
"""

from __future__ import annotations

from incumbent.manifests import Object
from incumbent.manifests.guard import Settings, policies
from incumbent.manifests.model import Application

__all__ = ["CLUSTER_WIDE", "NAMESPACE", "guards"]

CLUSTER_WIDE = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
"""The kinds that lie in no namespace."""
NAMESPACE = "kubernetes.io/metadata.name"
"""The label of a namespace with its name."""


def guards(app: Application) -> list[Object]:
    """Return the policies and their bindings; none, if they are not asked for.

    The namespace stands before the first dot of each name, where kustomize and Helm exchange it.
    """
    if not app.guard:
        return []
    settings = Settings(prefix=f"{app.namespace}.{app.name}", namespaces={NAMESPACE: app.namespace})
    made = policies(settings)
    for obj in made:
        obj["metadata"]["labels"] |= {
            "app.kubernetes.io/part-of": app.name,
            "app.kubernetes.io/managed-by": "incumbent",
        }
    return made
