"""A denied right is exit code 77, in each store that knows rights, whatever command meets it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis as client

from tests.cli.conftest import Start, create
from tests.cli.processes import run
from tests.faces.programs import until
from tests.servers.consul import Consul
from tests.servers.etcd import Etcd
from tests.servers.kubernetes import ApiServer, Rule
from tests.servers.mariadb import MariaDb
from tests.servers.postgresql import Postgres
from tests.servers.redis import Redis
from tests.servers.zookeeper import ZooKeeperServer

NOPERM = 77
REDIS_LOOKS = "+evalsha +eval +info +time +hmget +hget +hgetall +hlen +subscribe +ping"


@dataclass(frozen=True)
class Rights:
    """One store by the URL of its owner, and by that of somebody who may not write, or nothing."""

    owner: str
    limited: str
    may_look: bool = True


@pytest.fixture
def postgresql(postgres: Postgres) -> Iterator[Rights]:
    name = f"rights_{secrets.token_hex(4)}"
    postgres.execute(f"CREATE SCHEMA {name}")
    postgres.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'word'")
    owner = f"{postgres.url()}?schema={name}"
    create(owner)
    postgres.execute(f"GRANT USAGE ON SCHEMA {name} TO {name}")
    postgres.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {name} TO {name}")
    yield Rights(owner, f"{postgres.url(user=name, password='word')}?schema={name}")
    postgres.execute(f"DROP SCHEMA {name} CASCADE")


@pytest.fixture
def mysql(mariadb: MariaDb) -> Rights:
    user = f"u_{secrets.token_hex(4)}"
    create(mariadb.url())
    mariadb.execute(f"CREATE USER '{user}'@'127.0.0.1' IDENTIFIED BY 'word'")
    mariadb.execute(f"GRANT SELECT ON tests.* TO '{user}'@'127.0.0.1'")
    return Rights(mariadb.url(), mariadb.url(user=user, password="word"))


@pytest.fixture
def kubernetes(api_server: ApiServer, namespace: str) -> Iterator[Rights]:
    def url(user: str = "") -> str:
        file = api_server.kubeconfig(user) if user else api_server.kubeconfig()
        return f"kubernetes://{namespace}?kubeconfig={file}"

    grant = api_server.grant("candidate-4", (Rule(("get", "list", "watch")),), namespace)
    yield Rights(url(), url("candidate-4"))
    api_server.revoke(grant)


@pytest.fixture
def kubernetes_without_rules(api_server: ApiServer, namespace: str) -> Rights:
    url = f"kubernetes://{namespace}?kubeconfig="
    owner, nobody = api_server.kubeconfig(), api_server.kubeconfig("nobody")
    return Rights(f"{url}{owner}", f"{url}{nobody}", may_look=False)


@pytest.fixture
def etcd_store(own_etcd: Etcd) -> Rights:
    own_etcd.add_user("writer", "w", {"team/": "READWRITE"})
    own_etcd.add_user("reader", "r", {"team/": "READ"})
    own_etcd.enable_auth("root's")
    where = f"{own_etcd.address}/team?tls=0"
    return Rights(f"etcd://writer:w@{where}", f"etcd://reader:r@{where}")


@pytest.fixture
def redis(redis_server: Redis) -> Rights:
    where = f"{redis_server.host}:{redis_server.port}"
    prefix = f"rights-{secrets.token_hex(4)}"
    words = f"on >word ~{prefix} &{prefix}/* {REDIS_LOOKS}".split()
    with client.Redis(host=redis_server.host, port=redis_server.port) as chief:
        chief.execute_command("ACL", "SETUSER", prefix, *words)
    return Rights(
        f"redis://{where}?prefix={prefix}", f"redis://{prefix}:word@{where}?prefix={prefix}"
    )


@pytest.fixture
def consul_store(consul: Consul, consul_prefix: str) -> Rights:
    token = consul.grant(f'key_prefix "{consul_prefix}/" {{ policy = "read" }}')
    return Rights(consul.url(consul_prefix), consul.url(consul_prefix, token=token))


@pytest.fixture
def zookeeper_store(zookeeper: ZooKeeperServer) -> Rights:
    where = f"127.0.0.1:{zookeeper.port}/rights-{secrets.token_hex(4)}"
    owner = f"zookeeper://owner:word@{where}"
    create(owner)
    return Rights(owner, f"zookeeper://stranger:word@{where}", may_look=False)


STORES = [
    "postgresql",
    "mysql",
    "kubernetes",
    "kubernetes_without_rules",
    "etcd_store",
    "redis",
    "consul_store",
    "zookeeper_store",
]


@pytest.fixture(params=STORES)
def rights(request: pytest.FixtureRequest) -> Rights:
    found: Rights = request.getfixturevalue(request.param)
    return found


def test_a_missing_right_is_no_temporary_failure(rights: Rights, start: Start) -> None:
    name = f"bill-{secrets.token_hex(4)}"
    holder = start("run", name, "--ttl", "4", "--store", rights.owner, "--", "sleep", "60")

    def status(url: str) -> dict[str, object]:
        found: dict[str, object] = run("status", name, "--json", "--store", url).json
        return found

    until(lambda: status(rights.owner)["state"] == "held", "somebody holds")
    for command in (["status", name], ["step-down", name]):
        done = run(*command, "--store", rights.limited)
        if command[0] == "status" and rights.may_look:
            assert done.code == 0, done.err
        else:
            assert (done.code, done.out) == (NOPERM, ""), (command, done.err)
            errors = [line for line in done.err.splitlines() if "incumbent: error: " in line]
            assert errors == done.err.splitlines()[-1:]
    holder.process.terminate()
    holder.wait()
    words = ["--ttl", "1", "--wait", "4", "--store", rights.limited, "--", "true"]
    for more in ([], ["-q"], ["--json"]):
        done = run("run", name, *more, *words)
        assert done.code == NOPERM, (more, done.err)
        assert done.err
    # Nobody holds, and nothing has to be waited out: the take, or the look before it, is denied.
    done = run("run", name, "--no-wait", "--ttl", "1", "--store", rights.limited, "--", "true")
    assert done.code == NOPERM, done.err


def test_not_elected_is_temporary_where_no_right_was_denied(
    postgresql: Rights, start: Start
) -> None:
    """Who may only look does not try to take what somebody holds: that is the reason then."""
    holder = start("run", "bill", "--ttl", "4", "--store", postgresql.owner, "--", "sleep", "60")

    def held() -> bool:
        found = run("status", "bill", "--json", "--store", postgresql.owner).json
        return bool(found["state"] == "held")

    until(held, "somebody holds")
    done = run("run", "bill", "--no-wait", "--store", postgresql.limited, "--", "true")
    assert done.code == 75, done.err
    assert "is held by" in done.err
    holder.process.terminate()
    holder.wait()
