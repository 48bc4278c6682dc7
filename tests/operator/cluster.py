"""One Singleton on a real API server, and in the test's hands what controllers and nodes would do.

No controller runs there, so nothing happens that the test does not do: Pods come and go when it
says so, and what is deleted in the foreground stays until it lets it go. What they really do is the
matter of another test, with the real ones.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from incumbent.manifests import Object
from incumbent.manifests.marks import KEPT_BY
from incumbent.manifests.model import Application
from incumbent.operator.cluster import Cluster
from incumbent.operator.definition import SINGLETONS
from incumbent.operator.kinds import KINDS, REPLICA_SETS, WORKLOADS
from incumbent.operator.reconciling import Reconciler
from incumbent.operator.steps import Step
from incumbent.stores.kubernetes import config
from incumbent.stores.kubernetes.client import Client
from incumbent.stores.kubernetes.resource import PODS
from tests.operator.kit import singleton
from tests.servers.kubernetes import ApiError, ApiServer

__all__ = ["Stage"]

R = TypeVar("R")


def _fine() -> None:
    return


class Line:
    """One connection for all that a test asks: a handshake costs more than most questions."""

    def __init__(self, server: ApiServer) -> None:
        trust = ssl.create_default_context(cafile=str(server.ca_file))
        self._connection = http.client.HTTPSConnection(server.host, server.port, context=trust)
        self._headers = {"Authorization": f"Bearer {server.token()}"}

    def request(
        self, method: str, path: str, body: Any = None, *, content_type: str = "application/json"
    ) -> Object:
        content = None if body is None else json.dumps(body)
        headers = {**self._headers, "Content-Type": content_type}
        self._connection.request(method, path, content, headers)
        with self._connection.getresponse() as response:
            answer: Object = json.loads(response.read())
            if response.status >= 300:
                raise ApiError(response.status, answer["reason"], answer["message"])
        return answer

    def close(self) -> None:
        self._connection.close()


def _kept(by: Object) -> Object:
    owner = {"apiVersion": "apps/v1", "kind": by["kind"], "controller": True}
    return {**owner, **{name: by["metadata"][name] for name in ("name", "uid")}}


class Stage:
    """A Singleton in a namespace of its own."""

    def __init__(self, server: ApiServer, namespace: str) -> None:
        self.namespace = namespace
        self.server = Line(server)
        self.kubeconfig = str(server.kubeconfig(namespace=namespace))
        self.name = "reports"
        self._known: Reconciler | None = None

    # -- what people do ---------------------------------------------------------------------------

    def apply(self, app: Application) -> None:
        """Make the Singleton, or change its spec."""
        self.name = app.name
        path = SINGLETONS.path(self.namespace)
        wanted = singleton(app, namespace=self.namespace)
        change = [{"op": "replace", "path": "/spec", "value": wanted["spec"]}]
        kind = "application/json-patch+json"
        try:
            # Not by what was read: an operator may write the status in between.
            self.server.request("PATCH", f"{path}/{app.name}", change, content_type=kind)
        except ApiError as error:
            if error.status != 404:
                raise
            self.server.request("POST", path, wanted)

    def change(self, kind: str, name: str, how: Callable[[Object], None], manager: str) -> None:
        """Change an object as somebody else."""
        path = f"{KINDS[kind].path(self.namespace)}/{name}"
        found = self.server.request("GET", path)
        how(found)
        self.server.request("PUT", f"{path}?fieldManager={manager}", found)

    # -- what an operator does --------------------------------------------------------------------

    def operate(
        self,
        token: int | None = None,
        *,
        check: Callable[[], None] = _fine,
        made: Callable[[Client, Callable[[], None]], Cluster] = Cluster,
    ) -> bool | None:
        """Have an operator look after it once; tell whether it wants to come again."""

        async def look(cluster: Cluster) -> bool | None:
            known = self._known or Reconciler(cluster, token, "test")
            known.cluster = cluster
            return await known.reconcile((self.namespace, self.name))

        return self.run(look, check=check, made=made)

    def remember(self, **settings: Any) -> Reconciler:
        """Let it be one operator from now on, and not a new one each time."""

        async def make(cluster: Cluster) -> Reconciler:
            return Reconciler(cluster, None, "test", **settings)

        self._known = self.run(make)
        return self._known

    def run(
        self,
        call: Callable[[Cluster], Awaitable[R]],
        *,
        check: Callable[[], None] = _fine,
        made: Callable[[Client, Callable[[], None]], Cluster] = Cluster,
    ) -> R:
        """Call something with a cluster."""

        async def connected() -> R:
            connection = config.load(kubeconfig=self.kubeconfig)
            client = Client(connection, self.namespace, SINGLETONS)
            try:
                return await call(made(client, check))
            finally:
                await client.close()

        return asyncio.run(connected())

    def carry_out(self, step: Step) -> None:
        """Carry out one step, without looking at anything before."""
        self.run(lambda cluster: cluster.carry_out(step, self.namespace))

    # -- what there is ----------------------------------------------------------------------------

    def get(self, kind: str, name: str = "") -> Object:
        path = KINDS[kind].path(self.namespace)
        return self.server.request("GET", f"{path}/{name or self.name}")

    def names(self, kind: str) -> list[str]:
        items = self.server.request("GET", KINDS[kind].path(self.namespace))["items"]
        return sorted(obj["metadata"]["name"] for obj in items)

    @property
    def status(self) -> Object:
        path = f"{SINGLETONS.path(self.namespace)}/{self.name}"
        found: Object = self.server.request("GET", path).get("status", {})
        return found

    def condition(self, kind: str) -> tuple[str, str]:
        (found,) = [one for one in self.status["conditions"] if one["type"] == kind]
        return found["status"], found["reason"]

    def message(self, kind: str) -> str:
        (found,) = [one for one in self.status["conditions"] if one["type"] == kind]
        text: str = found["message"]
        return text

    def events(self) -> list[tuple[str, str, str]]:
        path = f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events"
        items = self.server.request("GET", path)["items"]
        items.sort(key=lambda event: str(event["eventTime"]))
        return [(event["type"], event["reason"], event["note"]) for event in items]

    # -- what controllers and nodes do ------------------------------------------------------------

    def pods(self) -> list[Object]:
        found: list[Object] = self.server.request("GET", PODS.path(self.namespace))["items"]
        return found

    def start(self, *, ready: bool = True) -> str:
        """Let the workload have one Pod more, as its template says; return the name."""
        (workload,) = self.workloads()
        template = workload["spec"]["template"]
        name = f"{self.name}-{len(self.pods())}"
        by = workload if workload["kind"] == "StatefulSet" else self._set_of(workload)
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**template["metadata"], "name": name, "ownerReferences": [_kept(by)]},
            "spec": {**template["spec"], "nodeName": "some-node", "serviceAccountName": ""},
        }
        path = PODS.path(self.namespace)
        made = self.server.request("POST", path, pod)
        state = "True" if ready else "False"
        made["status"] = {
            "phase": "Running",
            "startTime": "2026-01-01T00:00:00Z",
            "conditions": [{"type": "Ready", "status": state}],
        }
        self.server.request("PUT", f"{path}/{name}/status", made)
        count = len(self.pods())
        self._say(workload, {"replicas": count, "readyReplicas": count, "updatedReplicas": count})
        return name

    def _set_of(self, deployment: Object) -> Object:
        """Return the ReplicaSet of a Deployment, which is made once."""
        uid = deployment["metadata"]["uid"]
        for found in self.sets():
            if [one["uid"] for one in found["metadata"].get("ownerReferences", ())] == [uid]:
                return found
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        metadata = {"name": f"{self.name}-{uid[:8]}", "labels": labels}
        made = {
            "apiVersion": REPLICA_SETS.api_version,
            "kind": REPLICA_SETS.kind,
            "metadata": {**metadata, "ownerReferences": [_kept(deployment)]},
            "spec": {
                name: deployment["spec"][name] for name in ("replicas", "selector", "template")
            },
        }
        return self.server.request("POST", REPLICA_SETS.path(self.namespace), made)

    def sets(self) -> list[Object]:
        found: list[Object] = self.server.request("GET", REPLICA_SETS.path(self.namespace))["items"]
        return [{"kind": REPLICA_SETS.kind, **one} for one in found]

    def change_set(self, how: Callable[[Object], None]) -> None:
        """Change the only ReplicaSet."""
        (found,) = self.sets()
        how(found)
        path = f"{REPLICA_SETS.path(self.namespace)}/{found['metadata']['name']}"
        self.server.request("PUT", path, found)

    def end(self, name: str) -> None:
        """Let a Pod be gone."""
        self.server.request(
            "DELETE", f"{PODS.path(self.namespace)}/{name}", {"gracePeriodSeconds": 0}
        )

    def collect(self) -> None:
        """Let what is being deleted be gone, and the ReplicaSets of Deployments that are."""
        for kind in WORKLOADS:
            path = KINDS[kind].path(self.namespace)
            for obj in self.server.request("GET", path)["items"]:
                if "deletionTimestamp" in obj["metadata"]:
                    where = f"{path}/{obj['metadata']['name']}"
                    body = {"metadata": {"finalizers": None}}
                    kind_of = "application/merge-patch+json"
                    self.server.request("PATCH", where, body, content_type=kind_of)
        there = {obj["metadata"]["uid"] for obj in self.workloads()}
        for one in self.sets():
            if not {owner["uid"] for owner in one["metadata"].get("ownerReferences", ())} & there:
                name = one["metadata"]["name"]
                self.server.request("DELETE", f"{REPLICA_SETS.path(self.namespace)}/{name}")

    def delete(self, kind: str = "", name: str = "") -> None:
        """Delete an object in the background, the workload if none is named."""
        of = KINDS[kind or self.workloads()[0]["kind"]]
        path = f"{of.path(self.namespace)}/{name or self.name}"
        self.server.request("DELETE", path, {"propagationPolicy": "Background"})

    def make_anew(self, app: Application) -> None:
        """Delete the Singleton, and make it once more: what it had made is there for a while."""
        path = f"{SINGLETONS.path(self.namespace)}/{app.name}"
        self.server.request("DELETE", path, {"propagationPolicy": "Background"})
        self.apply(app)

    def collect_former(self) -> None:
        """Let all be gone that a former Singleton has made."""
        path = f"{SINGLETONS.path(self.namespace)}/{self.name}"
        uid = self.server.request("GET", path)["metadata"]["uid"]
        for kind, of in KINDS.items():
            for obj in self.server.request("GET", of.path(self.namespace))["items"]:
                owners = obj["metadata"].get("ownerReferences", ())
                if any(one["kind"] == "Singleton" and one["uid"] != uid for one in owners):
                    self.delete(kind, obj["metadata"]["name"])

    def workloads(self) -> list[Object]:
        """Return every workload that has the name of the Singleton."""
        found: list[Object] = []
        for kind in WORKLOADS:
            items = self.server.request("GET", KINDS[kind].path(self.namespace))["items"]
            named = (obj for obj in items if obj["metadata"]["name"] == self.name)
            found.extend({"kind": kind, **obj} for obj in named)
        return found

    def whole(self) -> dict[str, Any]:
        """Return everything that was made, without what is another one each time."""
        found: dict[str, Any] = {}
        for kind, of in KINDS.items():
            for obj in self.server.request("GET", of.path(self.namespace))["items"]:
                metadata = obj["metadata"]
                kept = {key: metadata.get(key) for key in ("labels", "annotations")}
                fields = [
                    (entry["manager"], entry["operation"], entry["fieldsV1"])
                    for entry in metadata["managedFields"]
                    if not entry.get("subresource")
                ]
                rest = {key: value for key, value in obj.items() if key in ("spec", "rules")}
                found[f"{kind}/{metadata['name']}"] = {**kept, **rest, "fields": fields}
        text = json.dumps(found).replace(self.namespace, "NAMESPACE")
        text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UID", text)
        text = re.sub(r'("incumbent.dev/applied": )"\w+"', r'\1"DIGEST"', text)
        text = re.sub(r'"10\.0\.0\.\d+"', '"ADDRESS"', text)
        whole: dict[str, Any] = json.loads(text)
        return whole

    def kept_by(self) -> set[str]:
        return {pod["metadata"]["annotations"][KEPT_BY] for pod in self.pods()}

    def _say(self, workload: Object, status: dict[str, Any]) -> None:
        path = f"{KINDS[workload['kind']].path(self.namespace)}/{self.name}/status"
        told = {"observedGeneration": workload["metadata"]["generation"], **status}
        self.server.request("PUT", path, {**workload, "status": told})
