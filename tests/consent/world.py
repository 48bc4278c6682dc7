"""A Pod on a real API server that is the only replica of a StatefulSet, and who evicts it.

No controller and no kubelet runs: Pods are written by hand, say of themselves that they are ready,
and have a grace period of 0, so that an eviction takes them away at once.
"""

from __future__ import annotations

import json
import secrets
import ssl
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from incumbent.audit.objects import Object
from incumbent.manifests import marks
from tests.consent.kit import OWNER
from tests.servers.kubernetes import ApiError, ApiServer
from tests.servers.ports import claim_port
from tests.servers.process import ServerProcess

LIMIT_S = 60.0
MERGE = "application/merge-patch+json"
NODES = "/api/v1/nodes"
_COMMAND = (sys.executable, "-m", "incumbent", "consent-webhook")
HOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


def wait_until(so: Callable[[], Any], what: str) -> Any:
    deadline_s = time.monotonic() + LIMIT_S
    while not (found := so()):
        assert time.monotonic() < deadline_s, f"still not: {what}"
        time.sleep(0.05)  # sleep: what the API server has taken in can only be polled
    return found


@dataclass
class World:
    """One namespace, and a node of its own."""

    server: ApiServer
    namespace: str
    node: str = field(default_factory=lambda: f"node-{secrets.token_hex(3)}")

    def __post_init__(self) -> None:
        self.server.request("POST", NODES, {"metadata": {"name": self.node}})

    def close(self) -> None:
        self.server.request("DELETE", f"{NODES}/{self.node}")

    # -- what there is ----------------------------------------------------------------------------

    def path(self, name: str = "", sub: str = "") -> str:
        parts = (f"/api/v1/namespaces/{self.namespace}/pods", name, sub)
        return "/".join(part for part in parts if part)

    def workload(self, **notes: str) -> Object:
        """Make the StatefulSet, with annotations."""
        labels = {"app": "reports", marks.SINGLETON: "true"}
        template = {"metadata": {"labels": labels}, "spec": _pod_spec("")}
        path = f"/apis/apps/v1/namespaces/{self.namespace}/statefulsets"
        return self.server.request(
            "POST",
            path,
            {
                "metadata": {"name": "reports", "annotations": {marks.OWNER: OWNER, **notes}},
                "spec": {
                    "serviceName": "reports",
                    "selector": {"matchLabels": labels},
                    "template": template,
                },
            },
        )

    def pod(
        self,
        name: str = "reports-0",
        labels: Mapping[str, str] | None = None,
        notes: Mapping[str, str] | None = None,
        owner: Object | None = None,
        replica_set: str = "",
    ) -> Object:
        """Make a Pod that runs and is ready; of the StatefulSet, or of a ReplicaSet."""
        if labels is None:
            labels = {"app": "reports", marks.SINGLETON: "true"}
        metadata: Object = {"name": name, "labels": dict(labels), "annotations": dict(notes or {})}
        reference: Object = {"apiVersion": "apps/v1", "kind": "StatefulSet", "controller": True}
        uid = owner["metadata"]["uid"] if owner else "none"
        above = {**reference, "name": "reports", "uid": uid}
        if replica_set:
            above |= {"kind": "ReplicaSet", "name": replica_set}
        metadata["ownerReferences"] = [above]
        spec = _pod_spec(self.node)
        self.server.request("POST", self.path(), {"metadata": metadata, "spec": spec})
        conditions = [{"type": "Ready", "status": "True"}]
        status = {"phase": "Running", "conditions": conditions}
        return self.patch(name, {"status": status}, "status")

    def budget(self, *, let_go: bool = True) -> None:
        """Make a budget that allows nothing, as its controller would have computed it."""
        path = f"/apis/policy/v1/namespaces/{self.namespace}/poddisruptionbudgets"
        selector: Object = {"matchLabels": {"app": "reports"}}
        if let_go:
            key = {"key": marks.LET_GO, "operator": "DoesNotExist"}
            selector["matchExpressions"] = [key]
        made = self.server.request(
            "POST",
            path,
            {"metadata": {"name": "reports"}, "spec": {"selector": selector, "maxUnavailable": 0}},
        )
        made["status"] = {
            "observedGeneration": made["metadata"]["generation"],
            "disruptionsAllowed": 0,
            "currentHealthy": 1,
            "desiredHealthy": 1,
            "expectedPods": 1,
        }
        self.server.request("PUT", f"{path}/reports/status", made)

    def patch(self, name: str, change: Object, sub: str = "") -> Object:
        return self.server.request("PATCH", self.path(name, sub), change, content_type=MERGE)

    def note(self, **notes: str | None) -> None:
        """Write annotations of `reports-0`, by the names in `marks`."""
        told = {getattr(marks, name): text for name, text in notes.items()}
        self.patch("reports-0", {"metadata": {"annotations": told}})

    def get(self, name: str = "reports-0") -> Object:
        return self.server.request("GET", self.path(name))

    def notes(self, name: str = "reports-0") -> dict[str, str]:
        found: dict[str, str] = self.get(name)["metadata"].get("annotations", {})
        return found

    def labels(self, name: str = "reports-0") -> dict[str, str]:
        found: dict[str, str] = self.get(name)["metadata"].get("labels", {})
        return found

    def gone(self, name: str = "reports-0") -> bool:
        try:
            self.get(name)
        except ApiError as error:
            return error.status == 404
        return False

    def events(self) -> list[Object]:
        path = f"/api/v1/namespaces/{self.namespace}/events"
        found: list[Object] = self.server.request("GET", path)["items"]
        return found

    # -- evictions --------------------------------------------------------------------------------

    def evict(
        self, name: str = "reports-0", version: str = "v1", query: str = "", **options: Any
    ) -> Object:
        """Evict a Pod; return the answer, a Status, whatever it says."""
        eviction: Object = {
            "apiVersion": f"policy/{version}",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": self.namespace},
        }
        if options:
            eviction["deleteOptions"] = options
        context = ssl.create_default_context(cafile=str(self.server.ca_file))
        request = urllib.request.Request(
            f"{self.server.url}{self.path(name, 'eviction')}{query}",
            method="POST",
            data=json.dumps(eviction).encode(),
            headers={
                "Authorization": f"Bearer {self.server.token()}",
                "Content-Type": "application/json",
            },
        )
        handlers = (urllib.request.HTTPSHandler(context=context), _AnyStatus())
        with urllib.request.build_opener(*handlers).open(request, timeout=LIMIT_S) as response:
            answer: Object = json.load(response)
        return answer


class _AnyStatus(urllib.request.HTTPErrorProcessor):
    def https_response(self, request: Any, response: Any) -> Any:
        return response


def _pod_spec(node: str) -> Object:
    return {
        "containers": [{"name": "main", "image": "none"}],
        "terminationGracePeriodSeconds": 0,
        "nodeName": node,
    }


class Webhook(ServerProcess):
    """`incumbent consent-webhook`, on a port of its own; its decisions are in `log_path`."""

    def __init__(
        self,
        folder: Path,
        kubeconfig: Path,
        certificate: Path,
        key: Path,
        *arguments: str,
        name: str = "webhook",
    ) -> None:
        self.port = claim_port()
        super().__init__(
            name,
            [
                *_COMMAND,
                *("--port", str(self.port), "--kubeconfig", str(kubeconfig)),
                *("--tls-cert", str(certificate), "--tls-key", str(key), *arguments),
            ],
            log_path=folder / f"{name}.log",
            ready=self._answers,
        )

    def _answers(self) -> bool:
        # Who it is, the API server asks; here it is enough that it answers.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        url = f"https://localhost:{self.port}/healthz"
        with urllib.request.urlopen(url, timeout=LIMIT_S, context=context) as response:
            return bool(response.status == 200)

    def decisions(self) -> list[Object]:
        """The audit trail so far."""
        lines = self.log_path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]
