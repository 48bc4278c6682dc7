"""The stores on real servers, as the tests of `Capabilities` see them: one `Subject` each.

A subject knows where its store is, directly or through a proxy, and what of it a store itself does
not tell: what was said on the wire, and whether anything in the server expires by itself. What a
cell of the capabilities says is in `test_capabilities`, and nothing of it is known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from incumbent.stores import open_store
from incumbent.stores.api import Store
from incumbent.stores.kubernetes.resource import CONFIG_MAPS, ENDPOINT_SLICES, LEASES, Resource
from tests.faces.programs import until
from tests.servers.consul import Consul
from tests.servers.etcd import Etcd, b64
from tests.servers.kubernetes import ApiError, ApiServer
from tests.servers.mariadb import MariaDb
from tests.servers.postgresql import PgBouncer, Postgres
from tests.servers.proxy import Proxy
from tests.servers.redis import Redis
from tests.servers.zookeeper import ZooKeeperServer
from tests.stores.local import PLACES, LocalHarness

__all__ = ["SUBJECTS", "InFiles", "Served", "Subject", "eventually", "make"]

LIMIT_S = 30.0


class Subject:
    """One store. It is a harness of the conformance suite as far as candidates need one."""

    ttl_s = 60.0
    """So long that whatever happens in time did not happen because it was over."""
    pooled = False
    """Whether a pooler is in between, which swallows notifications."""

    def __init__(self, scheme: str) -> None:
        self.scheme = scheme
        self.id = secrets.token_hex(4)
        self._stores: list[Store] = []

    def url(self, address: str = "") -> str:
        """Return where the store is; `address` is that of a proxy before its server."""
        return f"{self.scheme}://capabilities-{self.id}"

    def name(self) -> str:
        return f"election-{secrets.token_hex(4)}"

    async def store(self, *, create: bool = True, address: str = "") -> Store:
        store = open_store(self.url(address))
        self._stores.append(store)
        await store.open(create=create)
        return store

    async def delete(self, name: str) -> bool:
        """Delete a record behind everybody's back; False if nobody can."""
        return False

    async def scribble(self, name: str) -> bool:
        return False

    async def disturb(self, name: str) -> bool:
        return False

    def expires(self, name: str, session: str) -> bool:
        """Tell whether there is anything in the server that ends a record by itself."""
        return False

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


class InFiles(Subject):
    """A store on this host's disk."""

    def __init__(self, place: LocalHarness) -> None:
        super().__init__(place.kind)
        self.place = place

    def url(self, address: str = "") -> str:
        return self.place.url

    async def delete(self, name: str) -> bool:
        self.place.delete_now(name)
        return True


class Served(Subject):
    """A store with a server.

    Attributes:
        host, port: where the server is.
        speaks: what the notification of a session's renewal has in it on the wire, where it is a
            hint that something has changed; "" where it is the whole news.
    """

    host = "127.0.0.1"
    port = 0
    speaks = ""

    @contextmanager
    def proxy(self) -> Iterator[Proxy]:
        """Return a network of its own to the server."""
        with Proxy(self.host, self.port) as proxy:
            yield proxy

    def begin(self, proxy: Proxy) -> None:
        """Record from now on what is said."""
        proxy.record()

    def calls(self, proxy: Proxy) -> list[str]:
        """Return what was asked of the server since `begin`, without pings."""
        return self.words(proxy.recorded()[0])

    def words(self, sent: bytes) -> list[str]:
        """Return the requests in what clients have sent."""
        raise NotImplementedError

    def said(self, beginning: str) -> bytes:
        """Return what is on the wire where an election is meant whose name begins like this."""
        return beginning.encode()


class OnEtcd(Served):
    def __init__(self, server: Etcd) -> None:
        super().__init__("etcd")
        self.server, self.port = server, server.port

    def url(self, address: str = "") -> str:
        return f"etcd://{address or self.server.address}/{self.id}?tls=0"

    async def delete(self, name: str) -> bool:
        await asyncio.to_thread(self.server.delete, f"{self.id}/elections/{name}")
        return True

    def said(self, beginning: str) -> bytes:
        """Return the base64 of the key, as far as it does not depend on what follows."""
        key = f"{self.id}/elections/{beginning}"
        return b64(key[: len(key) // 3 * 3]).encode()

    def words(self, sent: bytes) -> list[str]:
        """Return the paths, and of a transaction what it compares and does."""
        said = []
        for request in re.split(rb"(?=POST /v3/)", sent)[1:]:
            path = request.split()[1].decode().removeprefix("/v3/")
            compared = " if" * (b'"mod_revision"' in request)
            put = " put" * (b'"request_put"' in request)
            said.append(f"{path}{compared}{put}")
        return said

    def expires(self, name: str, session: str) -> bool:
        for key in (f"elections/{name}", f"sessions/{session}"):
            answer = self.server.request("/v3/kv/range", {"key": b64(f"{self.id}/{key}")})
            (entry,) = answer["kvs"]
            if int(entry.get("lease", 0)):
                return True
        return False


class OnConsul(Served):
    def __init__(self, server: Consul) -> None:
        super().__init__("consul")
        self.server, self.port = server, server.port

    def url(self, address: str = "") -> str:
        return self.server.url(self.id, address=address)

    async def delete(self, name: str) -> bool:
        await asyncio.to_thread(self.server.delete, f"{self.id}/elections/{name}/record")
        return True

    def words(self, sent: bytes) -> list[str]:
        """Return the methods and paths, and of a transaction whether it compares and writes."""
        said = []
        for request in re.split(rb"(?=(?:GET|PUT|DELETE) /v1/)", sent)[1:]:
            verb, target = request.split()[:2]
            path = target.decode().removeprefix("/v1/").partition("?")[0].partition("/")[0]
            said.append(f"{verb.decode()} {path}" + " cas" * (b'"cas"' in request))
        return said

    def expires(self, name: str, session: str) -> bool:
        found = self.server.request("GET", f"/v1/kv/{self.id}?recurse")
        assert found
        return any("Session" in entry for entry in found)


class OnKubernetes(Served):
    def __init__(
        self,
        server: ApiServer,
        namespace: str,
        options: str = "",
        resource: Resource = LEASES,
    ) -> None:
        super().__init__("kubernetes")
        self.server, self.port, self.namespace = server, server.port, namespace
        self.options, self.resource = options, resource
        self._before = 0

    def url(self, address: str = "") -> str:
        config = self.server.kubeconfig(url=f"https://{address}" if address else None)
        return f"kubernetes://{self.namespace}?kubeconfig={config}{self.options}"

    async def delete(self, name: str) -> bool:
        await asyncio.to_thread(self.server.request, "DELETE", self._path(name))
        return True

    def _path(self, name: str) -> str:
        return f"{self.resource.path(self.namespace)}/{name}"

    def begin(self, proxy: Proxy) -> None:
        super().begin(proxy)
        self._before = len(self._requests())

    def calls(self, proxy: Proxy) -> list[str]:
        """What is said is encrypted, so the server's own log tells it."""
        return self._requests()[self._before :]

    def _requests(self) -> list[str]:
        """Return the verbs of all requests that were answered, once the log has them."""
        marker = f"marker-{secrets.token_hex(4)}"
        with contextlib.suppress(ApiError):
            self.server.request("GET", self._path(marker))

        def events() -> list[tuple[str, str]]:
            found = [(e.get("objectRef", {}), e) for e in self.server.audit_events()]
            return [
                (str(what.get("name", "")), str(event["verb"]))
                for what, event in found
                if what.get("namespace") == self.namespace and event["stage"] == "ResponseComplete"
            ]

        eventually(lambda: marker in [name for name, _ in events()])
        return [verb for name, verb in events() if not name.startswith("marker-")]

    def expires(self, name: str, session: str) -> bool:
        found = self.server.request("GET", self._path(name))
        return bool({"ownerReferences", "deletionTimestamp"} & found["metadata"].keys())


class OnRedis(Served):
    def __init__(self, server: Redis, options: str = "") -> None:
        super().__init__("redis")
        self.server, self.port, self.options = server, server.port, options

    def url(self, address: str = "") -> str:
        return self.server.url(f"prefix={self.id}{self.options}", address=address)

    async def delete(self, name: str) -> bool:
        with contextlib.closing(self.server.client()) as client:
            client.hdel(self.id, f"elections/{name}")
        return True

    def words(self, sent: bytes) -> list[str]:
        found = re.findall(rb"\*\d+\r\n\$\d+\r\n(\w+)\r\n", sent)
        return [word.decode().upper() for word in found if word.upper() != b"PING"]

    def expires(self, name: str, session: str) -> bool:
        with contextlib.closing(self.server.client()) as client:
            assert client.hexists(self.id, f"elections/{name}")
            return client.ttl(self.id) != -1


class OnZooKeeper(Served):
    speaks = "/sessions/"
    TRANSACTION, PING = 14, 11

    def __init__(self, server: ZooKeeperServer) -> None:
        super().__init__("zookeeper")
        self.server, self.port = server, server.port

    def url(self, address: str = "") -> str:
        return f"zookeeper://{address or self.server.address}/{self.id}"

    async def delete(self, name: str) -> bool:
        def delete() -> None:
            with self.server.by_hand() as client:
                client.delete(f"/{self.id}/elections/{name}", recursive=True)

        await asyncio.to_thread(delete)
        return True

    def words(self, sent: bytes) -> list[str]:
        """Return the types of the requests: 14 is a transaction, see `zookeeper.h`."""
        said = []
        while len(sent) >= 12:
            size, _, kind = struct.unpack(">iii", sent[:12])
            if kind != self.PING:
                said.append(str(kind))
            sent = sent[4 + size :]
        return said

    def expires(self, name: str, session: str) -> bool:
        with self.server.by_hand() as client:
            for key in (f"elections/{name}", f"sessions/{session}"):
                path = f"/{self.id}/{key}"
                (nonce,) = client.get_children(path)
                for node in (path, f"{path}/{nonce}"):
                    if client.get(node)[1].ephemeralOwner:
                        return True
        return False


class _OnSql(Served):
    def __init__(self, scheme: str, server: Postgres | MariaDb) -> None:
        super().__init__(scheme)
        self.server, self.port = server, server.port

    async def delete(self, name: str) -> bool:
        statement = f"DELETE FROM incumbent_election WHERE name = '{name}'"
        await asyncio.to_thread(self.server.execute, statement)
        return True

    def words(self, sent: bytes) -> list[str]:
        """Return the writes: what each does, and to which table."""
        found = re.findall(rb"(UPDATE|INSERT INTO|DELETE FROM) (?:\w+\.)?(incumbent_\w+)", sent)
        return [f"{verb.decode()} {table.decode()}" for verb, table in found]


class OnPostgresql(_OnSql):
    def __init__(self, server: Postgres, pooler: PgBouncer | None = None) -> None:
        super().__init__("postgresql", server)
        if pooler is not None:
            self.port, self.pooled = pooler.port, True

    def url(self, address: str = "") -> str:
        address = address or f"{self.host}:{self.port}"
        return self.server.url(address=address) + "?sslmode=disable"

    def expires(self, name: str, session: str) -> bool:
        count = "SELECT count(*) FROM information_schema.triggers WHERE event_object_table LIKE %s"
        return bool(self.server.execute(count, ("incumbent%",))[0][0])


class OnMysql(_OnSql):
    def __init__(self, server: MariaDb) -> None:
        super().__init__("mysql", server)

    def url(self, address: str = "") -> str:
        return self.server.url(address=address) + "?ssl-mode=DISABLED"

    def expires(self, name: str, session: str) -> bool:
        kinds = ("triggers", "events")
        counts = [f"SELECT count(*) FROM information_schema.{kind}" for kind in kinds]
        mine = "{} WHERE {}_schema = DATABASE()"
        found = [
            self.server.execute(mine.format(count, kind[:-1]))[0][0]
            for count, kind in zip(counts, kinds, strict=True)
        ]
        return any(found)


Made = Callable[[pytest.FixtureRequest], Subject]


def _in_files(kind: str) -> Made:
    def made(request: pytest.FixtureRequest) -> Subject:
        folder: Path = request.getfixturevalue("tmp_path")
        return InFiles(PLACES[kind](folder / "store"))

    return made


def _served(kind: Callable[..., Subject], *fixtures: str, **more: object) -> Made:
    return lambda request: kind(*map(request.getfixturevalue, fixtures), **more)


SUBJECTS: dict[str, Made] = {
    "consul": _served(OnConsul, "consul"),
    "etcd": _served(OnEtcd, "etcd"),
    "file": _in_files("file"),
    "kubernetes": _served(OnKubernetes, "api_server", "namespace"),
    "kubernetes, with sessions": _served(
        OnKubernetes, "api_server", "namespace", options="&session=1"
    ),
    "kubernetes, ConfigMaps": _served(
        OnKubernetes,
        "api_server",
        "namespace",
        options="&recipe=configmap",
        resource=CONFIG_MAPS,
    ),
    "kubernetes, EndpointSlices": _served(
        OnKubernetes,
        "api_server",
        "namespace",
        options="&recipe=slice&address=10.1.2.3&port=80",
        resource=ENDPOINT_SLICES,
    ),
    "memory": lambda request: Subject("memory"),
    "mysql": _served(OnMysql, "mariadb"),
    "postgresql": _served(OnPostgresql, "postgres"),
    "postgresql, pooled": _served(OnPostgresql, "postgres", "pgbouncer"),
    "redis": _served(OnRedis, "redis_server"),
    "redis, replicas accepted": _served(OnRedis, "redis_server", options="&replicas=accept"),
    "sqlite": _in_files("sqlite"),
    "zookeeper": _served(OnZooKeeper, "zookeeper"),
}
"""A subject for each store, and for set-ups that differ from it, made of pytest's fixtures."""


def make(request: pytest.FixtureRequest, name: str) -> Subject:
    """Return the subject `name`, starting its server if need be."""
    return SUBJECTS[name](request)


def eventually(look: Callable[[], Any], limit_s: float = LIMIT_S) -> Any:
    """Return the first answer of `look` that is true, or counts for something."""
    found: list[Any] = []

    def looked() -> bool:
        found.append(look())
        return bool(found[-1])

    until(looked, "what the server had to do", limit_s)
    return found[-1]
