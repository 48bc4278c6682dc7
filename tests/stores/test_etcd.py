"""The etcd store on real servers: its rules, a network that breaks, TLS, users, a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from incumbent.core import events as ev
from incumbent.core.records import Claim, Held, Holding, Lease, Snapshot, StepDownRequest
from incumbent.errors import (
    ConfigError,
    OutcomeUnknown,
    PermissionDenied,
    Refused,
    StoreError,
    StoreUnavailable,
    StoreUnusable,
)
from incumbent.stores import open_store
from incumbent.stores.api import Store, StoreURL, redact
from incumbent.stores.etcd import open as open_etcd
from incumbent.stores.etcd import settings, watch
from incumbent.stores.etcd.driver import EtcdKeyValue
from incumbent.stores.kv import ABSENT, Conflict, KeyValueStore, Report
from incumbent.testing import conformance
from incumbent.testing.conformance.kit import Watch
from tests.servers.etcd import Cluster, Etcd, b64
from tests.servers.kubernetes import certify
from tests.servers.proxy import Proxy
from tests.stores.candidate import candidate, plan

NAME = "jobs"
TTL_S = 5.0
ASK_EVERY_S = 0.05
"""Often enough to meet any moment of confirmation; who asks in a circle takes a processor."""


class EtcdHarness:
    ttl_s = TTL_S

    def __init__(self, server: Etcd) -> None:
        self._server = server
        self._prefix = f"conformance-{secrets.token_hex(4)}"
        self._stores: list[Store] = []

    def name(self) -> str:
        return f"election-{secrets.token_hex(4)}"

    async def store(self, *, create: bool = True) -> Store:
        url = f"etcd://{self._server.address}/{self._prefix}?tls=0"
        store = open_etcd(StoreURL.parse(url))
        self._stores.append(store)
        await store.open(create=create)
        return store

    async def delete(self, name: str) -> bool:
        await asyncio.to_thread(self._server.delete, self._key(name))
        return True

    async def scribble(self, name: str) -> bool:
        await asyncio.to_thread(self._server.put, self._key(name), b'{"format": 999}')
        return True

    async def disturb(self, name: str) -> bool:
        value = await asyncio.to_thread(self._server.get, self._key(name))
        assert value is not None
        changed = {**json.loads(value), "note": secrets.token_hex(4)}
        await asyncio.to_thread(self._server.put, self._key(name), json.dumps(changed).encode())
        return True

    async def close(self) -> None:
        for store in self._stores:
            await store.close()

    def _key(self, name: str) -> str:
        return f"{self._prefix}/elections/{name}"


@pytest.mark.parametrize("case", conformance.CASES, ids=str)
def test_conformance(case: conformance.Case, etcd: Etcd) -> None:
    conformance.run(case, lambda: EtcdHarness(etcd))


# -- helpers --------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def opened(
    *addresses: str, prefix: str = "", options: str = "tls=0"
) -> AsyncIterator[KeyValueStore]:
    store = made(*addresses, prefix=prefix, options=options)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def made(*addresses: str, prefix: str = "", options: str = "tls=0") -> KeyValueStore:
    store = open_etcd(StoreURL.parse(f"etcd://{','.join(addresses)}/{prefix}?{options}"))
    assert isinstance(store, KeyValueStore)
    return store


def driver_of(store: KeyValueStore) -> EtcdKeyValue:
    driver = store._driver
    assert isinstance(driver, EtcdKeyValue)
    return driver


def begin_with(store: KeyValueStore, number: int) -> None:
    """Have requests go to the member that the URL names in this place."""
    driver_of(store)._client._at = number


async def claim(store: Store, identity: str = "a_1", ttl_s: float = TTL_S) -> Claim:
    session = await store.open_session(identity, ttl_s)
    return Claim(identity, f"{identity}/{secrets.token_hex(3)}.1", ttl_s, session)


async def taken(store: Store, name: str = NAME, identity: str = "a_1") -> Held:
    return await store.take(name, await claim(store, identity), await store.read(name))


def at(lease: Lease) -> Callable[[Snapshot], bool]:
    return lambda snapshot: snapshot.lease_version == lease.version


@pytest.fixture
def prefix() -> str:
    return f"test-{secrets.token_hex(4)}"


# -- what stands in the URL -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("etcd://", "needs a server"),
        ("etcd:///prefix", "needs a server"),
        ("etcd://a:1,,b:2", "has no name"),
        ("etcd://a:1,b:x", "no server"),
        ("etcd://a?tls=2", "tls=0 or tls=1"),
        ("etcd://a?tsl=0", "does not know the option 'tsl'"),
        ("etcd://user@a", "a user and a password"),
        ("etcd://:secret@a", "a user and a password"),
        ("etcd://a?keyfile=/k", "no certfile="),
        ("etcd://a?tls=0&cafile=/ca", "certificates and tls=0"),
        ("etcd://a?cafile=/nowhere/ca.crt", "certificates to speak with etcd"),
        ("etcd://user:secret@127.0.0.1,10.0.0.1?tls=0", "password to '10.0.0.1' over plain HTTP"),
        ("etcd://a/x%00y", "NUL"),
    ],
)
def test_a_url_that_cannot_work_says_why(url: str, problem: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        open_etcd(StoreURL.parse(url))
    assert problem in str(refusal.value)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "servers", "prefix"),
    [
        ("etcd://a", ("https://a:2379",), "incumbent/"),
        ("etcd://a/", ("https://a:2379",), "incumbent/"),
        ("etcd://A:1,b/team", ("https://a:1", "https://b:2379"), "team/"),
        ("etcd://[::1]:1,[::1]/t/x/?tls=0", ("http://[::1]:1", "http://[::1]:2379"), "t/x/"),
        ("etcd://127.0.0.1//rooted?tls=1", ("https://127.0.0.1:2379",), "/rooted/"),
        ("etcd://u:p%2F%40@localhost?tls=0", ("http://localhost:2379",), "incumbent/"),
        ("etcd://u:p@far?tls=0&plain_password=1", ("http://far:2379",), "incumbent/"),
        ("etcd://u:p@far", ("https://far:2379",), "incumbent/"),
    ],
)
def test_what_a_url_means(url: str, servers: tuple[str, ...], prefix: str) -> None:
    found = settings.read(StoreURL.parse(url))
    assert (found.servers, found.prefix) == (servers, prefix)
    assert (found.tls is None) == servers[0].startswith("http:")


def test_secrets_are_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    url = "etcd://someone:s3cret@127.0.0.1:1,127.0.0.1:2/team?tls=0"

    async def main() -> None:
        store = open_store(url)
        assert store.url == "etcd://127.0.0.1:1,127.0.0.1:2/team"
        with pytest.raises(StoreUnavailable) as failure:
            await store.open()
        assert "s3cret" not in str(failure.value)
        await store.close()

    with caplog.at_level("DEBUG"):
        asyncio.run(main())
    parsed = StoreURL.parse(url)
    shown = f"{caplog.text}{parsed!r}{settings.read(parsed)!r}{redact(url)}"
    assert "s3cret" not in shown
    assert "someone" in shown


# -- what is known of a write ---------------------------------------------------------------------


def test_a_write_whose_answer_is_lost_is_unknown_and_found_again(
    etcd: Etcd, etcd_proxy: Proxy, prefix: str
) -> None:
    async def main() -> None:
        async with opened(etcd_proxy.address, prefix=prefix) as store:
            over, mine = await store.read(NAME), await claim(store)
            etcd_proxy.drop_replies()
            taking = asyncio.ensure_future(store.take(NAME, mine, over))
            async with opened(etcd.address, prefix=prefix) as other:
                with Watch(other, NAME) as watch:
                    await watch.until(lambda s: s.term == mine.term, "its effect")
            etcd_proxy.reset()
            with pytest.raises(OutcomeUnknown, match="no answer"):
                await taking
            etcd_proxy.heal()
            found = await store.read_back(NAME, mine)
            assert isinstance(found, Held)
            assert found.token == found.snapshot.serial

            etcd_proxy.drop_replies()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await store.renew(found.lease)
            etcd_proxy.heal()
            # The renewal was carried out, and what comes after it adopts its version.
            assert (await store.renew(found.lease)).version != found.lease.version

    asyncio.run(main())


def test_what_never_left_did_not_happen(etcd: Etcd, etcd_proxy: Proxy, prefix: str) -> None:
    async def main() -> None:
        async with opened(etcd_proxy.address, prefix=prefix) as store:
            over, mine = await store.read(NAME), await claim(store)
            etcd_proxy.refuse()
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                await store.take(NAME, mine, over)
            with pytest.raises(StoreUnavailable):
                await store.read(NAME)
            with pytest.raises(StoreUnavailable):
                await store.connect()
            assert [(f.check, f.ok) for f in await store.examine()] == [("reachable", False)]
            etcd_proxy.heal()
            await store.take(NAME, mine, await store.read(NAME))

    asyncio.run(main())


def test_no_space_is_no_promise_that_nothing_was_written(tmp_path: Path) -> None:
    """etcd may carry out a write and say this all the same: see the head of `client`."""

    async def main(server: Etcd) -> None:
        async with opened(server.address) as store:
            driver = driver_of(store)

            async def fill() -> None:
                for number in range(100):
                    await driver.swap({f"x/{number}": ABSENT}, {f"x/{number}": bytes(200_000)})

            with pytest.raises(OutcomeUnknown, match="database space exceeded"):
                await fill()
            assert (await store.read(NAME)).holding is Holding.ABSENT
            alarm = {f.check: f for f in await store.examine()}["alarms"]
            assert (alarm.ok, alarm.text) == (False, "NOSPACE")

    with Etcd(tmp_path / "etcd", arguments=("--quota-backend-bytes=8000000",)) as server:
        asyncio.run(main(server))
    server.remove_data()


# -- several members ------------------------------------------------------------------------------


def test_the_next_member_is_asked_when_one_is_away(
    etcd: Etcd, etcd_proxy: Proxy, prefix: str
) -> None:
    async def main() -> None:
        async with opened(etcd_proxy.address, etcd.address, prefix=prefix) as store:
            begin_with(store, 0)
            held = await taken(store)
            assert etcd_proxy.accepted
            etcd_proxy.refuse()
            lease = await store.renew(held.lease)
            assert (await store.read(NAME)).term == held.term
            etcd_proxy.heal()
            before = etcd_proxy.accepted
            lease = await store.renew(lease)
            assert etcd_proxy.accepted == before, "it stays where it was answered"

    asyncio.run(main())


def test_a_silent_member_costs_one_attempt(etcd: Etcd, etcd_proxy: Proxy, prefix: str) -> None:
    async def main() -> None:
        async with opened(etcd_proxy.address, etcd.address, prefix=prefix) as store:
            begin_with(store, 0)
            held = await taken(store)
            etcd_proxy.cut()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await store.renew(held.lease)
            lease = await store.renew(held.lease)
            assert lease.version != held.lease.version

    asyncio.run(main())


def test_a_write_of_unknown_outcome_is_not_repeated(
    etcd: Etcd, etcd_proxy: Proxy, prefix: str
) -> None:
    async def main() -> None:
        async with (
            opened(etcd_proxy.address, etcd.address, prefix=prefix) as store,
            opened(etcd.address, prefix=prefix) as other,
        ):
            driver, second = driver_of(store), driver_of(other)
            reports: list[Report] = []
            came = asyncio.Event()

            def hear(report: Report) -> None:
                reports.append(report)
                came.set()

            second.follow("sessions/x", hear)
            await came.wait()
            came.clear()
            begin_with(store, 0)
            await driver.get("sessions/x")
            etcd_proxy.drop_replies()
            writing = asyncio.ensure_future(
                driver.swap({"sessions/x": ABSENT}, {"sessions/x": b"1"})
            )
            await came.wait()
            etcd_proxy.reset()
            with pytest.raises(OutcomeUnknown):
                await writing
            entry, _ = await second.get("sessions/x")
            assert entry == reports[-1].entry
            assert len([report for report in reports if report.entry is not None]) == 1
            # A repetition would have met a conflict, or another version.
            etcd_proxy.heal()
            with pytest.raises(Conflict):
                await driver.swap({"sessions/x": ABSENT}, {"sessions/x": b"1"})

    asyncio.run(main())


def test_cancelled_requests_leave_no_connection_behind(
    etcd: Etcd, etcd_proxy: Proxy, prefix: str
) -> None:
    async def main() -> None:
        async with opened(etcd_proxy.address, prefix=prefix) as store:
            held = await taken(store)
            for _ in range(3):
                etcd_proxy.cut()
                reads = [asyncio.ensure_future(store.read(NAME)) for _ in range(60)]
                await asyncio.wait(reads, timeout=0.2)
                for read in reads:
                    read.cancel()
                await asyncio.wait(reads)
                etcd_proxy.heal()
                async with asyncio.timeout(5):
                    results = await asyncio.gather(*(store.read(NAME) for _ in range(40)))
                assert {r.term for r in results} == {held.term}

    asyncio.run(main())


# -- following ------------------------------------------------------------------------------------


class Ear:
    """Collects the reports of one key."""

    def __init__(self, store: KeyValueStore, key: str) -> None:
        self.reports: list[Report] = []
        self._came = asyncio.Event()
        driver_of(store).follow(key, self)

    def __call__(self, report: Report) -> None:
        self.reports.append(report)
        self._came.set()

    async def until(self, fits: Callable[[Report], bool]) -> Report:
        async with asyncio.timeout(20):
            while not (self.reports and fits(self.reports[-1])):
                self._came.clear()
                await self._came.wait()
        return self.reports[-1]

    async def count(self, number: int) -> Report:
        return await self.until(lambda report: len(self.reports) >= number)

    async def absent(self) -> Report:
        return await self.until(lambda report: report.entry is None)

    async def value(self, value: bytes) -> Report:
        return await self.until(lambda r: r.entry is not None and r.entry.value == value)


def test_a_watch_that_broke_misses_nothing(etcd: Etcd, etcd_proxy: Proxy, prefix: str) -> None:
    async def main() -> None:
        async with (
            opened(etcd_proxy.address, prefix=prefix) as store,
            opened(etcd.address, prefix=prefix) as other,
        ):
            writer = driver_of(other)
            ear = Ear(store, "elections/a")
            assert (await ear.absent()).gap
            written = await writer.swap({"elections/a": ABSENT}, {"elections/a": b"first"})
            version = written["elections/a"].version
            await ear.value(b"first")
            for number in range(5):
                value = str(number).encode()
                etcd_proxy.reset()
                for what in (b"in between", value):
                    written = await writer.swap({"elections/a": version}, {"elections/a": what})
                    version = written["elections/a"].version
                await ear.value(value)
            etcd_proxy.reset()
            await writer.remove("elections/a", version)
            await ear.absent()
            assert len(ear.reports) == 13, "each state was told, those of the outages as well"
            assert not any(report.gap for report in ear.reports[1:])
            revisions = [report.revision for report in ear.reports]
            assert revisions == sorted(set(revisions))

    asyncio.run(main())


def test_what_etcd_has_forgotten_is_a_gap(own_etcd: Etcd, prefix: str) -> None:
    async def main() -> None:
        with Proxy("127.0.0.1", own_etcd.port) as proxy:
            async with (
                opened(proxy.address, prefix=prefix) as store,
                opened(own_etcd.address, prefix=prefix) as other,
            ):
                with Watch(store, "other") as quiet:
                    absence = await quiet.until(lambda s: s.holding is Holding.ABSENT, "absence")
                    ear = Ear(store, "elections/x")
                    await ear.absent()
                    proxy.refuse()
                    # Made, and gone again, and forgotten, while nobody could see it.
                    held = await taken(other, "other", "b_2")
                    await asyncio.to_thread(own_etcd.delete, f"{prefix}/elections/other")
                    await driver_of(other).swap({"elections/x": ABSENT}, {"elections/x": b"1"})
                    await asyncio.to_thread(own_etcd.compact)
                    proxy.heal()
                    assert (await ear.value(b"1")).gap
                    mine = await claim(store)
                    later = await quiet.until(
                        lambda s: s.lease_version != absence.lease_version, "an absence of its own"
                    )
                    with pytest.raises(Refused):
                        await store.take("other", mine, absence)
                    token = (await store.take("other", mine, later)).token
                    assert (token or 0) > (held.token or 0)

    asyncio.run(main())


def test_a_watch_that_falls_silent_is_noticed(
    etcd: Etcd, etcd_proxy: Proxy, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection stands, and nothing comes: as behind a member that was stopped."""
    monkeypatch.setattr(watch, "SILENCE_S", 0.3)
    monkeypatch.setattr(watch, "REQUEST_LIMIT_S", 0.3)

    async def main() -> None:
        async with (
            opened(etcd_proxy.address, etcd.address, prefix=prefix) as store,
            opened(etcd.address, prefix=prefix) as other,
        ):
            begin_with(store, 0)
            with Watch(store, NAME) as seen:
                held = await taken(other)
                await seen.until(lambda s: s.term == held.term, "the take")
                lease = await other.renew(held.lease)
                await seen.until(at(lease), "a renewal, so that the stream is there")
                etcd_proxy.cut()
                lease = await other.renew(lease)
                await seen.until(at(lease), "the renewal, read elsewhere")
                monkeypatch.setattr(watch, "SILENCE_S", 60.0)
                for _ in range(3):
                    lease = await other.renew(lease)
                    await seen.until(at(lease), "a renewal, told by a new stream")

    asyncio.run(main())


def test_an_absence_behind_a_silent_watch_is_asked_for_again(
    etcd: Etcd, etcd_proxy: Proxy, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read now and again, it looks unbroken; only the history tells that it was not."""
    monkeypatch.setattr(watch, "SILENCE_S", 0.3)
    monkeypatch.setattr(watch, "REQUEST_LIMIT_S", 0.3)

    async def main() -> None:
        async with (
            opened(etcd_proxy.address, etcd.address, prefix=prefix) as store,
            opened(etcd.address, prefix=prefix) as other,
        ):
            begin_with(store, 0)
            writer, ear = driver_of(other), Ear(store, "elections/a")
            await ear.absent()
            for cut in (False, True):
                if cut:
                    etcd_proxy.cut()
                written = await writer.swap({"elections/a": ABSENT}, {"elections/a": b"1"})
                await writer.remove("elections/a", written["elections/a"].version)
                await ear.count(5 if cut else 3)
            found = [report.entry is not None for report in ear.reports]
            assert found == [False, True, False, True, False]

    asyncio.run(main())


def test_a_store_that_lost_its_memory_is_followed_anew(
    own_etcd: Etcd, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watch that begins in the future says nothing until that has come."""
    monkeypatch.setattr(watch, "SILENCE_S", 0.3)

    async def main() -> None:
        async with opened(own_etcd.address, prefix=prefix) as store:
            driver = driver_of(store)
            version: Any = ABSENT
            for _ in range(50):
                written = await driver.swap({"elections/a": version}, {"elections/a": b"old"})
                version = written["elections/a"].version
            ears = [Ear(store, f"elections/{name}") for name in "ab"]
            await ears[0].value(b"old")
            await ears[1].absent()
            await asyncio.to_thread(own_etcd.kill)
            await asyncio.to_thread(own_etcd.remove_data)
            await asyncio.to_thread(own_etcd.start)
            assert (await ears[0].absent()).gap
            await driver.swap({"elections/b": ABSENT}, {"elections/b": b"new"})
            assert (await ears[1].value(b"new")).revision < version

    asyncio.run(main())


def test_many_elections_share_a_stream(etcd: Etcd, etcd_proxy: Proxy, prefix: str) -> None:
    async def main() -> None:
        async with (
            opened(etcd_proxy.address, prefix=prefix) as store,
            opened(etcd.address, prefix=prefix) as other,
        ):
            names = [f"many-{number}" for number in range(500)]
            mine = await claim(other)
            with contextlib.ExitStack() as stack:
                watches = {name: stack.enter_context(Watch(store, name)) for name in names}
                for name, seen in watches.items():
                    await seen.until(lambda s: s.holding is Holding.ABSENT, f"absence of {name}")
                for name in names:
                    await other.take(name, mine, await other.read(name))
                for seen in watches.values():
                    await seen.until(lambda s: s.term == mine.term, "the take")
                assert mine.session is not None
                lease = await other.renew(mine.session)
                for seen in watches.values():
                    await seen.until(at(lease), "the renewal of all")
                # One for the elections, one for the session, and those of requests.
                assert etcd_proxy.accepted <= 6
        few = [f"few-{number}" for number in range(watch.FEW)]
        async with opened(etcd.address, prefix=prefix) as store:
            with contextlib.ExitStack() as stack:
                watches = {name: stack.enter_context(Watch(store, name)) for name in few}
                for seen in watches.values():
                    await seen.until(lambda s: s.holding is Holding.ABSENT, "an absence")
                assert set(driver_of(store)._follower._streams) == {f"elections/{n}" for n in few}

    asyncio.run(main())


def test_what_is_heard_before_it_was_read_is_not_lost(etcd: Etcd, prefix: str) -> None:
    """A key joins the stream of its folder, whose news may be newer than the answer of the read."""

    async def main() -> None:
        async with opened(etcd.address, prefix=prefix) as store:
            driver = driver_of(store)
            ears = [Ear(store, f"elections/{number}") for number in range(2 * watch.FEW)]
            for ear in ears:
                await ear.absent()
            real = driver._client.ask

            async def late(path: str, body: Any, effect: Any = "read") -> Any:
                answer = await real(path, body, effect)
                if effect == "read":
                    monkey.undo()
                    await driver.swap({"elections/new": ABSENT}, {"elections/new": b"1"})
                    await driver.swap({"elections/0": ABSENT}, {"elections/0": b"1"})
                    await ears[0].value(b"1")
                return answer

            with pytest.MonkeyPatch.context() as monkey:
                monkey.setattr(driver._client, "ask", late)
                await Ear(store, "elections/new").value(b"1")

    asyncio.run(main())


# -- who we are, and whom we trust ----------------------------------------------------------------


def secured(certificates: Path, client: str = "candidate") -> str:
    files = {"cafile": certificates / "ca.crt"}
    if client:
        files["certfile"] = certificates / f"{client}.crt"
        files["keyfile"] = certificates / f"{client}.key"
    return "&".join(f"{key}={value}" for key, value in files.items())


async def refusal_of(store: KeyValueStore) -> str:
    """Return why it cannot be opened for good: no other attempt would change that."""
    try:
        with pytest.raises((StoreUnusable, PermissionDenied)) as refusal:
            await store.open()
        return str(refusal.value)
    finally:
        await store.close()


def test_certificates_and_users_together(certified_etcd: Etcd, etcd_certificates: Path) -> None:
    certified_etcd.add_user("someone", "right", {"team/": "READWRITE"})
    certified_etcd.enable_auth("root's")
    options = secured(etcd_certificates, "_nameless")

    async def main() -> None:
        address = f"someone:right@{certified_etcd.address}"
        async with (
            opened(address, prefix="team", options=options) as store,
            opened(address, prefix="team", options=options) as other,
        ):
            held = await taken(store)
            with Watch(other, NAME) as seen:
                lease = await store.renew(held.lease)
                await seen.until(at(lease), "the renewal")
            findings = {f.check: f.ok for f in await store.examine()}
            assert findings["right to write"] is True
        text = await refusal_of(made(certified_etcd.address, prefix="team", options=options))
        assert "write USER:PASSWORD@" in text
        named = secured(etcd_certificates)
        assert "without a CommonName" in await refusal_of(made(address, options=named))

    asyncio.run(main())


def test_tls_that_does_not_fit_says_so(
    certified_etcd: Etcd, etcd_certificates: Path, etcd: Etcd
) -> None:
    with_client, without = secured(etcd_certificates), secured(etcd_certificates, client="")

    async def main() -> None:
        address = certified_etcd.address
        assert "is not trusted" in await refusal_of(made(address, options="tls=1"))
        assert "wants a client certificate" in await refusal_of(made(address, options=without))
        with pytest.raises(StoreUnavailable, match="leave out tls=0"):
            await made(address).open()
        with pytest.raises((StoreUnavailable, StoreUnusable), match=r"tls=0\?"):
            await made(etcd.address, options=with_client).open()
        name = f"localhost:{certified_etcd.port}"
        async with opened(name, options=with_client) as store:
            await store.read(NAME)

    asyncio.run(main())


def test_a_certificate_that_was_replaced_is_loaded(
    certified_etcd: Etcd, etcd_certificates: Path, tmp_path: Path
) -> None:
    mine = certify(tmp_path / "of-somebody-else", "candidate")
    options = f"cafile={etcd_certificates / 'ca.crt'}&certfile={mine / 'candidate.crt'}"

    async def main() -> None:
        store = made(certified_etcd.address, options=f"{options}&keyfile={mine / 'candidate.key'}")
        try:
            with pytest.raises((StoreUnusable, StoreUnavailable)):
                await store.open()
            for name in ("candidate.crt", "candidate.key"):
                (mine / name).write_bytes((etcd_certificates / name).read_bytes())
            with contextlib.suppress(StoreUnusable, StoreUnavailable):
                await store.open()
            await store.open()
        finally:
            await store.close()

    asyncio.run(main())


def test_rights_end_at_the_prefix(own_etcd: Etcd) -> None:
    own_etcd.add_user("writer", "w", {"team/": "READWRITE"})
    own_etcd.add_user("reader", "r", {"team/": "READ"})
    own_etcd.enable_auth("root's")

    async def main() -> None:
        where = own_etcd.address
        text = await refusal_of(made(f"writer:wrong@{where}", prefix="team"))
        assert "does not know this user and password" in text
        assert "permission denied" in await refusal_of(made(f"writer:w@{where}", prefix="other"))
        assert "write USER:PASSWORD@" in await refusal_of(made(where, prefix="team"))
        other = made(f"writer:w@{where}", prefix="other")
        findings = await other.examine()
        await other.close()
        assert [(f.check, f.ok) for f in findings] == [("right to read", False)]
        assert "grant-permission ROLE read other/ --prefix" in findings[0].fix
        async with (
            opened(f"writer:w@{where}", prefix="team") as writer,
            opened(f"reader:r@{where}", prefix="team") as reader,
        ):
            with Watch(reader, NAME) as seen:
                held = await taken(writer)
                await seen.until(lambda s: s.term == held.term, "the take")
            with pytest.raises(PermissionDenied, match="permission denied"):
                await reader.open_session("b_2", TTL_S)
            right = {f.check: f for f in await reader.examine()}["right to write"]
            assert right.ok is False
            assert "readwrite team/ --prefix" in right.fix
            assert {f.check: f.ok for f in await writer.examine()}["right to write"] is True

    asyncio.run(main())


def test_a_token_that_got_old_is_replaced(own_etcd: Etcd) -> None:
    own_etcd.add_user("writer", "w", {"team/": "READWRITE"})
    own_etcd.enable_auth("root's")

    async def main() -> None:
        address = f"writer:w@{own_etcd.address}"
        async with (
            opened(address, prefix="team") as store,
            opened(address, prefix="team") as other,
        ):
            held = await taken(store)
            with Watch(other, NAME) as seen:
                await seen.until(lambda s: s.term == held.term, "the take")
                root = await asyncio.to_thread(own_etcd.token, "root", "root's")
                right = {"permType": "READ", "key": b64("else"), "range_end": b64("elsf")}
                body = {"name": "writer", "perm": right}
                await asyncio.to_thread(own_etcd.request, "/v3/auth/role/grant", body, token=root)
                lease = await store.renew(held.lease)
                await seen.until(at(lease), "a renewal after the rights were changed")
                # A token is in the memory of the members, and of this one it is gone.
                await asyncio.to_thread(own_etcd.kill)
                await asyncio.to_thread(own_etcd.start)
                lease = await store.renew(lease)
                await seen.until(at(lease), "a renewal after the restart")

    asyncio.run(main())


def test_a_password_is_no_harm_where_nobody_is_asked(etcd: Etcd, prefix: str) -> None:
    async def main() -> None:
        async with opened(f"someone:x@{etcd.address}", prefix=prefix) as store:
            assert (await store.renew((await taken(store)).lease)).owner == "a_1"

    asyncio.run(main())


@pytest.mark.parametrize("arguments", [("--enable-grpc-gateway=false",)])
def test_without_the_gateway_it_says_so(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with Etcd(tmp_path / "etcd", arguments=arguments) as server:
        assert "has no JSON gateway" in asyncio.run(refusal_of(made(server.address)))
    server.remove_data()


# -- records, and the server's end ----------------------------------------------------------------


def test_a_session_that_cannot_be_understood_is_foreign(etcd: Etcd, prefix: str) -> None:
    async def main() -> None:
        async with opened(etcd.address, prefix=prefix) as store:
            held = await taken(store)
            key = f"{prefix}/sessions/{held.lease.key}"
            await asyncio.to_thread(etcd.put, key, b'{"format": 999}')
            seen = await store.read(NAME)
            assert seen.holding is Holding.FOREIGN
            assert "999" in seen.why
            for junk in (b"", b"\xff\x00", b"[]", b'{"format": 1}'):
                await asyncio.to_thread(etcd.put, f"{prefix}/elections/{NAME}", junk)
                assert (await store.read(NAME)).holding is Holding.FOREIGN

    asyncio.run(main())


def test_a_term_outlives_the_end_of_the_server(own_etcd: Etcd) -> None:
    async def main() -> None:
        async with opened(own_etcd.address) as one, opened(own_etcd.address) as two:
            first = candidate(one, NAME, "a_1", plan(12))
            begun = await first.until("begun", 20)
            second = candidate(two, NAME, "b_2", plan(12))
            await second.until("waiting", 30, lambda e: e["holder"] == "a_1")
            await asyncio.to_thread(own_etcd.kill)
            await asyncio.to_thread(own_etcd.start)
            waits = len(second.all("waiting"))
            await second.until("waiting", 30, count=waits + 2)
            assert not first.all("stopped")
            assert first.driver is not None
            first.driver.step_down(to="b_2")
            later = await second.until("begun", 20)
            assert later["token"] > begun["token"]

    asyncio.run(main())


def test_a_short_ttl_is_kept_to_the_fraction(etcd: Etcd, prefix: str) -> None:
    async def main() -> None:
        async with opened(etcd.address, prefix=prefix) as store:
            held = await store.take(NAME, await claim(store, ttl_s=1.25), await store.read(NAME))
            assert held.snapshot.ttl_s == (await store.read(NAME)).ttl_s == 1.25

    asyncio.run(main())


def test_a_listing_of_many_comes_in_pages(
    etcd: Etcd, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("incumbent.stores.etcd.driver._PAGE", 7)

    async def main() -> None:
        async with opened(etcd.address, prefix=prefix) as store:
            mine = await claim(store)
            names = sorted(f"page-{number}" for number in range(30))
            for name in names:
                await store.take(name, mine, await store.read(name))
            listed = await store.elections()
            assert [snapshot.name for snapshot in listed] == names
            assert {snapshot.term for snapshot in listed} == {mine.term}

    asyncio.run(main())


# -- a cluster of three ---------------------------------------------------------------------------


async def outcome_of(work: Coroutine[Any, Any, Any], limit_s: float) -> Any:
    """Return the result, or the error."""
    try:
        async with asyncio.timeout(limit_s):
            return await work
    except (StoreError, TimeoutError) as error:
        return error


@pytest.mark.slow
@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_member_without_its_peers_confirms_nothing(etcd_cluster: Cluster, role: str) -> None:
    """The holder's member is cut off; a candidate at the majority takes over after the TTL."""

    async def main() -> None:
        leader = await asyncio.to_thread(etcd_cluster.leader)
        alone = leader if role == "leader" else (leader + 1) % 3
        addresses = [member.address for member in etcd_cluster.members]
        near = addresses.pop(alone)
        async with opened(near) as one, opened(*addresses) as two:
            probe = await one.open_session("probe", 60.0)
            first = candidate(one, NAME, "a_1", plan(6))
            begun = await first.until("begun", 30)
            second = candidate(two, NAME, "b_2", plan(6))
            await second.until("waiting", 30, lambda e: e["holder"] == "a_1")
            await asyncio.to_thread(etcd_cluster.links.cut_off, alone)
            elected = asyncio.ensure_future(second.until("begun", 60))
            outcomes = []
            while not elected.done():
                outcomes.append(await outcome_of(one.renew(probe), 1.0))
                await asyncio.wait([elected], timeout=ASK_EVERY_S)
            later = await elected
            assert not [outcome for outcome in outcomes if isinstance(outcome, Lease)]
            outcome = await outcome_of(one.read(NAME), 5.0)
            assert isinstance(outcome, StoreUnavailable)
            assert "no leader" in str(outcome), "at once, and not after etcd's own limit"
            stopped = await first.until("stopped", 1)
            assert stopped["at"] <= later["at"]
            assert (stopped["why"], later["token"] > begun["token"]) == (ev.Why.LOST, True)
            await asyncio.to_thread(etcd_cluster.links.heal)
            await first.until("waiting", 60, lambda e: e["holder"] == "b_2")

    asyncio.run(main())


def test_a_read_is_not_what_a_member_remembers(tmp_path: Path) -> None:
    """A follower that was cut off, and has not noticed it yet."""

    async def main(cluster: Cluster) -> None:
        leader = await asyncio.to_thread(cluster.leader)
        far, near = cluster.members[leader], cluster.members[(leader + 1) % 3]
        async with opened(far.address) as one, opened(near.address) as two:
            await taken(one)
            held = await two.read(NAME)
            await asyncio.to_thread(cluster.links.cut_off, (leader + 1) % 3)
            reading = asyncio.ensure_future(outcome_of(two.read(NAME), 1.0))
            mine = await claim(one, "b_2")
            while isinstance(await outcome_of(one.take(NAME, mine, held), 1.0), TimeoutError):
                pass
            assert isinstance(await reading, StoreUnavailable | TimeoutError)
            assert isinstance(
                await outcome_of(two.read(NAME), 1.0), StoreUnavailable | TimeoutError
            )

    with Cluster(tmp_path / "cluster", election_ms=3000) as cluster:
        asyncio.run(main(cluster))


def test_a_renewal_that_a_deposed_leader_wakes_up_with_is_not_confirmed(
    etcd_cluster: Cluster,
) -> None:
    """It was asked while it was stopped, and has not heard yet that it leads no more."""

    async def main() -> None:
        leader = await asyncio.to_thread(etcd_cluster.leader)
        old = etcd_cluster.members[leader]
        others = [member for member in etcd_cluster.members if member is not old]
        async with (
            opened(old.address) as one,
            opened(*(member.address for member in others)) as two,
        ):
            held = await taken(one)
            mine = await claim(two, "b_2")
            watched = await two.read(NAME)
            await asyncio.to_thread(old.pause)
            renewing = asyncio.ensure_future(outcome_of(one.renew(held.lease), 30.0))
            later = None
            while not isinstance(later, Held):
                later = await outcome_of(two.take(NAME, mine, watched), 2.0)
            for member in others:
                await asyncio.to_thread(member.pause)
            await asyncio.to_thread(old.resume)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await asyncio.shield(renewing)
            assert not isinstance(renewing.done() and renewing.result(), Lease)
            for member in others:
                await asyncio.to_thread(member.resume)
            assert not isinstance(await renewing, Lease)
            assert (await two.read(NAME)).term == later.term

    asyncio.run(main())


def heard(seen: Watch, count: int, snapshot: Snapshot) -> bool:
    return len(seen.seen) >= count


@pytest.mark.slow
def test_the_loss_of_the_leader_costs_no_term(etcd_cluster: Cluster) -> None:
    async def main() -> None:
        addresses = [member.address for member in etcd_cluster.members]
        async with opened(*addresses) as one, opened(*addresses) as two:
            first = candidate(one, NAME, "a_1", plan(12))
            await first.until("begun", 30)
            with Watch(two, NAME) as seen:
                leader = await asyncio.to_thread(etcd_cluster.leader)
                begin_with(one, leader)
                begin_with(two, leader)
                await asyncio.to_thread(etcd_cluster.members[leader].kill)
                wanted = len(seen.seen) + 2
                await seen.until(partial(heard, seen, wanted), "renewals")
            assert not first.all("stopped")

    asyncio.run(main())


@pytest.mark.slow
def test_a_leader_without_peers_keeps_leases_of_etcd_alive(tmp_path: Path) -> None:
    """For the record, why none takes part: it answers from its memory, until it steps down."""
    with Cluster(tmp_path / "cluster", election_ms=2000) as cluster:
        leader = cluster.leader()
        member = cluster.members[leader]
        lease = {"ID": member.request("/v3/lease/grant", {"TTL": "60"})["ID"]}
        cluster.links.cut_off(leader)
        answers = [member.request("/v3/lease/keepalive", lease, timeout_s=30.0)]
        while "result" in answers[-1]:
            time.sleep(ASK_EVERY_S)  # sleep: only its answers tell that it has stepped down
            answers.append(member.request("/v3/lease/keepalive", lease, timeout_s=30.0))
        refusal = str(answers.pop())
        assert "no leader" in refusal or "request timed out" in refusal
        assert {answer["result"]["TTL"] for answer in answers} == {"60"}


# -- fencing --------------------------------------------------------------------------------------


def test_a_transaction_of_the_users_own_can_ask_for_the_term(etcd: Etcd, prefix: str) -> None:
    """As the documentation says: the record at the token, compared where the work is written."""
    record, work = b64(f"{prefix}/elections/{NAME}"), b64(f"{prefix}-work")

    def write(revision: int | None) -> bool:
        compare = {"key": record, "target": "MOD", "mod_revision": str(revision)}
        put = {"request_put": {"key": work, "value": b64("done")}}
        answer = etcd.request("/v3/kv/txn", {"compare": [compare], "success": [put]})
        return bool(answer.get("succeeded"))

    async def main() -> None:
        async with (
            opened(etcd.address, prefix=prefix) as one,
            opened(etcd.address, prefix=prefix) as two,
        ):
            held = await taken(one)
            assert await asyncio.to_thread(write, held.token)
            await one.renew(held.lease)
            assert await asyncio.to_thread(write, held.token), "a renewal does not touch the record"
            await two.ask(NAME, StepDownRequest(held.term))
            assert not await asyncio.to_thread(write, held.token), (
                "asked to step down: another revision"
            )
            later = await two.take(NAME, await claim(two, "b_2"), await two.read(NAME))
            assert not await asyncio.to_thread(write, held.token)
            assert await asyncio.to_thread(write, later.token)

    asyncio.run(main())
