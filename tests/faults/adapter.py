"""What the fault suite has to know of a store. A store plugs in by one adapter.

An adapter starts the store's server, if there is one, tells a worker by its environment where the
store is, and breaks the server, or one worker's network to it, on command. Which faults it knows is
its `faults`; those that concern processes alone are there for every store.

A *seat* is a place for a worker: its number outlives the workers that sit on it one after another,
and so does its network.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Protocol

from tests.servers.process import ServerProcess
from tests.servers.proxy import Proxy

__all__ = ["EVERYTHING", "ON_NETWORKS", "ON_PROCESSES", "ON_SERVERS", "Adapter", "OneServer"]

ON_PROCESSES = ("kill", "stop", "stop-wrapper", "freeze", "freeze-wrapper", "step-down")
ON_NETWORKS = ("cut", "drop-replies")
ON_SERVERS = ("server-pause", "server-restart")
EVERYTHING = (*ON_PROCESSES, *ON_NETWORKS, *ON_SERVERS)


class Adapter(Protocol):
    """One store, with its server running between `start` and `stop`."""

    scheme: str
    faults: tuple[str, ...]
    least_ttl_s: float
    """The shortest TTL at which an unhurt holder keeps its lease on a busy machine."""

    def __init__(self, base_dir: Path) -> None:
        """Prepare a store whose files are to be below `base_dir`."""
        ...

    def start(self) -> None:
        """Start the server, if there is one."""
        ...

    def stop(self) -> None:
        """Take everything down again, in whatever state it is."""
        ...

    def url(self, lane: int, seat: int | None = None) -> str:
        """Where a worker finds the store; None is ourselves, whom nobody ever cuts off."""
        ...

    def cut(self, lane: int, seat: int, fault: str) -> None:
        """Break the network of the worker on this seat: let no byte pass, or no answer."""
        ...

    def heal(self, lane: int, seat: int) -> None:
        """End the cut."""
        ...

    def processes(self) -> set[int]:
        """Return the ids of the processes that the adapter looks after."""
        ...

    def pause(self, chance: random.Random) -> None:
        """Stop the server, or some part of it without which it cannot answer."""
        ...

    def resume(self) -> None:
        """Let it go on."""
        ...

    def crash(self) -> None:
        """Kill the server."""
        ...

    def restart(self) -> None:
        """Start it again on its data, and wait until it answers."""
        ...


class OneServer:
    """One server for all lanes; each seat reaches it through a proxy of its own.

    The proxies are made when they are first asked for: only faults of the network need them.
    """

    scheme = ""
    faults: tuple[str, ...] = EVERYTHING
    least_ttl_s = 2.0

    def __init__(self, server: ServerProcess, host: str, port: int) -> None:
        self._server = server
        self._address = (host, port)
        self._proxies: dict[tuple[int, int], Proxy] = {}

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        for proxy in self._proxies.values():
            proxy.close()
        self._server.kill()

    def url(self, lane: int, seat: int | None = None) -> str:
        if seat is None:
            return self._url("{}:{}".format(*self._address))
        if (lane, seat) not in self._proxies:
            self._proxies[lane, seat] = Proxy(*self._address)
        return self._url(self._proxies[lane, seat].address)

    def _url(self, address: str) -> str:
        return f"{self.scheme}://{address}"

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
