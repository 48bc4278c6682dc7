"""What brings the operator to a cluster: definition, rights, and two replicas of which one works.

It is an application of this project like any other: active and standby, with a Lease of its own and
the right to that one by name. What is different is that it elects by the library, in the process
itself, so that each write can ask the term first; so its containers share a process namespace, in
which it is not the first process, and its command is not wrapped by `incumbent run`. It answers
the kubelet's questions itself, at the socket at which a wrapper would.

The rights
----------
What it makes it may create, change and delete, in all namespaces or in one. Locks and volumes it
may only create. It may not read Secrets, run anything in a Pod, delete a Pod, or change the spec of
a Singleton.

Some rights it has in order to give them: `update` on Leases and EndpointSlices, `get` and `patch`
on Pods. Nobody may write a Role that allows more than he may do himself; the Pods of an election
must be able to update their lock, and those that are labelled or that hand over, to do so to
Pods. Who may make Deployments gains nothing by it.

One it has for admission: where the API server enforces permissions of owner references, only who
may update `singletons/finalizers` may say that a Singleton's deletion waits for what it has made.
"""

from __future__ import annotations

from incumbent.manifests import Object
from incumbent.manifests.marks import WAIVE
from incumbent.manifests.model import Application
from incumbent.manifests.modes import Mode
from incumbent.manifests.objects import objects_of
from incumbent.manifests.objects.labels import meta
from incumbent.manifests.objects.probes import SOCKET
from incumbent.manifests.parts import Resources
from incumbent.operator.cluster import EVENTS
from incumbent.operator.definition import SINGLETONS, definition
from incumbent.operator.kinds import KEPT, KINDS, REPLICA_SETS
from incumbent.stores.kubernetes.resource import ENDPOINT_SLICES, LEASES, PODS, Resource

__all__ = ["NAME", "installation", "rules"]

NAME = "incumbent-operator"
_RBAC = "rbac.authorization.k8s.io"
_WAIVED = "it gives Pods the right to their Lease, and nobody gives a right that he has not"
_READ = ("get", "list", "watch")


def installation(image: str, namespace: str, only: str = "") -> list[Object]:
    """Return everything, in the order in which it is applied.

    Args:
        image: has `incumbent[operator]` in it.
        namespace: where the operator runs; it must be there.
        only: the one namespace that it looks after; "" for all.

    Raises:
        ConfigError: one of them cannot be.
    """
    limited = ("--only", only) if only else ()
    app = Application(
        name=NAME,
        image=image,
        mode=Mode.ACTIVE_STANDBY,
        namespace=namespace,
        command=("incumbent", "operator", "--probe", SOCKET, *limited),
        resources=Resources("100m", "128Mi"),
    )
    objects = objects_of(app)
    (workload,) = [obj for obj in objects if obj["kind"] == "Deployment"]
    spec = workload["spec"]["template"]["spec"]
    spec["shareProcessNamespace"] = True
    spec["containers"][0]["command"] = list(app.command)
    return [definition(), *_rights(app, only), *objects]


def rules() -> list[Object]:
    """Return the rules of the operator, beside those of its own Lease."""
    return [
        _rule(SINGLETONS, *_READ),
        _rule(SINGLETONS, "update", sub="status"),
        _rule(SINGLETONS, "update", sub="finalizers"),
        *(_rule(of, *_changes(kind)) for kind, of in KINDS.items() if kind not in KEPT),
        *(_rule(KINDS[kind], *_READ, "create") for kind in KEPT),
        *(_rule(of, "update") for of in (LEASES, ENDPOINT_SLICES)),
        _rule(PODS, "get", "list", "watch", "patch"),
        _rule(REPLICA_SETS, "list"),
        _rule(EVENTS, "create"),
    ]


def _changes(kind: str) -> tuple[str, ...]:
    """A Singleton has its ServiceAccount in every mode, so that is deleted with it, by nobody."""
    made = (*_READ, "create", "patch")
    return made if kind == "ServiceAccount" else (*made, "delete")


def _rule(of: Resource, *verbs: str, sub: str = "") -> Object:
    resource = f"{of.plural}/{sub}" if sub else of.plural
    return {"apiGroups": [of.group], "resources": [resource], "verbs": list(verbs)}


def _rights(app: Application, only: str) -> list[Object]:
    kind = "Role" if only else "ClusterRole"
    metadata = meta(app, NAME, annotations={f"{WAIVE}INC065": _WAIVED})
    metadata = {**metadata, "namespace": only} if only else _everywhere(metadata)
    subject = {"kind": "ServiceAccount", "name": NAME, "namespace": app.namespace}
    return [
        {"apiVersion": f"{_RBAC}/v1", "kind": kind, "metadata": metadata, "rules": rules()},
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": f"{kind}Binding",
            "metadata": metadata,
            "roleRef": {"apiGroup": _RBAC, "kind": kind, "name": NAME},
            "subjects": [subject],
        },
    ]


def _everywhere(metadata: Object) -> Object:
    return {key: value for key, value in metadata.items() if key != "namespace"}
