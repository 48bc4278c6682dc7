"""The store of MySQL and MariaDB on a real MariaDB server; see `test_sql` for what is common."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from incumbent.errors import (
    ConfigError,
    PermissionDenied,
    StoreAbsent,
    StoreUnavailable,
    StoreUnusable,
)
from incumbent.stores import open_store
from incumbent.stores.mysql.connection import NoTls
from incumbent.stores.mysql.server import _refusal
from incumbent.testing import conformance
from incumbent.testing.conformance.kit import Watch
from tests.servers.mariadb import MariaDb
from tests.servers.ports import claim_port
from tests.servers.proxy import Proxy
from tests.servers.tls import certify_server
from tests.stores.sql_harness import NAME, TTL_S, SqlHarness, a_name, failing, opened, taken

# -- the definition of done -----------------------------------------------------------------------


@pytest.mark.parametrize("case", conformance.CASES, ids=str)
def test_mariadb(case: conformance.Case, mariadb: MariaDb) -> None:
    conformance.run(case, lambda: SqlHarness(mariadb.url(), mariadb.execute))


# -- the address and the rights -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("mysql://h", "one database"),
        ("mysql://h/a/b", "one database"),
        ("mysql://h/a?sslmode=x", "does not know the option 'sslmode'"),
        ("mysql://h/a?ssl-mode=odd", "ssl-mode='ODD'"),
        ("mysql://h/a?ssl-mode=verify_ca", "needs ssl-ca"),
        ("mysql://h/a?ssl-ca=/nowhere", "No such file"),
    ],
)
def test_an_address_that_cannot_be(url: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        open_store(url)


def test_what_is_shown_of_an_address_has_no_secrets() -> None:
    assert open_store("mariadb://me:secret@h:3307/db").url == "mysql://me@h:3307/db"
    assert open_store("mysql://u@[fe80::1]/db?ssl-mode=required").url == "mysql://u@[fe80::1]/db"


def test_who_may_not_connect_is_told_why(mariadb: MariaDb, tmp_path: Path) -> None:
    base = mariadb.url()
    other = certify_server(tmp_path)
    trust = f"?ssl-ca={other.authority}"

    async def main() -> None:
        await failing(mariadb.url(password="wrong"), PermissionDenied, "Access denied")
        await failing(mariadb.url(user="stranger"), PermissionDenied, "Access denied")
        await failing(base.removesuffix("tests") + "nowhere", StoreUnusable, "Unknown database")
        await failing(base + trust, StoreUnusable, "certificate verify failed")
        nobody = f"127.0.0.1:{claim_port()}"
        await failing(mariadb.url(address=nobody), StoreUnavailable, "refused")

    asyncio.run(main())


def test_a_server_whose_certificate_we_trust(mariadb: MariaDb) -> None:
    certificate = mariadb.certificate
    assert certificate is not None

    async def main() -> None:
        async with opened(f"{mariadb.url()}?ssl-ca={certificate.authority}") as store:
            name = a_name()
            with Watch(store, name) as watch:
                held = await taken(store, name)
                await watch.until(lambda s: s.term == held.term, "the take, over TLS")

    asyncio.run(main())


def test_a_server_without_tls_will_do_unless_it_is_required() -> None:
    server = MariaDb(["--skip-ssl"])

    async def main() -> None:
        async with opened(server.url()) as store:
            await taken(store, NAME)
        assert server.certificate is not None
        for options in ("ssl-mode=REQUIRED", f"ssl-ca={server.certificate.authority}"):
            await failing(f"{server.url()}?{options}", NoTls, "doesn't support")

    try:
        with server:
            asyncio.run(main())
    finally:
        server.kill()
        server.remove_data()


def test_the_rights_of_the_documentation_are_enough_and_less_is_named(mariadb: MariaDb) -> None:
    user, name = "u_" + a_name(), a_name()
    mariadb.execute(f"CREATE USER '{user}'@'127.0.0.1' IDENTIFIED BY 'word'")
    url = mariadb.url(user=user, password="word")

    def grant(rights: str, *tables: str) -> None:
        for table in tables:
            mariadb.execute(f"GRANT {rights} ON tests.{table} TO '{user}'@'127.0.0.1'")

    async def main() -> None:
        async with opened(mariadb.url()) as admin:
            held = await taken(admin, name)
        await failing(url, PermissionDenied, "Access denied")
        grant("SELECT", "incumbent_counter", "incumbent_session", "incumbent_election")
        async with opened(url, create=False) as looker:
            assert (await looker.read(name)).term == held.term
            with pytest.raises(PermissionDenied, match="denied"):
                await looker.renew(held.lease)
        grant("INSERT, UPDATE", "incumbent_counter", "incumbent_election")
        grant("INSERT, UPDATE, DELETE", "incumbent_session")
        async with opened(url) as store:
            await taken(store, name, over=await store.read(name))

    asyncio.run(main())


def test_a_local_socket(mariadb: MariaDb) -> None:
    user = "u_" + a_name()
    mariadb.execute(f"CREATE USER '{user}'@'localhost' IDENTIFIED BY 'word'")
    mariadb.execute(f"GRANT ALL ON tests.* TO '{user}'@'localhost'")

    async def main() -> None:
        url = f"mariadb://{user}:word@/tests?socket={mariadb.folder / 'socket'}&ssl-mode=DISABLED"
        async with opened(url) as store:
            await taken(store, a_name())
        away = url.replace("/socket", "/elsewhere")
        await failing(away, StoreUnavailable, "No such file")

    asyncio.run(main())


def test_whoever_stops_waiting_for_a_silent_server_leaves_no_thread(mariadb: MariaDb) -> None:
    async def main() -> None:
        with Proxy(mariadb.host, mariadb.port) as proxy:
            async with opened(mariadb.url(address=proxy.address)) as store:
                before = set(threading.enumerate())
                proxy.drop_replies()
                for _ in range(5):
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.1):
                            await store.read(NAME)
                for thread in set(threading.enumerate()) - before:
                    if thread.name == "incumbent-mysql":
                        await asyncio.to_thread(thread.join, 5)
                        assert not thread.is_alive()

    asyncio.run(main())


# -- a server that is not what it should be -------------------------------------------------------


def test_tables_come_and_go_with_candidates_only(own_mariadb: MariaDb) -> None:
    url = own_mariadb.url()

    async def main() -> None:
        looker = open_store(url)
        with pytest.raises(StoreAbsent):
            await looker.open(create=False)
        await looker.close()
        stores = [open_store(url) for _ in range(5)]
        await asyncio.gather(*(store.open() for store in stores))
        for store in stores:
            assert await store.elections() == []
            await store.close()

        async with opened(url) as store:
            over, live = [await store.open_session(who, TTL_S) for who in ("a_1", "b_2")]
            named = await taken(store, NAME)
            await store.close_session(over)
            await store.close_session(named.lease)
            new = await store.open_session("c_3", TTL_S)
            rows = own_mariadb.execute("SELECT id FROM incumbent_session")
            assert {row[0] for row in rows} == {live.key, named.lease.key, new.key}

            own_mariadb.execute("SET GLOBAL read_only = 1")
            with pytest.raises(StoreUnusable, match="Name the primary"):
                await store.read(NAME)
            await failing(url, StoreUnusable, "Name the primary")
            own_mariadb.execute("SET GLOBAL read_only = 0")

            own_mariadb.execute("UPDATE incumbent_counter SET serial = 2 WHERE name = ''")
            await failing(url, StoreUnusable, "have format 2")
            own_mariadb.execute("ALTER TABLE incumbent_session ENGINE = MyISAM")
            await failing(url, StoreUnusable, "must be InnoDB")
            own_mariadb.execute("DROP TABLE incumbent_session")
            with pytest.raises(StoreAbsent, match="dropped"):
                await store.renew(live)

            findings = {finding.check: finding for finding in await store.examine()}
            assert findings["set-up"].ok
            assert findings["durability"].ok is False
            assert "look every" in findings["notification"].text
            own_mariadb.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 0")
            await failing(url, StoreUnusable, "would forget renewals")

    asyncio.run(main())


@pytest.mark.parametrize(
    "facts",
    [
        {"wsrep_on": "ON"},
        {
            "group_replication_group_name": "a-b-c",
            "group_replication_single_primary_mode": "OFF",
        },
    ],
)
def test_several_primaries_are_refused(facts: dict[str, str]) -> None:
    assert "two could lead" in _refusal(facts)
    assert not _refusal(dict.fromkeys(facts, ""))
