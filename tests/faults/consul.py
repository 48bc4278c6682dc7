"""Consul for the fault suite: one server for all lanes, and a proxy for each seat.

The names of the faults are those of `tests.faults.stores`, which knows this module.
"""

from __future__ import annotations

import random
from pathlib import Path

from tests.servers.consul import Consul
from tests.servers.proxy import Proxy

__all__ = ["ConsulAdapter"]


class ConsulAdapter:
    """One server that is alone; each seat reaches it through a proxy of its own."""

    scheme = "consul"
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
    least_ttl_s = 2.0

    def __init__(self, base_dir: Path) -> None:
        self._server = Consul(base_dir / "server")
        self._proxies: dict[tuple[int, int], Proxy] = {}

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        for proxy in self._proxies.values():
            proxy.close()
        self._server.kill()

    def url(self, lane: int, seat: int | None = None) -> str:
        if seat is None:
            return self._server.url()
        if (lane, seat) not in self._proxies:
            self._proxies[lane, seat] = Proxy(self._server.host, self._server.port)
        return self._server.url(address=self._proxies[lane, seat].address)

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
