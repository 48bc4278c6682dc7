"""The right of a replica that hands over before it is evicted: to look at Pods, its own first.

No name can limit it, for the Pods of a Deployment have random ones. So it is there only where it is
asked for (`Application.handover`).
"""

from __future__ import annotations

from incumbent.manifests import Object
from incumbent.manifests.model import Application
from incumbent.manifests.objects.roles import role

__all__ = ["handover_rights"]


def handover_rights(app: Application) -> list[Object]:
    """Return the Role and its binding."""
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
    return role(app, f"{app.name}-handover", [rule])
