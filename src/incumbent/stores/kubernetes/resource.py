"""Which resource of an API server the records are objects of.

`LEASES`, `CONFIG_MAPS`, `PODS` and `ENDPOINT_SLICES` are there on every cluster. A resource that
others have defined needs its CustomResourceDefinition: `Resource.definition` is the manifest.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CONFIG_MAPS", "ENDPOINT_SLICES", "LEASES", "PODS", "Resource", "heartbeats_of"]


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object that lies in a namespace.

    Attributes:
        group: the API group; "" for that of Pods and ConfigMaps.
        version: the version of the group.
        plural: its name in paths and in the rules of a Role.
        kind: its name in objects.
        definition: the manifest that makes a cluster know it, or "" if every cluster does.
    """

    group: str
    version: str
    plural: str
    kind: str
    definition: str = ""

    @property
    def api_version(self) -> str:
        """The group and the version, as objects have it."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """The path below which the group's resources are."""
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"

    @property
    def full_name(self) -> str:
        """The name that tells it from others of the same plural."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str) -> str:
        """Return the path of all objects in a namespace; "" for those in every one."""
        if not namespace:
            return f"{self.root}/{self.plural}"
        return f"{self.root}/namespaces/{namespace}/{self.plural}"

    def everywhere(self) -> Resource:
        """Return the same resource outside of namespaces, or in all of them."""
        return _Everywhere(self.group, self.version, self.plural, self.kind)


class _Everywhere(Resource):
    """A resource outside of namespaces, or in all of them."""

    def path(self, namespace: str) -> str:
        """Return the path of all objects; the namespace has no meaning."""
        return f"{self.root}/{self.plural}"


LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
PODS = Resource("", "v1", "pods", "Pod")
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")

_HEARTBEATS = """\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: leases.{group}
spec:
  group: {group}
  scope: Namespaced
  names: {{kind: Lease, listKind: LeaseList, singular: lease, plural: leases}}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              owner: {{type: string}}
              version: {{type: string}}
              time: {{type: integer}}
"""


def heartbeats_of(group: str) -> Resource:
    """Return the resource that Akka and Pekko define for their leases, each in a group of its own.

    The definition is the same as theirs, so that it does not matter who installs it.
    """
    return Resource(group, "v1", "leases", "Lease", _HEARTBEATS.format(group=group))
