"""Services: how the active one, or any replica, is found.

- at-most-one has a headless Service called like the StatefulSet: `NAME.NAMESPACE.svc…` is the Pod's
  own address, and nothing stands between. Not before it is ready: an answer of a Pod that cannot
  answer helps nobody.
- at-least-one and partly-singleton have an ordinary one, if they listen: an address that stays.
- active-standby has one where `routing` says how the active one is found, for standbys do not
  listen: by the label that the holder's Pod carries, or by the EndpointSlice that is the lock
  itself, and then it has no selector, so that Kubernetes makes no slices of its own.
- partly-singleton has a second one, `NAME-active`, with `routing: label`.
"""

from __future__ import annotations

from incumbent.manifests import Object
from incumbent.manifests.marks import ROLE
from incumbent.manifests.model import Application
from incumbent.manifests.modes import Mode
from incumbent.manifests.objects.labels import meta, selector
from incumbent.manifests.parts import Port
from incumbent.stores.kubernetes.label import ACTIVE

__all__ = ["companion_service", "services"]


def services(app: Application) -> list[Object]:
    """Return the Services of the singleton."""
    headless = app.mode is Mode.AT_MOST_ONE
    if not headless and not app.ports:
        return []
    chosen: dict[str, str] | None = selector(app)
    active = {**selector(app), ROLE: ACTIVE}
    if app.mode is Mode.ACTIVE_STANDBY:
        chosen = None if app.sliced else active
    found = [_service(meta(app, app.name), app.ports, chosen, headless=headless)]
    if app.mode is Mode.PARTLY_SINGLETON and app.routing == "label":
        name = f"{app.name}-active"
        found.append(_service(meta(app, name), app.ports, active, headless=False))
    return found


def companion_service(app: Application, ports: tuple[Port, ...]) -> Object:
    """Return the Service of the companion."""
    metadata = meta(app, f"{app.name}-companion", companion=True)
    return _service(metadata, ports, selector(app, companion=True), headless=False)


def _service(
    metadata: Object, ports: tuple[Port, ...], chosen: dict[str, str] | None, *, headless: bool
) -> Object:
    spec: Object = {"clusterIP": "None"} if headless else {"type": "ClusterIP"}
    if chosen is not None:
        spec["selector"] = chosen
    if ports:
        spec["ports"] = [
            {
                "name": port.name,
                "port": port.number,
                # Without a selector there is no Pod whose port has that name.
                "targetPort": port.number if chosen is None else port.name,
                "protocol": "TCP",
            }
            for port in ports
        ]
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
