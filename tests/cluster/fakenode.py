"""A node that is played: a kubelet in Python that runs a real local process for each bound Pod.

It does what the control plane can see: it registers the Node, renews its Lease, says that it is
Ready and that its Pods run, ends a Pod with SIGTERM, its grace and SIGKILL, and confirms the end by
deleting the object. A container's command is run as it is, with its environment; there is no image,
no namespace and no volume, so what a Pod mounts must be mounted under the path that it has here.
Only a folder that is the Pod's own (emptyDir) is made, and named in the command in place of its
path.

It and its Pods reach the API server through one proxy. To cut that is to partition the node: the
kubelet goes on with what it knew, and so do the processes, which is the whole point.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.cluster.api import Api
from tests.cluster.control import kubeconfig
from tests.cluster.site import LAUNCHER
from tests.servers.kubernetes import ApiError
from tests.servers.process import ChildProcess, ServerError
from tests.servers.proxy import Proxy

__all__ = ["FakeNode"]

_BEAT_S = 1.0
_SYNC_S = 0.25
_LIMIT_S = 2.0
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


class FakeNode:
    """One node; `outside` is a client of the API server that no cut of this node concerns."""

    def __init__(self, name: str, outside: Api, proxy: Proxy, folder: Path) -> None:
        self.name = name
        self._outside = outside
        self._proxy = proxy
        self._url = f"https://{proxy.address}"
        self._api = Api(self._url, outside.ca_file, outside.token, limit_s=_LIMIT_S)
        self._folder = folder
        self._running: dict[str, ChildProcess] = {}
        self._ending: dict[str, float] = {}
        self._kubelet = threading.Event()
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(work, every_s), daemon=True)
            for work, every_s in ((self._beat, _BEAT_S), (self._sync, _SYNC_S))
        ]

    def start(self) -> None:
        folder = self._folder / self.name
        folder.mkdir(parents=True)
        (folder / "incumbent").write_text(LAUNCHER, encoding="utf-8")
        (folder / "incumbent").chmod(0o755)
        self._kubelet.set()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        self._kubelet.set()
        for thread in self._threads:
            thread.join()
        self._api.close()
        self._kill_all()

    def cut(self) -> None:
        """Let nothing pass between this node, or its Pods, and the API server."""
        self._proxy.cut()

    def heal(self) -> None:
        self._proxy.heal()

    def kill_kubelet(self) -> None:
        self._kubelet.clear()

    def start_kubelet(self) -> None:
        self._kubelet.set()

    def crash(self) -> None:
        """End the kubelet and every process at once."""
        self._kubelet.clear()
        self._kill_all()

    def _kill_all(self) -> None:
        for process in list(self._running.values()):
            process.kill()

    def _repeat(self, work: Any, every_s: float) -> None:
        while not self._over.is_set():
            self._kubelet.wait()
            with contextlib.suppress(OSError, ApiError, ServerError):
                work()
            self._over.wait(every_s)

    def _beat(self) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        lease = {"spec": {"holderIdentity": self.name, "renewTime": now}}
        try:
            self._api.patch(f"{_LEASES}/{self.name}", lease)
        except ApiError as error:
            if error.status != 404:
                raise
            self._register()
            lease["spec"]["leaseDurationSeconds"] = 4  # type: ignore[assignment]
            self._api.request("POST", _LEASES, {"metadata": {"name": self.name}, **lease})
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "Played",
            "lastHeartbeatTime": now[:19] + "Z",
        }
        room = {"cpu": "8", "memory": "8Gi", "pods": "20"}
        status = {"conditions": [ready], "capacity": room, "allocatable": room}
        self._api.patch(f"/api/v1/nodes/{self.name}/status", {"status": status})

    def _register(self) -> None:
        labels = {"kubernetes.io/hostname": self.name}
        with contextlib.suppress(ApiError):
            node = {"metadata": {"name": self.name, "labels": labels}}
            self._api.request("POST", "/api/v1/nodes", node)

    def _sync(self) -> None:
        pods = self._api.items(f"/api/v1/pods?fieldSelector=spec.nodeName%3D{self.name}")
        for uid in self._running.keys() - {pod["metadata"]["uid"] for pod in pods}:
            self._end(uid, 0)
        for pod in pods:
            uid = pod["metadata"]["uid"]
            deleted = "deletionTimestamp" in pod["metadata"]
            if deleted and self._end(uid, pod["metadata"].get("deletionGracePeriodSeconds", 0)):
                self._confirm(pod)
            elif not deleted:
                self._run(pod)

    def _run(self, pod: dict[str, Any]) -> None:
        uid = pod["metadata"]["uid"]
        process = self._running.get(uid)
        if process is not None and process.running:
            if not _is_ready(pod):
                self._say_ready(pod)
            return
        if process is None:
            (container,) = pod["spec"]["containers"]
            path = f"{self._folder / self.name}:{os.defpath}"
            program, *arguments = self._placed(container["command"], pod)
            process = ChildProcess(
                pod["metadata"]["name"],
                [shutil.which(program, path=path) or program, *arguments],
                log_path=self._folder / self.name / f"{uid}.log",
                environment={"PATH": path, **dict(_values(container, pod)), **self._rights(pod)},
            )
            self._running[uid] = process
        process.spawn()
        self._say_ready(pod)

    def _placed(self, words: list[str], pod: dict[str, Any]) -> list[str]:
        own = {volume["name"] for volume in pod["spec"].get("volumes", ()) if "emptyDir" in volume}
        for mount in pod["spec"]["containers"][0].get("volumeMounts", ()):
            if mount["name"] in own:
                folder = self._folder / self.name / f"{pod['metadata']['uid']}-{mount['name']}"
                folder.mkdir()
                words = [word.replace(mount["mountPath"], str(folder)) for word in words]
        return words

    def _say_ready(self, pod: dict[str, Any]) -> None:
        ready = {"type": "Ready", "status": "True"}
        status = {"phase": "Running", "conditions": [ready], "podIP": "127.0.0.1"}
        self._api.patch(f"{_path(pod)}/status", {"status": status})

    def _end(self, uid: str, grace_s: float) -> bool:
        """Ask a process to end, then make it; return whether there is none any more."""
        process = self._running.get(uid)
        if process is None or not process.running:
            self._running.pop(uid, None)
            self._ending.pop(uid, None)
            return True
        if uid not in self._ending:
            self._ending[uid] = time.monotonic() + grace_s
            process.terminate()
        if time.monotonic() >= self._ending[uid]:
            process.kill()
        return False

    def _confirm(self, pod: dict[str, Any]) -> None:
        """Say that a Pod has ended: of this uid alone, the name may be another's by now."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": pod["metadata"]["uid"]},
        }
        self._api.request("DELETE", _path(pod), options)

    def _rights(self, pod: dict[str, Any]) -> dict[str, str]:
        """What a Pod of a service account is given: its token, at the node's way to the server."""
        account = pod["spec"].get("serviceAccountName", "default")
        if account == "default" or not pod["spec"].get("automountServiceAccountToken", True):
            return {}
        path = f"/api/v1/namespaces/default/serviceaccounts/{account}/token"
        answer = self._api.request("POST", path, {"spec": {"expirationSeconds": 3600}})
        file = self._folder / self.name / f"{pod['metadata']['uid']}.kubeconfig"
        kubeconfig(file, self._url, self._outside.ca_file, answer["status"]["token"])
        return {"KUBECONFIG": str(file)}


def _is_ready(pod: Mapping[str, Any]) -> bool:
    return any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in pod["status"].get("conditions", ())
    )


def _path(pod: Mapping[str, Any]) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def _values(container: Mapping[str, Any], pod: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for variable in container.get("env", ()):
        if "value" in variable:
            yield variable["name"], variable["value"]
            continue
        value: Any = pod
        for part in variable["valueFrom"]["fieldRef"]["fieldPath"].split("."):
            value = value[part]
        yield variable["name"], str(value)
