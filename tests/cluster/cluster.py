"""A cluster of two nodes, up and down as a whole.

Everything belongs to this process: see `leftovers` for what is bound how, and what the next run
takes away if this one is killed. To be used as a context manager.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.cluster import dns, images, ledger, leftovers
from tests.cluster.api import Api
from tests.cluster.control import ControlPlane
from tests.cluster.inside import inside
from tests.cluster.network import (
    CONTROL,
    LEDGER_PORT,
    Address,
    Network,
    holder,
    in_network,
    program,
)
from tests.cluster.node import Node, environment
from tests.cluster.site import HERE, ROOT, Site
from tests.cluster.stage import ready_nodes
from tests.servers import build
from tests.servers.process import ChildProcess, ServerError

__all__ = ["PROGRAMS", "Cluster", "running"]

PROGRAMS = (
    "containers",
    "coredns",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubelet",
)
NODES = ("node1", "node2")
_LIMIT_S = 180.0
_POLL_S = 0.1


class Cluster:
    """Two nodes and their control plane; `start` returns when both are Ready."""

    def __init__(self, folder: Path, *, evidence: bool = False) -> None:
        self.folder = folder
        self.nodes: dict[str, Node] = {}
        self.site = Site(
            images.REFERENCE,
            folder / "marks",
            ledger_url=f"http://{CONTROL}:{LEDGER_PORT}",
            evidence=evidence,
        )
        self.network: Network
        self.control: ControlPlane
        self.api: Api
        self._holder: ChildProcess | None = None
        self._ledger: ChildProcess | None = None

    def start(self) -> None:
        self.site.make_marks_dir()
        self._holder = holder(self.folder)
        self.network = Network(self._holder.pid, environment())
        addresses = {name: Address(number) for number, name in enumerate(NODES, start=1)}
        self.control = ControlPlane(self.folder / "control", self._holder.pid, list(NODES))
        run = leftovers.name_of_run()
        for name, address in addresses.items():
            self.nodes[name] = Node(
                name,
                address,
                self.folder / name,
                network=self.network,
                others=[other for other in addresses.values() if other != address],
                group=f"{run}/{name}",
                kubeconfig=self.control.path(name),
                image=images.REFERENCE,
            )
        with ThreadPoolExecutor() as pool:
            control = pool.submit(self.control.start)
            archive = pool.submit(images.write, self.folder)
            list(pool.map(lambda node: self._boot(node, archive.result()), self.nodes.values()))
            self.api = control.result()
        self._start_ledger(self._holder.pid)
        for node in self.nodes.values():
            node.join()
        self.await_ready(*self.nodes)

    def stop(self) -> None:
        """End everything at once, and leave nothing behind but the folder."""
        with contextlib.ExitStack() as stack:
            stack.callback(leftovers.remove_groups, leftovers.name_of_run())
            if self._holder is not None:
                stack.callback(self._holder.kill)
            if self._ledger is not None:
                stack.callback(self._ledger.kill)
            if hasattr(self, "api"):
                stack.callback(self.api.close)
            if hasattr(self, "control"):
                stack.callback(self.control.stop)
            for node in self.nodes.values():
                stack.callback(node.crash)

    def await_ready(self, *names: str) -> None:
        """Wait until nodes are Ready."""
        self.await_(lambda: set(names) <= ready_nodes(self.api), f"{', '.join(names)} to be Ready")

    def await_(self, happened: Callable[[], Any], what: str, limit_s: float = _LIMIT_S) -> None:
        deadline_s = time.monotonic() + limit_s
        while not happened():
            self.control.check()
            if time.monotonic() > deadline_s:
                logs = "\n".join(node.log_tail() for node in self.nodes.values())
                raise ServerError(f"waited {limit_s:.0f} s for {what}\n{logs}")
            time.sleep(_POLL_S)  # sleep: the API is asked, and does not call

    @property
    def ledger_file(self) -> Path:
        return self.folder / "ledger.db"

    @property
    def kubeconfig(self) -> Path:
        return self.control.path("outside")

    @property
    def network_pid(self) -> int:
        """The process that holds the control plane's network."""
        if self._holder is None:
            raise ServerError("the cluster has not been started")
        return self._holder.pid

    def check(self) -> None:
        self.control.check()

    def cut(self, node: str) -> None:
        self.network.cut(self.nodes[node].address)

    def cut_api(self, node: str) -> None:
        self.network.cut_api(self.nodes[node].address)

    def heal(self) -> None:
        self.network.heal_api()
        for node in self.nodes.values():
            self.network.heal(node.address)

    def kill_kubelet(self, node: str) -> None:
        self.nodes[node].kill_kubelet()

    def start_kubelet(self, node: str) -> None:
        self.nodes[node].start_kubelet()

    def crash(self, node: str) -> None:
        self.nodes[node].crash()

    def boot(self, node: str) -> None:
        self.nodes[node].boot()
        self.nodes[node].join()

    def address_of(self, name: str) -> str:
        return inside(self.network_pid, lambda: dns.address_of(name))

    def write_late(self, application: str, token: int) -> int:
        url = f"{self.site.ledger_url}/fenced/{application}"
        return inside(self.network_pid, lambda: ledger.write(url, token))

    def _boot(self, node: Node, archive: Path) -> None:
        node.boot()
        node.load(archive)

    def _start_ledger(self, pid: int) -> None:
        words = [sys.executable, str(HERE / "ledger.py"), str(self.ledger_file)]
        self._ledger = ChildProcess(
            "ledger",
            in_network(pid, *words, CONTROL, str(LEDGER_PORT)),
            log_path=self.folder / "ledger.log",
            environment={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        )
        self._ledger.spawn()


def check_machine() -> None:
    """Say what is missing for real nodes, before anything is built."""
    if os.geteuid() != 0:
        raise ServerError("nodes need namespaces and control groups: run it as root")
    if not leftovers.hierarchies():
        raise ServerError(
            "this machine has control groups of version 2 only, and the nodes here are made for"
            " version 1; `--played` shows the same with local processes instead of containers"
        )
    for name in ("ip", "nsenter", "sysctl", "unshare"):
        program(name)
    done = subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise ServerError(f"no network namespace can be made here: {done.stderr.strip()}")


@contextlib.contextmanager
def running(*, keep: bool = False, evidence: bool = False) -> Iterator[Cluster]:
    """Build what is missing, start a cluster, and end it; `keep` leaves its folder.

    `evidence`: standbys believe the kubelet that the active container has ended.
    """
    check_machine()
    leftovers.reap()
    for name in PROGRAMS:
        build.ensure(name)
    folder = leftovers.state_folder()
    cluster = Cluster(folder, evidence=evidence)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
