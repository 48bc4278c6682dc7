"""The strict alternative: a quota that lets no second Pod into a namespace, whoever asks for it."""

from __future__ import annotations

import re

from incumbent.errors import ConfigError
from incumbent.manifests import Object

__all__ = ["quota"]

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def quota(namespace: str, *, name: str = "incumbent-singleton") -> Object:
    """Return a ResourceQuota that lets one Pod at a time exist in a namespace.

    `count/pods` counts every Pod object: one that is ending, one that is stuck on a lost node, one
    that has failed. So with it even a Deployment is at most one, after a scale-up, a deletion or a
    partition as well. `pods` would not do: it leaves out those that have ended, and those whose
    grace period is over although nobody has seen them end.

    What it costs:

    - the namespace is the singleton's alone; no Job, no debugging Pod, no second application;
    - a rolling update never ends, since its new Pod waits for the old one to go: `Recreate`;
    - a Pod that failed and is left lying keeps the next one out, until somebody deletes it;
    - the controller tries again after a growing pause, so the next Pod comes seconds later;
    - a Pod on a lost node keeps its place: nobody works until it is gone, as with a StatefulSet.

    It does not keep a Node from being deleted or a Pod from being deleted by force: what frees the
    place of a Pod that may run on is refused by the guard's policies, and not by this.

    Raises:
        ConfigError: a namespace cannot be called so.
    """
    if not _NAMESPACE.fullmatch(namespace):
        raise ConfigError(
            f"namespace {namespace!r}: use 1 to 63 of a-z, 0-9 and -, with none of - at the ends"
        )
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/name": "incumbent-guard"},
        },
        "spec": {"hard": {"count/pods": "1"}},
    }
