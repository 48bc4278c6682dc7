"""The twin of kubelets, beside that of the API server: what they report of containers that end.

A host is a Pod, and the processes that follow one another on it are the instances of its container.
`incumbent.stores.kubernetes.deaths` runs unchanged above it. What a kubelet reports is one more
object that is watched over a network which delays, stalls and breaks.

What it says may come late, after the next instance has begun; it may say that it does not know,
of an instance that lives as well; and often it says nothing.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from incumbent.stores.api import Store
from incumbent.stores.kubernetes.api import Kind
from incumbent.stores.kubernetes.deaths import Deaths
from incumbent.stores.kubernetes.store import KubernetesStore
from incumbent.stores.kubernetes.wire import Object
from incumbent.testing.simulator.judge import Judge
from incumbent.testing.simulator.kubernetes import ApiServer, KubernetesBench, TwinApi
from incumbent.testing.simulator.network import Network
from incumbent.testing.simulator.process import Process

__all__ = ["KubernetesDeathsBench"]

_RUNNING: Object = {"running": {}}


class _Lines:
    """The termination log of one instance."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def append(self, line: str) -> None:
        """Add a line."""
        self.lines.append(line)

    def obstacle(self) -> str:
        """Have none."""
        return ""


class _Pods(ApiServer):
    """Pods at revisions."""

    def report(self, name: str, uid: str, state: Object, last: Object) -> None:
        """Write the status of the one container of a Pod."""
        known = name in self.leases
        container = {"name": "main", "state": state, "lastState": last}
        pod: dict[str, Any] = {
            "metadata": {"name": name, "uid": uid},
            "spec": {"containers": [{"name": "main", "terminationMessagePolicy": "File"}]},
            "status": {"containerStatuses": [container]},
        }
        self._write(Kind.MODIFIED if known else Kind.ADDED, pod)


_LOST = (("ContainerStatusUnknown", 137), ("Error", 255), ("Unknown", 255), ("Error", -1))
"""What is said of a container that is lost: by the kubelet, and by the runtime."""


class KubernetesDeathsBench(KubernetesBench):
    """What a history needs of Kubernetes, with evidence of death."""

    def __init__(self, judge: Judge, network: Network) -> None:
        super().__init__(judge, network)
        self.pods = _Pods()
        network.on_restart.append(self.pods.break_streams)
        self._logs: dict[str, _Lines] = {}
        self._latest: dict[str, Process] = {}

    async def store(self, process: Process) -> Store:
        """Return the production store; its process is the next instance in the Pod of its host."""
        name = process.host.name
        if process.identity.count("_") < 2:
            process.identity = process.identity.replace("_", f"_{_uid(name)}_", 1)
        log = self._logs[process.label] = _Lines()
        before, self._latest[name] = self._latest.get(name), process
        over = {} if before is None or before.alive else self._said(before)
        self._report(name, _RUNNING, over)
        if process.world.rng.random() < 0.3:
            after_s = process.host.timing.ttl_s * process.world.rng.random()
            process.world.after(after_s, self._lose, process)
        store = await super().store(process)
        assert isinstance(store, KubernetesStore)
        pods = TwinApi(self.pods, process)
        store.equip(None, Deaths(pods, log), pods)
        return store

    def forget(self, process: Process) -> None:
        """End the watches of a process that is gone."""
        super().forget(process)
        for stream in list(self.pods.streams):
            if stream.of(process):
                stream.close()

    def prove_dead(self, process: Process) -> None:
        """Have the kubelet report the end of an instance, which may be the one before."""
        name = process.host.name
        latest = self._latest[name]
        if latest is process:
            self._report(name, self._said(process), {})
        else:
            self._report(name, _RUNNING if latest.alive else {}, self._said(process))

    def _lose(self, process: Process) -> None:
        """Have a container lost that runs, and its log reported all the same, in turns."""
        if process.alive and self._latest[process.host.name] is process:
            reason, code = _LOST[len(self._logs) % len(_LOST)]
            self._report(process.host.name, self._said(process, reason, code), {})

    def _said(self, process: Process, reason: str = "Error", code: int = 137) -> Object:
        message = "\n".join(self._logs[process.label].lines)
        return {"terminated": {"exitCode": code, "reason": reason, "message": message}}

    def _report(self, name: str, state: Object, last: Object) -> None:
        self.pods.report(name, _uid(name), state, last)


def _uid(name: str) -> str:
    return str(UUID(bytes=name.encode().rjust(16, b"0")[-16:]))
