"""`dapr://` on a real sidecar: what its two calls say, and what is made of them."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from dapr.proto import api_v1
from hypothesis import example, given
from hypothesis import strategies as st

from incumbent import Election
from incumbent.core import events as ev
from incumbent.core.records import Claim, Holding, Snapshot, StepDownRequest, absent
from incumbent.core.timing import Timing
from incumbent.errors import (
    ConfigError,
    IncumbentError,
    LeadershipLost,
    OutcomeUnknown,
    PermissionDenied,
    Refused,
    StoreUnavailable,
    StoreUnusable,
)
from incumbent.runtime.term import Term
from incumbent.stores import open_store
from incumbent.stores.api import Store, StoreURL
from incumbent.stores.dapr import config
from incumbent.stores.dapr.rpc import _first_number, encoded
from incumbent.testing import conformance
from tests.cli.processes import run
from tests.faces.programs import until
from tests.servers.dapr import STORE, Dapr
from tests.servers.ports import claim_port
from tests.servers.proxy import Proxy
from tests.servers.redis import Redis
from tests.stores.candidate import candidate
from tests.stores.subjects import eventually

LIMIT_S = 60.0
PROTOCOLS = ("http", "grpc")
NOWHERE = "127.0.0.1:{}"


class Harness:
    """Stores of the conformance suite."""

    ttl_s = 3.0

    def __init__(self, url: str) -> None:
        self._url = url
        self._stores: list[Store] = []

    def name(self) -> str:
        return f"election-{secrets.token_hex(4)}"

    async def store(self, *, create: bool = True) -> Store:
        store = open_store(self._url)
        self._stores.append(store)
        await store.open(create=create)
        return store

    async def delete(self, name: str) -> bool:
        return False

    scribble = disturb = delete

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


@pytest.mark.parametrize("case", conformance.CASES, ids=str)
def test_conformance(case: conformance.Case, dapr: Dapr) -> None:
    conformance.run(case, lambda: Harness(dapr.url()))


@pytest.mark.parametrize("case", [c for c in conformance.CASES if not c.looks], ids=str)
def test_conformance_over_grpc(case: conformance.Case, dapr: Dapr) -> None:
    conformance.run(case, lambda: Harness(dapr.url("grpc")))


def carry_out(url: str, work: Callable[[Store], Awaitable[None]], *, create: bool = True) -> None:
    async def main() -> None:
        store = open_store(url)
        try:
            async with asyncio.timeout(LIMIT_S):
                await store.open(create=create)
                await work(store)
        finally:
            await store.close()

    asyncio.run(main())


def claim(name: str, number: int = 1, ttl_s: float = 60.0) -> Claim:
    return Claim("a_1", f"a_1/{name}.{number}", ttl_s)


def fresh() -> str:
    return f"election-{secrets.token_hex(4)}"


# -- what is written ------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_lock_is_a_key_with_our_nonce_for_a_whole_ttl(
    protocol: str, dapr: Dapr, redis_server: Redis
) -> None:
    name = fresh()

    async def work(store: Store) -> None:
        with contextlib.closing(redis_server.client()) as client:
            seconds, microseconds = client.time()
            held = await store.take(name, claim(name, ttl_s=59.5), absent(name))
            key = dapr.key(f"Jobs_{name}")
            assert client.get(key) == held.term.encode()
            lasts_ms = client.pexpiretime(key) - seconds * 1000 - microseconds / 1000
            assert lasts_ms >= 59_999, "no shorter than the term: rounded up"
        assert held.token is None

    carry_out(dapr.url(protocol, lock="Jobs_{name}"), work)


@given(st.text(), st.text(max_size=300), st.text(), st.integers(1, 2**31 - 1))
@example("s", "r" * 128, "o", 127)
def test_what_is_sent_is_what_daprs_own_package_sends(
    store: str, resource: str, owner: str, expiry_s: int
) -> None:
    for text in (store, resource, owner):
        if not text or any(0xD800 <= ord(character) <= 0xDFFF for character in text):
            return
    lock = {"store_name": store, "resource_id": resource, "lock_owner": owner}
    theirs = api_v1.TryLockRequest(**lock, expiry_in_seconds=expiry_s)
    assert encoded(store, resource, owner, expiry_s) == theirs.SerializeToString()
    assert encoded(store, resource, owner) == api_v1.UnlockRequest(**lock).SerializeToString()


@given(st.binary(max_size=40))
@example(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
def test_any_answer_is_a_number_or_no_message(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert _first_number(data) >= 0


def test_an_answer_is_read_past_what_is_not_known() -> None:
    assert _first_number(api_v1.TryLockResponse(success=True).SerializeToString()) == 1
    assert _first_number(api_v1.TryLockResponse().SerializeToString()) == 0
    statuses = api_v1.UnlockResponse.Status
    for name in list(statuses.keys()):
        answer = api_v1.UnlockResponse(status=statuses.Value(name)).SerializeToString()
        assert _first_number(answer) == statuses.Value(name)
    unknown = encoded("a", "b" * 200, "c").replace(b"\x0a\x01a", b"")
    assert _first_number(unknown + b"\x19" + bytes(8) + b"\x25" + bytes(4) + b"\x08\x02") == 2


# -- what is known after an error -----------------------------------------------------------------


def outcome(url: str) -> type[IncumbentError] | None:
    """Return what a take ends in, on a store that was not asked anything before."""

    async def main() -> type[IncumbentError] | None:
        name, store = fresh(), open_store(url)
        try:
            async with asyncio.timeout(LIMIT_S):
                await store.take(name, claim(name), absent(name))
        except IncumbentError as error:
            return type(error)
        finally:
            await store.close()
        return None

    return asyncio.run(main())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_error_says_what_is_known(protocol: str, dapr: Dapr, redis_server: Redis) -> None:
    assert outcome(dapr.url(protocol)) is None
    assert outcome(dapr.url(protocol, address=NOWHERE.format(claim_port()))) is StoreUnavailable
    assert outcome(dapr.url(protocol).replace(STORE, "another")) is StoreUnusable
    port = dapr.grpc_port if protocol == "grpc" else dapr.port
    with Proxy(dapr.host, port) as proxy, contextlib.closing(redis_server.client()) as client:
        proxy.drop_replies()
        name = fresh()

        async def unanswered() -> None:
            store = open_store(dapr.url(protocol, address=proxy.address))
            taking = asyncio.ensure_future(store.take(name, claim(name), absent(name)))
            await asyncio.to_thread(eventually, lambda: client.exists(dapr.key(name)))
            proxy.reset()
            with pytest.raises(OutcomeUnknown):
                await taking
            proxy.heal()
            found = await store.read_back(name, claim(name))
            assert isinstance(found, Snapshot)
            assert found.holding is Holding.VACANT
            await store.take(name, claim(name, 2), found)
            await store.close()

        asyncio.run(unanswered())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_after_a_request_that_was_cancelled_comes_a_new_connection(
    protocol: str, dapr: Dapr
) -> None:
    port = dapr.grpc_port if protocol == "grpc" else dapr.port
    with Proxy(dapr.host, port) as proxy:

        async def work(store: Store) -> None:
            proxy.drop_replies()
            for number in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.2):
                        await store.take("e", claim(fresh()), absent("e"))
                assert proxy.accepted >= number + 1
            before = proxy.accepted
            proxy.heal()
            name = fresh()
            await store.take(name, claim(name), absent(name))
            assert proxy.accepted == before + 1

        carry_out(dapr.url(protocol, address=proxy.address), work)


def test_daprd_says_no_to_what_it_has_taken_and_that_keeps_everybody_out(
    redis_server: Redis, tmp_path: Path
) -> None:
    """It repeats what its Redis did not answer, and tells of the last try only."""
    name = fresh()
    with Proxy(redis_server.host, redis_server.port) as proxy, contextlib.ExitStack() as stack:
        sidecar = stack.enter_context(Dapr(tmp_path / "daprd", proxy.address))
        client = stack.enter_context(contextlib.closing(redis_server.client()))

        async def work(store: Store) -> None:
            proxy.drop_replies()
            taking = asyncio.ensure_future(store.take(name, claim(name), absent(name)))
            await asyncio.to_thread(eventually, lambda: client.exists(sidecar.key(name)))
            proxy.heal()
            proxy.reset()
            with pytest.raises(Refused):
                await taking
            assert client.get(sidecar.key(name)) == claim(name).term.encode()
            with pytest.raises(Refused):
                await store.take(name, claim(name, 2), absent(name))
            assert client.pttl(sidecar.key(name)) <= 60_000, "until it runs out"

        carry_out(sidecar.url(), work)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_lock_store_that_does_not_answer_leaves_it_unknown(
    protocol: str, own_dapr: Dapr, own_redis: Redis
) -> None:
    own_redis.stop()
    assert outcome(own_dapr.url(protocol)) is OutcomeUnknown


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_token_is_sent_and_shown_to_nobody(
    protocol: str, redis_server: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"{redis_server.host}:{redis_server.port}"
    with Dapr(tmp_path / "daprd", address, token="s3cret") as guarded:
        url = guarded.url(protocol)
        monkeypatch.delenv("DAPR_API_TOKEN", raising=False)
        assert outcome(url) is PermissionDenied
        monkeypatch.setenv("DAPR_API_TOKEN", "s3cret")
        assert outcome(url) is None
        settings = config.load(StoreURL.parse(url))
        assert "s3cret" not in repr(settings) + settings.url + open_store(url).url


# -- a candidate ----------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_term_ends_by_plan_is_given_back_and_begins_anew(
    protocol: str, dapr: Dapr, redis_server: Redis
) -> None:
    name, timing = fresh(), Timing.plan(3.0, whole_seconds=True)

    async def work(store: Store) -> None:
        ours = candidate(store, name, "a_1", timing)
        stopped = await ours.until("stopped", LIMIT_S)
        assert stopped["why"] is ev.Why.EXPIRED
        again = await ours.until("begun", LIMIT_S, count=2)
        assert again["term"].id != stopped["term"].id
        with contextlib.closing(redis_server.client()) as client:
            assert client.get(dapr.key(name)) == again["term"].id.encode()
        assert not ours.all("waiting"), "what was given back is open at once"

    carry_out(dapr.url(protocol), work)


def test_a_standby_tries_and_is_let_in_when_the_time_of_a_dead_holder_is_over(dapr: Dapr) -> None:
    name, timing = fresh(), Timing.plan(4.0, whole_seconds=True)
    assert dapr.ask("lock", resourceId=name, lockOwner="dead", expiryInSeconds=3)["success"]

    async def work(store: Store) -> None:
        ours = candidate(store, name, "a_1", timing)
        waiting = await ours.until("waiting", LIMIT_S)
        assert (waiting["holding"], waiting["holder"]) == (Holding.HELD, "")
        assert waiting["until"] - waiting["at"] <= 1.0, "as often as is declared"
        await ours.until("begun", LIMIT_S)
        assert len(ours.all("waiting")) > 1

    carry_out(dapr.url(), work)


def test_a_body_that_takes_no_notice_until_its_time_is_over_hears_of_it(dapr: Dapr) -> None:
    election = Election(fresh(), store=dapr.url(), ttl_s=4, grace_s=2)
    with election.hold() as term:
        assert term.lost.wait(LIMIT_S), "told by plan"
        assert term.remaining()
    began: list[Term] = []

    def until_it_is_over() -> None:
        with election.hold() as term:
            began.append(term)
            assert term.lost.wait(LIMIT_S)
            until(lambda: not term.remaining(), "the end of the trust", LIMIT_S)

    with pytest.raises(LeadershipLost, match="renews nothing"):
        until_it_is_over()
    assert began[0].token is None


def test_who_hands_over_leaves_it_to_others_for_a_while(dapr: Dapr) -> None:
    name, timing = fresh(), Timing.plan(60.0, whole_seconds=True)

    async def work(store: Store) -> None:
        first = candidate(store, name, "a_1", timing)
        await first.until("begun", LIMIT_S)
        second = candidate(store, name, "b_2", timing)
        await second.until("waiting", LIMIT_S)
        assert first.driver is not None
        first.driver.step_down()
        await second.until("begun", LIMIT_S)
        assert len(first.all("begun")) == 1

    carry_out(dapr.url(), work)


def test_a_take_of_which_nobody_knows_is_given_back_and_tried_again(
    dapr: Dapr, redis_server: Redis
) -> None:
    name, timing = fresh(), Timing.plan(60.0, grace_s=40.0, attempt_s=1.0, whole_seconds=True)
    with Proxy(dapr.host, dapr.port) as proxy, contextlib.closing(redis_server.client()) as client:

        async def work(store: Store) -> None:
            await asyncio.to_thread(proxy.drop_replies)
            ours = candidate(store, name, "a_1", timing)
            owner = await asyncio.to_thread(eventually, lambda: client.get(dapr.key(name)))
            # Else the answer may pass that is still on its way.
            await asyncio.to_thread(eventually, lambda: client.get(dapr.key(name)) != owner)
            await asyncio.to_thread(proxy.heal)
            begun = await ours.until("begun", LIMIT_S)
            assert begun["term"].id.encode() != owner, "another nonce"
            assert client.get(dapr.key(name)) == begun["term"].id.encode()

        carry_out(dapr.url(address=proxy.address), work)


# -- what cannot be -------------------------------------------------------------------------------


def test_who_only_looks_or_asks_is_refused_in_clear_words(dapr: Dapr) -> None:
    async def ask(store: Store) -> None:
        with pytest.raises(StoreUnusable, match="no room for a request to step down"):
            await store.ask("e", StepDownRequest("a_1/x.1"))
        held = await store.take(name := fresh(), claim(name), absent(name))
        with pytest.raises(StoreUnusable, match="renews nothing"):
            await store.renew(held.lease)

    async def look(store: Store) -> None:
        for work in (store.read("e"), store.elections()):
            with pytest.raises(StoreUnusable, match="tells nobody who holds"):
                await work
        with pytest.raises(StoreUnusable, match="tells nobody who holds"):
            store.follow("e", lambda event: None)

    carry_out(dapr.url(), ask)
    carry_out(dapr.url(), look, create=False)
    for command in ("status", "watch"):
        done = run(command, "e", "--store", dapr.url())
        assert (done.code != 0, "tells nobody who holds" in done.err) == (True, True), done.err


def test_a_refusal_names_nobody_and_differs_from_the_one_before(dapr: Dapr) -> None:
    name = fresh()
    assert dapr.ask("lock", resourceId=name, lockOwner="b", expiryInSeconds=60)["success"]

    async def work(store: Store) -> None:
        told = []
        for number in range(2):
            with pytest.raises(Refused) as refused:
                await store.take(name, claim(name, number), absent(name))
            told.append(refused.value.snapshot)
        assert told[0].watched != told[1].watched, "or the next try would wait no longer"
        assert "does not name" in told[0].describe()

    carry_out(dapr.url(), work)


def test_the_doctor_says_what_it_is_worth(dapr: Dapr) -> None:
    done = run("doctor", "e", "--store", dapr.url(), "--json", "--ttl", "60")
    told = {finding["check"]: finding for finding in done.json["findings"]}
    assert told["reachable"]["ok"]
    assert "no write of an old one is refused" in told["terms"]["found"]
    assert told["e"]["found"] == "this store tells nobody who holds"
    assert not [f for f in done.json["findings"] if f["group"] == "store" and f["ok"] is False]
    assert "never renewed" in told["timing"]["found"]


# -- the URL --------------------------------------------------------------------------------------


def load(url: str, **environ: str) -> config.Settings:
    return config.load(StoreURL.parse(url), environ)


def test_the_sidecar_is_where_dapr_says_unless_the_url_does() -> None:
    assert load("dapr:///s").url == "dapr://127.0.0.1:3500/s"
    assert load("dapr:///s?protocol=grpc").port == 50001
    ports = {"DAPR_HTTP_PORT": "1", "DAPR_GRPC_PORT": "2", "DAPR_API_TOKEN": "t"}
    assert load("dapr:///s", **ports).port == 1
    assert load("dapr:///s?protocol=grpc", **ports).port == 2
    found = load("dapr://[::1]:3/s?lock=Jobs-{name}", **ports)
    assert (found.url, found.token) == ("dapr://[::1]:3/s?lock=Jobs-{name}", "t")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("dapr://h", "the name of the lock store"),
        ("dapr://h/a/b", "the name of the lock store"),
        ("dapr://h/s?protocol=quic", "http, grpc"),
        ("dapr://h/s?lock=a||b", "refuses"),
        ("dapr://t0ken@h/s", "DAPR_API_TOKEN"),
        ("dapr://h/s?tls=1", "does not know the option"),
    ],
)
def test_what_cannot_be_meant_is_refused(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        load(url)
    assert "t0ken" not in str(refused.value)


def test_a_port_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="DAPR_HTTP_PORT='x'"):
        load("dapr:///s", DAPR_HTTP_PORT="x")
