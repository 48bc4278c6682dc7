"""The Redis store on a real server: the suite for all stores, and what is its own."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from incumbent.core.records import Checkpoint, Claim, Held, Holding, Lease
from incumbent.errors import (
    CheckpointMoved,
    ConfigError,
    IncumbentError,
    OutcomeUnknown,
    PermissionDenied,
    StoreFull,
    StoreUnavailable,
    StoreUnusable,
)
from incumbent.runtime.settings import Settings
from incumbent.stores import open_store, schemes
from incumbent.stores.api import Grade
from incumbent.stores.kv import KeyValueStore
from incumbent.stores.kv.api import Entry, Report
from incumbent.stores.redis import CAPABILITIES, driver
from incumbent.stores.redis.view import View
from incumbent.testing import conformance
from incumbent.testing.conformance.kit import Candidate, Watch
from tests.servers.proxy import Proxy
from tests.servers.redis import Redis, certificate
from tests.stores.redis_kit import (
    RedisHarness,
    at,
    eventually,
    opened,
    raw,
    say,
    store_of,
    under,
)

NAME = "jobs"


@pytest.mark.parametrize("case", conformance.CASES, ids=str)
def test_conformance(case: conformance.Case, redis_server: Redis) -> None:
    conformance.run(case, lambda: RedisHarness(redis_server))


async def claim(store: KeyValueStore, identity: str = "a_1", ttl_s: float = 5.0) -> Claim:
    session = await store.open_session(identity, ttl_s)
    await swept(store)
    return Claim(identity, f"{identity}/{os.urandom(3).hex()}.1", ttl_s, session)


async def swept(store: KeyValueStore) -> None:
    """Wait until what is over was cleared away, which goes on beside, and asks the server too."""
    sweeping = vars(store)["_sweeping"]
    assert sweeping is not None
    await sweeping


async def take(store: KeyValueStore, name: str = NAME, identity: str = "a_1") -> Held:
    over = await store.read(name)
    return await store.take(name, await claim(store, identity), over)


# -- URLs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://", "redis://localhost:6379/0"),
        ("redis://h", "redis://h:6379/0"),
        ("redis://h:7/", "redis://h:7/0"),
        ("redis://h/3", "redis://h:6379/3"),
        ("redis://h?db=3", "redis://h:6379/3"),
        ("redis://[::1]:7", "redis://[::1]:7/0"),
        ("redis://:secret@h", "redis://h:6379/0"),
        ("redis://us%40er:se%2Fcret@h", "redis://us%40er@h:6379/0"),
        ("redis://h?prefix=a:b&replicas=accept", "redis://h:6379/0?prefix=a%3Ab&replicas=accept"),
        ("redis:///run/redis.sock", "redis:///run/redis.sock"),
        ("redis:///run/redis.sock?db=2&prefix=x", "redis:///run/redis.sock?db=2&prefix=x"),
        ("valkey://h", "valkey://h:6379/0"),
        ("rediss://h", "rediss://h:6379/0"),
        ("valkeys://h", "valkeys://h:6379/0"),
    ],
)
def test_urls(url: str, shown: str) -> None:
    store = open_store(url)
    assert store.url == shown
    assert store.capabilities.scheme == url.partition(":")[0]
    assert "secret" not in repr(vars(store)) + repr(vars(vars(store)["_driver"]))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://h/three", "number of a database"),
        ("redis://h/3?db=4", "twice"),
        ("redis:///run/redis.sock?db=x", "number of a database"),
        ("rediss:///run/redis.sock", "a Unix socket has no TLS"),
        ("redis://h?replicas=yes", "use 'accept'"),
        ("redis://h?prefix=a%20b", "prefix="),
        ("redis://h?prefix=a*", "prefix="),
        ("redis://h?timeout=3", "does not know the option 'timeout'"),
        ("redis://h?ssl_ca_certs=/etc/ca", "does not know the option"),
        ("rediss://h?ssl_ca_certs=/not/there", "is no file"),
        ("rediss://h?ssl_keyfile=/dev/null", "is no file"),
        ("redis://h?ssl_cert_reqs=none", "does not know the option"),
    ],
)
def test_urls_that_cannot_be_used(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        open_store(url)


def test_a_socket_and_a_database_of_its_own(tmp_path: Path) -> None:
    async def main(server: Redis, socket: str) -> None:
        async with (
            opened(f"redis://{socket}") as here,
            opened(server.url(database=3)) as elsewhere,
            opened(server.url()) as same,
        ):
            with Watch(elsewhere, NAME) as watch:
                await watch.until(lambda s: s.holding is Holding.ABSENT, "the absence")
                held = await take(here)
                assert (await same.read(NAME)).term == held.term
                assert (await elsewhere.read(NAME)).holding is Holding.ABSENT
                other = await take(elsewhere)
                await watch.until(under(other.term), "the take in its own database")
            assert not [seen for seen in watch.seen if seen.term == held.term]

    # The path of a socket has to be short.
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        socket = f"{folder}/socket"
        with Redis(tmp_path / "redis", settings=[f"unixsocket {socket}"]) as server:
            asyncio.run(main(server, socket))


def test_schemes_are_known() -> None:
    assert {"redis", "rediss", "valkey", "valkeys"} <= set(schemes())


# -- TLS, users, rights ---------------------------------------------------------------------------

RIGHTS = "+evalsha +eval +info +time +hmget +hget +hgetall +hlen +hset +hdel +hincrby +del"
CHANNELS = "+publish +subscribe +unsubscribe +ping"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("redis-certificates") / "server")


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory, certificates: Path) -> Iterator[Redis]:
    """A server with TLS, users and passwords."""
    settings = [
        "user default on >chief ~* &* +@all",
        f"user app on >app-secret ~incumbent &incumbent/* {RIGHTS} {CHANNELS} +select",
    ]
    folder = tmp_path_factory.mktemp("locked-redis")
    with Redis(folder, settings=settings, certificates=certificates) as server:
        yield server


def secure(server: Redis, certificates: Path, *, host: str = "127.0.0.1") -> str:
    trust = certificates / "server.crt"
    return f"rediss://app:app-secret@{host}:{server.tls_port}?ssl_ca_certs={trust}"


def test_the_rights_that_are_documented_suffice(locked: Redis, certificates: Path) -> None:
    text = Path(__file__).parents[2].joinpath("docs/stores/redis.md").read_text(encoding="utf-8")
    assert f"~incumbent &incumbent/* {RIGHTS} {CHANNELS} +select" in " ".join(text.split())

    async def main() -> None:
        url = secure(locked, certificates)
        async with opened(url) as a, opened(url) as b:
            with Watch(b, NAME) as watch:
                held = await take(a)
                await watch.until(under(held.term), "the take")
                await a.renew(held.lease)
                await a.release(held, held.lease, "")
                await watch.until(lambda s: s.holding is Holding.VACANT, "the release")
            await take(b)
            assert [seen.name for seen in await b.elections()] == [NAME]
            findings = {finding.check: finding for finding in await b.examine()}
        assert all(finding.ok for finding in findings.values()), findings
        assert findings["encryption"].text == "TLS"

    asyncio.run(main())


async def failure(url: str) -> IncumbentError:
    store = store_of(url)
    with pytest.raises(IncumbentError) as raised:
        await store.open()
    await store.close()
    assert "secret" not in str(raised.value)
    return raised.value


@pytest.mark.parametrize(
    ("user", "said"),
    [("app:wrong-secret@", "invalid username-password"), ("", "Authentication required")],
)
def test_a_wrong_password(locked: Redis, user: str, said: str) -> None:
    error = asyncio.run(failure(f"redis://{user}{locked.host}:{locked.port}"))
    assert isinstance(error, PermissionDenied)
    assert said in str(error)


def test_a_password_that_nobody_wants(redis_server: Redis) -> None:
    error = asyncio.run(failure(f"redis://:secret@{redis_server.host}:{redis_server.port}"))
    assert isinstance(error, PermissionDenied)


def test_a_certificate_that_is_not_trusted(locked: Redis, certificates: Path) -> None:
    url = f"rediss://app:app-secret@127.0.0.1:{locked.tls_port}"
    error = asyncio.run(failure(url))
    assert isinstance(error, StoreUnusable)
    assert "is not trusted" in str(error)
    error = asyncio.run(failure(secure(locked, certificates, host="localhost")))
    assert isinstance(error, StoreUnusable), "a certificate of another host"
    assert "is not trusted" in str(error)


def test_tls_with_a_port_that_has_none(
    locked: Redis, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("incumbent.stores.redis.client.CONNECT_S", 0.5)
    plain = secure(locked, certificates).replace(str(locked.tls_port), str(locked.port))
    assert isinstance(asyncio.run(failure(plain)), StoreUnavailable)


@pytest.mark.parametrize(
    "right", ["evalsha", "info", "time", "hget", "hmget", "hset", "hincrby", "publish"]
)
def test_without_a_right_nothing_is_written(locked: Redis, right: str) -> None:
    """Least of all by a script that has begun to write, and which nobody undoes."""
    user = f"without-{right}"
    prefix = f"of-{user}"
    url = f"redis://{user}:app-secret@{locked.host}:{locked.port}?prefix={prefix}"
    admin = {"username": "default", "password": "chief"}

    async def main() -> None:
        with raw(locked, **admin) as client:
            words = f"on >app-secret ~{prefix} &{prefix}/* {RIGHTS} {CHANNELS}".split()
            say(client, "ACL", "SETUSER", user, *words)
            async with opened(url) as store:
                over, asked = await store.read(NAME), await claim(store)
                before = client.hgetall(prefix)
                say(client, "ACL", "SETUSER", user, f"-{right}")
                with pytest.raises(PermissionDenied, match="a right is missing"):
                    await store.take(NAME, asked, over)
                after = client.hgetall(prefix)
                assert isinstance(before, dict)
                assert isinstance(after, dict)
                assert {**after, b"serial": b""} == {**before, b"serial": b""}

    asyncio.run(main())


def test_a_prefix_that_is_not_ours_is_denied(locked: Redis) -> None:
    url = f"redis://app:app-secret@{locked.host}:{locked.port}?prefix=theirs"
    assert isinstance(asyncio.run(failure(url)), PermissionDenied)


def test_without_the_right_to_subscribe_it_says_so(
    locked: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        with raw(locked, username="default", password="chief") as client:
            words = f"on >app-secret ~deaf {RIGHTS} +publish +subscribe".split()
            say(client, "ACL", "SETUSER", "deaf", *words)
        url = f"redis://deaf:app-secret@{locked.host}:{locked.port}?prefix=deaf"
        async with opened(url) as store:
            with Watch(store, NAME):
                await eventually("a warning", lambda: "noticed late" in caplog.text)
            findings = {finding.check: finding for finding in await store.examine()}
            assert findings["notifications"].ok is False
            assert "&deaf/0:*" in findings["notifications"].fix

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert "a right is missing" in caplog.text


# -- a server that is away, or silent -------------------------------------------------------------


def test_a_server_that_is_away(own_redis: Redis) -> None:
    async def main() -> None:
        async with opened(own_redis.url()) as store:
            held = await take(store)
            over = await store.read("other")
            waiting = await claim(store)
            await asyncio.to_thread(own_redis.kill)
            with pytest.raises((StoreUnavailable, OutcomeUnknown)):
                await store.renew(held.lease)
            for work in (
                store.renew(held.lease),
                store.read(NAME),
                store.take("other", waiting, over),
                store.connect(),
            ):
                with pytest.raises(StoreUnavailable, match="cannot be reached"):
                    await work
        assert isinstance(await failure(own_redis.url()), StoreUnavailable)
        nowhere = await failure("redis://nowhere.invalid")
        assert isinstance(nowhere, StoreUnavailable)

    asyncio.run(main())


def evaluations(server: Redis) -> int:
    """Return how often a script was run."""
    with raw(server) as client:
        told = say(client, "INFO", "commandstats")
    assert isinstance(told, dict)
    return sum(told.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))


@pytest.mark.parametrize("arrives", [True, False])
def test_an_outcome_that_is_unknown_is_found_out_and_nothing_is_repeated(
    own_redis: Redis, redis_proxy: Proxy, arrives: bool
) -> None:
    async def main() -> None:
        async with (
            opened(own_redis.url(address=redis_proxy.address)) as cut_off,
            opened(own_redis.url()) as other,
        ):
            over, asked = await cut_off.read(NAME), await claim(cut_off)
            before = evaluations(own_redis)
            (redis_proxy.drop_replies if arrives else redis_proxy.cut)()
            taking = asyncio.ensure_future(cut_off.take(NAME, asked, over))
            if arrives:
                await eventually("it ran", lambda: evaluations(own_redis) > before)
            else:
                await eventually("it was sent", lambda: under_way(cut_off))
            redis_proxy.refuse()
            with pytest.raises(OutcomeUnknown):
                await taking
            redis_proxy.heal()
            assert evaluations(own_redis) == before + arrives
            found = await cut_off.read_back(NAME, asked)
            assert isinstance(found, Held) == arrives
            assert (await other.read(NAME)).term == (asked.term if arrives else "")
            held = found if isinstance(found, Held) else await take(cut_off)
            assert isinstance(held, Held)
            await cut_off.renew(held.lease)

    asyncio.run(main())


def under_way(store: KeyValueStore) -> bool:
    """Tell whether a request of this store waits for its answer."""
    client: Any = vars(vars(store)["_driver"])["_client"]
    return bool(vars(client)["_lane"].turn.locked())


def test_a_renewal_does_not_queue_for_a_connection_that_is_being_passed_on(
    redis_server: Redis,
) -> None:
    """Between two requests its lock looks free, though the next one has been promised it."""

    async def main() -> None:
        async with opened(redis_server.url("prefix=passed-on")) as store:
            client: Any = vars(vars(store)["_driver"])["_client"]
            lane, chosen = vars(client)["_lane"], []
            let_go, first, second = asyncio.Event(), asyncio.Event(), asyncio.Event()

            async def hold() -> None:
                async with lane.taken():
                    first.set()
                    await let_go.wait()

            async def queue() -> None:
                second.set()
                async with lane.taken():
                    chosen.append("queued")

            async def urgent() -> None:
                await let_go.wait()
                assert not lane.turn.locked()
                async with client._request(writes=False, urgent=True) as line:
                    chosen.append("urgent")
                    assert line is not lane.line

            holding = asyncio.ensure_future(hold())
            await first.wait()
            tasks = [asyncio.ensure_future(queue()), asyncio.ensure_future(urgent())]
            await second.wait()
            let_go.set()
            await asyncio.gather(holding, *tasks)
            assert sorted(chosen) == ["queued", "urgent"]
            over = vars(client)["_urgent"].line
            assert over.connected
            async with client._request(writes=False, urgent=True) as line:
                assert line is lane.line
            assert not over.connected, "it is kept while nothing is in the way"

    asyncio.run(main())


def test_a_long_read_does_not_undo_what_was_taken_in_the_middle_of_it(
    redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is of several requests. What the first of them found absent may be taken before the last.

    A holder that heard of this as news would take its record for deleted, and stop its work.
    """
    monkeypatch.setattr(driver, "_MANY", 1)

    async def main() -> None:
        async with opened(redis_server.url("prefix=long-read")) as store:
            store_driver: Any = vars(store)["_driver"]
            client = vars(store_driver)["_client"]
            over, mine = await store.read(NAME), await claim(store)
            run, taken = client.run, list[Held]()

            async def between(script: str, key: str, *words: Any, **options: Any) -> Any:
                answer = await run(script, key, *words, **options)
                if f"elections/{NAME}" in words and not taken:
                    monkeypatch.setattr(client, "run", run)
                    taken.append(await store.take(NAME, mine, over))
                return answer

            monkeypatch.setattr(client, "run", between)
            keys = [f"elections/{NAME}", "elections/another", "elections/a-third"]
            reading = await store_driver._observe(keys)
            (held,) = taken
            assert reading.entries[f"elections/{NAME}"] is None
            assert reading.revision(f"elections/{NAME}") < held.snapshot.serial

    asyncio.run(main())


def test_a_take_that_a_renewal_overtook_is_looked_at_before_it_counts(
    redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The renewal could not ask about it, and somebody has deleted it by hand before that."""

    async def main() -> None:
        async with opened(redis_server.url("prefix=overtook")) as store:
            with Watch(store, NAME) as watch:
                over = await watch.until(lambda s: s.holding is Holding.ABSENT, "the absence")
                mine = await claim(store)
                assert mine.session is not None
                client = vars(vars(store)["_driver"])["_client"]
                run, renewed = client.run, list[Lease]()

                async def late(script: str, key: str, *words: Any, **options: Any) -> Any:
                    answer = await run(script, key, *words, **options)
                    if f"elections/{NAME}" in words and mine.session is not None and not renewed:
                        monkeypatch.setattr(client, "run", run)
                        with raw(redis_server) as admin:
                            admin.hdel("overtook", f"elections/{NAME}")
                        renewed.append(await store.renew(mine.session))
                    return answer

                monkeypatch.setattr(client, "run", late)
                held = await store.take(NAME, mine, over)
                assert renewed
                assert watch.seen[-1].holding is Holding.ABSENT
                assert watch.seen[-1].serial > held.snapshot.serial

    asyncio.run(main())


def test_a_read_that_is_older_than_our_own_write_is_no_news() -> None:
    told: list[Report] = []
    view = View()
    view.add("a", told.append)
    view.wrote("a", 7)
    assert not view.read("a", None, 6, anew=True)
    assert told == []
    assert not view.read("a", Entry("a", b"", 7, 7), 7, anew=False), "a surprise"
    assert [report.revision for report in told] == [7]
    assert view.read("a", None, 8, anew=False)


def test_a_request_that_is_cancelled_does_not_spoil_the_next(
    own_redis: Redis, redis_proxy: Proxy
) -> None:
    async def main() -> None:
        async with opened(own_redis.url(address=redis_proxy.address)) as store:
            held = await take(store)
            connections = redis_proxy.accepted
            redis_proxy.delay(0.2)
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await store.read("other")
            redis_proxy.delay(0)
            assert (await store.read(NAME)).term == held.term
            assert redis_proxy.accepted > connections

    asyncio.run(main())


# -- what stands in the server --------------------------------------------------------------------


def test_nothing_expires_and_everything_is_one_key(own_redis: Redis) -> None:
    async def main() -> None:
        async with opened(own_redis.url("prefix=apart")) as store:
            held = await take(store)
            await store.renew(held.lease)
            await store.release(held, held.lease, "")
            await take(store)

    asyncio.run(main())
    with raw(own_redis) as client:
        assert client.keys("*") == [b"apart"]
        assert client.ttl("apart") == -1
        told = say(client, "INFO", "commandstats")
        assert isinstance(told, dict)
        assert not [name for name in told if "expire" in name or "setex" in name]


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (("SET", "incumbent", "theirs"), "another program"),
        (("HSET", "incumbent", "user:1", "theirs"), "another program"),
        (("HSET", "incumbent", "format", "2", "world", "w"), "have format 2"),
    ],
)
def test_what_is_not_ours_is_left_alone(
    own_redis: Redis, write: tuple[str, ...], said: str
) -> None:
    with raw(own_redis) as client:
        say(client, *write)
        before = client.dump("incumbent")
        error = asyncio.run(failure(own_redis.url()))
        assert isinstance(error, StoreUnusable)
        assert said in str(error)
        assert client.dump("incumbent") == before


def test_an_entry_that_is_not_ours_is_foreign(own_redis: Redis) -> None:
    async def main() -> None:
        async with opened(own_redis.url()) as store:
            with raw(own_redis) as client:
                client.hset("incumbent", f"elections/{NAME}", "theirs")
            seen = await store.read(NAME)
            assert seen.holding is Holding.FOREIGN
            assert [one.holding for one in await store.elections()] == [Holding.FOREIGN]

    asyncio.run(main())


def test_who_only_looks_creates_nothing(own_redis: Redis) -> None:
    async def main() -> None:
        async with opened(own_redis.url(), create=False) as store:
            with Watch(store, NAME) as watch:
                await watch.until(lambda s: s.holding is Holding.ABSENT, "the absence")
            assert await store.elections() == []
            await store.examine()

    asyncio.run(main())
    with raw(own_redis) as client:
        assert client.keys("*") == []


def test_a_server_without_room(own_redis: Redis) -> None:
    async def main() -> None:
        async with opened(own_redis.url()) as store:
            held = await take(store)
            over, asked = await store.read("other"), await claim(store)
            with raw(own_redis) as client:
                client.config_set("maxmemory", 1)
                with pytest.raises(StoreFull, match="maxmemory"):
                    await store.take("other", asked, over)
                assert (await store.read("other")).holding is Holding.ABSENT
                client.config_set("maxmemory", 0)
            await store.renew(held.lease)

    asyncio.run(main())


# -- what it says of itself -----------------------------------------------------------------------


def test_what_the_doctor_finds(own_redis: Redis) -> None:
    async def main() -> None:
        async with opened(own_redis.url()) as store:
            findings = {finding.check: finding for finding in await store.examine()}
            assert all(finding.ok for finding in findings.values()), findings
            assert findings["version"].text.startswith(("Redis ", "Valkey "))
            with raw(own_redis) as client:
                client.config_set("maxmemory", "100mb")
                client.config_set("maxmemory-policy", "allkeys-lru")
            findings = {finding.check: finding for finding in await store.examine()}
            assert findings["memory"].ok is False
            assert "allkeys-lru" in findings["memory"].text
            await asyncio.to_thread(own_redis.kill)
            (finding,) = await store.examine()
            assert (finding.check, finding.ok) == ("reachable", False)

    asyncio.run(main())


def test_the_capabilities_hold(own_redis: Redis) -> None:
    """Those that no case of the suite asks about."""

    async def main() -> None:
        async with opened(own_redis.url()) as a, opened(own_redis.url()) as b:
            assert a.capabilities == CAPABILITIES
            assert a.capabilities.grade is Grade.EXCLUSIVE_WITH_FENCING
            h = RedisHarness(own_redis)
            with raw(own_redis) as client:
                one = Candidate(h, a, "a_1")
                held = await one.take(NAME)
                await swept(a)
                before = client.hget("incumbent", f"sessions/{held.lease.key}")
                calls = evaluations(own_redis)
                renewed = await one.renew(NAME)
                assert evaluations(own_redis) == calls + 1, "confirmed by one script"
                assert client.hget("incumbent", f"sessions/{held.lease.key}") != before
            assert renewed.version != held.lease.version
            assert str(held.token) in repr(held.snapshot.version), "the token is of the write"
            other = await Candidate(h, a, "a_1").claim()
            assert other.session is not None
            over = await b.read(NAME)
            fast = await b.take(NAME, replace(other, ttl_s=0.3, term="b/1.1"), over)
            assert fast.snapshot.ttl_s == 0.3, "any TTL"
            await h.close()

    asyncio.run(main())


def test_what_may_be_demanded() -> None:
    for require in ("token", "exclusive"):
        Settings.resolve(NAME, store="redis://h", require=require, armed=True)
    accepted = "redis://h?replicas=accept"
    Settings.resolve(NAME, store=accepted, require="token")
    with pytest.raises(ConfigError, match="for efficiency only"):
        Settings.resolve(NAME, store=accepted, require="exclusive", armed=True)


# -- processes ------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_leaves_the_parents_connections_alone(own_redis: Redis) -> None:
    async def main() -> None:
        async with opened(own_redis.url()) as store:
            with Watch(store, NAME) as watch:
                await watch.until(lambda s: s.holding is Holding.ABSENT, "the absence")
                held = await take(store)
                await watch.until(under(held.term), "the take")
                child = os.fork()
                if child == 0:
                    status = 1
                    try:
                        status = _in_the_child(own_redis.url())
                    finally:
                        os._exit(status)
                _, status = await asyncio.to_thread(os.waitpid, child, 0)
                assert os.waitstatus_to_exitcode(status) == 0
                lease = await store.renew(held.lease)
                await store.release(held, lease, "")
                await watch.until(lambda s: s.holding is Holding.VACANT, "the release")
                other = await store.read("of-the-child")
                assert other.holding is Holding.HELD

    asyncio.run(main())


def _in_the_child(url: str) -> int:
    import gc
    import threading

    async def main() -> None:
        async with opened(url) as store:
            await take(store, "of-the-child", "child_1")
            gc.collect()

    # The child of a fork within a running loop still has that loop as its thread's own.
    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    thread.join(20)
    return int(thread.is_alive())


def test_it_may_be_opened_again(own_redis: Redis) -> None:
    store = store_of(own_redis.url())

    async def main() -> str:
        await store.open()
        try:
            with Watch(store, NAME) as watch:
                # What a watch hears first ends an absence that was only read.
                await watch.until(lambda s: True, "a first report")
                held = await take(store)
                await watch.until(at(held.snapshot.version), "the take")
            return held.term
        finally:
            await store.close()

    assert asyncio.run(main()) != asyncio.run(main())


# -- checkpoints ----------------------------------------------------------------------------------


def test_a_checkpoint_outlives_the_server_and_its_version_does_not(own_redis: Redis) -> None:
    """What was held is not believed after a restart; how far the work had come is."""

    async def main() -> None:
        async with opened(own_redis.url()) as store:
            held = await take(store)
            first = await store.advance(await store.checkpoint(NAME, "p"), b"far", 7)
        await asyncio.to_thread(own_redis.restart)
        async with opened(own_redis.url()) as store:
            assert (await store.read(NAME)).term != held.term
            found = await store.checkpoint(NAME, "p")
            assert (found.value, found.token) == (b"far", 7)
            with pytest.raises(CheckpointMoved) as told:
                await store.advance(first, b"late", 7)
            assert told.value.checkpoint == found
            written = await store.advance(found, b"further", 9)
            assert await store.checkpoints(NAME) == [written]

    asyncio.run(main())


def test_what_is_no_checkpoint_is_refused(redis_server: Redis) -> None:
    prefix = "odd-checkpoints"

    async def main() -> None:
        async with opened(redis_server.url(f"prefix={prefix}")) as store:
            await store.advance(Checkpoint(NAME, "p"), b"x", 7)
            with raw(redis_server) as client:
                say(client, "HSET", f"{prefix}/checkpoints/{NAME}", "p", "by hand")
            with pytest.raises(StoreUnusable, match="HDEL it"):
                await store.checkpoint(NAME, "p")

    asyncio.run(main())
