"""A base for kustomize, with an overlay as an example of what may be changed in one.

Namespace, image and, where something is elected, the number of replicas. No `namePrefix` and no
`nameSuffix`: kustomize would rename the Lease, and neither the names in the Role nor the name of
the election follow.
"""

from __future__ import annotations

from incumbent.manifests import Object
from incumbent.manifests.model import Application
from incumbent.manifests.objects import objects_of
from incumbent.manifests.objects.guard import CLUSTER_WIDE, NAMESPACE
from incumbent.manifests.objects.roles import CLUSTER_ROLES
from incumbent.manifests.render.table import head
from incumbent.manifests.render.yaml import dumped, why

__all__ = ["files_of", "name_of_file"]

_KIND = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
_EXAMPLE_NAMESPACE = "example"
_EXAMPLE_REPLICAS = 3
_NAMESPACE_OF = {"kind": "ServiceAccount", "fieldPath": "metadata.namespace"}


def name_of_file(obj: Object) -> str:
    """Return how the file of an object is called."""
    return f"{obj['kind'].lower()}-{obj['metadata']['name']}.yaml"


def files_of(app: Application) -> dict[str, str]:
    """Return text by path."""
    objects = objects_of(app)
    found = {f"base/{name_of_file(obj)}": f"# {why(obj)}\n{dumped(obj)}" for obj in objects}
    base = {**_KIND, "resources": [name_of_file(obj) for obj in objects]}
    found["base/kustomization.yaml"] = head(app) + dumped(base)
    found["overlays/example/kustomization.yaml"] = _overlay(app)
    return found


def _overlay(app: Application) -> str:
    name, tag = _split(app.image)
    overlay: Object = {
        **_KIND,
        "namespace": _EXAMPLE_NAMESPACE,
        "resources": ["../../base"],
        "images": [{"name": name, **tag}],
    }
    if app.mode.single:
        why_one = "the guard refuses a second" if app.guard else "two would be active"
        note = f"# No `replicas` here: there is one, and {why_one}.\n"
    elif app.autoscaling is not None:
        note = "# No `replicas` here: the autoscaler sets the number.\n"
    else:
        note = "# More replicas are more standbys: one is active.\n"
        overlay["replicas"] = [{"name": app.name, "count": _EXAMPLE_REPLICAS}]
    if app.guard:
        overlay["replacements"] = [_guarded(app)]
        note += "# The guard follows into the namespace: without `replacements` it stays behind.\n"
    if app.handover_cordon:
        overlay["replacements"] = [_looking(app)]
        note += "# The ClusterRole has the namespace in its name: without `replacements` two of\n"
        note += "# this in different namespaces would share it.\n"
    return f"{_unprefixed(app)}{note}{dumped(overlay)}"


def _unprefixed(app: Application) -> str:
    """Return the comment on names that do not follow a prefix; nothing, if all do."""
    if app.mode.single:
        return ""
    if not app.leased:
        return "# No namePrefix: the name of the election would not follow.\n"
    lock = "EndpointSlice" if app.sliced else "Lease"
    return f"# No namePrefix: the Role and the election name the {lock}.\n"


def _looking(app: Application) -> Object:
    """Return how the right to look at nodes, which lies in no namespace, learns of another one."""
    role, binding = ({"select": {"kind": kind}} for kind in CLUSTER_ROLES)
    first = {"delimiter": ".", "index": 0}
    return {
        "source": _NAMESPACE_OF | {"name": app.name},
        "targets": [
            {**role, "fieldPaths": ["metadata.name"], "options": first},
            {**binding, "fieldPaths": ["metadata.name", "roleRef.name"], "options": first},
        ],
    }


def _guarded(app: Application) -> Object:
    """Return how the guard, which lies in no namespace, learns of another one."""
    first = {"delimiter": ".", "index": 0}
    policy, binding = ({"select": {"kind": kind}} for kind in CLUSTER_WIDE)
    selector = "spec.matchResources.namespaceSelector.matchLabels"
    return {
        "source": _NAMESPACE_OF | {"name": app.name},
        "targets": [
            {**policy, "fieldPaths": ["metadata.name"], "options": first},
            {**binding, "fieldPaths": ["metadata.name", "spec.policyName"], "options": first},
            {**binding, "fieldPaths": [f"{selector}.[{NAMESPACE}]"]},
        ],
    }


def _split(image: str) -> tuple[str, Object]:
    """Return the name of an image, and its version as kustomize says it."""
    before, at, digest = image.partition("@")
    folder, slash, last = before.rpartition("/")
    short, _, tag = last.partition(":")
    name = f"{folder}{slash}{short}"
    return (name, {"digest": digest}) if at else (name, {"newTag": tag})
