"""The applications that are deployed, one of each mode, as the objects that Kubernetes is given.

| mode | is | who can be two |
| --- | --- | --- |
| at-least-one | a ReplicaSet of one, and a Service | whoever is on the other side of a partition |
| at-most-one | a StatefulSet of one, a headless Service | nobody, until one is deleted by force |
| active-standby | a Deployment of two, each `incumbent run`; a Lease | nobody |
| partly-singleton | a Deployment of two that elects a part of itself; a Lease, a Service | nobody |

The Leases are made here, so that at run time nobody needs the right to make one. All Pods would
rather be on the one node that a round is going to cut, and may be on the other.
"""

from __future__ import annotations

from typing import Any

from tests.cluster.site import HERE, PYTHON, Site

__all__ = ["AT_LEAST", "AT_MOST", "MODES", "PARTLY", "STANDBY", "Object", "application", "objects"]

Object = dict[str, Any]

AT_LEAST = "at-least-one"
AT_MOST = "at-most-one"
STANDBY = "active-standby"
PARTLY = "partly-singleton"
MODES = (AT_LEAST, AT_MOST, STANDBY, PARTLY)
ELECTED = (STANDBY, PARTLY)

_APPLICATIONS = {AT_LEAST: "fetcher", AT_MOST: "my-singleton", STANDBY: "reports", PARTLY: "inbox"}
_WORKLOADS = {AT_LEAST: "ReplicaSet", AT_MOST: "StatefulSet"}
_PORT = 8080


def application(mode: str) -> str:
    """Return the name of the application of a mode."""
    return _APPLICATIONS[mode]


def objects(mode: str, site: Site, *, node: str = "") -> list[Object]:
    """Return the objects of a mode's application, in the order in which they are to be made."""
    found = [_service(mode)]
    if mode in ELECTED:
        found = [*_rights(_APPLICATIONS[mode], site), *found]
    return [*found, _workload(mode, site, node)]


def _workload(mode: str, site: Site, node: str) -> Object:
    name = _APPLICATIONS[mode]
    spec: Object = {
        "replicas": 2 if mode in ELECTED else 1,
        "selector": {"matchLabels": {"app.kubernetes.io/name": name}},
        "template": {
            "metadata": {"labels": {"app.kubernetes.io/name": name}},
            "spec": _pod(mode, site, node),
        },
    }
    if mode == AT_MOST:
        spec["serviceName"] = name
    return {
        "apiVersion": "apps/v1",
        "kind": _WORKLOADS.get(mode, "Deployment"),
        "metadata": {"name": name},
        "spec": spec,
    }


def _pod(mode: str, site: Site, node: str) -> Object:
    name = _APPLICATIONS[mode]
    spec: Object = {
        "terminationGracePeriodSeconds": site.grace_s,
        "enableServiceLinks": False,
        "containers": [
            {
                "name": "main",
                "image": site.image,
                "imagePullPolicy": "Never",
                "command": _command(mode, site),
                "env": _environment(mode, site),
                "ports": [{"containerPort": _PORT}],
                "volumeMounts": [{"name": "marks", "mountPath": str(site.marks_dir)}],
            }
        ],
        "volumes": [{"name": "marks", "hostPath": {"path": str(site.marks_dir)}}],
    }
    if mode == PARTLY:
        # The kernel's timer cannot kill the first process of a namespace, which the library knows.
        spec["shareProcessNamespace"] = True
    if mode in ELECTED:
        spec["serviceAccountName"] = name
        spec["affinity"] = {"podAntiAffinity": _apart(name)}
    else:
        spec["automountServiceAccountToken"] = False
        if node:
            spec["affinity"] = {"nodeAffinity": _rather_on(node)}
    return spec


def _command(mode: str, site: Site) -> list[str]:
    name = _APPLICATIONS[mode]
    path = str(site.marks_of(name))
    if mode == PARTLY:
        return [PYTHON, str(HERE / "poller.py"), path, name]
    command = [PYTHON, "-I", "-S", str(HERE / "marks.py"), path]
    if site.ledger_url:
        command += ["--write", f"{site.ledger_url}/{_door(mode)}/{name}"]
    if mode == STANDBY:
        command = [PYTHON, "-m", "incumbent", "run", name, "--again", "--", *command]
    return command


def _door(mode: str) -> str:
    """An elected application writes under its token; the others have none."""
    return "fenced" if mode in ELECTED else "plain"


def _environment(mode: str, site: Site) -> list[Object]:
    given = dict(site.environment)
    if mode in ELECTED:
        given |= {"INCUMBENT_STORE": site.store, "INCUMBENT_TTL": str(site.ttl_s)}
    fields = {"POD_UID": "metadata.uid", "NODE_NAME": "spec.nodeName"}
    return [
        *({"name": name, "value": value} for name, value in given.items()),
        *(
            {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
            for name, path in fields.items()
        ),
    ]


def _apart(name: str) -> Object:
    term = {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": {"app.kubernetes.io/name": name}},
    }
    return {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 100, "podAffinityTerm": term}
        ]
    }


def _rather_on(node: str) -> Object:
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 100, "preference": {"matchExpressions": [here]}}
        ]
    }


def _service(mode: str) -> Object:
    name = _APPLICATIONS[mode]
    spec: Object = {
        "selector": {"app.kubernetes.io/name": name},
        "ports": [{"port": _PORT}],
    }
    if mode == AT_MOST:
        spec["clusterIP"] = "None"
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def _rights(name: str, site: Site) -> list[Object]:
    """The Lease, and who may renew it: by name; and hear of deaths, if that is asked for."""
    rbac = "rbac.authorization.k8s.io"
    rule = {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": [name],
        "verbs": ["get", "update", "watch"],
    }
    pods = {"apiGroups": [""], "resources": ["pods"], "verbs": ["watch"]}
    metadata = {"name": name}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "Role",
            "metadata": metadata,
            "rules": [rule, *([pods] if "evidence=1" in site.store else [])],
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "default"}],
        },
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {},
        },
    ]
