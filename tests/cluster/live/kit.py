"""Elected Deployments on a real cluster, of ours and of client-go, and who is active in them."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster import reader, stage
from tests.cluster.api import path_of
from tests.cluster.cluster import NODES, Cluster
from tests.cluster.control import kubeconfig
from tests.cluster.network import API_PORT, CONTROL
from tests.cluster.observer import now_ns
from tests.cluster.reader import Span
from tests.cluster.site import HERE, PYTHON
from tests.servers import build
from tests.servers.kubernetes import ApiError
from tests.servers.process import ServerError

__all__ = [
    "PORT",
    "App",
    "await_",
    "clientgo",
    "first_process",
    "ours",
    "percentile",
    "seconds",
]

PORT = 8080
_S = 1_000_000_000
_LIMIT_S = 240.0
_POLL_S = 0.05
_FRESH_NS = _S
_RBAC = "rbac.authorization.k8s.io"

Object = dict[str, Any]


@dataclass
class App:
    """One elected Deployment.

    Attributes:
        cluster: where.
        name: of the Deployment, of the election, and of the file of its marks.
        objects: in the order in which they are to be made.
        spans: reads who was active from when to when.
        standby: what a replica logs when it waits, in any of these words.
    """

    cluster: Cluster
    name: str
    objects: list[Object]
    spans: Callable[[], list[Span]]
    standby: tuple[str, ...]
    replicas: int = 2

    def make(self) -> None:
        for thing in self.objects:
            self.cluster.api.create(thing)

    def remove(self) -> None:
        for thing in reversed(self.objects):
            path = path_of(thing, name=thing["metadata"]["name"])
            try:
                self.cluster.api.request("DELETE", f"{path}?propagationPolicy=Background")
            except ApiError as error:
                if error.status != 404:
                    raise
        await_(self.cluster, lambda: not self.pods(), f"{self.name} to be gone")
        self.marks.unlink(missing_ok=True)

    @property
    def marks(self) -> Path:
        return self.cluster.site.marks_of(self.name)

    def pods(self) -> list[Object]:
        path = path_of({"apiVersion": "v1", "kind": "Pod"})
        return self.cluster.api.items(
            f"{path}?labelSelector=app.kubernetes.io%2Fname%3D{self.name}"
        )

    def active(self) -> list[Span]:
        """Return who has been active in the last second."""
        oldest_ns = now_ns() - _FRESH_NS
        return [span for span in self.spans() if span.last_ns >= oldest_ns]

    def await_whole(self) -> Span:
        """Wait until all replicas are there, one is active and the others wait for their turn."""

        def whole() -> bool:
            pods = [pod for pod in self.pods() if "deletionTimestamp" not in pod["metadata"]]
            if len(pods) != len(self.pods()) or len(pods) != self.replicas:
                return False
            return len(self.active()) == 1 and all(map(self._contends, pods))

        await_(self.cluster, whole, f"{self.name} to be whole")
        (found,) = self.active()
        return found

    def _contends(self, pod: Object) -> bool:
        path = path_of({"apiVersion": "v1", "kind": "Pod"}, name=pod["metadata"]["name"])
        try:
            answer = self.cluster.api.get(f"{path}/log")
        except ApiError:
            return False
        return any(word in str(answer.get("message", answer)) for word in self.standby)

    def await_follower(self, before: Span) -> Span:
        """Wait until another is active under a later token, and return its time."""

        def followed() -> list[Span]:
            return [span for span in self.spans() if span.token > before.token]

        await_(self.cluster, followed, f"somebody to follow in {self.name}")
        return followed()[0]

    def delete_pod(self, uid: str) -> None:
        """Delete a Pod by its UID, and wait until it is gone."""
        for pod in self.pods():
            if pod["metadata"]["uid"] == uid:
                path = path_of({"apiVersion": "v1", "kind": "Pod"}, name=pod["metadata"]["name"])
                self.cluster.api.request("DELETE", path)
        await_(
            self.cluster,
            lambda: uid not in {pod["metadata"]["uid"] for pod in self.pods()},
            "a Pod to be gone",
        )


def ours(
    cluster: Cluster,
    name: str,
    *,
    store: str = "kubernetes://",
    ttl_s: int = 15,
    replicas: int = 2,
    command: Sequence[str] = (),
    lock: Object | None = None,
    more: Iterable[Object] = (),
) -> App:
    """Return a Deployment of `incumbent run`, whose command marks while it works.

    Args:
        cluster: where.
        name: what it is called.
        store: the URL.
        ttl_s: of the election.
        replicas: how many.
        command: what is run when elected.
        lock: the object that is the lock, a Lease if None.
        more: further objects, made before the Deployment.
    """
    path = str(cluster.site.marks_of(name))
    words = list(command) or [PYTHON, "-I", "-S", str(HERE / "marks.py"), path]
    run = [PYTHON, "-m", "incumbent", "run", name, "--again", "--", *words]
    variables = {
        **cluster.site.environment,
        "INCUMBENT_STORE": store,
        "INCUMBENT_TTL": str(ttl_s),
    }
    lock = lock or {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name},
        "spec": {},
    }
    objects = [
        *_rights(name, lock),
        lock,
        *more,
        _deployment(cluster, name, replicas, run, variables, account=name),
    ]
    return App(
        cluster,
        name,
        objects,
        lambda: reader.spans(reader.read(cluster.site.marks_of(name))),
        ("standby", "elected"),
        replicas,
    )


def clientgo(cluster: Cluster, name: str, *, replicas: int = 2) -> App:
    """Return a Deployment of client-go's own election with its own times, releasing on cancel."""
    place = cluster.site.marks_dir
    program = place / "clientgo-candidate"
    if not program.exists():
        shutil.copy(build.ensure("clientgo-candidate"), program)
        authority = place / "ca.crt"
        shutil.copy(cluster.api.ca_file, authority)
        token, url = cluster.api.token, f"https://{CONTROL}:{API_PORT}"
        kubeconfig(place / "kubeconfig", url, authority, token)
    path = cluster.site.marks_of(name)
    # A container that is restarted must not be taken for itself: as is the custom, it is random.
    unique = 'read id </proc/sys/kernel/random/uuid; exec "$@" --id="${POD_NAME}_${POD_UID}_$id"'
    words = [
        *("/bin/sh", "-c", unique, "sh"),
        str(program),
        f"--kubeconfig={place / 'kubeconfig'}",
        f"--name={name}",
        "--release-on-cancel=true",
        f"--marks={path}",
    ]
    objects = [_deployment(cluster, name, replicas, words, {}, account="")]
    return App(cluster, name, objects, lambda: _theirs(path), ("ready",), replicas)


def _theirs(path: Path) -> list[Span]:
    """Return who of client-go's was active: lines of a count of terms, an instant and a pid.

    Whose Pod it was is not in them; the Lease names it.
    """
    found: dict[int, list[int]] = {}
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        words = line.split()
        if len(words) == 3:
            found.setdefault(int(words[0]), []).append(int(words[1]))
    spans = [Span("", "", 0, term, min(at), max(at)) for term, at in found.items()]
    return sorted(spans, key=lambda span: span.first_ns)


def _rights(name: str, lock: Object) -> list[Object]:
    group = lock["apiVersion"].rpartition("/")[0]
    rules = [
        {
            "apiGroups": [group],
            "resources": [f"{lock['kind'].lower()}s"],
            "resourceNames": [name],
            "verbs": ["get", "update", "watch"],
        },
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["watch", "patch"]},
    ]
    metadata = {"name": name}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": "default"}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
        {"apiVersion": f"{_RBAC}/v1", "kind": "Role", "metadata": metadata, "rules": rules},
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": name},
            "subjects": [subject],
        },
    ]


def _deployment(
    cluster: Cluster,
    name: str,
    replicas: int,
    command: list[str],
    variables: dict[str, str],
    *,
    account: str,
) -> Object:
    labels = {"app.kubernetes.io/name": name}
    fields = {
        "POD_NAME": "metadata.name",
        "POD_UID": "metadata.uid",
        "POD_NAMESPACE": "metadata.namespace",
        "POD_IP": "status.podIP",
        "NODE_NAME": "spec.nodeName",
    }
    told = [{"name": n, "valueFrom": {"fieldRef": {"fieldPath": p}}} for n, p in fields.items()]
    told += [{"name": n, "value": v} for n, v in variables.items()]
    place = str(cluster.site.marks_dir)
    apart = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}}
    pod: Object = {
        "terminationGracePeriodSeconds": 10,
        "enableServiceLinks": False,
        "containers": [
            {
                "name": "main",
                "image": cluster.site.image,
                "imagePullPolicy": "Never",
                "command": command,
                "env": told,
                "ports": [{"containerPort": PORT}],
                "volumeMounts": [{"name": "marks", "mountPath": place}],
            }
        ],
        "volumes": [{"name": "marks", "hostPath": {"path": place}}],
        "affinity": {"podAntiAffinity": _apart(apart, must=replicas == len(NODES))},
    }
    if account:
        pod["serviceAccountName"] = account
    else:
        pod["automountServiceAccountToken"] = False
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def _apart(term: Object, *, must: bool) -> Object:
    """Keep replicas apart. A drain would take both, and there would be nobody to follow."""
    if must:
        return {"requiredDuringSchedulingIgnoredDuringExecution": [term]}
    rather = [{"weight": 100, "podAffinityTerm": term}]
    return {"preferredDuringSchedulingIgnoredDuringExecution": rather}


def first_process(uid: str) -> int:
    """Return the id of the first process of a Pod's container, as this machine knows it."""
    wanted = f"POD_UID={uid}".encode()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            told = Path("/proc", entry, "environ").read_bytes().split(b"\0")
            status = Path("/proc", entry, "status").read_text()
        except OSError:
            continue
        ids = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
        if wanted in told and ids[-1] == "1" and len(ids) > 3:
            return int(entry)
    raise ServerError(f"no process of the Pod {uid}")


def await_(
    cluster: Cluster, happened: Callable[[], Any], what: str, limit_s: float = _LIMIT_S
) -> None:
    """Wait until something is so, and look often."""
    stage.await_(cluster, happened, what, limit_s, _POLL_S)


def seconds(later_ns: int, earlier_ns: int) -> float:
    return (later_ns - earlier_ns) / _S


def percentile(values: Sequence[float], share: float) -> float:
    """Return the least value that at least this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]
