"""Where the guard is tried: a real API server, guards in force on it, and workloads to knock at.

Whether policies are in force can only be asked of a request: the API server takes them in once a
second. Asking one of them would not do, since that may be the one that a planted mistake disarms.
So a sentinel is made after them and asked: it is in force only when policies and bindings that were
made before are known, as each kind comes to the API server in the order in which it was written.

There are a thousand requests, and a connection costs more than a request: they share one.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from incumbent.manifests import Object
from incumbent.manifests.marks import SINGLETON
from tests.servers.kubernetes import ApiError, ApiServer

LIMIT_S = 60.0
PAUSE_S = 0.05

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
GROUP = "guard.test"
RESOURCES = {
    "Deployment": ("apps/v1", "deployments"),
    "StatefulSet": ("apps/v1", "statefulsets"),
    "ReplicaSet": ("apps/v1", "replicasets"),
    "DaemonSet": ("apps/v1", "daemonsets"),
    "ReplicationController": ("v1", "replicationcontrollers"),
    "Thing": (f"{GROUP}/v1", "things"),
    "Pod": ("v1", "pods"),
}

MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"

KUBELET = ("system:node:n1", "system:nodes")
POD_GC = ("system:serviceaccount:kube-system:pod-garbage-collector",)
DEPLOYMENTS = ("system:serviceaccount:kube-system:deployment-controller",)
HPA = ("system:serviceaccount:kube-system:horizontal-pod-autoscaler",)
FENCER = ("system:serviceaccount:default:fencer",)


def wait_until(so: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + LIMIT_S
    while not so():
        assert time.monotonic() < deadline_s, f"still not: {what}"
        time.sleep(PAUSE_S)  # sleep: what the API server has taken in can only be polled


class Client:
    """One connection of an administrator, who may also send what others would."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self._context = ssl.create_default_context(cafile=str(server.ca_file))
        self._connection = self._another()
        self._authorization = f"Bearer {server.token()}"

    def close(self) -> None:
        self._connection.close()

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        content_type: str = "application/json",
        who: tuple[str, ...] = (),
    ) -> Object:
        """Send a request, from the user and of the group in `who`; raise `ApiError` if refused."""
        headers = {"Authorization": self._authorization, "Content-Type": content_type}
        headers |= zip(("Impersonate-User", "Impersonate-Group"), who, strict=False)
        text = None if body is None else json.dumps(body)
        self._connection.request(method, path, text, headers)
        response = self._connection.getresponse()
        said = response.read().decode()
        if response.status >= 400:
            # A path that is not served is answered with plain text.
            status = json.loads(said) if said.startswith("{") else {"message": said}
            raise ApiError(response.status, status.get("reason", ""), status["message"])
        answer: Object = json.loads(said)
        return answer

    def watched(self, path: str, so: Callable[[Object], bool], *, since: str = "") -> Object:
        """Return the first object of the collection that is so, now or later.

        With `since`, a version, what was before it does not count, and nothing after it is missed.
        """
        with contextlib.closing(self._another()) as connection:
            joint = "&" if "?" in path else "?"
            query = f"{joint}watch=1&timeoutSeconds={LIMIT_S:.0f}&resourceVersion={since}"
            headers = {"Authorization": self._authorization}
            connection.request("GET", path + query, headers=headers)
            with connection.getresponse() as response:
                for line in response:
                    found: Object = json.loads(line)["object"]
                    if so(found):
                        return found
        raise AssertionError(f"nothing of {path} came to be so")

    def _another(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            self._server.host, self._server.port, timeout=2 * LIMIT_S, context=self._context
        )

    def may(self, method: str, path: str, body: Any = None) -> bool:
        try:
            self.send(method, path, body)
        except ApiError:
            return False
        return True


def define_things(client: Client) -> None:
    """Define a custom resource with a scale subresource, as operators have them."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    scale = {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}, "scale": scale},
    }
    definition = {
        "metadata": {"name": f"things.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
            "versions": [version],
        },
    }
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    if client.may("GET", f"{definitions}/things.{GROUP}"):
        return
    client.send("POST", definitions, definition)
    listed = f"/apis/{GROUP}/v1/namespaces/default/things"
    wait_until(lambda: client.may("GET", listed), "Things are known")


@dataclass
class Installed:
    """Policies and bindings on the server, with the sentinel behind them."""

    client: Client
    objects: list[Object]
    sentinel: str = field(default_factory=lambda: f"sentinel-{secrets.token_hex(4)}")

    def install(self) -> None:
        """Return when all of them are in force."""
        for made in self._all():
            self.client.send("POST", _collection(made), made)
        wait_until(lambda: not self._passes(), "the policies are in force")

    def remove(self) -> None:
        """Return when none is in force any more."""
        for made in self._all():
            self.client.send("DELETE", f"{_collection(made)}/{made['metadata']['name']}")
        wait_until(self._passes, "the policies are gone")

    def _all(self) -> Iterable[Object]:
        return (*self.objects, *_sentinel(self.sentinel))

    def _passes(self) -> bool:
        probe = {"metadata": {"name": self.sentinel}}
        return self.client.may("POST", f"{CONFIGMAPS}?dryRun=All", probe)


def _collection(made: Object) -> str:
    plural = {
        "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
        "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
    }
    return f"{ADMISSION}/{plural[made['kind']]}"


def _sentinel(name: str) -> list[Object]:
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["configmaps"],
    }
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rule]},
        "matchConditions": [{"name": "probe", "expression": f"object.metadata.name == '{name}'"}],
        "validations": [{"expression": "false", "message": "in force"}],
    }
    binding = {"policyName": name, "validationActions": ["Deny"]}
    return [
        {"kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": spec},
        {"kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name}, "spec": binding},
    ]


@dataclass
class Scene:
    """One test's own name in a namespace, and whether what it makes is marked."""

    client: Client
    namespace: str
    marked: bool = True
    name: str = field(default_factory=lambda: f"x-{secrets.token_hex(3)}")

    @property
    def labels(self) -> dict[str, str]:
        return {"app": self.name} | ({SINGLETON: "true"} if self.marked else {})

    # -- requests ---------------------------------------------------------------------------------

    def path(self, kind: str, name: str | None = None, sub: str = "") -> str:
        version, plural = RESOURCES[kind]
        root = f"/api/{version}" if version == "v1" else f"/apis/{version}"
        parts = [f"{root}/namespaces/{self.namespace}/{plural}", name or self.name, sub]
        return "/".join(part for part in parts if part)

    def create(self, made: Object, who: tuple[str, ...] = ()) -> Object:
        path = self.path(made["kind"]).rpartition("/")[0]
        return self.client.send("POST", path, made, who=who)

    def get(self, kind: str, sub: str = "") -> Object:
        return self.client.send("GET", self.path(kind, sub=sub))

    def patch(self, kind: str, change: Object, sub: str = "", who: tuple[str, ...] = ()) -> Object:
        return self.client.send("PATCH", self.path(kind, sub=sub), change, MERGE, who)

    # -- what there is to knock at ----------------------------------------------------------------

    def workload(self, kind: str, labels: dict[str, str] | None = None, **spec: Any) -> Object:
        """A workload of one, as the guard wants it, but for what `spec` says."""
        labels = self.labels if labels is None else labels
        own: Object = {"replicas": 1, "selector": {"matchLabels": labels}}
        if kind == "Deployment":
            own["strategy"] = {"type": "Recreate"}
        elif kind == "StatefulSet":
            own["serviceName"] = self.name
        elif kind == "ReplicationController":
            own["selector"] = labels
        elif kind == "DaemonSet":
            del own["replicas"]
        template = {"metadata": {"labels": labels}, "spec": _pod_spec()}
        return {
            "apiVersion": RESOURCES[kind][0],
            "kind": kind,
            "metadata": {"name": self.name, "labels": {"app": self.name}},
            "spec": {**own, "template": template, **spec},
        }

    def make(self, kind: str, labels: dict[str, str] | None = None, **spec: Any) -> None:
        made = self.create(self.workload(kind, labels, **spec))
        if kind == "Thing":
            selector = ",".join(f"{key}={value}" for key, value in self.labels.items())
            self.patch(kind, {"status": {"replicas": 1, "selector": selector}}, "status")
        assert made["metadata"]["name"] == self.name

    def pod(self, *, owned: bool = True, node: str = "n1", **spec: Any) -> Object:
        metadata: Object = {"name": self.name, "labels": self.labels}
        if owned:
            owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "controller": True}
            metadata["ownerReferences"] = [{**owner, "name": self.name, "uid": self.name}]
        body = {**_pod_spec(), **({"nodeName": node} if node else {}), **spec}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": body}

    # -- what has become of it --------------------------------------------------------------------

    def replicas(self, kind: str) -> int:
        return int(self.get(kind)["spec"].get("replicas", 0))

    def exists(self, kind: str = "Pod") -> bool:
        return self.client.may("GET", self.path(kind))

    def is_ending(self) -> bool:
        return "deletionTimestamp" in self.get("Pod")["metadata"]


def _pod_spec() -> Object:
    return {"containers": [{"name": "main", "image": "none"}]}
