"""The objects of a running cluster, read with `list` alone.

Through the client of the store `kubernetes://`, which knows kubeconfigs, Pods, credentials.
What every judgement needs (workloads, Pods, Services, budgets, Leases, rights in the namespace) has
to be readable, else the audit ends and names every right that is missing: a budget that we may not
see would look like one that is not there. ConfigMaps, what lies outside of namespaces, and what
others define, is left out if we may not see it; `Seen.unseen` says so, and the rules that need it
are silent.

A cluster may have more Pods than fit into one answer, so each kind is read page by page. All pages
show the version of the first one. Once the server has forgotten that, which is after some minutes,
the pages do not go together any more, and the list is begun again.

ConfigMaps and Secrets hold what is nobody's business: Secrets are never read; of ConfigMaps only
their scripts are looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from incumbent.audit.objects import Manifest, Object
from incumbent.errors import ConfigError, PermissionDenied, StoreUnavailable
from incumbent.stores.kubernetes import rbac
from incumbent.stores.kubernetes.api import Expired, NotFound
from incumbent.stores.kubernetes.client import Client
from incumbent.stores.kubernetes.config import load
from incumbent.stores.kubernetes.resource import CONFIG_MAPS, LEASES, PODS, Resource

__all__ = ["Seen", "read_cluster"]

_LIMIT_S = 30.0
_AT_ONCE = 4
_PAGE_OBJECTS = 500
_BEGINNINGS = 3
_RBAC = "rbac.authorization.k8s.io"
_ADMISSION = "admissionregistration.k8s.io"

NAMESPACED = (
    Resource("apps", "v1", "deployments", "Deployment"),
    Resource("apps", "v1", "statefulsets", "StatefulSet"),
    Resource("apps", "v1", "replicasets", "ReplicaSet"),
    Resource("", "v1", "replicationcontrollers", "ReplicationController"),
    Resource("batch", "v1", "jobs", "Job"),
    Resource("batch", "v1", "cronjobs", "CronJob"),
    PODS,
    Resource("", "v1", "services", "Service"),
    Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim"),
    Resource("", "v1", "resourcequotas", "ResourceQuota"),
    Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
    Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
    Resource(_RBAC, "v1", "roles", "Role"),
    Resource(_RBAC, "v1", "rolebindings", "RoleBinding"),
    LEASES,
)
SCRIPTS = (CONFIG_MAPS,)
CLUSTER_WIDE = (
    Resource("", "v1", "namespaces", "Namespace"),
    Resource("", "v1", "nodes", "Node"),
    Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass"),
    Resource(_RBAC, "v1", "clusterroles", "ClusterRole"),
    Resource(_RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding"),
    Resource(_ADMISSION, "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy"),
    Resource(
        _ADMISSION, "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding"
    ),
    Resource(_ADMISSION, "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration"),
    Resource(_ADMISSION, "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration"),
)
FOREIGN = (
    Resource("keda.sh", "v1alpha1", "scaledobjects", "ScaledObject"),
    Resource("eviction-autoscaler.azure.com", "v1", "evictionautoscalers", "EvictionAutoScaler"),
)
FOREIGN_WIDE = (
    Resource("kyverno.io", "v1", "clusterpolicies", "ClusterPolicy"),
    Resource("remediation.medik8s.io", "v1alpha1", "nodehealthchecks", "NodeHealthCheck"),
)
"""What others define; it is asked for only if the server knows it."""


@dataclass
class Seen:
    """What was read.

    Attributes:
        server: where.
        manifests: the objects.
        read_at: when.
        unseen: the kinds that we may not list.
        notes: the same, for people: which right is missing.
    """

    server: str
    manifests: list[Manifest] = field(default_factory=list)
    read_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    unseen: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


async def read_cluster(*, kubeconfig: str = "", context: str = "", namespace: str = "") -> Seen:
    """Read the objects of one namespace, or of all, and what lies in none.

    Raises:
        ConfigError: no API server is known, or the namespace is not there.
        PermissionDenied: a right is missing; the message has all that are.
        StoreError: the API server cannot be reached.
    """
    connection = load(
        kubeconfig=kubeconfig, context=context, say_by=("--kubeconfig PATH", "--context NAME")
    )
    seen = Seen(connection.server)
    client = Client(connection, namespace)
    try:
        await _check_reached(client)
        await _read(client, seen)
    finally:
        await client.close()
    return seen


async def _read(client: Client, seen: Seen) -> None:
    def placed(resources: Iterable[Resource]) -> list[Resource]:
        return [each if client.namespace else each.everywhere() for each in resources]

    needed, foreign = placed(NAMESPACED), placed(FOREIGN)
    resources = [*needed, *placed(SCRIPTS), *(each.everywhere() for each in CLUSTER_WIDE)]
    turns = asyncio.Semaphore(_AT_ONCE)

    async def listed(resource: Resource, *, ask: bool = False) -> list[Manifest] | PermissionDenied:
        async with turns:
            return await _listed(client.beside(resource), ask=ask)

    found = await asyncio.gather(
        *(listed(each) for each in resources),
        *(listed(each, ask=True) for each in foreign),
        *(listed(each.everywhere(), ask=True) for each in FOREIGN_WIDE),
    )
    denied = []
    every = (*resources, *foreign, *FOREIGN_WIDE)
    for resource, result in zip(every, found, strict=True):
        if isinstance(result, PermissionDenied):
            missing = rbac.rule(("list",), "", resource)
            if resource in needed:
                denied.append((missing, result))
            seen.unseen.add(resource.kind)
            seen.notes.append(f"{resource.plural} may not be listed: {missing}")
        else:
            seen.manifests += result
    if denied:
        rules = "; ".join(missing for missing, _ in denied)
        where = "in all namespaces (or name one: --namespace)"
        where = f"in {client.namespace!r}" if client.namespace else where
        raise PermissionDenied(f"{denied[0][1]}; the rules that are missing {where}: {rules}")
    seen.read_at = datetime.now(UTC)


async def _check_reached(client: Client) -> None:
    """Make sure that there is a server which knows us, and the namespace, if we may see it."""
    async with _in_time(client):
        await client.server_version()
        with contextlib.suppress(PermissionDenied):
            if client.namespace and not await client.namespace_found():
                raise ConfigError(f"there is no namespace {client.namespace!r} on {client.url}")


@contextlib.asynccontextmanager
async def _in_time(client: Client) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(_LIMIT_S):
            yield
    except TimeoutError:
        text = f"the API server {client.url} did not answer within {_LIMIT_S:g} s"
        raise StoreUnavailable(text) from None


async def _listed(client: Client, *, ask: bool) -> list[Manifest] | PermissionDenied:
    resource = client.resource
    try:
        async with _in_time(client):
            if ask and not await client.resource_found():
                return []
        found = await _every(client)
    except PermissionDenied as error:
        return error
    except NotFound:
        return []
    except StoreUnavailable:
        if ask:  # A group whose own server is down must not keep us from the rest.
            return []
        raise
    kind = {"apiVersion": resource.api_version, "kind": resource.kind}
    return [Manifest({**kind, **each}) for each in found]


async def _every(client: Client) -> list[Object]:
    for _ in range(_BEGINNINGS):
        with contextlib.suppress(Expired):
            return [each async for each in _paged(client)]
    raise StoreUnavailable(
        f"the API server {client.url} forgot {_BEGINNINGS} times what it had listed of "
        f"{client.resource.plural} before we had read all of it: audit one namespace (--namespace)"
    )


async def _paged(client: Client) -> AsyncIterator[Object]:
    after = ""
    while True:
        async with _in_time(client):
            found, after = await client.page(_PAGE_OBJECTS, after)
        for each in found.items:
            yield each
        if not after:
            return
