"""Services: how the active one, or any replica, is found.

- at-most-one has a headless Service called like the StatefulSet: `NAME.NAMESPACE.svc…` is the Pod's
  own address, and nothing stands between. Not before it is ready: an answer of a Pod that cannot
  answer helps nobody.
- at-least-one and partly-singleton have an ordinary one, if they listen: an address that stays.
- active-standby has none: standbys do not listen, and nothing here labels the active one.
"""

from __future__ import annotations

from incumbent.manifests import Object
from incumbent.manifests.model import Application
from incumbent.manifests.modes import Mode
from incumbent.manifests.objects.labels import meta, selector
from incumbent.manifests.parts import Port

__all__ = ["companion_service", "service"]


def service(app: Application) -> Object | None:
    """Return the Service of the singleton, if it has one."""
    headless = app.mode is Mode.AT_MOST_ONE
    if not headless and not app.ports:
        return None
    return _service(meta(app, app.name), app.ports, selector(app), headless=headless)


def companion_service(app: Application, ports: tuple[Port, ...]) -> Object:
    """Return the Service of the companion."""
    metadata = meta(app, f"{app.name}-companion", companion=True)
    return _service(metadata, ports, selector(app, companion=True), headless=False)


def _service(
    metadata: Object, ports: tuple[Port, ...], chosen: dict[str, str], *, headless: bool
) -> Object:
    spec: Object = {"clusterIP": "None"} if headless else {"type": "ClusterIP"}
    spec["selector"] = chosen
    if ports:
        spec["ports"] = [
            {"name": port.name, "port": port.number, "targetPort": port.name, "protocol": "TCP"}
            for port in ports
        ]
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
