"""etcd for the fault suite: a cluster of three, which each seat reaches through proxies of its own.

What is paused is drawn: two members or all three, so that no majority is left. A crash is that of
all three.
"""

from __future__ import annotations

import random
from pathlib import Path

from tests.faults.adapter import EVERYTHING
from tests.servers.etcd import Cluster, Etcd
from tests.servers.proxy import Proxy

__all__ = ["EtcdCluster"]


class EtcdCluster:
    """One cluster for all lanes."""

    scheme = "etcd"
    faults: tuple[str, ...] = EVERYTHING
    least_ttl_s = 2.0

    def __init__(self, base_dir: Path) -> None:
        self._cluster = Cluster(base_dir)
        self._proxies: dict[tuple[int, int], list[Proxy]] = {}
        self._paused: list[Etcd] = []

    def start(self) -> None:
        self._cluster.start()

    def stop(self) -> None:
        for proxies in self._proxies.values():
            for proxy in proxies:
                proxy.close()
        self._cluster.close()

    def url(self, lane: int, seat: int | None = None) -> str:
        if seat is None:
            return self._url(lane, [member.address for member in self._cluster.members])
        if (lane, seat) not in self._proxies:
            ports = [member.port for member in self._cluster.members]
            self._proxies[lane, seat] = [Proxy("127.0.0.1", port) for port in ports]
        return self._url(lane, [proxy.address for proxy in self._proxies[lane, seat]])

    def _url(self, lane: int, addresses: list[str]) -> str:
        return f"etcd://{','.join(addresses)}/lane-{lane}?tls=0"

    def cut(self, lane: int, seat: int, fault: str) -> None:
        for proxy in self._proxies[lane, seat]:
            (proxy.cut if fault == "cut" else proxy.drop_replies)()

    def heal(self, lane: int, seat: int) -> None:
        for proxy in self._proxies[lane, seat]:
            proxy.heal()

    def processes(self) -> set[int]:
        return {member.pid for member in self._cluster.members if member.running}

    def pause(self, chance: random.Random) -> None:
        self._paused = chance.sample(self._cluster.members, chance.choice([2, 3]))
        for member in self._paused:
            member.pause()

    def resume(self) -> None:
        for member in self._paused:
            member.resume()

    def crash(self) -> None:
        self._cluster.kill()

    def restart(self) -> None:
        self._cluster.start()
