"""A node: containerd, kubelet and kube-proxy in namespaces of their own, to be crashed at will.

Why the settings are as they are:

| setting | why |
| --- | --- |
| `cgroupRoot`, one a node | else each kubelet would take the other's Pods for orphans |
| `failCgroupV1: false`, `cgroupfs` | machines without systemd |
| `restrict_oom_score_adj` | a machine may lack the right to lower the score, and runc would fail |
| `protectKernelDefaults` | see `node_init`: the kubelet is to change nothing of the machine |
| `volumePluginDir` | the default is made below /usr, which is the machine's |
| a kubelet answers everybody | nothing else is on that network |
| node Lease of 4 s, renewed each second | with the defaults, each round would take six minutes |
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.cluster.leftovers import make_groups, remove_groups
from tests.cluster.network import CONTROL, Address, Network, program
from tests.cluster.node_init import READY
from tests.cluster.site import HERE
from tests.processes import children, stat
from tests.servers import build
from tests.servers.process import ChildProcess, ServerError

__all__ = ["CNI_DIR", "Node", "environment"]

CNI_DIR = "usr/lib/cni"
_SOCKET = "run/containerd/containerd.sock"
_LIMIT_S = 180.0
_POLL_S = 0.02


def environment() -> dict[str, str]:
    """Return ours, with the programs that run containers, and their libraries, in front."""
    tools = build.ensure("containers")
    (libraries,) = (path.parent for path in tools.glob("usr/lib/*/libnftables.so.1"))
    paths = f"{tools}/usr/sbin:{tools}/usr/bin:{os.environ['PATH']}:/usr/sbin:/sbin"
    return {**os.environ, "PATH": paths, "LD_LIBRARY_PATH": str(libraries)}


class Node:
    """One node, with its disk below `folder`. `group` is the name of its control group."""

    def __init__(
        self,
        name: str,
        address: Address,
        folder: Path,
        *,
        network: Network,
        others: Sequence[Address],
        group: str,
        kubeconfig: Path,
        image: str,
    ) -> None:
        self.name = name
        self.address = address
        self._folder = folder
        self._network = network
        self._others = others
        self._group = group
        self._kubeconfig = kubeconfig
        self._image = image
        self._environment = environment()
        self._programs: dict[str, ChildProcess] = {}
        self._pid = 0
        self._init = ChildProcess(
            f"{name} init",
            [
                program("unshare"),
                *("--net", "--mount", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc"),
                *(sys.executable, "-I", "-S", str(HERE / "node_init.py"), name, str(folder)),
            ],
            log_path=folder / "init.log",
        )
        self._write_settings()

    def boot(self) -> None:
        """Start the node; it has joined the cluster when the API says that it is Ready."""
        make_groups(self._group)
        ready = self._folder / READY
        ready.unlink(missing_ok=True)
        self._init.spawn()
        self._await(ready.exists, self._init)
        (self._pid,) = children(self._init.pid)
        self._network.plug(self.address, self._pid, self._others)
        self.start_runtime()

    def join(self) -> None:
        """Start what makes it a node of the cluster."""
        self.start_kubelet()
        proxy = str(build.ensure("kube-proxy"))
        self._start("kube-proxy", proxy, f"--config={self._folder / 'kube-proxy.json'}")

    def load(self, archive: Path) -> None:
        """Give an image to containerd."""
        self._ctr("images", "import", str(archive))

    def start_kubelet(self) -> None:
        kubelet = str(build.ensure("kubelet"))
        self._start(
            "kubelet",
            kubelet,
            f"--config={self._folder / 'kubelet.json'}",
            f"--kubeconfig={self._kubeconfig}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.address.node}",
        )

    def kill_kubelet(self) -> None:
        """End the kubelet alone, with SIGKILL; its Pods run on."""
        self._kill("kubelet")

    def start_runtime(self) -> None:
        """Start containerd, and return when it listens."""
        socket = Path("/proc", str(self._pid), "root", _SOCKET)
        socket.unlink(missing_ok=True)
        self._start("containerd", "containerd", "--config", str(self._folder / "containerd.toml"))
        self._await(socket.exists, self._programs["containerd"])

    def kill_runtime(self) -> None:
        """End containerd alone, with SIGKILL; containers and their shims run on."""
        self._kill("containerd")

    def kill_shims(self) -> int:
        """End the parents of all containers, with SIGKILL, and return how many there were."""
        space = os.readlink(f"/proc/{self._pid}/ns/pid")
        found = 0
        for entry in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                mine = entry.isdigit() and os.readlink(f"/proc/{entry}/ns/pid") == space
                if mine and Path("/proc", entry, "comm").read_text().startswith("containerd-shim"):
                    os.kill(int(entry), signal.SIGKILL)
                    found += 1
        return found

    def forget_pod(self, uid: str) -> None:
        """Have the runtime lose a Pod; its processes live on, and nobody is above them.

        The kubelet must be away. Nothing is left by which containerd, when it starts, could find
        and kill them; then its own record of them is deleted, and it starts without.
        """
        found = self._ctr("containers", "list", "-q", f'labels."io.kubernetes.pod.uid"=={uid}')
        ids = found.split()
        self.kill_runtime()
        self.kill_shims()
        for one in ids:
            task = f"/run/containerd/io.containerd.runtime.v2.task/k8s.io/{one}"
            forget = f"umount -l {task}/rootfs; rm -rf {task} /run/containerd/runc/k8s.io/{one}"
            self._call("sh", "-c", forget)
        self.start_runtime()
        self._ctr("containers", "delete", *ids)
        self.kill_runtime()
        self.start_runtime()

    @property
    def pid(self) -> int:
        """A process in the namespaces of the node."""
        return self._pid

    def crash(self) -> None:
        """Take its power away: everything in it ends at once, and its disk stays."""
        pid, started = self._pid, stat(self._pid, 19)
        self._init.kill()
        deadline_s = time.monotonic() + _LIMIT_S
        while pid and stat(pid, 19) == started and stat(pid, 0) != "Z":
            if time.monotonic() > deadline_s:
                raise ServerError(f"{self.name} did not end")
            time.sleep(_POLL_S)  # sleep: the end of a namespace has no event
        for one in self._programs.values():
            one.kill()
        self._programs.clear()
        self._pid = 0
        remove_groups(self._group)

    def log_tail(self, name: str = "kubelet") -> str:
        found = self._programs.get(name)
        return found.log_tail() if found else f"{self.name}: {name} was not started"

    def _ctr(self, *words: str) -> str:
        return self._call("ctr", "--namespace", "k8s.io", *words)

    def _call(self, *words: str) -> str:
        """Run a program in the node to its end, and return what it says."""
        done = subprocess.run(
            self._inside(*words),
            env=self._environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
        )
        if done.returncode != 0:
            raise ServerError(f"{self.name}: {words[0]} has failed: {done.stderr.strip()}")
        return done.stdout

    def _start(self, name: str, *words: str) -> None:
        started = ChildProcess(
            f"{self.name} {name}",
            self._inside(*words),
            log_path=self._folder / f"{name}.log",
            environment=self._environment,
        )
        started.spawn()
        self._programs[name] = started

    def _kill(self, name: str) -> None:
        """End a program by the id that it has outside: the child of the one that went inside."""
        ending = self._programs.pop(name)
        for pid in children(ending.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        ending.wait(_LIMIT_S)

    def _inside(self, *words: str) -> list[str]:
        """Return a command that runs in the node, as a child of the one that went there."""
        enter = ("--net", "--mount", "--pid", "--uts")
        return [program("nsenter"), f"--target={self._pid}", *enter, "--", *words]

    def _await(self, happened: Any, started: ChildProcess) -> None:
        deadline_s = time.monotonic() + _LIMIT_S
        while not happened():
            if not started.running or time.monotonic() > deadline_s:
                raise ServerError(f"{started.name} did not start\n{started.log_tail()}")
            time.sleep(_POLL_S)  # sleep: readiness can only be polled

    def _write_settings(self) -> None:
        for name in ("lib/kubelet", "lib/containerd", "lib/cni", "log/pods", "log/containers"):
            (self._folder / "var" / name).mkdir(parents=True, exist_ok=True)
        (self._folder / "var/tmp").mkdir(exist_ok=True)
        run = self._folder / "var/run"
        if not run.is_symlink():
            run.symlink_to("/run")
        (self._folder / "resolv.conf").write_text(f"nameserver {CONTROL}\n")
        (self._folder / "cni").mkdir(exist_ok=True)
        self._write("cni/10-pods.conflist", _cni(self.address))
        self._write("kubelet.json", self._kubelet())
        self._write("kube-proxy.json", self._kube_proxy())
        (self._folder / "containerd.toml").write_text(
            _containerd(self._image, build.ensure("containers") / CNI_DIR, self._folder / "cni")
        )

    def _write(self, name: str, settings: dict[str, Any]) -> None:
        (self._folder / name).write_text(json.dumps(settings, indent=1))

    def _kubelet(self) -> dict[str, Any]:
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self._group}",
            "clusterDNS": [CONTROL],
            "clusterDomain": "cluster.local",
            "containerRuntimeEndpoint": f"unix:///{_SOCKET}",
            "evictionHard": {
                f"{disk}.{what}": "0%"
                for disk in ("imagefs", "nodefs")
                for what in ("available", "inodesFree")
            },
            "failCgroupV1": False,
            "failSwapOn": False,
            "imageGCHighThresholdPercent": 100,
            "localStorageCapacityIsolation": False,
            "nodeLeaseDurationSeconds": 4,
            "nodeStatusUpdateFrequency": "2s",
            "protectKernelDefaults": True,
            "resolvConf": str(self._folder / "resolv.conf"),
            "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        }

    def _kube_proxy(self) -> dict[str, Any]:
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": str(self._kubeconfig.with_name("kube-proxy"))},
            "clusterCIDR": "10.244.0.0/16",
            "conntrack": {"maxPerCore": 0},
            "hostnameOverride": self.name,
            "mode": "nftables",
        }


def _cni(address: Address) -> dict[str, Any]:
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": address.pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "pods0", "isGateway": True, "ipam": addresses}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]}


def _containerd(image: str, cni_programs: Path, cni_settings: Path) -> str:
    return f"""\
version = 2
disabled_plugins = [
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.internal.v1.opt",
]

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image}"
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{cni_programs}"
conf_dir = "{cni_settings}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"""
