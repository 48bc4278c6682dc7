"""The stores that the fault suite knows, by name: the scheme, and an option of it.

What one has to be is in `adapter`.
"""

from __future__ import annotations

import random
from pathlib import Path

from tests.faults.adapter import EVERYTHING, ON_PROCESSES, Adapter
from tests.faults.consul import ConsulAdapter
from tests.faults.etcd import EtcdCluster
from tests.faults.redis import RedisAdapter
from tests.faults.zookeeper import ZooKeeper
from tests.servers.kubernetes import ApiServer
from tests.servers.process import ServerProcess
from tests.servers.proxy import Proxy

__all__ = ["ADAPTERS", "File", "Kubernetes", "KubernetesSession", "OnDisk", "Sqlite"]


class OnDisk:
    """Files on the disk of this host. There is no server to break and no network to cut."""

    scheme = ""
    faults: tuple[str, ...] = ON_PROCESSES
    least_ttl_s = 1.0

    def __init__(self, base_dir: Path) -> None:
        self._base_dir = base_dir

    def start(self) -> None:
        self._base_dir.mkdir(parents=True, exist_ok=True)

    def stop(self) -> None:
        pass

    def url(self, lane: int, seat: int | None = None) -> str:
        raise NotImplementedError

    def cut(self, lane: int, seat: int, fault: str) -> None:
        raise NotImplementedError

    def heal(self, lane: int, seat: int) -> None:
        raise NotImplementedError

    def processes(self) -> set[int]:
        return set()

    def pause(self, chance: random.Random) -> None:
        raise NotImplementedError

    def resume(self) -> None:
        raise NotImplementedError

    def crash(self) -> None:
        raise NotImplementedError

    def restart(self) -> None:
        raise NotImplementedError


class Sqlite(OnDisk):
    """A database per lane."""

    scheme = "sqlite"

    def url(self, lane: int, seat: int | None = None) -> str:
        return f"sqlite://{self._base_dir / f'lane-{lane}.db'}"


class File(OnDisk):
    """A folder per lane."""

    scheme = "file"

    def url(self, lane: int, seat: int | None = None) -> str:
        return f"file://{self._base_dir / f'lane-{lane}'}"


class Kubernetes:
    """One API server and its etcd for all lanes; each seat reaches it through a proxy of its own.

    The proxies are made when they are first asked for: only faults of the network need them.
    """

    scheme = "kubernetes"
    faults: tuple[str, ...] = EVERYTHING
    least_ttl_s = 2.0

    def __init__(self, base_dir: Path) -> None:
        self._server = ApiServer(base_dir)
        self._direct = ""
        self._proxies: dict[tuple[int, int], tuple[Proxy, str]] = {}
        self._paused: list[ServerProcess] = []

    def start(self) -> None:
        self._server.start()
        self._direct = self._url(self._server.url)

    def stop(self) -> None:
        for proxy, _ in self._proxies.values():
            proxy.close()
        self._server.kill()
        self._server.etcd.remove_data()

    def url(self, lane: int, seat: int | None = None) -> str:
        if seat is None:
            return self._direct
        if (lane, seat) not in self._proxies:
            proxy = Proxy(self._server.host, self._server.port)
            self._proxies[lane, seat] = proxy, self._url(f"https://{proxy.address}")
        return self._proxies[lane, seat][1]

    def _url(self, server: str) -> str:
        return f"kubernetes://default?kubeconfig={self._server.kubeconfig(url=server)}"

    def cut(self, lane: int, seat: int, fault: str) -> None:
        proxy, _ = self._proxies[lane, seat]
        (proxy.cut if fault == "cut" else proxy.drop_replies)()

    def heal(self, lane: int, seat: int) -> None:
        self._proxies[lane, seat][0].heal()

    def processes(self) -> set[int]:
        both = (self._server.apiserver, self._server.etcd)
        return {process.pid for process in both if process.running}

    def pause(self, chance: random.Random) -> None:
        both = [self._server.apiserver, self._server.etcd]
        self._paused = chance.choice([both, both[:1], both[1:]])
        for process in self._paused:
            process.pause()

    def resume(self) -> None:
        for process in self._paused:
            process.resume()

    def crash(self) -> None:
        self._server.kill()

    def restart(self) -> None:
        self._server.start()


class KubernetesSession(Kubernetes):
    """The same server, with one Lease a process that is renewed."""

    def _url(self, server: str) -> str:
        return f"{super()._url(server)}&session=1"


from tests.faults.sql import Mysql, Postgresql  # noqa: E402  it needs the names of the faults

ADAPTERS: dict[str, type[Adapter]] = {
    "sqlite": Sqlite,
    "file": File,
    "kubernetes": Kubernetes,
    "kubernetes-session": KubernetesSession,
    "zookeeper": ZooKeeper,
    "consul": ConsulAdapter,
    "etcd": EtcdCluster,
    "redis": RedisAdapter,
    "mysql": Mysql,
    "postgresql": Postgresql,
}
