"""The workload: which controller keeps how many, and how a new version comes.

- at-least-one is a Deployment with `Recreate`: a rollout waits until the old Pod is gone. A delete
  does not wait; that is the mode.
- at-most-one is a StatefulSet: the next Pod has the same name, so it waits until the old one is
  gone, whatever took it. `Parallel` changes nothing about that, for there is one; but it lets a
  mended template replace a Pod that never became ready, for which `OrderedReady` waits for ever.
- active-standby is a Deployment whose rollout takes one away before it adds one, since two may
  not share a node. The replica that is left takes over in milliseconds when its turn comes. A new
  one has to stand for 10 s before the next is taken away: without a probe a container is ready at
  once, also one that is about to crash.
- partly-singleton is a Deployment with an ordinary rolling update. Where an autoscaler sets the
  number, the manifest has none: each apply would reset it.
"""

from __future__ import annotations

from incumbent.manifests import Object
from incumbent.manifests.marks import OWNER
from incumbent.manifests.model import Application
from incumbent.manifests.modes import Mode
from incumbent.manifests.objects import waivers
from incumbent.manifests.objects.labels import meta, selector
from incumbent.manifests.objects.pod import VOLUME, template
from incumbent.manifests.objects.storage import claim_template

__all__ = ["owned", "workload"]


_SETTLED_S = 10


def owned(app: Application, more: dict[str, str]) -> dict[str, str]:
    """Return annotations, with whom to ask before it is moved, if somebody is."""
    return {OWNER: app.owner, **more} if app.owner else more


def workload(app: Application) -> Object:
    """Return the Deployment or the StatefulSet."""
    annotations = owned(app, waivers.of_workload(app))
    found: Object = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet" if app.mode is Mode.AT_MOST_ONE else "Deployment",
        "metadata": meta(app, app.name, annotations=annotations),
    }
    spec: Object = {} if app.autoscaling is not None else {"replicas": app.count}
    spec["selector"] = {"matchLabels": selector(app)}
    match app.mode:
        case Mode.AT_LEAST_ONE:
            spec["strategy"] = {"type": "Recreate"}
        case Mode.AT_MOST_ONE:
            spec["serviceName"] = app.name
            spec["podManagementPolicy"] = "Parallel"
            spec["updateStrategy"] = {"type": "RollingUpdate"}
        case Mode.ACTIVE_STANDBY:
            spec["strategy"] = rolling(surge=0, unavailable=1)
            spec["minReadySeconds"] = _SETTLED_S
        case Mode.PARTLY_SINGLETON:
            spec["strategy"] = rolling(surge=1, unavailable=0)
    spec["template"] = template(app)
    if app.mode is Mode.AT_MOST_ONE and app.storage is not None:
        spec["volumeClaimTemplates"] = [claim_template(VOLUME, app.storage)]
    return {**found, "spec": spec}


def rolling(*, surge: int, unavailable: int) -> Object:
    """Return the strategy of a rolling update."""
    return {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable},
    }
