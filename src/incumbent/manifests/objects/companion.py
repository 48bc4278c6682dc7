"""The stateless service beside the singleton: everything that may be many.

A Deployment with rolling update (and so rollback by `kubectl rollout undo`), a Service, and as told
an autoscaler and a volume that all replicas share. It has no part in the election, and no token.
"""

from __future__ import annotations

from incumbent.manifests import Object
from incumbent.manifests.model import Application
from incumbent.manifests.objects.budget import companion_budget
from incumbent.manifests.objects.labels import meta, selector
from incumbent.manifests.objects.pod import companion_template
from incumbent.manifests.objects.scaling import autoscaler
from incumbent.manifests.objects.service import companion_service
from incumbent.manifests.objects.storage import shared_claim
from incumbent.manifests.objects.workload import rolling

__all__ = ["companion_objects"]


def companion_objects(app: Application) -> list[Object]:
    """Return its objects in the order in which they are applied; none, if there is no companion."""
    companion, name = app.companion, f"{app.name}-companion"
    if companion is None:
        return []
    found = []
    if companion.storage is not None:
        found.append(shared_claim(app, name, companion.storage))
    found.append(companion_service(app, companion.ports))
    spec: Object = {} if companion.autoscaling is not None else {"replicas": companion.replicas}
    spec |= {
        "selector": {"matchLabels": selector(app, companion=True)},
        "strategy": rolling(surge=1, unavailable=0),
        "template": companion_template(app, companion),
    }
    found.append(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta(app, name, companion=True),
            "spec": spec,
        }
    )
    if companion.autoscaling is not None:
        found.append(autoscaler(app, name, companion.autoscaling, companion=True))
    found.append(companion_budget(app))
    return found
