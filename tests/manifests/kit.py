"""Applications to make manifests of: each mode in its plainest form, and with all that it can have.

`python -m tests.manifests.kit` writes the golden files and the tables of the documentation anew;
what has changed is for review.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from incumbent.manifests import Object
from incumbent.manifests.model import Application
from incumbent.manifests.modes import Mode
from incumbent.manifests.parts import Autoscaling, Companion, Port, Probe, Resources, Storage
from incumbent.manifests.render.table import COLUMNS, rows
from incumbent.manifests.render.yaml import plain
from tests.servers.kubernetes import ApiServer

GOLDEN = Path(__file__).parent / "golden"
DOCUMENT = Path(__file__).parents[2] / "docs" / "manifests.md"
IMAGE = "registry.example/reports:1.4"

_ADMISSION = "/apis/admissionregistration.k8s.io/v1"
_PATHS = {
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
    "Lease": "/apis/coordination.k8s.io/v1/namespaces/{}/leases",
    "PersistentVolumeClaim": "/api/v1/namespaces/{}/persistentvolumeclaims",
    "Service": "/api/v1/namespaces/{}/services",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets",
    "HorizontalPodAutoscaler": "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "Pod": "/api/v1/namespaces/{}/pods",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "ValidatingAdmissionPolicy": f"{_ADMISSION}/validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": f"{_ADMISSION}/validatingadmissionpolicybindings",
}

OWNER = "reports@example.com"
PLAIN: dict[Mode, Application] = {
    Mode.AT_LEAST_ONE: Application(
        name="reports", image=IMAGE, mode=Mode.AT_LEAST_ONE, owner=OWNER, ports=(Port(8080),)
    ),
    Mode.AT_MOST_ONE: Application(name="reports", image=IMAGE, mode=Mode.AT_MOST_ONE, owner=OWNER),
    Mode.ACTIVE_STANDBY: Application(
        name="reports", image=IMAGE, mode=Mode.ACTIVE_STANDBY, command=("python", "-m", "reports")
    ),
    Mode.PARTLY_SINGLETON: Application(
        name="reports", image=IMAGE, mode=Mode.PARTLY_SINGLETON, ports=(Port(8080),)
    ),
}

_COMPANION = Companion(
    image="registry.example/web:2@sha256:" + "ab" * 32,
    ports=(Port(8000), Port(9000, "metrics")),
    command=("serve",),
    args=("--all",),
    autoscaling=Autoscaling(2, 9),
    storage=Storage("5Gi", "/pages", "shared"),
    liveness=Probe("/live"),
    readiness=Probe("/ready"),
)
_MORE: dict[str, Any] = {
    "namespace": "finance",
    "args": ("--text", "{{ braces }} 'on' $(POD_NAME)\nand lines"),
    "env": {"MODE": "on", "EMPTY": "", "NUMBER": "1"},
    "grace_s": 2.5,
    "resources": Resources("1", "1Gi"),
    "priority_class": "important",
    "tolerations_s": 7,
    "owner": 'Ann "the owner" <ann@example.com>',
    "liveness": Probe(command=("test", "-e", "/tmp/alive"), period_s=20, timeout_s=5),
    "readiness": Probe(command=("true",)),
    "companion": _COMPANION,
    "pull_policy": "Always",
    "pull_secrets": ("registry",),
    "writable": ("/tmp", "/var/cache/app"),
    "user": 20000,
}
FULL: dict[Mode, Application] = {
    Mode.AT_LEAST_ONE: replace(PLAIN[Mode.AT_LEAST_ONE], **_MORE),
    Mode.AT_MOST_ONE: replace(
        PLAIN[Mode.AT_MOST_ONE], **_MORE, ports=(Port(7000),), storage=Storage("1Gi", "/d", "fast")
    ),
    Mode.ACTIVE_STANDBY: replace(
        PLAIN[Mode.ACTIVE_STANDBY], **_MORE, ttl_s=20.0, replicas=3, lease="nightly.reports"
    ),
    Mode.PARTLY_SINGLETON: replace(
        PLAIN[Mode.PARTLY_SINGLETON], **_MORE, ttl_s=20.0, autoscaling=Autoscaling(3, 12)
    ),
}
_ELSEWHERE = {
    "elsewhere": replace(PLAIN[Mode.ACTIVE_STANDBY], store="etcd://etcd-0.etcd,etcd-1.etcd/team"),
    "guarded": replace(PLAIN[Mode.AT_MOST_ONE], guard=True),
    "secret": replace(PLAIN[Mode.PARTLY_SINGLETON], store_secret="stores/redis"),
}
_CALLED: dict[str, Any] = {"ports": (Port(8080),), "evidence": True}
ROUTED = {
    "label": replace(PLAIN[Mode.ACTIVE_STANDBY], routing="label", **_CALLED),
    "label-partly": replace(PLAIN[Mode.PARTLY_SINGLETON], routing="label"),
    "endpointslice": replace(PLAIN[Mode.ACTIVE_STANDBY], routing="endpointslice", **_CALLED),
    "evidence": replace(PLAIN[Mode.ACTIVE_STANDBY], evidence=True),
}
_HANDOVER = {
    "handover": replace(PLAIN[Mode.ACTIVE_STANDBY], handover=True),
    "handover-cordon": replace(PLAIN[Mode.ACTIVE_STANDBY], handover=True, handover_cordon=True),
}
_EVERY = ("incumbent", "every", "5m", "reports", "--", "./report.sh")
WORKING = {
    "every": replace(PLAIN[Mode.PARTLY_SINGLETON], ports=(), command=_EVERY),
    "noting": replace(PLAIN[Mode.PARTLY_SINGLETON], checkpoints=("consumer", "job.tidy")),
}
EVERY: dict[str, Application] = {
    **{f"plain-{mode}": app for mode, app in PLAIN.items()},
    **{f"full-{mode}": app for mode, app in FULL.items()},
    **_ELSEWHERE,
    **ROUTED,
    **_HANDOVER,
    **WORKING,
}


def create(
    server: ApiServer, namespace: str, obj: Object, *, user: str = "admin", dry_run: bool = False
) -> Object:
    """Create an object; a field that the API server does not know is an error."""
    query = "?fieldValidation=Strict" + "&dryRun=All" * dry_run
    return server.request("POST", _PATHS[obj["kind"]].format(namespace) + query, obj, user=user)


def path_of(obj: Object, namespace: str) -> str:
    return f"{_PATHS[obj['kind']].format(namespace)}/{obj['metadata']['name']}"


def by_name(objects: list[Object]) -> dict[tuple[str, str], Object]:
    """Return objects by kind and name, each of which there must be once."""
    found = {(obj["kind"], obj["metadata"]["name"]): obj for obj in objects}
    assert len(found) == len(objects)
    return found


def table(mode: Mode) -> str:
    """Return the table of a mode as it stands in `docs/manifests.md`."""
    cells = [COLUMNS, ("---",) * len(COLUMNS), *rows(PLAIN[mode])]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def write_golden() -> None:
    """Write what is printed of each application, and the tables in the documentation."""
    text = DOCUMENT.read_text(encoding="utf-8")
    for mode in Mode:
        before, begin, rest = text.partition(f"<!-- table: {mode} -->\n")
        text = before + begin + table(mode) + rest[rest.index("<!-- end -->") :]
    DOCUMENT.write_text(text, encoding="utf-8")
    for name, app in EVERY.items():
        (GOLDEN / f"{name}.yaml").write_text(plain(app), encoding="utf-8")


if __name__ == "__main__":
    write_golden()
