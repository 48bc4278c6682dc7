"""The objects of an application, in the order in which they are applied.

One module for each question: `workload` which controller and how a new version comes, `pod` what
runs and where, `probes` when it counts as well, `election` the lock and the right to it, `service`
how it is found, `guard` what nobody may do to it, `budget` what a drain may do, `scaling` and
`companion` what may be many, `storage` what one Pod alone mounts, `handover` who may look at Pods,
`checkpoints` what the work may note, `roles` how a right is given, `waivers` what other auditors
are told.
"""

from __future__ import annotations

from incumbent.manifests import Object
from incumbent.manifests.model import Application
from incumbent.manifests.objects.budget import budget
from incumbent.manifests.objects.checkpoints import checkpoint_rights
from incumbent.manifests.objects.companion import companion_objects
from incumbent.manifests.objects.election import lock, rights, service_account
from incumbent.manifests.objects.guard import guards
from incumbent.manifests.objects.handover import handover_rights
from incumbent.manifests.objects.scaling import autoscaler
from incumbent.manifests.objects.service import services
from incumbent.manifests.objects.workload import workload

__all__ = ["objects_of"]


def objects_of(app: Application) -> list[Object]:
    """Return everything that the application needs in its namespace.

    The guard comes first, so that it judges already how the workload is made. What a Pod needs
    comes before it, the lock and the right to it above all; what limits it afterwards.
    """
    found = [*guards(app), service_account(app)]
    if app.leased:
        found += [*rights(app), lock(app), *checkpoint_rights(app)]
    if app.handover:
        found += handover_rights(app)
    found += services(app)
    found.append(workload(app))
    if app.autoscaling is not None:
        found.append(autoscaler(app, app.name, app.autoscaling))
    found.append(budget(app))
    return [*found, *companion_objects(app)]
