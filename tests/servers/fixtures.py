"""The real servers as pytest fixtures.

To be loaded by `pytest_plugins = ["tests.servers.fixtures"]` in `tests/conftest.py`. The servers
that the collected tests need are built before the first test, in the open: within a fixture a cold
build would count against the time limit of some test, and its progress would be captured, and
minutes of silence look like a hang. A server that cannot be built ends the run; no test is skipped
for it.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.servers import build, java
from tests.servers.clientgo import ClientGoCandidate
from tests.servers.consul import Consul, ConsulCluster
from tests.servers.dapr import Dapr
from tests.servers.etcd import Cluster, Etcd
from tests.servers.kafka import Kafka
from tests.servers.kubernetes import ApiServer, certify
from tests.servers.mariadb import MariaDb
from tests.servers.postgresql import PgBouncer, Postgres
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import RabbitMq
from tests.servers.redis import Redis
from tests.servers.unprivileged import Unprivileged
from tests.servers.zookeeper import Keys, ZooKeeperEnsemble, ZooKeeperServer

_Server = TypeVar("_Server", bound=Unprivileged)

_API_SERVER_TARGETS = ("etcd", "kube-apiserver")

_TARGETS_OF_FIXTURES = {
    "api_server": _API_SERVER_TARGETS,
    "own_api_server": _API_SERVER_TARGETS,
    "certified_api_server": (*_API_SERVER_TARGETS, "certificates"),
    "helm": ("helm",),
    "kube_score": ("kube-score",),
    "kubectl": ("kubectl",),
    "shell": (*_API_SERVER_TARGETS, "kubectl"),
    "controllers": (*_API_SERVER_TARGETS, "kube-controller-manager"),
    "governed": (*_API_SERVER_TARGETS, "kube-controller-manager"),
    "clientgo_candidate": ("clientgo-candidate",),
    "encrypted_zookeeper": ("certificates",),
    "etcd": ("etcd",),
    "own_etcd": ("etcd",),
    "dapr": ("daprd",),
    "own_dapr": ("daprd",),
    "certified_etcd": ("etcd", "certificates"),
    "etcd_cluster": ("etcd",),
    "consul": ("consul",),
    "played": (*_API_SERVER_TARGETS, "kube-controller-manager", "kube-scheduler"),
    "own_consul": ("consul",),
    "rabbitmq": ("rabbitmq",),
    "own_rabbitmq": ("rabbitmq",),
    "consul_cluster": ("consul",),
}


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what the fixtures of the collected tests will start."""
    if session.config.option.collectonly:
        return
    used = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    targets = {
        target
        for fixture, targets in _TARGETS_OF_FIXTURES.items()
        if fixture in used
        for target in targets
    }
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with contextlib.nullcontext() if capture is None else capture.global_and_fixture_disabled():
        try:
            for target in sorted(targets):
                build.ensure(target)
            if used & {"kafka", "own_kafka"}:
                java.jars("kafka")
        except build.BuildError as error:
            pytest.exit(str(error), returncode=pytest.ExitCode.INTERNAL_ERROR)


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """The API server of the whole run, with an audit log; tests keep apart by `namespace`.

    It is shared, so a test must not pause or kill it: `own_api_server` is there for that.
    """
    with ApiServer(tmp_path_factory.mktemp("api-server"), audit=True) as server:
        yield server
    server.etcd.remove_data()


@pytest.fixture
def own_api_server(tmp_path: Path) -> Iterator[ApiServer]:
    """An API server of the test's own, to do anything to; costs a few seconds."""
    with ApiServer(tmp_path / "api-server") as server:
        yield server
    server.etcd.remove_data()


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A folder with `ca.crt`, and with `NAME.crt` and `NAME.key` of an administrator and nobody."""
    return certify(tmp_path / "client-certificates", "chief:system:masters", "stranger")


@pytest.fixture
def certified_api_server(tmp_path: Path, certificates: Path) -> Iterator[ApiServer]:
    """An API server of the test's own that knows the clients of `certificates`."""
    trust = f"--client-ca-file={certificates / 'ca.crt'}"
    with ApiServer(tmp_path / "api-server", arguments=[trust]) as server:
        yield server
    server.etcd.remove_data()


@pytest.fixture(scope="session")
def helm() -> Path:
    """`helm template`: Helm's loader, schema and engine without the rest of its command."""
    return build.ensure("helm")


@pytest.fixture(scope="session")
def kube_score() -> Path:
    """The program."""
    return build.ensure("kube-score")


@pytest.fixture(scope="session")
def kubectl() -> Path:
    """The program."""
    return build.ensure("kubectl")


@pytest.fixture
def namespace(api_server: ApiServer) -> str:
    """A namespace of the test's own on the shared API server."""
    name = f"test-{secrets.token_hex(4)}"
    api_server.create_namespace(name)
    return name


@pytest.fixture
def api_proxy(api_server: ApiServer) -> Iterator[Proxy]:
    """A network of the test's own to the shared API server, at `https://{api_proxy.address}`."""
    with Proxy(api_server.host, api_server.port) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """The Redis server of the whole run; tests keep apart by prefixes, and leave it alone."""
    with Redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def dapr(tmp_path_factory: pytest.TempPathFactory, redis_server: Redis) -> Iterator[Dapr]:
    """A sidecar of Dapr, with its locks in the Redis of the whole run; tests leave it alone."""
    address = f"{redis_server.host}:{redis_server.port}"
    with Dapr(tmp_path_factory.mktemp("dapr") / "daprd", address) as sidecar:
        yield sidecar


@pytest.fixture
def own_dapr(tmp_path: Path, own_redis: Redis) -> Iterator[Dapr]:
    """A sidecar of the test's own, before a Redis of the test's own, to do anything to."""
    address = f"{own_redis.host}:{own_redis.port}"
    with Dapr(tmp_path / "daprd", address) as sidecar:
        yield sidecar


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Redis]:
    """A Redis server of the test's own, to do anything to."""
    with Redis(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def redis_proxy(own_redis: Redis) -> Iterator[Proxy]:
    """A network of the test's own to its own Redis server."""
    with Proxy(own_redis.host, own_redis.port) as proxy:
        yield proxy


@pytest.fixture
def clientgo_candidate(
    api_server: ApiServer, namespace: str, tmp_path: Path
) -> Iterator[Callable[..., ClientGoCandidate]]:
    """Make client-go candidates by name and identity; all are killed with the test."""
    candidates: list[ClientGoCandidate] = []

    def make(name: str, identity: str, **options: Any) -> ClientGoCandidate:
        options.setdefault("kubeconfig", api_server.kubeconfig())
        options.setdefault("namespace", namespace)
        candidate = ClientGoCandidate(tmp_path, name=name, identity=identity, **options)
        candidates.append(candidate)
        candidate.start()
        return candidate

    yield make
    for candidate in candidates:
        candidate.kill()


@pytest.fixture(scope="session")
def zookeeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeperServer]:
    """The ZooKeeper of the whole run; tests keep apart by prefix, and must not stop it."""
    with ZooKeeperServer(tmp_path_factory.mktemp("zookeeper")) as server:
        yield server


@pytest.fixture
def own_zookeeper(tmp_path: Path) -> Iterator[ZooKeeperServer]:
    """A ZooKeeper of the test's own, to do anything to; costs about two seconds."""
    with ZooKeeperServer(tmp_path / "zookeeper") as server:
        yield server


@pytest.fixture
def zookeeper_proxy(zookeeper: ZooKeeperServer) -> Iterator[Proxy]:
    """A network of the test's own to the shared ZooKeeper."""
    with Proxy("127.0.0.1", zookeeper.port) as proxy:
        yield proxy


@pytest.fixture
def zookeeper_ensemble(tmp_path: Path) -> Iterator[ZooKeeperEnsemble]:
    """Three servers, each of which can be cut off from the others and goes on for 8 seconds."""
    with ZooKeeperEnsemble(tmp_path / "ensemble", patience_ticks=40) as ensemble:
        yield ensemble


@pytest.fixture
def encrypted_zookeeper(
    tmp_path: Path, certificates: Path
) -> Iterator[tuple[ZooKeeperServer, Path]]:
    """A ZooKeeper that speaks TLS and knows the clients of `certificates`; what to trust."""
    keys = Keys(tmp_path / "keys", certificates / "ca.crt")
    with ZooKeeperServer(tmp_path / "zookeeper", tls=keys) as server:
        yield server, keys.certificate


@pytest.fixture(scope="session")
def consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consul]:
    """The Consul server of the whole run; tests keep apart by `consul_prefix`."""
    with Consul(tmp_path_factory.mktemp("consul")) as server:
        yield server
        server.kill()


@pytest.fixture
def own_consul(tmp_path: Path) -> Iterator[Consul]:
    """A Consul server of the test's own, to do anything to; costs two seconds."""
    with Consul(tmp_path / "consul") as server:
        yield server
        server.kill()


@pytest.fixture
def consul_cluster(tmp_path: Path) -> Iterator[ConsulCluster]:
    """Three Consul servers of the test's own; a leader without peers steps down after 2.5 s."""
    with ConsulCluster(tmp_path / "cluster", raft_multiplier=5) as cluster:
        yield cluster


@pytest.fixture
def consul_prefix() -> str:
    """A prefix of the test's own on the shared Consul server."""
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture
def consul_proxy(consul: Consul) -> Iterator[Proxy]:
    """A network of the test's own to the shared Consul server, for plain HTTP."""
    with Proxy(consul.host, consul.port) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """The etcd of the whole run, plain HTTP; tests keep apart by the prefix of their keys.

    It is shared, so a test must not pause or kill it: `own_etcd` is there for that.
    """
    with Etcd(tmp_path_factory.mktemp("etcd")) as server:
        yield server
    server.remove_data()


@pytest.fixture
def etcd_proxy(etcd: Etcd) -> Iterator[Proxy]:
    """A network of the test's own to the shared etcd."""
    with Proxy("127.0.0.1", etcd.port) as proxy:
        yield proxy


@pytest.fixture
def own_etcd(tmp_path: Path) -> Iterator[Etcd]:
    """An etcd of the test's own, to do anything to."""
    with Etcd(tmp_path / "etcd") as server:
        yield server
    server.remove_data()


@pytest.fixture
def etcd_certificates(tmp_path: Path) -> Path:
    """A folder with `ca.crt`, and with `NAME.crt` and `NAME.key` of the server and of clients."""
    return certify(tmp_path / "etcd-certificates", "etcd", "candidate", "_nameless")


@pytest.fixture
def certified_etcd(tmp_path: Path, etcd_certificates: Path) -> Iterator[Etcd]:
    """An etcd of the test's own that speaks TLS, and wants a certificate of each client."""
    with Etcd(tmp_path / "etcd", certificates=etcd_certificates) as server:
        yield server
    server.remove_data()


@pytest.fixture
def etcd_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three members of the test's own."""
    with Cluster(tmp_path / "cluster") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The PostgreSQL server of the whole run; `own_postgres` is there to be tormented."""
    yield from _served(Postgres())


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A PostgreSQL server of the test's own, to do anything to; costs two seconds."""
    yield from _served(Postgres())


@pytest.fixture(scope="session")
def pgbouncer(postgres: Postgres) -> Iterator[PgBouncer]:
    """A pooler in transaction mode before the PostgreSQL server of the whole run."""
    yield from _served(PgBouncer(postgres))


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    """The MariaDB server of the whole run; `own_mariadb` is there to be tormented."""
    yield from _served(MariaDb())


@pytest.fixture
def own_mariadb() -> Iterator[MariaDb]:
    """A MariaDB server of the test's own, to do anything to; costs a few seconds."""
    yield from _served(MariaDb())


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMq]:
    """The RabbitMQ server of the whole run; tests keep apart by names, and leave it alone."""
    with RabbitMq(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server


@pytest.fixture
def own_rabbitmq(tmp_path: Path) -> Iterator[RabbitMq]:
    """A RabbitMQ server of the test's own, to do anything to; costs three seconds."""
    with RabbitMq(tmp_path / "rabbitmq") as server:
        yield server


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """The Kafka server of the whole run; tests keep apart by topics, and leave it alone."""
    with Kafka(tmp_path_factory.mktemp("kafka")) as server:
        yield server


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[Kafka]:
    """A Kafka server of the test's own with two doors, to do anything to; costs four seconds."""
    with Kafka(tmp_path / "kafka", doors=2) as server:
        yield server


def _served(server: _Server) -> Iterator[_Server]:
    try:
        with server:
            yield server
    finally:
        server.kill()
        server.remove_data()
