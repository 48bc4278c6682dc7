"""A cluster whose nodes are played: a real control plane, and local processes for Pods.

It costs a fifth of the real one, and needs no right: nothing of it leaves the loopback address.
What is real is everything that decides: etcd, API server, controllers, scheduler. What is not:
containers, networks, and the partition, which is between a node and the API server only. So the
ledger is reached from everywhere, and there is no DNS.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.cluster import ledger
from tests.cluster.api import Api
from tests.cluster.causes import NODES
from tests.cluster.control import controller_flags
from tests.cluster.fakenode import FakeNode
from tests.cluster.site import HERE, ROOT, Site
from tests.servers import build
from tests.servers.kubernetes import ApiServer
from tests.servers.ports import claim_port
from tests.servers.process import ChildProcess, ServerError
from tests.servers.proxy import Proxy

__all__ = ["PLAYED_CAUSES", "PROGRAMS", "FakeCluster", "played_cluster"]

PLAYED_CAUSES = ("all", "api", "crash", "force", "kubelet", "taint")
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")

_GRACE_S = 4
_TOLERATION_S = 2
_TTL_S = 6


class FakeCluster:
    """Two played nodes."""

    def __init__(self, folder: Path, server: ApiServer) -> None:
        self.folder = folder
        self.site = Site(
            "played:1",
            folder / "marks",
            self._start_ledger(folder),
            ttl_s=_TTL_S,
            toleration_s=_TOLERATION_S,
        )
        self.site.make_marks_dir()
        self.api = Api(server.url, server.ca_file, server.token())
        self.kubeconfig = server.kubeconfig()
        self._proxies = [Proxy(server.host, server.port) for _ in NODES]
        self.nodes = {
            name: FakeNode(name, self.api, proxy, folder)
            for name, proxy in zip(NODES, self._proxies, strict=True)
        }
        self._controllers = [
            ChildProcess(name, [build.ensure(name), *flags], log_path=folder / f"{name}.log")
            for name, flags in (
                ("kube-controller-manager", controller_flags(_GRACE_S)),
                ("kube-scheduler", ["--leader-elect=false", "--secure-port=0"]),
            )
            for flags in ([f"--kubeconfig={self.kubeconfig}", *flags],)
        ]

    @property
    def ledger_file(self) -> Path:
        return self.folder / "ledger.db"

    def start(self) -> None:
        for program in self._controllers:
            program.spawn()
        for node in self.nodes.values():
            node.start()

    def stop(self) -> None:
        for node in self.nodes.values():
            node.stop()
        for program in (*self._controllers, self._ledger):
            program.kill()
        for proxy in self._proxies:
            proxy.close()
        self.api.close()

    def check(self) -> None:
        for program in (*self._controllers, self._ledger):
            if not program.running:
                raise ServerError(f"{program.name} has ended\n{program.log_tail()}")

    def cut(self, node: str) -> None:
        """A played node has no other link than that to the API server."""
        self.cut_api(node)

    def cut_api(self, node: str) -> None:
        self.nodes[node].cut()

    def heal(self) -> None:
        for node in self.nodes.values():
            node.heal()

    def kill_kubelet(self, node: str) -> None:
        self.nodes[node].kill_kubelet()

    def start_kubelet(self, node: str) -> None:
        self.nodes[node].start_kubelet()

    def crash(self, node: str) -> None:
        self.nodes[node].crash()

    def boot(self, node: str) -> None:
        self.nodes[node].start_kubelet()

    def address_of(self, name: str) -> str:
        """There is no DNS here."""
        return ""

    def write_late(self, application: str, token: int) -> int:
        return ledger.write(f"{self.site.ledger_url}/fenced/{application}", token)

    def _start_ledger(self, folder: Path) -> str:
        port = claim_port()
        self._ledger = ChildProcess(
            "ledger",
            [sys.executable, HERE / "ledger.py", folder / "ledger.db", "127.0.0.1", str(port)],
            log_path=folder / "ledger.log",
            environment={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        )
        self._ledger.spawn()
        return f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def played_cluster() -> Iterator[FakeCluster]:
    """Start a cluster, and end it."""
    with tempfile.TemporaryDirectory(prefix="incumbent-played-") as temporary:
        folder = Path(temporary)
        with ApiServer(folder / "api-server") as server:
            cluster = FakeCluster(folder, server)
            try:
                cluster.start()
                yield cluster
            finally:
                cluster.stop()
