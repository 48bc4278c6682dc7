"""The stores that the fault suite knows, by name: the scheme, and an option of it.

What one has to be is in `adapter`.
"""

from __future__ import annotations

import random
from pathlib import Path

from tests.faults.adapter import ON_PROCESSES, Adapter
from tests.faults.consul import ConsulAdapter
from tests.faults.etcd import EtcdCluster
from tests.faults.kubernetes import Kubernetes, KubernetesEndpointSlice, KubernetesSession
from tests.faults.redis import RedisAdapter
from tests.faults.sql import Mysql, Postgresql
from tests.faults.zookeeper import ZooKeeper

__all__ = ["ADAPTERS", "File", "OnDisk", "Sqlite"]


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

    def url(self, lane: int, seat: int | None = None, fault: str = "") -> str:
        raise NotImplementedError

    def cut(self, lane: int, seat: int, fault: str) -> None:
        raise NotImplementedError

    def heal(self, lane: int, seat: int) -> None:
        raise NotImplementedError

    def end_connections(self, lane: int, seat: int) -> None:
        raise NotImplementedError

    def isolate(self, seat: int) -> None:
        raise NotImplementedError

    def rejoin(self) -> None:
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

    def url(self, lane: int, seat: int | None = None, fault: str = "") -> str:
        return f"sqlite://{self._base_dir / f'lane-{lane}.db'}"


class File(OnDisk):
    """A folder per lane."""

    scheme = "file"

    def url(self, lane: int, seat: int | None = None, fault: str = "") -> str:
        return f"file://{self._base_dir / f'lane-{lane}'}"


ADAPTERS: dict[str, type[Adapter]] = {
    "sqlite": Sqlite,
    "file": File,
    "kubernetes": Kubernetes,
    "kubernetes-session": KubernetesSession,
    "kubernetes-endpointslice": KubernetesEndpointSlice,
    "zookeeper": ZooKeeper,
    "consul": ConsulAdapter,
    "etcd": EtcdCluster,
    "redis": RedisAdapter,
    "mysql": Mysql,
    "postgresql": Postgresql,
}
