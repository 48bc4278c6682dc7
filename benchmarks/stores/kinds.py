"""One description per store: its server, what it counts, the requests of a term, its neighbours.

The servers are those of the tests, alone and on loopback, with the durability that is said there:
what is compared stands on the same one. TLS is off for everybody. A neighbour is what people use
for this on that server: its library in its newest version, as it is, or the server's own command.

What is not here, and why (2026-11): tooz has no driver for Consul any more, and Consul's libraries
for Python have sessions and keys, but no lock. tooz's driver for PostgreSQL is deprecated and says
so. For SQLite there is nothing of this kind: on one host its neighbours are those of plain files.
"""

from __future__ import annotations

import re
import socket
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import neighbours
from benchmarks.bench import Bench
from benchmarks.processes import EventProcess, python
from tests.servers import build
from tests.servers.consul import Consul as ConsulServer
from tests.servers.etcd import Etcd as EtcdServer
from tests.servers.mariadb import MariaDb
from tests.servers.postgresql import Postgres
from tests.servers.process import ServerProcess
from tests.servers.redis import Redis as RedisServer
from tests.servers.zookeeper import ZooKeeperServer

__all__ = ["KINDS", "NAMES", "PROGRAMS", "Kind", "Neighbour", "neighbour", "started", "versions"]

PROGRAMS = ("etcd", "etcdctl", "consul")
"""What has to be built before."""

_USER = "bench"
_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Neighbour:
    """What people use instead.

    Attributes:
        who: its name.
        lock: which of `programs.locks`.
        target: what that one is told.
        dear: each use starts a process, or waits for a poll: it is done less often.
    """

    who: str
    lock: str
    target: str
    dear: bool = False


class Kind:
    """A store, and the server below it. `start` before anything else."""

    name = ""
    needs = ""
    """The requests of one acquire and one release, which `programs.raw_stores` sends."""
    counts = "requests"
    """What `told` counts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / self.name
        self.folder.mkdir()

    def start(self, stack: ExitStack) -> None:
        """Start the server, which ends with `stack`."""

    def url(self, address: str = "") -> str:
        """Return the URL of our store; `address` is that of a proxy before the server."""
        raise NotImplementedError

    @property
    def target(self) -> str:
        """What the raw requests are told."""
        raise NotImplementedError

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of the server, if there is one."""
        return None

    def neighbours(self) -> Sequence[Neighbour]:
        """Return what people use instead."""
        return ()

    def pids(self) -> list[int]:
        """Return the processes of the server."""
        return []

    def told(self) -> float | None:
        """Return how much the server has counted so far; None if there is no server."""
        return None

    def raw(self, bench: Bench, stack: ExitStack, batch: int, pause_s: float = 0.0) -> EventProcess:
        """Start the raw requests."""
        words = (self.name, self.target, f"--batch={batch}", f"--pause={pause_s}")
        return bench.program(stack, f"raw-{self.name}", python("raw_stores", *words))


class _Served(Kind):
    """A store with a server of its own."""

    server: ServerProcess
    port: int

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    @property
    def at(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def target(self) -> str:
        return self.at

    def pids(self) -> list[int]:
        return [self.server.pid]

    def serve(self, stack: ExitStack, server: ServerProcess, port: int) -> None:
        self.server, self.port = server, port
        stack.callback(server.kill)
        server.start()


class Etcd(_Served):
    name = "etcd"
    needs = "txn + txn"

    def start(self, stack: ExitStack) -> None:
        server = EtcdServer(self.folder)
        stack.callback(server.remove_data)
        self.serve(stack, server, server.port)

    def url(self, address: str = "") -> str:
        return f"etcd://{address or self.at}?tls=0"

    def neighbours(self) -> Sequence[Neighbour]:
        program = build.ensure("etcdctl")
        return (
            Neighbour("etcdctl lock", "etcdctl", f"{program} {self.at}", dear=True),
            Neighbour("tooz", "tooz", f"etcd3+http://{self.at}"),
        )

    def told(self) -> float:
        """Count the calls that the gateway makes of what came over HTTP."""
        return _metrics(f"http://{self.at}/metrics", r"grpc_server_started_total\{.*\} (\S+)$")


class ZooKeeper(_Served):
    name = "zookeeper"
    needs = "multi + multi"
    counts = "packets"

    def start(self, stack: ExitStack) -> None:
        server = ZooKeeperServer(self.folder, tick_ms=1000)
        self.serve(stack, server, server.port)

    def url(self, address: str = "") -> str:
        return f"zookeeper://{address or self.at}"

    def neighbours(self) -> Sequence[Neighbour]:
        return (
            Neighbour("kazoo Lock", "kazoo", self.at),
            Neighbour("tooz", "tooz", f"kazoo://{self.at}"),
        )

    def told(self) -> float:
        """Count what came, pings included."""
        with socket.create_connection(("127.0.0.1", self.port), _LIMIT_S) as connection:
            connection.sendall(b"srvr")
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
        return _found(answer.decode(), r"^Received: (\d+)$")


class Consul(_Served):
    name = "consul"
    needs = "txn + txn"

    def start(self, stack: ExitStack) -> None:
        keep = {"telemetry": {"prometheus_retention_time": "24h"}}
        self.consul = ConsulServer(self.folder, settings=keep)
        self.serve(stack, self.consul, self.consul.port)

    def url(self, address: str = "") -> str:
        return self.consul.url(address=address)

    @property
    def target(self) -> str:
        return f"{self.at} {self.consul.token}"

    def neighbours(self) -> Sequence[Neighbour]:
        program = build.ensure("consul")
        return (Neighbour("consul lock", "consul", f"{program} {self.target}", dear=True),)

    def told(self) -> float:
        """Count the requests that were answered, waiting ones when they were."""
        content = self.consul.request("GET", "/v1/agent/metrics?format=prometheus")
        return _found(content.decode(), r"^consul_http_\w+_count(?:\{.*\})? (\S+)$")


class Redis(_Served):
    name = "redis"
    needs = "EVALSHA + EVALSHA"
    counts = "commands"

    def start(self, stack: ExitStack) -> None:
        self.redis = RedisServer(self.folder)
        self.serve(stack, self.redis, self.redis.port)

    def url(self, address: str = "") -> str:
        return self.redis.url(address=address)

    def neighbours(self) -> Sequence[Neighbour]:
        return (
            Neighbour("redis-py Lock", "redis", self.at),
            Neighbour("portalocker RedisLock", "portalocker_redis", self.at, dear=True),
            Neighbour("tooz", "tooz", f"redis://{self.at}"),
        )

    def told(self) -> float:
        """Count what clients sent; what scripts do inside is no request."""
        with self.redis.client() as client:
            stats: Any = client.info("commandstats")
        sent = ("evalsha", "eval", "ping", "subscribe", "unsubscribe", "client", "hello")
        found = (stats.get(f"cmdstat_{word}", {"calls": 0})["calls"] for word in sent)
        return float(sum(found))


class Postgresql(_Served):
    name = "postgresql"
    needs = "committed UPDATE + committed UPDATE, each with a NOTIFY"
    counts = "transactions"

    def start(self, stack: ExitStack) -> None:
        self.postgres = Postgres()
        stack.callback(self.postgres.remove_data)
        self.serve(stack, self.postgres, self.postgres.port)
        self.postgres.execute(f"CREATE ROLE {_USER} LOGIN SUPERUSER PASSWORD '{_USER}'")

    def url(self, address: str = "") -> str:
        return f"{self._plain(address)}?sslmode=disable"

    def _plain(self, address: str = "") -> str:
        return self.postgres.url(address=address, user=_USER, password=_USER)

    @property
    def target(self) -> str:
        return self.url()

    def neighbours(self) -> Sequence[Neighbour]:
        return (
            Neighbour("pg_advisory_lock", "postgresql", self.url()),
            Neighbour("tooz", "tooz", self._plain()),
        )

    def pids(self) -> list[int]:
        return self.postgres.family()

    def told(self) -> float:
        """Count transactions; a backend that idles tells of its last ones some seconds later."""
        ((count,),) = self.postgres.execute(
            "SELECT xact_commit + xact_rollback FROM pg_stat_database "
            "WHERE datname = current_database()"
        )
        return float(count)


class Mysql(_Served):
    name = "mysql"
    needs = "committed UPDATE + committed UPDATE"
    counts = "statements"

    def start(self, stack: ExitStack) -> None:
        self.mariadb = MariaDb()
        stack.callback(self.mariadb.remove_data)
        self.serve(stack, self.mariadb, self.mariadb.port)
        self.mariadb.execute(f"CREATE USER {_USER}@'127.0.0.1' IDENTIFIED BY '{_USER}'")
        self.mariadb.execute(f"GRANT ALL ON tests.* TO {_USER}@'127.0.0.1'")

    def url(self, address: str = "") -> str:
        return f"{self._plain(address)}?ssl-mode=DISABLED"

    def _plain(self, address: str = "") -> str:
        return self.mariadb.url(address=address, user=_USER, password=_USER)

    @property
    def target(self) -> str:
        return self._plain()

    def neighbours(self) -> Sequence[Neighbour]:
        return (
            Neighbour("GET_LOCK", "mysql", self._plain()),
            Neighbour("tooz", "tooz", self._plain()),
        )

    def pids(self) -> list[int]:
        return self.mariadb.family()

    def told(self) -> float:
        """Count statements, of which a request of ours sends several at once."""
        ((_, count),) = self.mariadb.execute("SHOW GLOBAL STATUS LIKE 'Questions'")
        return float(count)


class _OnDisk(Kind):
    """A store on the disk of this host."""

    counts = "write calls"

    @property
    def path(self) -> Path:
        return self.folder / "store"

    def url(self, address: str = "") -> str:
        return f"{self.name}://{self.path}"

    @property
    def target(self) -> str:
        return str(self.path)

    def neighbours(self) -> Sequence[Neighbour]:
        return (
            Neighbour("portalocker", "portalocker", str(self.folder / "lock")),
            Neighbour("tooz file", "tooz", f"file://{self.folder / 'tooz'}"),
        )


class Sqlite(_OnDisk):
    name = "sqlite"
    needs = "synced commit + commit"


class File(_OnDisk):
    name = "file"
    needs = "rename and a sync + rename"


KINDS: tuple[type[Kind], ...] = (
    Etcd,
    ZooKeeper,
    Consul,
    Redis,
    Postgresql,
    Mysql,
    File,
    Sqlite,
)
NAMES = tuple(kind.name for kind in KINDS)


@contextmanager
def started(bench: Bench, purpose: str) -> Iterator[list[Kind]]:
    """Start the servers of all stores that the run is for; they end with the context."""
    folder = bench.dir / purpose
    folder.mkdir()
    with ExitStack() as stack:
        kinds = []
        for make in KINDS:
            if not bench.stores or make.name in bench.stores:
                kind = make(folder)
                bench.progress(f"{purpose}: starting {kind.name}")
                kind.start(stack)
                kinds.append(kind)
        yield kinds


def neighbour(
    bench: Bench, stack: ExitStack, kind: Kind, one: Neighbour, suffix: str, *options: str
) -> EventProcess:
    """Start a user of a neighbour's lock."""
    module = "benchmarks.programs.neighbour"
    command = [str(neighbours.interpreter()), "-m", module, one.lock, one.target, *options]
    return bench.program(stack, f"{kind.name}-{one.lock}{suffix}", command)


def versions() -> str:
    """Return the versions of what the stores stand beside, and on."""
    libraries = neighbours.versions()
    names = ("kazoo", "portalocker", "psycopg", "pymysql", "redis", "tooz")
    told = ", ".join(f"{name} {libraries[name]}" for name in names)
    return f"{told}; etcd {build.ETCD_VERSION}, Consul {build.CONSUL_VERSION}, others of Debian"


def _metrics(url: str, pattern: str) -> float:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=_LIMIT_S) as answer:
        return _found(answer.read().decode(), pattern)


def _found(text: str, pattern: str) -> float:
    return sum(float(number) for number in re.findall(pattern, text, re.MULTILINE))
