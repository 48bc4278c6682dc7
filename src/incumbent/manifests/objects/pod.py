"""The Pod template: what runs, with which rights, where, and how long it is waited for.

Standbys stand apart
--------------------
- Two replicas of active-standby on one node die together, so they *must not* share one: a replica
  for which there is no node waits, and can be seen to wait. Its rollout then takes one away before
  it adds one (`workload`), or it would wait for itself.
- Replicas that all answer may outnumber the nodes: there the nodes and zones are a preference.
- An only replica has nobody to stand apart from.

The token of the service account is there only where a Lease is written, or Pods are looked at; the
Pod's name and UID are, wherever something is elected: the name alone comes back with the next Pod
of a StatefulSet.

Where the application elects by the library (partly-singleton), the containers share one process
namespace. By itself a container's command is the first process of a namespace of its own; no timer
of the kernel can kill that one, so the library refuses to be it. `incumbent run` can be.
"""

from __future__ import annotations

from typing import Any

from incumbent.manifests import Object
from incumbent.manifests.model import Application
from incumbent.manifests.modes import Mode
from incumbent.manifests.objects.labels import labels, selector
from incumbent.manifests.objects.probes import ALIVE, BEGUN, SOCKET, probes, through_the_wrapper
from incumbent.manifests.parts import ASKED_IN, Companion, Port, Resources

__all__ = ["companion_template", "template"]

HOST = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"
VOLUME = "data"
_WRAPPER = "incumbent"
_LOST = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_COMPANION_GRACE_S = 30


def template(app: Application) -> Object:
    """Return the template of the singleton's Pods."""
    container: Object = {"name": app.name, "image": app.image, "imagePullPolicy": app.pull_policy}
    command = _command(app)
    if command:
        container["command"] = command
    if app.args and app.mode is not Mode.ACTIVE_STANDBY:
        container["args"] = list(app.args)
    if variables := _variables(app):
        container["env"] = variables
    container |= _ports(app.ports)
    container["resources"] = _resources(app.resources)
    container |= _asked(app)
    container["securityContext"] = _confined()
    mounts, volumes = _writable(app.writable)
    if app.mode is Mode.ACTIVE_STANDBY:
        mounts.append({"name": _WRAPPER, "mountPath": ASKED_IN})
        volumes.append({"name": _WRAPPER, "emptyDir": {}})
    if app.storage is not None:
        mounts.append({"name": VOLUME, "mountPath": app.storage.path})
    spec: Object = {
        **_identity(app),
        **({"shareProcessNamespace": True} if app.mode is Mode.PARTLY_SINGLETON else {}),
        "automountServiceAccountToken": app.leased,
        "terminationGracePeriodSeconds": app.times.termination_s,
        **_placement(app),
        "tolerations": [
            {
                "key": key,
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": app.times.toleration_s,
            }
            for key in _LOST
        ],
        **_contents(container, mounts, volumes),
    }
    return {"metadata": {"labels": labels(app)}, "spec": spec}


def companion_template(app: Application, companion: Companion) -> Object:
    """Return the template of the companion's Pods."""
    container: Object = {
        "name": "companion",
        "image": companion.image,
        "imagePullPolicy": app.pull_policy,
    }
    if companion.command:
        container["command"] = list(companion.command)
    if companion.args:
        container["args"] = list(companion.args)
    container |= _ports(companion.ports)
    container["resources"] = _resources(companion.resources)
    container |= probes(
        companion.ports,
        startup=None,
        liveness=companion.liveness,
        readiness=companion.readiness,
    )
    container["securityContext"] = _confined()
    mounts, volumes = _writable(app.writable)
    if companion.storage is not None:
        mounts.append({"name": VOLUME, "mountPath": companion.storage.path})
        source = {"claimName": f"{app.name}-companion"}
        volumes.append({"name": VOLUME, "persistentVolumeClaim": source})
    chosen = selector(app, companion=True)
    spec: Object = {
        **_identity(app),
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": _COMPANION_GRACE_S,
        "affinity": _rather_apart(chosen),
        "topologySpreadConstraints": [_spread(HOST, chosen), _spread(ZONE, chosen)],
        **_contents(container, mounts, volumes),
    }
    return {"metadata": {"labels": labels(app, companion=True)}, "spec": spec}


# -- what runs ------------------------------------------------------------------------------------


def _command(app: Application) -> list[str]:
    if app.mode is not Mode.ACTIVE_STANDBY:
        return list(app.command)
    store = ["--store", app.store_url] if app.store_url else []
    timing = ["--ttl", f"{app.ttl_s:g}", "--grace", f"{app.times.grace_s:.6g}"]
    causes = [*(["eviction"] * app.handover), *(["cordon"] * app.handover_cordon)]
    more = [word for cause in causes for word in ("--hand-over-on", cause)]
    options = [*store, *timing, "--probe", SOCKET, *more]
    return ["incumbent", "run", app.election, *options, "--", *app.command, *app.args]


def _asked(app: Application) -> Object:
    startup, liveness, readiness = app.startup, app.liveness, app.readiness
    ports = app.ports
    if app.mode is Mode.ACTIVE_STANDBY:
        ports = ()  # Only the active one listens, so a connection would say who leads.
        startup = through_the_wrapper(startup or BEGUN)
        liveness = through_the_wrapper(liveness or ALIVE)
        readiness = readiness and through_the_wrapper(readiness)
    return probes(ports, startup=startup, liveness=liveness, readiness=readiness)


def _variables(app: Application) -> list[Object]:
    found: dict[str, Any] = {name: {"value": text} for name, text in app.env.items()}
    if app.mode.elected:
        told = {"POD_NAME": "metadata.name", "POD_UID": "metadata.uid"}
        if app.sliced:
            told |= {"POD_IP": "status.podIP", "NODE_NAME": "spec.nodeName"}
        for name, path in told.items():
            found[name] = {"valueFrom": {"fieldRef": {"fieldPath": path}}}
        if app.store_secret:
            secret, _, key = app.store_secret.partition("/")
            reference = {"secretKeyRef": {"name": secret, "key": key}}
            found["INCUMBENT_STORE"] = {"valueFrom": reference}
        elif app.mode is Mode.PARTLY_SINGLETON:
            found["INCUMBENT_STORE"] = {"value": app.store_url}
        if app.mode is Mode.PARTLY_SINGLETON:
            found["INCUMBENT_TTL"] = {"value": f"{app.ttl_s:g}"}
            found["INCUMBENT_GRACE"] = {"value": f"{app.times.grace_s:.6g}"}
    return [{"name": name, **value} for name, value in found.items()]


def _ports(ports: tuple[Port, ...]) -> Object:
    if not ports:
        return {}
    listed = [
        {"name": port.name, "containerPort": port.number, "protocol": "TCP"} for port in ports
    ]
    return {"ports": listed}


def _resources(resources: Resources) -> Object:
    requests = {"cpu": resources.cpu, "memory": resources.memory}
    return {"requests": requests, "limits": {"memory": resources.memory}}


# -- with which rights ----------------------------------------------------------------------------


def _identity(app: Application) -> Object:
    found: Object = {"serviceAccountName": app.name}
    if app.pull_secrets:
        found["imagePullSecrets"] = [{"name": name} for name in app.pull_secrets]
    if app.priority_class:
        found["priorityClassName"] = app.priority_class
    found["enableServiceLinks"] = False
    found["securityContext"] = {
        "runAsNonRoot": True,
        "runAsUser": app.user,
        "runAsGroup": app.user,
        "fsGroup": app.user,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return found


def _confined() -> Object:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


# -- where ----------------------------------------------------------------------------------------


def _placement(app: Application) -> Object:
    if app.mode.single:
        return {}
    chosen = selector(app)
    if app.mode is Mode.ACTIVE_STANDBY:
        term = {"labelSelector": {"matchLabels": chosen}, "topologyKey": HOST}
        apart: Object = {
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
        }
        return {"affinity": apart, "topologySpreadConstraints": [_spread(ZONE, chosen)]}
    spread = [_spread(HOST, chosen), _spread(ZONE, chosen)]
    return {"affinity": _rather_apart(chosen), "topologySpreadConstraints": spread}


def _rather_apart(chosen: dict[str, str]) -> Object:
    term = {"labelSelector": {"matchLabels": dict(chosen)}, "topologyKey": HOST}
    preferred = [{"weight": 100, "podAffinityTerm": term}]
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}


def _spread(key: str, chosen: dict[str, str]) -> Object:
    return {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": dict(chosen)},
    }


# -- what it may write to -------------------------------------------------------------------------


def _writable(paths: tuple[str, ...]) -> tuple[list[Object], list[Object]]:
    mounts: list[Object] = []
    volumes: list[Object] = []
    for number, path in enumerate(paths):
        name = f"writable-{number}"
        mounts.append({"name": name, "mountPath": path})
        volumes.append({"name": name, "emptyDir": {}})
    return mounts, volumes


def _contents(container: Object, mounts: list[Object], volumes: list[Object]) -> Object:
    if mounts:
        container["volumeMounts"] = mounts
    found: Object = {"containers": [container]}
    return {**found, "volumes": volumes} if volumes else found
