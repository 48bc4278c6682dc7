"""HorizontalPodAutoscalers: of what may be many, and of nothing else.

There is none for a mode of one replica, and none for standbys, who do no work. An autoscaler takes
away Pods without asking who leads; that is a handover, so it is told to take its time.
"""

from __future__ import annotations

from incumbent.manifests import Object
from incumbent.manifests.model import Application
from incumbent.manifests.objects.labels import meta
from incumbent.manifests.parts import Autoscaling

__all__ = ["autoscaler"]

_SETTLED_S = 300


def autoscaler(
    app: Application, name: str, bounds: Autoscaling, *, companion: bool = False
) -> Object:
    """Return the autoscaler of the Deployment `name`."""
    utilization = {"type": "Utilization", "averageUtilization": bounds.cpu_percent}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": meta(app, name, companion=companion),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": bounds.min_replicas,
            "maxReplicas": bounds.max_replicas,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": utilization}}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": _SETTLED_S}},
        },
    }
