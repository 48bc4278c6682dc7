"""Volumes: one Pod's, or shared by all replicas of the companion.

The strict singleton's volume is ReadWriteOncePod, which the scheduler keeps: a second Pod with the
same claim is not placed. It takes a CSI driver. ReadWriteOnce is no lock, for any number of Pods on
one node may mount it.
"""

from __future__ import annotations

from incumbent.manifests import Object
from incumbent.manifests.model import Application
from incumbent.manifests.objects.labels import meta
from incumbent.manifests.parts import Storage

__all__ = ["claim_template", "shared_claim"]


def shared_claim(app: Application, name: str, storage: Storage) -> Object:
    """Return the claim that all replicas of the companion mount."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": meta(app, name, companion=True),
        "spec": _spec(storage, "ReadWriteMany"),
    }


def claim_template(name: str, storage: Storage) -> Object:
    """Return the claim of a StatefulSet, which makes one for its Pod."""
    return {"metadata": {"name": name}, "spec": _spec(storage, "ReadWriteOncePod")}


def _spec(storage: Storage, mode: str) -> Object:
    found: Object = {
        "accessModes": [mode],
        "resources": {"requests": {"storage": storage.size}},
    }
    return {**found, "storageClassName": storage.storage_class} if storage.storage_class else found
