"""ZooKeeper for the fault suite: one server for all lanes, and a proxy for each seat.

One server, since what is tried here is what candidates do when it dies, stands still or cannot be
reached; what an ensemble does when it is parted is tried in `tests/stores/test_zookeeper.py`.
"""

from __future__ import annotations

import random
from pathlib import Path

from tests.servers.proxy import Proxy
from tests.servers.zookeeper import HOST, ZooKeeperServer

__all__ = ["ZooKeeper"]


class ZooKeeper:
    """See `stores.Adapter`. The proxies are made when they are first asked for."""

    scheme = "zookeeper"
    faults: tuple[str, ...] = (
        "kill",
        "stop",
        "stop-wrapper",
        "freeze",
        "freeze-wrapper",
        "step-down",
        "cut",
        "drop-replies",
        "server-pause",
        "server-restart",
    )
    least_ttl_s = 1.5

    def __init__(self, base_dir: Path) -> None:
        self._server = ZooKeeperServer(base_dir)
        self._proxies: dict[tuple[int, int], Proxy] = {}

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        for proxy in self._proxies.values():
            proxy.close()
        self._server.kill()

    def url(self, lane: int, seat: int | None = None) -> str:
        if seat is None:
            return f"zookeeper://{self._server.address}"
        if (lane, seat) not in self._proxies:
            self._proxies[lane, seat] = Proxy(HOST, self._server.port)
        return f"zookeeper://{self._proxies[lane, seat].address}"

    def cut(self, lane: int, seat: int, fault: str) -> None:
        proxy = self._proxies[lane, seat]
        (proxy.cut if fault == "cut" else proxy.drop_replies)()

    def heal(self, lane: int, seat: int) -> None:
        self._proxies[lane, seat].heal()

    def processes(self) -> set[int]:
        return {self._server.pid} if self._server.running else set()

    def pause(self, chance: random.Random) -> None:
        self._server.pause()

    def resume(self) -> None:
        self._server.resume()

    def crash(self) -> None:
        self._server.kill()

    def restart(self) -> None:
        self._server.start()
