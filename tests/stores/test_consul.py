"""The Consul store on a real server: its own rules, and a network that breaks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from incumbent.core.records import Claim, Held, Holding, Lease, Snapshot, StepDownRequest
from incumbent.errors import (
    OutcomeUnknown,
    PermissionDenied,
    Refused,
    SessionGone,
    StoreUnavailable,
    StoreUnusable,
)
from incumbent.stores.api import Grade, Store, StoreURL
from incumbent.stores.consul import CAPABILITIES, config, watch
from incumbent.stores.consul import open as open_consul
from incumbent.stores.consul.client import POOL_CONNECTIONS, refusal
from incumbent.stores.consul.driver import Consul as Driver
from incumbent.stores.http import Response
from incumbent.stores.kv import ABSENT, Conflict, KeyValueStore, Report
from incumbent.testing import conformance
from incumbent.testing.conformance.kit import Watch
from tests.servers.consul import Consul, ConsulTLS
from tests.servers.proxy import Proxy

NAME = "jobs"
RECORD = f"elections/{NAME}"
LIMIT_S = 60.0


def store_of(url: str) -> KeyValueStore:
    store = open_consul(StoreURL.parse(url))
    assert isinstance(store, KeyValueStore)
    return store


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[KeyValueStore]:
    store = store_of(url)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def driven(url: str) -> AsyncIterator[Driver]:
    driver = Driver(config.load(StoreURL.parse(url), {}))
    await driver.open(create=True)
    try:
        yield driver
    finally:
        await driver.close()


class Ear:
    """Collects what a driver's `follow` reports of one key."""

    def __init__(self, driver: Driver, key: str = RECORD) -> None:
        self.reports: list[Report] = []
        self._driver = driver
        self._key = key
        self._came = asyncio.Event()

    def __call__(self, report: Report) -> None:
        self.reports.append(report)
        self._came.set()

    def __enter__(self) -> Ear:
        self._driver.follow(self._key, self)
        return self

    def __exit__(self, *_: object) -> None:
        self._driver.unfollow(self._key, self)

    async def until(self, fits: Callable[[Report], bool], limit_s: float = LIMIT_S) -> Report:
        async with asyncio.timeout(limit_s):
            while not (self.reports and fits(self.reports[-1])):
                self._came.clear()
                await self._came.wait()
        return self.reports[-1]


async def claimed(store: KeyValueStore, identity: str = "a_1", ttl_s: float = 5.0) -> Claim:
    session = await store.open_session(identity, ttl_s)
    return claim_under(session)


def claim_under(session: Lease) -> Claim:
    term = f"{session.owner}/{secrets.token_hex(3)}.1"
    return Claim(session.owner, term, session.ttl_s, session)


async def taken(store: KeyValueStore, name: str = NAME, identity: str = "a_1") -> Held:
    return await store.take(name, await claimed(store, identity), await store.read(name))


def under(term: str) -> Callable[[Snapshot], bool]:
    return lambda snapshot: snapshot.term == term


def other_than(before: Snapshot) -> Callable[[Snapshot], bool]:
    return lambda snapshot: snapshot.watched != before.watched


def is_absent(report: Report) -> bool:
    return report.entry is None


def at(version: object) -> Callable[[Report], bool]:
    return lambda report: report.entry is not None and report.entry.version == version


# -- what every store must do ---------------------------------------------------------------------


class ConsulHarness:
    ttl_s = 5.0

    def __init__(self, server: Consul, prefix: str) -> None:
        self._server = server
        self._prefix = prefix
        self._stores: list[KeyValueStore] = []

    def name(self) -> str:
        return f"election-{secrets.token_hex(4)}"

    async def store(self, *, create: bool = True) -> Store:
        store = store_of(self._server.url(self._prefix))
        self._stores.append(store)
        await store.open(create=create)
        return store

    async def delete(self, name: str) -> bool:
        await asyncio.to_thread(self._server.delete, self._path(name))
        return True

    async def scribble(self, name: str) -> bool:
        await asyncio.to_thread(self._server.put, self._path(name), b'{"format": 999}')
        return True

    async def disturb(self, name: str) -> bool:
        entry = await asyncio.to_thread(self._server.get, self._path(name))
        assert entry is not None
        changed = {**json.loads(entry["Value"]), "note": secrets.token_hex(4)}
        await asyncio.to_thread(self._server.put, self._path(name), json.dumps(changed).encode())
        return True

    async def close(self) -> None:
        for store in self._stores:
            await store.close()

    def _path(self, name: str) -> str:
        return f"{self._prefix}/elections/{name}/record"


@pytest.mark.parametrize("case", conformance.CASES, ids=str)
def test_it_is_a_store(case: conformance.Case, consul: Consul, consul_prefix: str) -> None:
    conformance.run(case, lambda: ConsulHarness(consul, consul_prefix))


def test_it_says_what_it_is() -> None:
    assert CAPABILITIES.scheme == "consul"
    assert (CAPABILITIES.judged_by, CAPABILITIES.evidence) == ("observers", "")
    assert CAPABILITIES.grade is Grade.EXCLUSIVE_WITH_FENCING
    assert CAPABILITIES.sessions
    assert CAPABILITIES.token
    assert not CAPABILITIES.absent_is_vacant
    assert not CAPABILITIES.whole_seconds
    assert not CAPABILITIES.one_host


# -- versions and revisions -----------------------------------------------------------------------


def test_a_write_of_the_same_value_is_a_new_version(consul: Consul, consul_prefix: str) -> None:
    """Consul takes a write that changes nothing for none, and a renewal writes the same again."""

    async def main() -> None:
        async with driven(consul.url(consul_prefix)) as driver:
            key, value = "sessions/abc", b"the same"
            versions = [(await driver.swap({key: ABSENT}, {key: value}))[key].version]
            for _ in range(5):
                entry = (await driver.swap({key: versions[-1]}, {key: value}))[key]
                assert (await driver.get(key))[0] == entry
                versions.append(entry.version)
            assert len(set(versions)) == len(versions)

            path = f"{consul_prefix}/plain"
            await asyncio.to_thread(consul.put, path, value)
            before = await asyncio.to_thread(consul.get, path)
            await asyncio.to_thread(consul.put, path, value)
            after = await asyncio.to_thread(consul.get, path)
            assert before is not None
            assert after is not None
            assert before["ModifyIndex"] == after["ModifyIndex"], "this server no longer does so"

    asyncio.run(main())


def test_an_absence_is_not_older_than_what_was_written(consul: Consul, consul_prefix: str) -> None:
    async def main() -> None:
        async with driven(consul.url(consul_prefix)) as driver:
            revisions = [(await driver.get(RECORD))[1]]
            for _ in range(3):
                entry = (await driver.swap({RECORD: ABSENT}, {RECORD: b"{}"}))[RECORD]
                revisions.append(entry.revision)
                await asyncio.to_thread(consul.delete, f"{consul_prefix}/{RECORD}/record")
                revisions.append((await driver.get(RECORD))[1])
                with Ear(driver) as ear:
                    revisions.append((await ear.until(is_absent)).revision)
            assert revisions == sorted(revisions)
            assert len(set(revisions[1::3])) == 3

    asyncio.run(main())


def test_all_comparisons_count_and_nothing_is_written_otherwise(
    consul: Consul, consul_prefix: str
) -> None:
    async def main() -> None:
        async with driven(consul.url(consul_prefix)) as driver:
            one, two, three = "sessions/one", "sessions/two", "sessions/three"
            written = await driver.swap({one: ABSENT, two: ABSENT}, {one: b"1", two: b"2"})
            assert written[one].version == written[two].version
            first, second = written[one].version, written[two].version
            later = (await driver.swap({two: second}, {two: b"3"}))[two].version
            for conditions in (
                {one: first, two: second},
                {one: first, two: ABSENT},
                {one: first, three: first},
                {one: ABSENT, two: later},
                {one: later, two: later},
            ):
                with pytest.raises(Conflict):
                    await driver.swap(conditions, {one: b"no"})
            entry, _ = await driver.get(one)
            assert entry is not None
            assert (entry.value, entry.version) == (b"1", first)
            await driver.swap({one: first, two: later, three: ABSENT}, {one: b"yes"})
            with pytest.raises(Conflict):
                await driver.remove(two, second)
            await driver.remove(two, later)
            assert (await driver.get(two))[0] is None
            with pytest.raises(Conflict):
                await driver.remove(two, later)
            with pytest.raises(AssertionError, match="no version"):
                await driver.swap({one: 0}, {one: b"a zero would mean that it must be absent"})

    asyncio.run(main())


def test_a_term_cannot_be_taken_under_a_session_that_was_voided(
    consul: Consul, consul_prefix: str
) -> None:
    async def main() -> None:
        url = consul.url(consul_prefix)
        async with opened(url) as one, opened(url) as two:
            held = await taken(one)
            claim = claim_under(held.lease)
            nothing = await one.read("other")
            with Watch(one, "other") as seen:
                nothing = await seen.until(lambda s: s.holding is Holding.ABSENT, "the absence")
                await two.take(NAME, await claimed(two, "b_2"), await two.read(NAME))
                with pytest.raises(SessionGone):
                    await one.take("other", claim, nothing)
            assert (await two.read("other")).holding is Holding.ABSENT
            with pytest.raises(Refused):
                await one.renew(held.lease)

    asyncio.run(main())


# -- following ------------------------------------------------------------------------------------


def test_an_absence_that_was_interrupted_unseen_is_another_one(
    consul: Consul, consul_prefix: str, consul_proxy: Proxy
) -> None:
    """Its connection holds, but stalls: what came and went meanwhile is in no answer."""

    async def main() -> None:
        url = consul.url(consul_prefix)
        stalled = consul.url(consul_prefix, address=consul_proxy.address)
        async with opened(url) as quick, opened(stalled) as slow:
            for _ in range(2):
                with Watch(slow, NAME) as seen:
                    nothing = await seen.until(lambda s: s.holding is Holding.ABSENT, "absence")
                    consul_proxy.cut()
                    held = await taken(quick)
                    path = f"{consul_prefix}/elections/{NAME}/record"
                    await asyncio.to_thread(consul.delete, path)
                    consul_proxy.heal()
                    again = await seen.until(other_than(nothing), "another absence")
                    assert again.holding is Holding.ABSENT
                    with pytest.raises(Refused):
                        await slow.take(NAME, await claimed(slow, "b_2"), nothing)
                    await quick.close_session(held.lease)

    asyncio.run(main())


def test_an_absence_stands_however_much_others_write(consul: Consul, consul_prefix: str) -> None:
    async def main() -> None:
        url = consul.url(consul_prefix)
        async with opened(url) as one, opened(url) as two:
            with Watch(two, NAME) as seen, Watch(two, f"{NAME}-2") as other:
                nothing = await seen.until(lambda s: s.holding is Holding.ABSENT, "the absence")
                held = await taken(one, f"{NAME}-2")
                lease = held.lease
                for _ in range(10):
                    lease = await one.renew(lease)
                await other.until(lambda s: s.lease_version == lease.version, "the renewals")
                assert {s.watched for s in seen.seen} == {nothing.watched}
                await two.take(NAME, await claimed(two, "b_2"), nothing)

    asyncio.run(main())


def test_a_restored_snapshot_is_another_world(own_consul: Consul) -> None:
    """The index goes backwards, on a connection that holds.

    A restore that comes between two queries wakes none, and is noticed when the next one has waited
    in vain; so there are three attempts to see that a query which waits is woken.
    """

    async def main() -> None:
        async with driven(own_consul.url()) as driver:
            old = (await driver.swap({RECORD: ABSENT}, {RECORD: b"old"}))[RECORD]
            snapshot = await asyncio.to_thread(own_consul.request, "GET", "/v1/snapshot")
            with Ear(driver) as ear, Ear(driver, "elections/other") as other:
                await ear.until(at(old.version))
                await other.until(is_absent)
                for _ in range(3):
                    new = (await driver.swap({RECORD: old.version}, {RECORD: b"new"}))[RECORD]
                    await ear.until(at(new.version))
                    other.reports.clear()
                    await asyncio.to_thread(own_consul.request, "PUT", "/v1/snapshot", snapshot)
                    with contextlib.suppress(TimeoutError):
                        assert (await ear.until(at(old.version), 15.0)).gap
                        assert (await other.until(is_absent, 15.0)).gap
                        break
                else:
                    raise AssertionError(ear.reports)
                with pytest.raises(Conflict):
                    await driver.swap({RECORD: new.version}, {RECORD: b"no"})
                last = (await driver.swap({RECORD: old.version}, {RECORD: b"on"}))[RECORD]
                assert last.revision > new.revision, "the raft log goes on where it was"
                await ear.until(at(last.version))

    asyncio.run(main())


def test_what_happened_while_the_server_was_away_is_told_at_last(own_consul: Consul) -> None:
    async def main() -> None:
        async with opened(own_consul.url()) as store, driven(own_consul.url()) as driver:
            held = await taken(store)
            with Ear(driver) as ear, Ear(driver, "elections/other") as other:
                await ear.until(at(held.snapshot.version))
                nothing = await other.until(is_absent)
                await asyncio.to_thread(own_consul.kill)
                with pytest.raises(StoreUnavailable):
                    await store.read(NAME)
                with pytest.raises(StoreUnavailable):
                    await store.renew(held.lease)
                await asyncio.to_thread(own_consul.start)
                lease = await store.renew(held.lease)
                assert (await store.read(NAME)).term == held.term
                await other.until(lambda r: r is not nothing and r.gap)
                vacant = await store.release(held, lease, "")
                await ear.until(at(vacant.version))
                token = held.token
                held = await taken(store)
                assert (held.token or 0) > (token or 0)

    asyncio.run(main())


def test_many_are_followed_by_one_query(
    consul: Consul, consul_prefix: str, consul_proxy: Proxy
) -> None:
    async def main() -> None:
        names = [f"many-{number}" for number in range(60)]
        url = consul.url(consul_prefix, address=consul_proxy.address)
        before = consul_proxy.accepted
        async with opened(consul.url(consul_prefix)) as one, opened(url) as two:
            claim = await claimed(one)
            with contextlib.ExitStack() as stack:
                seen = {name: stack.enter_context(Watch(two, name)) for name in names}
                for name in names:
                    await seen[name].until(lambda s: s.holding is Holding.ABSENT, f"no {name}")
                for name in names:
                    await one.take(name, claim, await one.read(name))
                late = stack.enter_context(Watch(two, "late"))
                await late.until(lambda s: s.holding is Holding.ABSENT, "the one that joined")
                for name in names:
                    await seen[name].until(lambda s: s.holding is Holding.HELD, f"a holder: {name}")
                assert claim.session is not None
                await taken(one, "late", "c_3")
                await late.until(lambda s: s.holding is Holding.HELD, "the joined one's holder")
                opened_for_all = consul_proxy.accepted - before
                assert opened_for_all <= POOL_CONNECTIONS + 2 * watch.FEW < len(names)
                await one.close_session(claim.session)
                for name in names:
                    await seen[name].until(lambda s: s.holding is Holding.VACANT, f"void: {name}")
                serials = {name: [s.serial for s in seen[name].seen] for name in names}
                assert all(serials[name] == sorted(serials[name]) for name in names)

    asyncio.run(main())


# -- a network that breaks ------------------------------------------------------------------------


def test_a_write_whose_answer_is_lost_is_unknown_and_found_again(
    consul: Consul, consul_prefix: str, consul_proxy: Proxy
) -> None:
    async def main() -> None:
        url = consul.url(consul_prefix, address=consul_proxy.address)
        async with opened(url) as store, opened(consul.url(consul_prefix)) as other:
            claim = await claimed(store)
            over = await store.read(NAME)
            consul_proxy.drop_replies()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await store.take(NAME, claim, over)
            consul_proxy.heal()
            found = await store.read_back(NAME, claim)
            assert isinstance(found, Held)
            lease = await store.renew(found.lease)

            consul_proxy.drop_replies()
            renewing = asyncio.ensure_future(store.renew(lease))
            with Watch(other, NAME) as seen:
                await seen.until(lambda s: s.lease_version != lease.version, "its effect")
            consul_proxy.reset()
            with pytest.raises(OutcomeUnknown):
                await renewing
            consul_proxy.heal()
            assert (await store.renew(lease)).version != lease.version

    asyncio.run(main())


def test_what_never_left_did_not_happen(
    consul: Consul, consul_prefix: str, consul_proxy: Proxy
) -> None:
    async def main() -> None:
        url = consul.url(consul_prefix, address=consul_proxy.address)
        async with opened(url) as store:
            claim, over = await claimed(store), await store.read(NAME)
            consul_proxy.refuse()
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                await store.take(NAME, claim, over)
            with pytest.raises(StoreUnavailable):
                await store.read(NAME)
            with pytest.raises(StoreUnavailable):
                await store.connect()
            findings = await store.examine()
            assert [(f.check, f.ok) for f in findings] == [("reachable", False)]
            consul_proxy.heal()
            before = consul_proxy.accepted
            await store.connect()
            assert (await store.read(NAME)).holding is Holding.ABSENT
            assert consul_proxy.accepted == before + 1, "the read had a connection already"

    asyncio.run(main())


def test_an_agent_that_has_too_many_connections_is_no_store(tmp_path: Path) -> None:
    """It closes what is beyond its limit for one address; later versions answer 429 before."""

    async def main(server: Consul) -> None:
        async with opened(server.url()) as store, opened(server.url()) as crowd:
            claim = await claimed(store)
            over = await store.read(NAME)
            with Watch(crowd, "crowd-1") as one, Watch(crowd, "crowd-2") as two:
                for seen in (one, two):
                    await seen.until(lambda s: s.holding is Holding.ABSENT, "an absence")
                late = store_of(server.url())
                with pytest.raises(StoreUnavailable):
                    await late.open()
                await late.close()
            await store.take(NAME, claim, over)

    with Consul(tmp_path / "small", settings={"limits": {"http_max_conns_per_client": 4}}) as one:
        asyncio.run(main(one))
        one.kill()


@pytest.mark.parametrize(
    ("status", "text", "read", "write"),
    [
        (500, "No cluster leader", StoreUnavailable, StoreUnavailable),
        (500, "rpc error making call: No cluster leader", StoreUnavailable, StoreUnavailable),
        (500, "leadership lost while committing log", StoreUnavailable, OutcomeUnknown),
        (500, "rpc error making call: EOF", StoreUnavailable, OutcomeUnknown),
        (500, "rpc error: No cluster leader; EOF", StoreUnavailable, OutcomeUnknown),
        (502, "No cluster leader", StoreUnavailable, OutcomeUnknown),
        (504, "upstream timed out", StoreUnavailable, OutcomeUnknown),
        (301, "", StoreUnavailable, OutcomeUnknown),
        (400, "Bad request", StoreUnusable, StoreUnusable),
        (403, "ACL not found", PermissionDenied, PermissionDenied),
        (413, "too large", StoreUnusable, StoreUnusable),
        (429, "too many", StoreUnavailable, StoreUnavailable),
    ],
)
def test_what_an_answer_proves(
    status: int, text: str, read: type[Exception], write: type[Exception]
) -> None:
    response = Response(status, text.encode())
    assert type(refusal(response, "read", "h:1")) is read
    assert type(refusal(response, "write", "h:1")) is write


# -- who we are, and whom we trust ----------------------------------------------------------------


def test_tls_is_spoken_with_the_authority_that_was_given(
    consul: Consul, consul_prefix: str, tmp_path: Path
) -> None:
    async def main() -> None:
        where = f"consul://{consul.token}@127.0.0.1:{consul.tls_port}/{consul_prefix}"
        async with opened(f"{where}?cafile={consul.tls.ca_file}") as store:
            assert store.url == f"consul://127.0.0.1:{consul.tls_port}/{consul_prefix}?tls=true"
            held = await taken(store)
            with Watch(store, NAME) as seen:
                await seen.until(under(held.term), "the holder, by TLS")
        stranger = await asyncio.to_thread(ConsulTLS, tmp_path / "another")
        for query in ("?tls=true", f"?cafile={stranger.ca_file}"):
            store = store_of(where + query)
            with pytest.raises(StoreUnusable, match=r"certificate of Consul at .* is not trusted"):
                await store.open()
            await store.close()
        plain = store_of(where)
        with pytest.raises(StoreUnusable, match="HTTP request to an HTTPS server"):
            await plain.open()
        await plain.close()
        wrong = store_of(f"{consul.url(consul_prefix)}?tls=true")
        with pytest.raises(StoreUnavailable):
            await wrong.open()
        await wrong.close()

    asyncio.run(main())


def test_a_server_that_asks_for_a_certificate_gets_one(tmp_path: Path) -> None:
    async def main(server: Consul) -> None:
        certificate, key = server.tls.client_files
        where = f"consul://{server.token}@127.0.0.1:{server.tls_port}/?cafile={server.tls.ca_file}"
        async with opened(f"{where}&certfile={certificate}&keyfile={key}") as store:
            await taken(store)
        bare = store_of(where)
        with pytest.raises(StoreUnavailable):
            await bare.open()
        await bare.close()

    with Consul(tmp_path / "strict", settings={"verify_incoming_https": True}) as server:
        asyncio.run(main(server))
        server.kill()


def test_who_is_not_known_is_told_so_and_no_token_is_shown(
    consul: Consul, consul_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = f"00000000-0000-0000-0000-{secrets.token_hex(6)}"

    async def main() -> None:
        for url in (consul.url(consul_prefix, token=wrong), f"consul://{consul.address}/x"):
            store = store_of(url)
            with pytest.raises(PermissionDenied) as refusal:
                await store.open()
            assert wrong not in str(refusal.value)
            driver = Driver(config.load(StoreURL.parse(url), {}))
            with Ear(driver) as ear:
                findings = await driver.examine()
                await asyncio.to_thread(consul.get, "time passes")
                assert not ear.reports
            assert [f.check for f in findings] == ["reachable", "right to read"]
            assert [f.ok for f in findings] == [True, False]
            assert wrong not in repr((findings, store.url, StoreURL.parse(url).password))
            await driver.close()
            await store.close()

    asyncio.run(main())
    assert wrong not in caplog.text
    assert consul.token not in caplog.text


def test_a_token_for_one_election_is_enough_for_it(consul: Consul, consul_prefix: str) -> None:
    rules = "\n".join(
        f'key_prefix "{consul_prefix}/{what}/" {{ policy = "write" }}'
        for what in ("sessions", f"elections/{NAME}")
    )

    async def main() -> None:
        token = await asyncio.to_thread(consul.grant, rules)
        async with (
            opened(consul.url(consul_prefix)) as chief,
            opened(consul.url(consul_prefix, token=token)) as store,
        ):
            names = [f"secret-{number}" for number in range(watch.FEW + 1)]
            for name in names:
                await taken(chief, name)
            # Whether a session that is over may go cannot be seen by who may not see all elections.
            await chief.close_session((await taken(chief, "former")).lease)
            with contextlib.ExitStack() as stack:
                hidden = [stack.enter_context(Watch(store, name)) for name in names]
                mine = stack.enter_context(Watch(store, NAME))
                await mine.until(lambda s: s.holding is Holding.ABSENT, "our own absence")
                held = await taken(store)
                await mine.until(under(held.term), "our own take")
                assert not [s for one in hidden for s in one.seen], "what is hidden is not absent"
            await store.renew(held.lease)
            with pytest.raises(PermissionDenied, match="secret-0/record"):
                await store.read(names[0])
            claim = claim_under(held.lease)
            over = await chief.read(names[0])
            with pytest.raises(PermissionDenied, match='policy = "write"'):
                await store.take(names[0], claim, over)
            with pytest.raises(PermissionDenied, match="elections/"):
                await store.elections()
            findings = {f.check: f.ok for f in await store.examine()}
            assert findings["right to read elections"] is None
            assert findings["right to write elections"] is False
            assert findings["right to write sessions"] is True

    asyncio.run(main())


def test_a_right_to_read_is_enough_to_look(consul: Consul, consul_prefix: str) -> None:
    async def main() -> None:
        rules = f'key_prefix "{consul_prefix}/" {{ policy = "read" }}'
        token = await asyncio.to_thread(consul.grant, rules)
        async with (
            opened(consul.url(consul_prefix)) as chief,
            opened(consul.url(consul_prefix, token=token)) as looker,
        ):
            held = await taken(chief)
            assert (await looker.read(NAME)).term == held.term
            assert [s.name for s in await looker.elections()] == [NAME]
            with Watch(looker, NAME) as seen:
                await seen.until(under(held.term), "the holder")
            with pytest.raises(PermissionDenied, match=f"{consul_prefix}/sessions/"):
                await looker.open_session("b_2", 5.0)
            with pytest.raises(PermissionDenied, match=f"{consul_prefix}/elections/{NAME}/record"):
                await looker.ask(NAME, StepDownRequest(held.term))

    asyncio.run(main())


def test_a_replaced_token_is_read_again(
    consul: Consul, consul_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = f'key_prefix "{consul_prefix}/" {{ policy = "write" }}'
    path = tmp_path / "token"

    async def main() -> None:
        first = await asyncio.to_thread(consul.grant, rules)
        path.write_text(f"{first}\n", encoding="utf-8")
        monkeypatch.setenv("CONSUL_HTTP_TOKEN_FILE", str(path))
        monkeypatch.setenv("CONSUL_HTTP_ADDR", consul.address)
        async with opened(f"consul:///{consul_prefix}") as store:
            held = await taken(store)
            second = await asyncio.to_thread(consul.grant, rules)
            await asyncio.to_thread(consul.revoke, first)
            with pytest.raises(PermissionDenied):
                await store.renew(held.lease)
            path.write_text(f"{second}\n", encoding="utf-8")
            lease = await store.renew(held.lease)
            assert (await store.read(NAME)).lease_version == lease.version

    asyncio.run(main())


def test_doctor_looks_at_servers_and_rights(consul: Consul, consul_prefix: str) -> None:
    async def main() -> None:
        async with opened(consul.url(consul_prefix)) as store:
            findings = {f.check: f.ok for f in await store.examine()}
            assert findings == {
                "reachable": True,
                "round trip": True,
                "servers": None,
                "right to read elections": True,
                "right to write elections": True,
                "right to write sessions": True,
                "encryption": None,
            }
            assert await asyncio.to_thread(consul.get, f"{consul_prefix}/elections/") is None

    asyncio.run(main())


# -- records of others ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [b"", b"\xff\x00", b"[]", b"null", b'{"format": 2}', b'{"format": 1, "holder": 3}']
)
def test_what_is_no_record_is_left_alone(consul: Consul, consul_prefix: str, value: bytes) -> None:
    async def main() -> None:
        path = f"{consul_prefix}/elections/{NAME}/record"
        await asyncio.to_thread(consul.put, path, value)
        async with opened(consul.url(consul_prefix)) as store:
            seen = await store.read(NAME)
            assert (seen.holding, bool(seen.why)) == (Holding.FOREIGN, True)
            with pytest.raises(Refused):
                await store.take(NAME, await claimed(store), seen)
            assert [s.name for s in await store.elections()] == [NAME]
            stands = await asyncio.to_thread(consul.get, path)
            assert stands is not None
            assert stands["Value"] == value
            await asyncio.to_thread(consul.put, f"{consul_prefix}/elections/stray", b"what is it")
            await asyncio.to_thread(
                consul.put, f"{consul_prefix}/elections/a/b/record", b"nor this"
            )
            with Watch(store, "a") as watched:
                await watched.until(lambda s: s.holding is Holding.ABSENT, "nothing of ours")

    asyncio.run(main())


def test_a_lock_of_consuls_own_on_our_keys_changes_nothing(
    consul: Consul, consul_prefix: str
) -> None:
    """A session of Consul's that holds our key, and loses it, writes the key: others wait anew."""

    async def main() -> None:
        async with opened(consul.url(consul_prefix)) as store:
            held = await taken(store)
            key = f"{consul_prefix}/elections/{NAME}/record"
            entry = await asyncio.to_thread(consul.get, key)
            assert entry is not None
            made = await asyncio.to_thread(consul.request, "PUT", "/v1/session/create", {})
            session = made["ID"]
            path = f"/v1/kv/{key}?acquire={session}"
            assert await asyncio.to_thread(consul.request, "PUT", path, entry["Value"])
            seen = await store.read(NAME)
            assert seen.term == held.term
            assert seen.version != held.snapshot.version
            await asyncio.to_thread(consul.request, "PUT", f"/v1/session/destroy/{session}")
            assert (await store.release(held, held.lease, "")).holding is Holding.VACANT

    asyncio.run(main())
