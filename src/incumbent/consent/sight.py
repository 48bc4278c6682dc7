"""What a decision needs to see of the cluster: the Pod, what controls it, who else could be active.

Every read is one from a quorum, so a Pod that is seen here was there when it was asked for. No more
is read than the Pod's kind calls for: of a Pod that is nobody's business, only the Pod.

The rights: `get` on Pods, ReplicaSets, Deployments and StatefulSets, `list` on Pods and budgets,
and `patch` on Pods for what is written down (`objects`).
"""

from __future__ import annotations

from datetime import datetime

from incumbent.audit.objects import Object, at, strings
from incumbent.consent.decision import Asked, Sight
from incumbent.consent.pods import Kind, controller_of, is_live, kind_of, others_of
from incumbent.errors import StoreUnusable
from incumbent.stores.kubernetes.api import NotFound
from incumbent.stores.kubernetes.client import Client
from incumbent.stores.kubernetes.resource import PODS, Resource

__all__ = ["BUDGETS", "CONTROLLERS", "EVENTS", "see"]

BUDGETS = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
CONTROLLERS = {
    kind: Resource("apps", "v1", f"{kind.lower()}s", kind)
    for kind in ("ReplicaSet", "Deployment", "StatefulSet")
}
EVENTS = Resource("", "v1", "events", "Event")


async def see(client: Client, asked: Asked, now: datetime) -> Sight:
    """Return what there is to see.

    Raises:
        NotFound: there is no such Pod.
        IncumbentError: it could not be looked at.
    """
    pod = await client.beside(PODS).get(asked.name)
    kind = kind_of(pod)
    if kind is Kind.OTHER or not is_live(pod):
        return Sight(pod)
    try:
        return await _around(client, pod, kind, now)
    except NotFound as error:
        raise StoreUnusable(f"what is about Pod {asked.name} is not served: {error}") from None


async def _around(client: Client, pod: Object, kind: Kind, now: datetime) -> Sight:
    others = len(await others_of(client, pod, now)) if kind is Kind.ACTIVE else 0
    above = await _above(client, pod)
    budgets = await client.beside(BUDGETS).list()
    return Sight(pod, above, others, budgets.items)


async def _above(client: Client, pod: Object) -> list[dict[str, str]]:
    """Return the annotations of the Pod's controller, and of that one's."""
    found: list[dict[str, str]] = []
    below = pod
    for _ in CONTROLLERS:
        controller = controller_of(below)
        resource = CONTROLLERS.get(str(at(controller, "kind")))
        if resource is None or not str(at(controller, "apiVersion")).startswith("apps/"):
            break
        try:
            below = await client.beside(resource).get(str(at(controller, "name")))
        except NotFound:
            break
        found.append(strings(at(below, "metadata", "annotations")))
    return found
