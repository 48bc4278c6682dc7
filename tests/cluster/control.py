"""The control plane of a cluster: etcd, API server, controllers, scheduler, DNS, in its network.

Rights are real: a kubelet is a node of its own name (`system:node:NAME`) under the authorizer for
nodes, each controller its own service account, and Pods have what a Role gives them. Who is who is
said by static tokens instead of client certificates, and the API server certifies itself.

| setting | default | here |
| --- | --- | --- |
| a node is Unknown after (`--node-monitor-grace-period`) | 50 s | 8 s |
| Pods of a node that is not there are evicted after (`tolerationSeconds`) | 300 s | 5 s |

So the second Pod is there about 15 s after a cut, and not after six minutes.
"""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path
from typing import Any

from tests.cluster.api import Api
from tests.cluster.inside import Relay
from tests.cluster.network import API_PORT, CONTROL, in_network
from tests.servers import build
from tests.servers.kubernetes import new_private_key
from tests.servers.process import ChildProcess, ServerError

__all__ = ["DOMAIN", "GRACE_S", "TOLERATION_S", "ControlPlane", "controller_flags", "kubeconfig"]

DOMAIN = "cluster.local"
GRACE_S = 8
TOLERATION_S = 5

ADMIN = "admin"
_LIMIT_S = 180.0
_POLL_S = 0.05
_SERVICES = "10.96.0.0/24"

_COREFILE = f"""\
.:53 {{
    bind {CONTROL}
    errors
    kubernetes {DOMAIN} {{
        kubeconfig KUBECONFIG
        ttl 0
    }}
}}
"""


def kubeconfig(path: Path, url: str, ca_file: Path, token: str) -> Path:
    """Write a kubeconfig."""
    settings = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "test", "cluster": {"server": url, "certificate-authority": str(ca_file)}}
        ],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [
            {"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "default"}}
        ],
        "current-context": "test",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(settings), encoding="utf-8")
    return path


def controller_flags(grace_s: int) -> list[str]:
    """What makes the controllers as quick as the tests want them."""
    return [
        f"--node-monitor-grace-period={grace_s}s",
        "--node-monitor-period=1s",
        "--leader-elect=false",
        "--secure-port=0",
        "--use-service-account-credentials",
    ]


class ControlPlane:
    """What arbitrates; `pid` holds its network, `nodes` are the names of the nodes to come."""

    def __init__(self, folder: Path, pid: int, nodes: list[str]) -> None:
        self._folder = folder
        self._pid = pid
        self._tokens = {name: secrets.token_hex(16) for name in (ADMIN, *nodes)}
        self._nodes = nodes
        self._programs: list[ChildProcess] = []
        self._relay: Relay | None = None
        folder.mkdir(parents=True)

    @property
    def ca_file(self) -> Path:
        """The certificate that the API server has made for itself, and its authority's."""
        return self._folder / "certificates" / "apiserver.crt"

    def start(self) -> Api:
        """Start it, and return a client of its administrator."""
        key = self._folder / "service-account.key"
        key.touch(mode=0o600)
        key.write_text(new_private_key(), encoding="ascii")
        self._start("etcd", *self._etcd())
        self._start("kube-apiserver", *self._apiserver(key))
        self._await(self.ca_file.exists)
        self._relay = Relay(self._pid, CONTROL, API_PORT)
        # The certificate that it makes for itself names its address inside, and this.
        outside = f"https://localhost:{self._relay.port}"
        api = Api(outside, self.ca_file, self._tokens[ADMIN])
        self._await(lambda: api.get("/readyz") is not None, "/readyz")
        self.kubeconfig("outside", ADMIN, outside)
        chief = self.kubeconfig("inside", ADMIN)
        self.kubeconfig("kube-proxy", ADMIN)
        for node in self._nodes:
            self.kubeconfig(node, node)
        self._start(
            "kube-controller-manager",
            f"--kubeconfig={chief}",
            f"--service-account-private-key-file={key}",
            f"--root-ca-file={self.ca_file}",
            *controller_flags(GRACE_S),
        )
        self._start(
            "kube-scheduler", f"--kubeconfig={chief}", "--leader-elect=false", "--secure-port=0"
        )
        corefile = self._folder / "Corefile"
        corefile.write_text(_COREFILE.replace("KUBECONFIG", str(chief)), encoding="utf-8")
        self._start("coredns", f"-conf={corefile}")
        return api

    def kubeconfig(self, name: str, user: str, url: str = f"https://{CONTROL}:{API_PORT}") -> Path:
        path = self._folder / name
        return kubeconfig(path, url, self.ca_file, self._tokens[user])

    def path(self, name: str) -> Path:
        """Return the kubeconfig of this name."""
        return self._folder / name

    def check(self) -> None:
        """Raise if one of its programs has ended."""
        for program in self._programs:
            if not program.running:
                raise ServerError(f"{program.name} has ended\n{program.log_tail()}")

    def stop(self) -> None:
        """End all of it at once: its data are temporary."""
        if self._relay is not None:
            self._relay.close()
            self._relay = None
        for program in reversed(self._programs):
            program.kill()

    def _start(self, name: str, *flags: str) -> None:
        program = ChildProcess(
            name,
            in_network(self._pid, build.ensure(name), *flags),
            log_path=self._folder / f"{name}.log",
        )
        self._programs.append(program)
        program.spawn()

    def _await(self, happened: Any, what: str = "the API server") -> None:
        deadline_s = time.monotonic() + _LIMIT_S
        while True:
            self.check()
            try:
                if happened():
                    return
                reason = "nothing yet"
            except (OSError, RuntimeError) as error:
                reason = str(error)
            if time.monotonic() > deadline_s:
                raise ServerError(f"{what} is not ready: {reason}")
            time.sleep(_POLL_S)  # sleep: readiness can only be polled

    def _etcd(self) -> list[str]:
        return [
            f"--data-dir={self._folder / 'etcd'}",
            "--heartbeat-interval=20",
            "--election-timeout=100",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def _apiserver(self, key: Path) -> list[str]:
        tokens = self._folder / "tokens.csv"
        tokens.touch(mode=0o600)
        tokens.write_text("".join(map(self._line, self._tokens)), encoding="utf-8")
        return [
            "--etcd-servers=http://127.0.0.1:2379",
            f"--secure-port={API_PORT}",
            f"--advertise-address={CONTROL}",
            f"--cert-dir={self._folder / 'certificates'}",
            f"--token-auth-file={tokens}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            f"--service-cluster-ip-range={_SERVICES}",
            f"--default-not-ready-toleration-seconds={TOLERATION_S}",
            f"--default-unreachable-toleration-seconds={TOLERATION_S}",
            "--kubelet-preferred-address-types=InternalIP",
            # Webhooks are reached at their Pods: kube-proxy runs on the nodes only.
            "--enable-aggregator-routing=true",
        ]

    def _line(self, name: str) -> str:
        if name == ADMIN:
            return f"{self._tokens[name]},{name},{name},system:masters\n"
        return f"{self._tokens[name]},system:node:{name},{name},system:nodes\n"
