"""The network of a cluster, without anything in it: what passes, what a cut keeps from passing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.inside import Relay, inside
from tests.cluster.network import API_PORT, CONTROL, Address, Network, holder, program
from tests.cluster.node_init import READY
from tests.cluster.site import HERE
from tests.processes import children, namespaces_permitted
from tests.servers.process import ChildProcess

pytestmark = pytest.mark.skipif(not namespaces_permitted(), reason="no namespaces for this user")

FIRST, SECOND = Address(1), Address(2)


@dataclass
class Wired:
    """The network, and the first processes of two nodes on it."""

    network: Network
    control: int
    nodes: dict[Address, int]
    inits: list[ChildProcess]
    listener: socket.socket


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wired]:
    folder = tmp_path_factory.mktemp("network")
    held = holder(folder)
    network = Network(held.pid, dict(os.environ))
    inits = [_boot(folder / address.link, address) for address in (FIRST, SECOND)]
    nodes = {
        address: children(init.pid)[0] for address, init in zip((FIRST, SECOND), inits, strict=True)
    }
    for address, pid in nodes.items():
        network.plug(address, pid, [other for other in nodes if other != address])
    listener = inside(held.pid, lambda: socket.create_server((CONTROL, API_PORT)))
    yield Wired(network, held.pid, nodes, inits, listener)
    listener.close()
    for process in (*inits, held):
        process.kill()


def _boot(folder: Path, address: Address) -> ChildProcess:
    (folder / "var").mkdir(parents=True)
    own = ("--net", "--mount", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc")
    words = [program("unshare"), *own, sys.executable, "-I", "-S", str(HERE / "node_init.py")]
    init = ChildProcess("init", [*words, address.link, str(folder)], log_path=folder / "log")
    init.spawn()
    _await((folder / READY).exists, init)
    return init


def _reaches(wired: Wired, address: Address) -> bool:
    def connect() -> bool:
        try:
            socket.create_connection((CONTROL, API_PORT), timeout=0.2).close()
        except OSError:
            return False
        return True

    return inside(wired.nodes[address], connect)


def _await(happened: object, init: ChildProcess | None = None) -> None:
    assert callable(happened)
    deadline_s = time.monotonic() + 20
    while not happened():
        assert init is None or init.running
        assert time.monotonic() < deadline_s
        time.sleep(0.02)  # sleep: the kernel does not say when a link is up


def test_a_cut_concerns_one_node_and_is_healed(wired: Wired) -> None:
    for address in (FIRST, SECOND):
        _await(lambda address=address: _reaches(wired, address))
    wired.network.cut(FIRST)
    assert not _reaches(wired, FIRST)
    assert _reaches(wired, SECOND)
    wired.network.heal(FIRST)
    _await(lambda: _reaches(wired, FIRST))


def test_nothing_of_it_is_seen_outside(wired: Wired) -> None:
    for what in ("link", "route"):
        words = [program("ip"), what]
        shown = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        assert "cluster0" not in shown
        assert "10.89." not in shown
    relay = Relay(wired.control, CONTROL, API_PORT)
    with socket.create_connection(("127.0.0.1", relay.port)) as client:
        wired.listener.settimeout(10)
        while True:
            served, _ = wired.listener.accept()
            with served:
                served.settimeout(1)
                served.sendall(b"from inside")
                if _is_ours(client):
                    break
    relay.close()


def _is_ours(client: socket.socket) -> bool:
    """Earlier connections, given up by their clients, may still stand in the queue."""
    client.settimeout(0.5)
    try:
        return client.recv(100) == b"from inside"
    except TimeoutError:
        return False


def test_a_node_has_its_own_disk_memory_and_name(wired: Wired) -> None:
    pid = wired.nodes[SECOND]
    words = ["sh", "-c", "hostname; ls /var /run; cat /proc/sys/kernel/panic /proc/1/comm"]
    enter = ["--net", "--mount", "--pid", "--uts", "--"]
    said = subprocess.run(
        [program("nsenter"), f"--target={pid}", *enter, *words],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert said[0] == "node2"
    assert said[-2] == "10"
    assert {"containerd", "netns"} <= set(said)
    assert "lib" not in said


def test_a_node_ends_as_a_whole(wired: Wired) -> None:
    pid = wired.nodes[SECOND]
    enter = [program("nsenter"), f"--target={pid}", "--pid", "--"]
    with subprocess.Popen([*enter, program("sleep"), "1000"]) as inside_node:
        _await(lambda: children(inside_node.pid))
        wired.inits[1].kill()
        assert inside_node.wait(10) != 0
