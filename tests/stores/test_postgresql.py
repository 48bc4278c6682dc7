"""The PostgreSQL store on a real server, directly and through PgBouncer."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from incumbent.core.records import Holding, StepDownRequest
from incumbent.errors import (
    ConfigError,
    OutcomeUnknown,
    PermissionDenied,
    StoreAbsent,
    StoreUnavailable,
    StoreUnusable,
)
from incumbent.stores import open_store
from incumbent.stores.api import Finding
from incumbent.testing import conformance
from incumbent.testing.conformance.kit import Watch
from tests.servers.ports import claim_port
from tests.servers.postgresql import PgBouncer, Postgres
from tests.servers.tls import certify_server
from tests.stores.sql_harness import (
    NAME,
    TTL_S,
    SqlHarness,
    a_name,
    at_beat,
    failing,
    opened,
    taken,
)


@pytest.fixture
def schema(postgres: Postgres) -> Iterator[str]:
    """A schema of the test's own, in which there are no tables yet."""
    name = f"schema_{secrets.token_hex(4)}"
    postgres.execute(f"CREATE SCHEMA {name}")
    yield name
    postgres.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")


# -- the definition of done -----------------------------------------------------------------------


@pytest.mark.parametrize("case", conformance.CASES, ids=str)
def test_directly(case: conformance.Case, postgres: Postgres) -> None:
    conformance.run(case, lambda: SqlHarness(postgres.url(), postgres.execute))


@pytest.mark.parametrize("case", conformance.CASES, ids=str)
def test_through_a_pooler(case: conformance.Case, postgres: Postgres, pgbouncer: PgBouncer) -> None:
    conformance.run(case, lambda: SqlHarness(pgbouncer.url, postgres.execute))


@pytest.mark.parametrize("case", conformance.CASES, ids=str)
def test_through_a_pooler_and_listening_past_it(
    case: conformance.Case, postgres: Postgres, pgbouncer: PgBouncer
) -> None:
    url = f"{pgbouncer.url}?listen={postgres.host}:{postgres.port}"
    conformance.run(case, lambda: SqlHarness(url, postgres.execute))


# -- the address and the rights -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("postgresql://h/a/b", "one database"),
        ("postgresql://h/a?sslmod=require", "does not know the option 'sslmod'"),
        ("postgresql://h/a?schema=a;b", "schema='a;b'"),
        ("postgresql://h/a?listen=h", "HOST:PORT"),
        ("postgresql://h/a?listen=h:x", "HOST:PORT"),
    ],
)
def test_an_address_that_cannot_be(url: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        open_store(url)


def test_what_is_shown_of_an_address_has_no_secrets() -> None:
    store = open_store("postgres://me:secret@h:5433/db?sslmode=require&schema=s")
    assert store.url == "postgresql://me@h:5433/db?schema=s"
    assert open_store("postgresql://u@[fe80::1]/db").url == "postgresql://u@[fe80::1]/db"
    assert open_store("postgresql:///db?host=/run/postgresql").url == "postgresql:///db"


def test_who_may_not_connect_is_told_why(postgres: Postgres, tmp_path: Path) -> None:
    base = postgres.url()
    address = f"{postgres.host}:{postgres.port}"
    other = certify_server(tmp_path)
    nobody = claim_port()

    async def main() -> None:
        await failing(postgres.url(password="wrong"), PermissionDenied, "authentication failed")
        await failing(postgres.url(user="stranger"), PermissionDenied, "authentication failed")
        await failing(f"postgresql://tests@{address}/tests", PermissionDenied, "no password")
        await failing(base.removesuffix("tests") + "nowhere", StoreUnusable, "does not exist")
        trust = f"?sslmode=verify-full&sslrootcert={other.authority}"
        await failing(base + trust, StoreUnusable, "certificate verify failed")
        await failing(base + "?sslmode=odd", StoreUnusable, "sslmode")
        await failing(postgres.url(address=f"127.0.0.1:{nobody}"), StoreUnavailable, "refused")
        await failing(base + "?schema=nowhere", StoreUnusable, "nowhere")

    asyncio.run(main())


def test_a_server_whose_certificate_we_trust(postgres: Postgres) -> None:
    certificate = postgres.certificate
    assert certificate is not None

    async def main() -> None:
        trust = f"?sslmode=verify-full&sslrootcert={certificate.authority}"
        async with opened(postgres.url() + trust) as store:
            name = a_name()
            with Watch(store, name) as watch:
                held = await taken(store, name)
                await watch.until(lambda s: s.term == held.term, "the take, over TLS")

    asyncio.run(main())


GRANTS = """
GRANT USAGE ON SCHEMA {schema} TO {user};
GRANT SELECT, INSERT, UPDATE ON {schema}.incumbent_counter, {schema}.incumbent_election TO {user};
GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.incumbent_session TO {user};
"""


def test_the_rights_of_the_documentation_are_enough_and_less_is_named(
    postgres: Postgres, schema: str
) -> None:
    user = f"user_{secrets.token_hex(4)}"
    postgres.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'word'")
    url = f"{postgres.url(user=user, password='word')}?schema={schema}"
    name = a_name()

    async def main() -> None:
        await failing(url, PermissionDenied, "permission denied for schema")
        postgres.execute(f"GRANT USAGE ON SCHEMA {schema} TO {user}")
        await failing(url, PermissionDenied, "permission denied for schema")
        async with opened(f"{postgres.url()}?schema={schema}") as admin:
            await taken(admin, name)
        await failing(url, PermissionDenied, "permission denied for table")
        postgres.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {user}")
        async with opened(url, create=False) as looker:
            seen = await looker.read(name)
            with pytest.raises(PermissionDenied):
                await looker.ask(name, StepDownRequest(seen.term))
        postgres.execute(GRANTS.format(schema=schema, user=user))
        async with opened(url) as store:
            other = a_name()
            held = await taken(store, other)
            assert (await store.release(held, held.lease, "")).holding is Holding.VACANT
            await taken(store, name, over=await store.read(name))

    asyncio.run(main())


def test_who_only_looks_creates_nothing(postgres: Postgres, schema: str) -> None:
    url = f"{postgres.url()}?schema={schema}"

    async def main() -> None:
        for _ in range(2):
            looker = open_store(url)
            with pytest.raises(StoreAbsent):
                await looker.open(create=False)
            await looker.close()
        stores = [open_store(url) for _ in range(10)]
        await asyncio.gather(*(store.open() for store in stores))
        for store in stores:
            assert await store.elections() == []
            await store.close()

    asyncio.run(main())


def test_tables_of_another_format_are_left_alone(postgres: Postgres, schema: str) -> None:
    url = f"{postgres.url()}?schema={schema}"

    async def main() -> None:
        async with opened(url) as store:
            await taken(store, a_name())
        postgres.execute(f"UPDATE {schema}.incumbent_counter SET serial = 2 WHERE name = ''")
        await failing(url, StoreUnusable, "have format 2")

    asyncio.run(main())


def test_tables_that_are_dropped_under_a_holder(postgres: Postgres, schema: str) -> None:
    async def main() -> None:
        async with opened(f"{postgres.url()}?schema={schema}") as store:
            held = await taken(store, a_name())
            postgres.execute(f"DROP SCHEMA {schema} CASCADE")
            with pytest.raises(StoreAbsent, match="dropped"):
                await store.renew(held.lease)

    asyncio.run(main())


# -- a server that is not what it should be -------------------------------------------------------


def test_a_standby_is_refused(own_postgres: Postgres) -> None:
    async def main() -> None:
        async with opened(own_postgres.url()) as store:
            await taken(store, NAME)
            own_postgres.stop()
            signal_file = own_postgres.folder / "data" / "standby.signal"
            signal_file.touch()
            own_postgres.start()
            with pytest.raises(StoreUnusable, match="is a standby"):
                await store.read(NAME)
            with pytest.raises(StoreUnusable, match="name the primary"):
                await store.open_session("a_1", TTL_S)
        await failing(own_postgres.url(), StoreUnusable, "is a standby")

    asyncio.run(main())


def test_a_commit_that_no_standby_has_confirms_nothing(own_postgres: Postgres) -> None:
    """The server calls it a success, with a warning; and the role's own setting would not wait."""

    async def main() -> None:
        async with opened(own_postgres.url()) as store:
            held = await taken(store, NAME)
            own_postgres.execute("ALTER ROLE tests SET synchronous_commit = off")
            own_postgres.execute("ALTER SYSTEM SET synchronous_standby_names = 'ghost'")
            own_postgres.execute("SELECT pg_reload_conf()")
            # The time limit makes it wait for their end: a renewal on one that ends is not meant.
            own_postgres.execute(
                "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity "
                "WHERE application_name = 'incumbent'"
            )
            for end in ("pg_cancel_backend", "pg_terminate_backend"):
                renewing = asyncio.ensure_future(store.renew(held.lease))
                while not (found := await asyncio.to_thread(sync_waiting, own_postgres)):
                    assert not renewing.done(), renewing
                own_postgres.execute(f"SELECT {end}(%s)", found[0])
                with pytest.raises(OutcomeUnknown):
                    await renewing

    asyncio.run(main())


def sync_waiting(server: Postgres) -> list[Any]:
    return server.execute("SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'")


# -- what people do to rows -----------------------------------------------------------------------


def test_sessions_that_are_over_are_cleared_away(postgres: Postgres, schema: str) -> None:
    async def main() -> None:
        async with opened(f"{postgres.url()}?schema={schema}") as store:
            over = await store.open_session("a_1", TTL_S)
            live = await store.open_session("b_2", TTL_S)
            named = await taken(store, NAME)
            await store.close_session(over)
            await store.close_session(named.lease)
            new = await store.open_session("c_3", TTL_S)
            rows = postgres.execute(f"SELECT id FROM {schema}.incumbent_session")
            assert {row[0] for row in rows} == {live.key, named.lease.key, new.key}

    asyncio.run(main())


# -- being woken ----------------------------------------------------------------------------------


def test_doctor_tells_how_standbys_wake(postgres: Postgres, pgbouncer: PgBouncer) -> None:
    async def said(url: str) -> dict[str, Finding]:
        async with opened(url) as store:
            return {finding.check: finding for finding in await store.examine()}

    async def main() -> None:
        found = await said(postgres.url())
        assert found["notification"].ok
        assert "LISTEN" in found["notification"].text
        assert found["durability"].ok is False
        assert "fsync is off" in found["durability"].text
        found = await said(pgbouncer.url)
        assert found["notification"].ok is None
        assert "look every 1 s" in found["notification"].text
        found = await said(f"{pgbouncer.url}?listen={postgres.host}:{postgres.port}")
        assert found["notification"].ok

    asyncio.run(main())


def test_a_holder_has_no_lock_that_a_pooler_could_give_away(
    postgres: Postgres, pgbouncer: PgBouncer
) -> None:
    """A lock of a database session would be somebody else's as soon as the transaction is over."""

    async def main() -> None:
        async with opened(pgbouncer.url) as store:
            held = await taken(store, a_name())
            await store.renew(held.lease)
            locks = "SELECT locktype, mode FROM pg_locks WHERE locktype = 'advisory'"
            assert await asyncio.to_thread(postgres.execute, locks) == []
            assert (await store.read(held.name)).term == held.term

    asyncio.run(main())


def test_an_idle_standby_asks_nothing(postgres: Postgres) -> None:
    """What is said of a renewal is the whole news."""
    name = a_name()
    url = f"{postgres.url()}?application_name={name}"

    async def main() -> None:
        async with opened(postgres.url()) as holder, opened(url) as standby:
            held = await taken(holder, name)
            await standby.examine()
            with Watch(standby, name) as watch:
                await watch.until(lambda s: s.term == held.term, "the holder")
                lease = held.lease
                asked = queries(postgres, name)
                for _ in range(20):
                    lease = await holder.renew(lease)
                    await watch.until(at_beat(lease), "the renewal")
                assert queries(postgres, name) == asked

    asyncio.run(main())


def queries(server: Postgres, application: str) -> list[Any]:
    statement = "SELECT pid, query_start FROM pg_stat_activity WHERE application_name = %s"
    return sorted(server.execute(statement, (application,)))
