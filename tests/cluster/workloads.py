"""The applications that are deployed, one of each mode: what `incumbent manifests` makes of them.

| mode | is | who can be two |
| --- | --- | --- |
| at-least-one | a Deployment of one, a Service | whoever is on the other side of a partition |
| at-most-one | a StatefulSet of one, a headless Service | nobody, until one is deleted by force |
| active-standby | a Deployment of two, each `incumbent run`; a Lease | nobody |
| partly-singleton | a Deployment of two that elects a part of itself; a Lease, a Service | nobody |

What the generator does not know is added as a user's own patch would: the folder of marks, the name
of the node, and on which node an only replica begins. Seconds are those of a cluster in haste: a
Pod is moved `toleration_s` after its node is lost, where it would be 30 or 300.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from incumbent.manifests.model import Application
from incumbent.manifests.modes import Mode
from incumbent.manifests.objects import objects_of
from incumbent.manifests.parts import Port
from tests.cluster.site import HERE, PYTHON, Site

__all__ = [
    "AT_LEAST",
    "AT_MOST",
    "MODES",
    "PARTLY",
    "STANDBY",
    "Object",
    "application",
    "objects",
    "patch",
]

Object = dict[str, Any]

AT_LEAST = "at-least-one"
AT_MOST = "at-most-one"
STANDBY = "active-standby"
PARTLY = "partly-singleton"
MODES = (AT_LEAST, AT_MOST, STANDBY, PARTLY)
ELECTED = (STANDBY, PARTLY)

_APPLICATIONS = {AT_LEAST: "fetcher", AT_MOST: "my-singleton", STANDBY: "reports", PARTLY: "inbox"}
_PORT = 8080
_OWNER = "operations@example.test"


def application(mode: str) -> str:
    """Return the name of the application of a mode."""
    return _APPLICATIONS[mode]


def objects(mode: str, site: Site, *, node: str = "") -> list[Object]:
    """Return the objects of a mode's application, in the order in which they are to be made.

    An only replica begins on `node` if that is there; those of which one is elected stand apart.
    """
    found = objects_of(_described(mode, site))
    for thing in found:
        if thing["kind"] in ("Deployment", "StatefulSet"):
            patch(thing["spec"]["template"]["spec"], site, node)
    return found


def _described(mode: str, site: Site) -> Application:
    name = _APPLICATIONS[mode]
    marks = str(site.marks_of(name))
    worker = [PYTHON, "-I", "-S", str(HERE / "marks.py"), marks]
    if site.ledger_url:
        worker += ["--write", f"{site.ledger_url}/{_door(mode)}/{name}"]
    given: dict[str, Any] = {
        "name": name,
        "image": site.image,
        "mode": Mode(mode),
        "pull_policy": "Never",
        "env": site.environment,
        # The image has this machine's interpreter where it is here, and that may be below `/tmp`.
        "writable": (),
        "tolerations_s": site.toleration_s,
    }
    match mode:
        case "active-standby":
            return Application(
                **given, command=tuple(worker), ttl_s=site.ttl_s, evidence=site.evidence
            )
        case "partly-singleton":
            poller = (PYTHON, str(HERE / "poller.py"), marks, name, str(_PORT))
            return Application(**given, command=poller, ttl_s=site.ttl_s, ports=(Port(_PORT),))
        case _:
            return Application(
                **given,
                command=(*worker, "--listen", str(_PORT)),
                grace_s=site.grace_s,
                ports=(Port(_PORT),),
                owner=_OWNER,
            )


def _door(mode: str) -> str:
    """An elected application writes under its token; the others have none."""
    return "fenced" if mode in ELECTED else "plain"


def patch(pod: Object, site: Site, node: str = "", more: Iterable[tuple[str, str]] = ()) -> None:
    """Give a Pod the folder of marks, and variables with fields of its own."""
    (container,) = pod["containers"]
    known = {variable["name"] for variable in container["env"]}
    for name, path in (("POD_UID", "metadata.uid"), ("NODE_NAME", "spec.nodeName"), *more):
        if name not in known:
            container["env"].append({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}})
    mounts, volumes = container.setdefault("volumeMounts", []), pod.setdefault("volumes", [])
    mounts.append({"name": "marks", "mountPath": str(site.marks_dir)})
    volumes.append({"name": "marks", "hostPath": {"path": str(site.marks_dir)}})
    if node:
        pod["affinity"] = {"nodeAffinity": _rather_on(node)}


def _rather_on(node: str) -> Object:
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 100, "preference": {"matchExpressions": [here]}}
        ]
    }
