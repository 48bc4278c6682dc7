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
    # Nobody holds, and nothing has to be waited out: the take, or the look before it, is denied.
    words = ["--no-wait", "--ttl", "15", "--store", rights.limited, "--", "true"]
    for more in ([], ["-q"], ["--json"]):
        done = run("run", name, *more, *words)
        assert done.code == NOPERM, (more, done.err)
        assert done.err


def test_who_waited_in_vain_for_a_right_is_told_so(postgresql: Rights) -> None:
    words = ["--ttl", "15", "--wait", "8", "--store", postgresql.limited, "--", "true"]
    done = run("run", "bill", *words)
    assert (done.code, "permission denied" in done.err) == (NOPERM, True), done.err


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


# -- doctor ---------------------------------------------------------------------------------------

GENERIC = "check the URL"


def doctor(url: str) -> tuple[int, dict[str, tuple[bool | None, str, str]]]:
    """Return the exit code, and verdict, text and advice of each finding about the store."""
    done = run("doctor", "--json", "--store", url)
    found = [one for one in done.json["findings"] if one["group"] == "store"]
    return done.code, {one["check"]: (one["ok"], one["found"], one["fix"] or "") for one in found}


def rights_in(found: dict[str, tuple[bool | None, str, str]]) -> dict[str, bool | None]:
    return {check: ok for check, (ok, _, _) in found.items() if check.startswith("right")}


TABLES = ("incumbent_counter", "incumbent_session", "incumbent_election")


def test_doctor_names_each_right_that_is_missing_in_postgresql(postgres: Postgres) -> None:
    name = f"rights_{secrets.token_hex(4)}"
    owner = f"{postgres.url()}?schema={name}"
    url = f"{postgres.url(user=name, password='word')}?schema={name}"
    postgres.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'word'")
    code, found = doctor(url)
    assert (code, found["schema"][2]) == (1, f'CREATE SCHEMA "{name}"')
    postgres.execute(f"CREATE SCHEMA {name}")
    try:
        _, found = doctor(url)
        assert rights_in(found) == {"right to use": False, "right to create": False}
        assert found["right to use"][2] == f"GRANT USAGE ON SCHEMA {name} TO {name}"
        postgres.execute(f"GRANT USAGE ON SCHEMA {name} TO {name}")
        code, found = doctor(url)
        assert (code, rights_in(found)) == (1, {"right to create": False})
        assert found["right to create"][2].startswith(f"GRANT CREATE ON SCHEMA {name} TO {name}")
        assert found["connection"][0] is None
        postgres.execute(f"GRANT CREATE ON SCHEMA {name} TO {name}")
        assert rights_in(doctor(url)[1]) == {"right to create": True}
        create(owner)
        code, found = doctor(url)
        assert rights_in(found) == {f"rights on {table}": False for table in TABLES}
        assert not any(GENERIC in fix for _, _, fix in found.values())
        for table in TABLES:  # What is said to be missing is what is missing.
            postgres.execute(found[f"rights on {table}"][2])
        assert rights_in(doctor(url)[1]) == {f"rights on {table}": True for table in TABLES}
        done = run("run", "bill", "--wait", "9", "--ttl", "3", "--store", url, "--", "true")
        assert done.code == 0, done.err
    finally:
        postgres.execute(f"DROP SCHEMA {name} CASCADE")


def test_doctor_names_each_right_that_is_missing_in_mysql(mariadb: MariaDb) -> None:
    user, database = (f"{word}_{secrets.token_hex(4)}" for word in ("u", "d"))
    where = f"'{user}'@'127.0.0.1'"
    mariadb.execute(f"CREATE USER {where} IDENTIFIED BY 'word'")
    mariadb.execute(f"CREATE DATABASE {database}")

    def place(url: str) -> str:
        return f"{url.rpartition('/')[0]}/{database}"

    owner, url = place(mariadb.url()), place(mariadb.url(user=user, password="word"))
    mariadb.execute(f"GRANT SELECT ON {database}.* TO {where}")
    code, found = doctor(url)
    assert code == 1
    assert found["right to create"][0] is False
    assert found["right to create"][2].startswith(f"GRANT CREATE ON {database}.* TO {where}")
    assert rights_in(found) == {
        "right to create": False,
        **{f"rights on {table}": False for table in TABLES},
    }
    mariadb.execute(f"GRANT CREATE ON {database}.* TO {where}")
    assert doctor(url)[1]["right to create"][0] is True
    assert mariadb.execute(f"SHOW TABLES IN {database}") == []
    create(owner)
    code, found = doctor(url)
    assert rights_in(found) == {f"rights on {table}": False for table in TABLES}
    assert not any(GENERIC in fix for _, _, fix in found.values())
    for table in TABLES:
        mariadb.execute(found[f"rights on {table}"][2])
    assert rights_in(doctor(url)[1]) == {f"rights on {table}": True for table in TABLES}
    done = run("run", "bill", "--wait", "9", "--ttl", "3", "--store", url, "--", "true")
    assert done.code == 0, done.err
    mariadb.execute(f"DROP DATABASE {database}")


def test_doctor_gives_no_general_advice_beside_an_exact_one(
    kubernetes_without_rules: Rights, mariadb: MariaDb
) -> None:
    _, found = doctor(kubernetes_without_rules.limited)
    assert found["connection"][0] is True
    assert found["right to get"][0] is False
    assert not any(GENERIC in fix for _, _, fix in found.values())
    code, found = doctor(mariadb.url(password="wrong"))
    assert (code, found["connection"][0], found["connection"][2]) == (1, False, "")
