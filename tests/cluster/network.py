"""The network of a cluster: a bridge with the control plane, two nodes on it, and what cuts them.

| who | address | Pods |
| --- | --- | --- |
| control plane, DNS, ledger | 10.89.0.1 | |
| node N | 10.89.0.1N | 10.244.N.0/24 |

Each namespace is held by a process, and by no file: it goes with its last process. Nothing leads to
the machine's own network, so addresses and ports collide with nothing there. Pods keep their own
addresses on the way, by static routes.

Two cuts, because they are two different cases. `cut` takes the node's link down: nothing passes.
`cut_api` drops what passes between the node, or its Pods, and the API server, in both directions,
and nothing else: the other side still reaches the ledger and DNS, and that is what fencing is for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.servers.process import ChildProcess, ServerError

__all__ = [
    "API_PORT",
    "CONTROL",
    "LEDGER_PORT",
    "Address",
    "Network",
    "holder",
    "in_network",
    "program",
]

CONTROL = "10.89.0.1"
API_PORT = 6443
LEDGER_PORT = 8080
KUBELET_PORT = 10250

_BRIDGE = "cluster0"
_LIMIT_S = 10.0
_POLL_S = 0.01

_RULES = f"""\
table inet cut {{
    set nodes {{ type ipv4_addr; flags interval; }}
    chain from {{
        type filter hook input priority 0;
        ip saddr @nodes tcp dport {API_PORT} drop
        ip saddr @nodes tcp sport {KUBELET_PORT} drop
    }}
    chain to {{
        type filter hook output priority 0;
        ip daddr @nodes tcp sport {API_PORT} drop
        ip daddr @nodes tcp dport {KUBELET_PORT} drop
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a node and its Pods are."""

    number: int

    @property
    def node(self) -> str:
        return f"10.89.0.1{self.number}"

    @property
    def pods(self) -> str:
        return f"10.244.{self.number}.0/24"

    @property
    def link(self) -> str:
        """The end of the node's cable that is in the bridge."""
        return f"node{self.number}"


def program(name: str) -> str:
    """Return the path of a program of this machine, be it one of the administrator's."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        raise ServerError(f"there is no {name}: install iproute2, procps and util-linux")
    return found


def holder(folder: Path) -> ChildProcess:
    """Start a process in a network namespace of its own, which does nothing."""
    held = ChildProcess(
        "control plane's network",
        [program("unshare"), "--net", "sleep", "infinity"],
        log_path=folder / "network.log",
    )
    held.spawn()
    deadline_s = time.monotonic() + _LIMIT_S
    while _namespace(held.pid) == _namespace(os.getpid()):
        if time.monotonic() > deadline_s:
            raise ServerError(f"no network namespace was made\n{held.log_tail()}")
        time.sleep(_POLL_S)  # sleep: entering a namespace has no event
    return held


def in_network(pid: int, *words: str | os.PathLike[str]) -> list[str]:
    """Return a command that runs these words in the network of a process."""
    return [
        program("nsenter"),
        f"--net=/proc/{pid}/ns/net",
        "--",
        *[os.fspath(word) for word in words],
    ]


class Network:
    """The bridge in the namespace of the process `pid`; `environment` finds the program nft."""

    def __init__(self, pid: int, environment: dict[str, str]) -> None:
        self._pid = pid
        self._environment = environment
        self._has_rules = False
        self._ip(
            pid,
            "link set lo up",
            f"link add {_BRIDGE} type bridge",
            f"addr add {CONTROL}/24 dev {_BRIDGE}",
            f"link set {_BRIDGE} up",
        )
        self._run(pid, ["sysctl", "-qw", "net.ipv4.ip_forward=1"])

    def plug(self, address: Address, pid: int, others: Sequence[Address]) -> None:
        """Connect the namespace of a process as that of a node."""
        self._ip(
            self._pid,
            f"link add {address.link} type veth peer name eth0 netns {pid}",
            f"link set {address.link} master {_BRIDGE} up",
            f"route replace {address.pods} via {address.node}",
        )
        self._ip(
            pid,
            "link set lo up",
            f"addr add {address.node}/24 dev eth0",
            "link set eth0 up",
            f"route add default via {CONTROL}",
            *(f"route add {other.pods} via {other.node}" for other in others),
        )
        self._run(pid, ["sysctl", "-qw", "net.ipv4.ip_forward=1"])

    def cut(self, address: Address) -> None:
        """Let nothing pass to or from a node."""
        self._ip(self._pid, f"link set {address.link} down")

    def heal(self, address: Address) -> None:
        """Let everything pass again."""
        self._ip(self._pid, f"link set {address.link} up")

    def cut_api(self, address: Address) -> None:
        """Let nothing pass between a node, or its Pods, and the API server."""
        if not self._has_rules:
            self._nft(_RULES)
            self._has_rules = True
        self._nft(f"add element inet cut nodes {{ {address.node}, {address.pods} }}")

    def heal_api(self) -> None:
        """Let everybody reach the API server again."""
        if self._has_rules:
            self._nft("flush set inet cut nodes")

    def _ip(self, pid: int, *lines: str) -> None:
        self._run(pid, ["ip", "-batch", "-"], "\n".join(lines) + "\n")

    def _nft(self, rules: str) -> None:
        self._run(self._pid, ["nft", "-f", "-"], rules)

    def _run(self, pid: int, words: Sequence[str], text: str = "") -> None:
        done = subprocess.run(
            in_network(pid, *words),
            input=text,
            env=self._environment,
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise ServerError(f"{' '.join(words)} failed on\n{text}{done.stderr.strip()}")


def _namespace(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/net")
