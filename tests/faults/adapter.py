"""What the fault suite has to know of a store. A store plugs in by one adapter.

An adapter starts the store's server, if there is one, tells a worker by its environment where the
store is, and breaks the server, or one worker's network to it, on command. Which faults it knows is
its `faults`; those that concern processes alone are there for every store, those of members only
where the store is several servers that need a majority.

A *seat* is a place for a worker: its number outlives the workers that sit on it one after another,
and so does its network.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tests.servers.process import ServerProcess
from tests.servers.proxy import Proxy

__all__ = [
    "EVERYTHING",
    "ON_MEMBERS",
    "ON_NETWORKS",
    "ON_PROCESSES",
    "ON_SERVERS",
    "Adapter",
    "Group",
    "Members",
    "OneServer",
    "Servers",
]

ON_PROCESSES = ("kill", "stop", "stop-wrapper", "freeze", "freeze-wrapper", "step-down")
ON_NETWORKS = ("cut", "drop-replies", "end-connections")
ON_SERVERS = ("server-pause", "server-restart")
ON_MEMBERS = ("isolate",)
EVERYTHING = (*ON_PROCESSES, *ON_NETWORKS, *ON_SERVERS, *ON_MEMBERS)


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

    def url(self, lane: int, seat: int | None = None, fault: str = "") -> str:
        """Where a worker that is to meet a fault finds the store.

        None is ourselves, whom nobody ever cuts off. For a fault of members, a seat knows one
        server alone, its own.
        """
        ...

    def cut(self, lane: int, seat: int, fault: str) -> None:
        """Break the network of the worker on this seat: let no byte pass, or no answer."""
        ...

    def heal(self, lane: int, seat: int) -> None:
        """End the cut."""
        ...

    def end_connections(self, lane: int, seat: int) -> None:
        """End the connections of the worker on this seat, by the server if it can."""
        ...

    def isolate(self, seat: int) -> None:
        """Cut the server of this seat off from its peers, and from nobody else."""
        ...

    def rejoin(self) -> None:
        """End that, and wait until all servers serve again."""
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


class Group(Protocol):
    """Servers that start and die together."""

    def start(self) -> None:
        """Start those that do not run, and wait until they answer."""
        ...

    def kill(self) -> None:
        """Kill all."""
        ...


class Servers:
    """One group of servers for all lanes; each seat reaches them through proxies of its own.

    The proxies are made when they are first asked for: only faults of the network need them.

    Args:
        group: what starts and dies.
        processes: all of its processes.
        addresses: host and port of those that clients speak to.
    """

    scheme = ""
    faults: tuple[str, ...] = (*ON_PROCESSES, *ON_NETWORKS, *ON_SERVERS)
    least_ttl_s = 2.0

    def __init__(
        self,
        group: Group,
        processes: Sequence[ServerProcess],
        addresses: Sequence[tuple[str, int]],
    ) -> None:
        self._group = group
        self._processes = processes
        self._addresses = addresses
        self._proxies: dict[tuple[int, int], list[Proxy]] = {}
        self._paused: Sequence[ServerProcess] = ()

    def start(self) -> None:
        self._group.start()

    def stop(self) -> None:
        for proxies in self._proxies.values():
            for proxy in proxies:
                proxy.close()
        self._group.kill()

    def url(self, lane: int, seat: int | None = None, fault: str = "") -> str:
        direct = [f"{host}:{port}" for host, port in self._addresses]
        if seat is not None and fault in ON_MEMBERS:
            return self._url(lane, direct[seat : seat + 1])
        if seat is None or fault not in ON_NETWORKS:
            return self._url(lane, direct)
        if (lane, seat) not in self._proxies:
            self._proxies[lane, seat] = [Proxy(*address) for address in self._addresses]
        return self._url(lane, [proxy.address for proxy in self._proxies[lane, seat]])

    def _url(self, lane: int, addresses: Sequence[str]) -> str:
        return f"{self.scheme}://{','.join(addresses)}"

    def cut(self, lane: int, seat: int, fault: str) -> None:
        for proxy in self._proxies[lane, seat]:
            (proxy.cut if fault == "cut" else proxy.drop_replies)()

    def heal(self, lane: int, seat: int) -> None:
        for proxy in self._proxies[lane, seat]:
            proxy.heal()

    def end_connections(self, lane: int, seat: int) -> None:
        for proxy in self._proxies[lane, seat]:
            proxy.reset()

    def taken(self, seat: int, lane: int = 0) -> int:
        """Return how many connections a seat has opened through its proxies."""
        return sum(proxy.accepted for proxy in self._proxies.get((lane, seat), []))

    def isolate(self, seat: int) -> None:
        raise NotImplementedError

    def rejoin(self) -> None:
        raise NotImplementedError

    def processes(self) -> set[int]:
        return {process.pid for process in self._processes if process.running}

    def pause(self, chance: random.Random) -> None:
        self._paused = self._victims(chance)
        for process in self._paused:
            process.pause()

    def _victims(self, chance: random.Random) -> Sequence[ServerProcess]:
        """Return so many that no majority is left."""
        least = len(self._processes) // 2 + 1
        return chance.sample(self._processes, chance.randint(least, len(self._processes)))

    def resume(self) -> None:
        for process in self._paused:
            process.resume()

    def crash(self) -> None:
        self._group.kill()

    def restart(self) -> None:
        self._group.start()


class OneServer(Servers):
    """One server that is alone."""

    def __init__(self, server: ServerProcess, host: str, port: int) -> None:
        super().__init__(server, [server], [(host, port)])

    def _ports(self, lane: int, seat: int) -> list[int]:
        """Return the ports by which the server knows the connections of this seat."""
        return [port for proxy in self._proxies[lane, seat] for port in proxy.server_side_ports()]


class Members(Servers):
    """Servers that need a majority, each of which can be cut off from its peers.

    There are as many seats as servers.
    """

    faults: tuple[str, ...] = EVERYTHING

    def rejoin(self) -> None:
        self._join()
        for process in self._processes:
            process.wait_ready()

    def _join(self) -> None:
        raise NotImplementedError
