"""Labels, selectors and the metadata of every object.

The labels that Kubernetes recommends, and ours. A version is not among them: it would come from the
image, which kustomize and Helm exchange without looking at labels.

A selector has the component in it, so that nothing of the companion is ever taken for the
singleton, and the marker of the two modes of one replica, so that a guard can know a request to
scale.
"""

from __future__ import annotations

from incumbent.manifests import Object
from incumbent.manifests.marks import MODE, SINGLETON
from incumbent.manifests.model import Application

__all__ = ["COMPANION", "COMPONENT", "labels", "meta", "selector"]

COMPANION = "companion"
COMPONENT = "app.kubernetes.io/component"
_NAME = "app.kubernetes.io/name"
_ELECTED, _SINGLE = "elected", "singleton"


def selector(app: Application, *, companion: bool = False) -> dict[str, str]:
    """Return the labels by which workload, Service and budget know their Pods."""
    component = _ELECTED if app.mode.elected else _SINGLE
    found = {_NAME: app.name, COMPONENT: COMPANION if companion else component}
    return {**found, SINGLETON: "true"} if app.mode.single and not companion else found


def labels(app: Application, *, companion: bool = False) -> dict[str, str]:
    """Return the labels of everything that belongs to the singleton, or to its companion."""
    found = selector(app, companion=companion)
    if not companion:
        found[MODE] = str(app.mode)
    found["app.kubernetes.io/instance"] = app.name
    found["app.kubernetes.io/part-of"] = app.name
    found["app.kubernetes.io/managed-by"] = "incumbent"
    return found


def meta(
    app: Application,
    name: str,
    *,
    companion: bool = False,
    annotations: dict[str, str] | None = None,
) -> Object:
    """Return the metadata of an object."""
    found: Object = {
        "name": name,
        "namespace": app.namespace,
        "labels": labels(app, companion=companion),
    }
    return {**found, "annotations": annotations} if annotations else found
