"""Checkpoints on real servers: deleted by hand, kept over a restart, and the rights for them."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from incumbent.core.records import Advance, Checkpoint
from incumbent.errors import CheckpointMoved, PermissionDenied
from incumbent.stores import naming, open_store
from incumbent.stores.api import Store
from incumbent.stores.kubernetes.checkpoints import lease_name
from incumbent.stores.kubernetes.wire import CHECKPOINT_LABEL
from incumbent.stores.memory import MemoryStore
from incumbent.stores.sql.api import Rows
from incumbent.stores.sql.checkpoints import SqlCheckpoints
from incumbent.testing.database import Database, MemoryServer
from tests.servers.etcd import Etcd
from tests.servers.kubernetes import CANDIDATES, ApiServer, Rule
from tests.servers.mariadb import MariaDb
from tests.servers.postgresql import Postgres
from tests.stores.subjects import (
    SUBJECTS,
    InFiles,
    OnConsul,
    OnEtcd,
    OnKubernetes,
    OnMysql,
    OnPostgresql,
    OnRedis,
    OnZooKeeper,
    Subject,
    make,
)

PART = "orders"
KEEPING = [
    name
    for name in SUBJECTS
    if name not in ("kubernetes, ConfigMaps", "kubernetes, EndpointSlices", "postgresql, pooled")
]


def key(name: str) -> str:
    return f"checkpoints-{naming.election_key(name)}/{naming.part_key(PART)}"


def delete(subject: Subject, store: Store, name: str) -> None:
    """Delete the checkpoint behind everybody's back."""
    where = f"election = '{name}' AND part = '{PART}'"
    if isinstance(store, MemoryStore):
        del store.shelf.checkpoints[name, PART]
    elif isinstance(subject, InFiles) and subject.scheme == "sqlite":
        with contextlib.closing(sqlite3.connect(subject.place.path)) as db:
            db.execute(f"DELETE FROM checkpoint WHERE {where}")
            db.commit()
    elif isinstance(subject, InFiles):
        (subject.place.path / "checkpoints" / name / f"{PART}.checkpoint").unlink()
    elif isinstance(subject, OnEtcd | OnConsul):
        subject.server.delete(f"{subject.id}/{key(name)}")
    elif isinstance(subject, OnZooKeeper):
        with subject.server.by_hand() as client:
            client.delete(f"/{subject.id}/{key(name)}", recursive=True)
    elif isinstance(subject, OnRedis):
        with contextlib.closing(subject.server.client()) as redis:
            redis.hdel(f"{subject.id}/checkpoints/{name}", PART)
    elif isinstance(subject, OnKubernetes):
        path = f"{subject.resource.path(subject.namespace)}/{lease_name(name, PART)}"
        subject.server.request("DELETE", path)
    elif isinstance(subject, OnPostgresql | OnMysql):
        subject.server.execute(f"DELETE FROM incumbent_checkpoint WHERE {where}")
    else:
        raise AssertionError(f"nobody has said how to delete in {subject.scheme}")


@pytest.mark.parametrize("kind", KEEPING)
def test_one_that_was_deleted_is_fresh_and_its_versions_do_not_come_back(
    kind: str, request: pytest.FixtureRequest
) -> None:
    subject = make(request, kind)

    async def main() -> None:
        name = subject.name()
        try:
            one, other = await subject.store(), await subject.store()
            versions = []
            at = await one.checkpoint(name, PART)
            for _ in range(3):
                for value in (b"x", b"y"):
                    at = await one.advance(at, value, 7)
                    versions.append(at.version)
                await asyncio.to_thread(delete, subject, one, name)
                late, at = at, await other.checkpoint(name, PART)
                assert at == Checkpoint(name, PART)
                assert await other.checkpoints(name) == []
                with pytest.raises(CheckpointMoved) as told:
                    await one.advance(late, b"late", 7)
                assert told.value.checkpoint == at
            assert len(set(versions)) == len(versions)
            anew = await one.advance(at, b"x", 7)
            for version in versions:
                with pytest.raises(CheckpointMoved):
                    await other.advance(Checkpoint(name, PART, b"x", 7, version), b"late", 7)
            assert await other.checkpoint(name, PART) == anew
        finally:
            await subject.close()

    asyncio.run(main())


class Recording(MemoryServer):
    """Remembers what it was told to write."""

    def __init__(self, database: Database) -> None:
        super().__init__(database, [])
        self.written: list[str] = []

    async def write(self, statements: Any, limit_s: float, *, urgent: bool = False) -> list[Rows]:
        self.written += statements
        return await super().write(statements, limit_s, urgent=urgent)


def test_rows_are_locked_in_one_order_whoever_writes_them_together() -> None:
    """Else two transactions may wait for each other."""

    async def main() -> list[str]:
        with contextlib.closing(Database()) as database:
            server = Recording(database)
            checkpoints = SqlCheckpoints(server)
            parts = ["c", "a", "d", "b"]
            over = [Checkpoint("e", part) for part in parts]
            written = await checkpoints.advance_all([Advance(at, b"x", 1) for at in over])
            again = [at for at in written if isinstance(at, Checkpoint)]
            await checkpoints.advance_all([Advance(at, b"y", 2) for at in again])
            return server.written

    changes = [text for text in asyncio.run(main()) if text.startswith(("INSERT", "UPDATE"))]
    assert [change.startswith("INSERT") for change in changes] == [True] * 4 + [False] * 4
    assert [next(part for part in "abcd" if f"'{part}'" in change) for change in changes] == [
        *"abcd",
        *"abcd",
    ]


def over_a_restart(url: str, restart: Callable[[], None]) -> None:
    name = f"election-{secrets.token_hex(4)}"

    async def main() -> None:
        store = open_store(url)
        await store.open()
        at = await store.advance(await store.checkpoint(name, PART), b"far", 7)
        await store.close()
        await asyncio.to_thread(restart)
        await store.open()
        assert await store.checkpoint(name, PART) == at
        assert await store.checkpoints(name) == [at]
        assert (await store.advance(at, b"further", 7)).value == b"further"
        await store.close()

    asyncio.run(main())


def test_etcd_keeps_them_over_a_restart(own_etcd: Etcd) -> None:
    over_a_restart(f"etcd://{own_etcd.address}/restarted?tls=0", own_etcd.restart)


def test_postgresql_keeps_them_over_a_restart(own_postgres: Postgres) -> None:
    over_a_restart(f"{own_postgres.url()}?sslmode=disable", own_postgres.restart)


# -- rights ---------------------------------------------------------------------------------------


async def noted(url: str, name: str) -> Checkpoint:
    store = open_store(url)
    await store.open()
    try:
        return await store.advance(await store.checkpoint(name, PART), b"x", 1)
    finally:
        await store.close()


def in_a_table_that_others_make(
    as_owner: str, as_user: str, grant: Callable[[], Any], name: str
) -> None:
    async def main() -> None:
        with pytest.raises(PermissionDenied):
            await noted(as_user, name)
        await noted(as_owner, name)
        with pytest.raises(PermissionDenied):
            await noted(as_user, name)
        await asyncio.to_thread(grant)
        assert (await noted(as_user, name)).value == b"x"

    asyncio.run(main())


def test_the_rights_of_the_documentation_in_postgresql(postgres: Postgres) -> None:
    user, schema = f"user_{secrets.token_hex(4)}", f"schema_{secrets.token_hex(4)}"
    postgres.execute(f"CREATE SCHEMA {schema}")
    postgres.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'word'")
    owner = f"{postgres.url()}?schema={schema}"

    async def tables() -> None:
        store = open_store(owner)
        await store.open()
        await store.close()

    asyncio.run(tables())
    postgres.execute(f"GRANT USAGE ON SCHEMA {schema} TO {user}")
    postgres.execute(f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA {schema} TO {user}")
    try:
        in_a_table_that_others_make(
            owner,
            f"{postgres.url(user=user, password='word')}?schema={schema}",
            lambda: postgres.execute(
                f"GRANT SELECT, INSERT, UPDATE ON {schema}.incumbent_checkpoint TO {user}"
            ),
            "e",
        )
    finally:
        postgres.execute(f"DROP SCHEMA {schema} CASCADE")


def test_the_rights_of_the_documentation_in_mysql(mariadb: MariaDb) -> None:
    user, name = f"u_{secrets.token_hex(4)}", f"election-{secrets.token_hex(4)}"
    mariadb.execute("DROP TABLE IF EXISTS incumbent_checkpoint")
    mariadb.execute(f"CREATE USER '{user}'@'127.0.0.1' IDENTIFIED BY 'word'")

    def grant(*tables: str) -> None:
        for table in tables:
            words = f"SELECT, INSERT, UPDATE ON tests.{table} TO '{user}'@'127.0.0.1'"
            mariadb.execute(f"GRANT {words}")

    async def tables() -> None:
        store = open_store(mariadb.url())
        await store.open()
        await store.close()

    asyncio.run(tables())
    grant("incumbent_counter", "incumbent_session", "incumbent_election")
    in_a_table_that_others_make(
        mariadb.url(),
        mariadb.url(user=user, password="word"),
        lambda: grant("incumbent_checkpoint"),
        name,
    )


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_table_that_was_dropped_is_made_anew(kind: str, request: pytest.FixtureRequest) -> None:
    subject = make(request, kind)
    assert isinstance(subject, OnPostgresql | OnMysql)
    drop = "DROP TABLE incumbent_checkpoint"

    async def main() -> None:
        name = subject.name()
        try:
            store = await subject.store()
            at = await store.advance(await store.checkpoint(name, PART), b"x", 1)
            await asyncio.to_thread(subject.server.execute, drop)
            with pytest.raises(CheckpointMoved) as told:
                await store.advance(at, b"y", 1)
            assert told.value.checkpoint == Checkpoint(name, PART)
            await store.advance(told.value.checkpoint, b"y", 1)
            await asyncio.to_thread(subject.server.execute, drop)
            assert await store.checkpoint(name, PART) == Checkpoint(name, PART)
            assert await store.checkpoints(name) == []
        finally:
            await subject.close()

    asyncio.run(main())


def test_a_missing_right_to_a_lease_is_named(api_server: ApiServer, namespace: str) -> None:
    user = CANDIDATES[0]
    url = f"kubernetes://{namespace}?kubeconfig={api_server.kubeconfig(user, namespace=namespace)}"

    async def main() -> None:
        with pytest.raises(PermissionDenied) as denial:
            await noted(url, "jobs")
        rule = yaml.safe_load(str(denial.value).partition("the rule that is missing: ")[2])
        assert (rule["verbs"], rule["resourceNames"]) == (["get"], [lease_name("jobs", PART)])

    asyncio.run(main())
    rules = (Rule(("get", "update"), resource_names=(lease_name("jobs", PART),)), Rule(("create",)))
    grant = api_server.grant(user, rules, namespace)
    try:
        assert asyncio.run(noted(url, "jobs")).value == b"x"
        assert asyncio.run(noted(url, "jobs")).value == b"x"
    finally:
        api_server.revoke(grant)


def test_what_others_write_on_its_lease_stays(api_server: ApiServer, namespace: str) -> None:
    url = f"kubernetes://{namespace}?kubeconfig={api_server.kubeconfig(namespace=namespace)}"
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{lease_name('jobs', PART)}"

    async def main() -> None:
        store = open_store(url)
        await store.open()
        try:
            at = await store.advance(await store.checkpoint("jobs", PART), b"x", 1)
            obj = await asyncio.to_thread(api_server.request, "GET", path)
            obj["metadata"]["labels"]["team"] = "blue"
            obj["metadata"]["annotations"]["note"] = "by hand"
            await asyncio.to_thread(api_server.request, "PUT", path, obj)
            with pytest.raises(CheckpointMoved) as told:
                await store.advance(at, b"y", 1)
            assert told.value.checkpoint.value == b"x"
            await store.advance(told.value.checkpoint, b"y", 1)
        finally:
            await store.close()
        metadata = (await asyncio.to_thread(api_server.request, "GET", path))["metadata"]
        assert metadata["labels"] == {CHECKPOINT_LABEL: naming.digest("jobs"), "team": "blue"}
        assert metadata["annotations"]["note"] == "by hand"

    asyncio.run(main())
