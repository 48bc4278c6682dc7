"""Queues under faults: lost connections and answers, servers cut off, sessions that end."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

import pytest

from incumbent.clock import boottime
from incumbent.core import events as ev
from incumbent.core.records import Claim, Held, Holding, Lease, Snapshot
from incumbent.core.timing import Timing
from incumbent.errors import (
    ConfigError,
    OutcomeUnknown,
    StoreError,
    StoreUnavailable,
    StoreUnusable,
)
from incumbent.stores import open_store
from incumbent.stores.api import Store
from incumbent.stores.etcd.client import Client
from incumbent.stores.etcd.lease import KeptLease
from incumbent.stores.etcd.queue import EtcdQueue
from incumbent.stores.queue import QueueStore
from incumbent.stores.zookeeper.link import Op
from incumbent.stores.zookeeper.queue import ZooKeeperQueue
from incumbent.stores.zookeeper.session import RATES, KeptSession
from incumbent.testing.conformance.kit import Watch, refused
from tests.servers.etcd import Cluster, Etcd
from tests.servers.proxy import Proxy
from tests.servers.zookeeper import ZooKeeperEnsemble, ZooKeeperServer
from tests.stores.candidate import candidate

NAME = "jobs"
TTL_S = 2.0
LIMIT_S = 60.0
_T = TypeVar("_T")


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    store = open_store(url)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def on_zookeeper(*addresses: str) -> str:
    return f"zookeeper://{','.join(addresses)}/{secrets.token_hex(6)}?recipe=kazoo-lock"


def on_etcd(*addresses: str) -> str:
    return f"etcd://{','.join(addresses)}/{secrets.token_hex(6)}?tls=0&recipe=lock"


def of_their_own(url: str) -> str:
    """The queue is called as the election is, so it has to be one of this test's."""
    return f"{url}&lock={secrets.token_hex(6)}"


def claim(identity: str, attempt: int = 1) -> Claim:
    return Claim(identity, f"{identity}/x.{attempt}", TTL_S)


async def insisting(work: Any, *, attempt_s: float = 5.0) -> Any:
    """Try until it is neither unknown nor impossible."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                async with asyncio.timeout(attempt_s):
                    return await work()
            except (OutcomeUnknown, StoreUnavailable, TimeoutError):
                await asyncio.sleep(0.05)  # sleep: between two attempts


async def outcome_of(work: Awaitable[_T], limit_s: float) -> _T | Exception:
    try:
        async with asyncio.timeout(limit_s):
            return await work
    except (StoreError, TimeoutError) as error:
        return error


@pytest.fixture(params=["zookeeper", "etcd"])
def proxied(request: pytest.FixtureRequest) -> tuple[Proxy, str, str]:
    """A network of its own to a server, a queue there, and the same queue past that network."""
    server: Etcd | ZooKeeperServer = request.getfixturevalue(request.param)
    proxy: Proxy = request.getfixturevalue(f"{request.param}_proxy")
    make = on_etcd if request.param == "etcd" else on_zookeeper
    url = of_their_own(make(proxy.address))
    return proxy, url, url.replace(proxy.address, server.address)


# -- the connection -------------------------------------------------------------------------------


def test_a_term_outlives_its_connection(proxied: tuple[Proxy, str, str]) -> None:
    proxy, url, _ = proxied

    async def main() -> None:
        async with opened(url) as store:
            held = await store.take(NAME, claim("a_1"), await store.read(NAME))
            for _ in range(3):
                proxy.reset()
                await insisting(lambda: store.renew(held.lease))
            assert (await insisting(lambda: store.read(NAME))).token == held.token

    asyncio.run(main())


def test_a_join_without_an_answer_is_found_again(proxied: tuple[Proxy, str, str]) -> None:
    """There is one node of ours after it, which is either the old one or a new one."""
    proxy, url, _ = proxied

    async def main() -> None:
        async with opened(url) as store, opened(url) as other:
            # Connected, and with a session: what is swallowed is the answer to the join alone.
            held = await store.take(NAME, claim("a_1"), await store.read(NAME))
            await store.release(held, held.lease, "")
            over, again = await store.read(NAME), claim("a_1", 2)
            proxy.drop_replies()
            outcome = await outcome_of(store.take(NAME, again, over), 0.5)
            assert isinstance(outcome, OutcomeUnknown | StoreUnavailable | TimeoutError)
            proxy.heal()
            found = await insisting(lambda: store.read_back(NAME, again))
            if isinstance(found, Snapshot):
                found = await insisting(
                    lambda: store.take(NAME, claim("a_1", 3), found), attempt_s=20
                )
            assert isinstance(found, Held)
            with Watch(other, NAME) as watch:
                await refused(
                    insisting(lambda: other.take(NAME, claim("b_2"), over)), "a take behind it"
                )
                await insisting(lambda: store.release(found, found.lease, ""))
                await watch.until(lambda s: s.lease_version == "first", "no second node of ours")

    asyncio.run(main())


def test_a_server_that_is_cut_off_ends_the_term_before_another_begins(
    proxied: tuple[Proxy, str, str],
) -> None:
    proxy, url, behind = proxied

    async def main() -> None:
        timing = Timing.plan(TTL_S)
        async with opened(url) as one, opened(behind) as two:
            first = candidate(one, NAME, "a_1", timing)
            begun = await first.until("begun", 30)
            second = candidate(two, NAME, "b_2", timing)
            await second.until("waiting", 30, lambda e: e["holder"] == "a_1")
            proxy.cut()
            later = await second.until("begun", LIMIT_S)
            stopped = await first.until("stopped", 5)
            assert (stopped["why"], stopped["at"] < later["at"]) == (ev.Why.LOST, True)
            assert later["token"] > begun["token"]
            proxy.heal()
            await first.until("waiting", LIMIT_S, lambda e: e["holder"] == "b_2")

    asyncio.run(main())


def test_a_node_that_was_made_without_an_answer_is_the_one(
    zookeeper: ZooKeeperServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is asked next, taken or looked up, there is one node of ours."""

    async def main() -> None:
        url = of_their_own(on_zookeeper(zookeeper.address))
        async with opened(url) as store:
            held = await store.take(NAME, claim("a_1"), await store.read(NAME))
            over = await store.release(held, held.lease, "")
            link = await (await kept_session(store)).link()
            stand = link.stand

            async def lost(path: str, value: bytes) -> str | None:
                await stand(path, value)
                raise OutcomeUnknown("no answer to a write")

            monkeypatch.setattr(link, "stand", lost)
            with pytest.raises(OutcomeUnknown):
                await store.take(NAME, claim("a_1", 2), over)
            monkeypatch.setattr(link, "stand", stand)
            await store.take(NAME, claim("a_1", 3), over)
            listed = await link.children(f"/{url.partition('lock=')[2]}")
            assert listed is not None
            assert len(listed[0]) == 1

    asyncio.run(main())


@pytest.mark.parametrize("where", ["zookeeper", "etcd"])
def test_a_place_that_is_given_up_late_is_not_the_one_that_was_taken_since(
    request: pytest.FixtureRequest, where: str
) -> None:
    """Else a process would remove the node by which it leads, and another would follow at once."""
    server: Etcd | ZooKeeperServer = request.getfixturevalue(where)
    make = on_etcd if where == "etcd" else on_zookeeper

    async def main() -> None:
        async with opened(of_their_own(make(server.address))) as store:
            assert isinstance(store, QueueStore)
            driver, lock = store._driver, store._lock(NAME)
            before, since = secrets.token_hex(16), secrets.token_hex(16)
            await driver.join(lock, NAME, before, b"before", TTL_S)
            await driver.join(lock, NAME, since, b"since", TTL_S)
            await driver.leave(lock, before, TTL_S)
            node = await driver.find(lock, since, TTL_S)
            assert node is not None, "the later place went with the earlier one"
            assert (await driver.look(lock, NAME)).first == node
            await driver.prove(lock, node, TTL_S)
            assert await driver.find(lock, before, TTL_S) is None

    asyncio.run(main())


class Delayed(Client):
    """A client whose next orders under a lease get no answer, and are carried out when asked for.

    A member of the cluster that is cut off from the others may keep an order for as long.
    """

    late: list[tuple[str, Any]]
    delaying = 0

    async def ask(self, path: str, body: Any, effect: Any = "read", *, urgent: bool = False) -> Any:
        puts = [one["request_put"] for one in body.get("success", ()) if "request_put" in one]
        if self.delaying and any("lease" in put for put in puts):
            self.delaying -= 1
            self.late.append((path, body))
            raise OutcomeUnknown("no answer")
        return await super().ask(path, body, effect, urgent=urgent)

    async def deliver(self) -> None:
        """Have everything arrive that is late."""
        for path, body in self.late:
            await super().ask(path, body, "write")


@pytest.mark.parametrize("again", [False, True])
def test_a_join_that_arrives_after_its_place_was_left_makes_no_key(etcd: Etcd, again: bool) -> None:
    """Else it stands in the queue for as long as the process has other elections there."""

    async def main() -> None:
        async with opened(of_their_own(on_etcd(etcd.address))) as store:
            assert isinstance(store, QueueStore)
            driver, lock, tag = store._driver, store._lock(NAME), secrets.token_hex(16)
            assert isinstance(driver, EtcdQueue)
            driver._client.__class__ = Delayed
            client = driver._client
            assert isinstance(client, Delayed)
            client.late, client.delaying = [], 1
            with pytest.raises(OutcomeUnknown):
                await driver.join(lock, NAME, tag, b"mine", TTL_S)
            if again:
                await driver.join(lock, NAME, tag, b"mine", TTL_S)
            await driver.leave(lock, tag, TTL_S)
            await client.deliver()
            assert len(client.late) == 1
            assert (await driver.look(lock, NAME)).first is None
            with pytest.raises(StoreUnavailable, match="was left before it was made"):
                await driver.join(lock, NAME, tag, b"mine", TTL_S)

    asyncio.run(main())


# -- ZooKeeper: what the leader knows -------------------------------------------------------------


async def kept_session(store: Store) -> KeptSession:
    assert isinstance(store, QueueStore)
    assert isinstance(store._driver, ZooKeeperQueue)
    return store._driver._sessions[TTL_S]


def test_a_write_does_not_confirm_what_the_leader_may_not_have_heard(
    zookeeper: ZooKeeperServer,
) -> None:
    """No sign of life is old enough to be known to the leader, and young enough to last."""

    async def main() -> None:
        async with opened(of_their_own(on_zookeeper(zookeeper.address))) as store:
            held = await store.take(NAME, claim("a_1"), await store.read(NAME))
            session = await kept_session(store)
            session._attached_at -= 10 * TTL_S
            assert session._half_tick_s == pytest.approx(0.1), "the server's tick is 0.2 s"
            oldest_s = (session._session.timeout_s - TTL_S) / RATES
            for ago_s in (oldest_s + 0.05, -10.0):
                at = boottime() - ago_s
                session._beats = Unchanging([(at, at)])
                with pytest.raises(StoreUnavailable, match="may not have heard of us lately"):
                    await store.renew(held.lease)
            between = boottime() - oldest_s / 2
            session._beats = Unchanging([(between, between)])
            await store.renew(held.lease)

    asyncio.run(main())


class Unchanging(deque[tuple[float, float]]):
    """Signs of life to which none is added."""

    def append(self, _: tuple[float, float]) -> None:
        pass


def test_the_session_goes_on_over_another_connection(
    zookeeper: ZooKeeperServer, zookeeper_proxy: Proxy
) -> None:
    async def main() -> None:
        async with opened(of_their_own(on_zookeeper(zookeeper_proxy.address))) as store:
            held = await store.take(NAME, claim("a_1"), await store.read(NAME))
            session = await kept_session(store)
            before, id_ = await session.link(), session._session.id
            zookeeper_proxy.reset()
            await before.lost
            await insisting(lambda: store.renew(held.lease))
            assert (await session.link() is not before, session._session.id) == (True, id_)

    asyncio.run(main())


def test_a_session_that_is_over_says_so(own_zookeeper: ZooKeeperServer) -> None:
    async def main() -> None:
        async with opened(on_zookeeper(own_zookeeper.address)) as store:
            held = await store.take(NAME, claim("a_1"), await store.read(NAME))
            link = await (await kept_session(store)).link()
            await link.transact([Op("delete", held.snapshot.lease_key)])
            told = await refused(store.renew(held.lease), "a renewal without a node")
            assert told.holding is Holding.VACANT
            own_zookeeper.kill()
            own_zookeeper.restart()
            again = await insisting(lambda: store.take(NAME, claim("a_1", 2), told), attempt_s=20)
            assert again.token > (held.token or 0)

    asyncio.run(main())


def test_a_server_that_keeps_sessions_too_short_is_refused(zookeeper: ZooKeeperServer) -> None:
    async def main() -> None:
        async with opened(of_their_own(on_zookeeper(zookeeper.address))) as store:
            long = Claim("a_1", "a_1/x.1", 30.0)
            with pytest.raises(StoreUnusable, match=r"takes 45; raise maxSessionTimeout"):
                await store.take(NAME, long, await store.read(NAME))

    asyncio.run(main())


@pytest.mark.slow
def test_a_holder_at_a_server_without_its_peers_is_not_confirmed(
    zookeeper_ensemble: ZooKeeperEnsemble,
) -> None:
    """Then one that knows two servers, and stays when its own dies."""
    lonely, another = zookeeper_ensemble.followers()
    others = [server for server in zookeeper_ensemble.servers if server is not lonely]
    near = on_zookeeper(lonely.address)
    far = near.replace(lonely.address, ",".join(server.address for server in others))

    async def main() -> None:
        async with opened(near) as one, opened(far) as two:
            first = candidate(one, NAME, "a_1", Timing.plan(TTL_S))
            begun = await first.until("begun", 30)
            second = candidate(two, NAME, "b_2", Timing.plan(TTL_S))
            await second.until("waiting", 30, lambda e: e["holder"] == "a_1")
            zookeeper_ensemble.cut_off(lonely)
            later = await second.until("begun", LIMIT_S)
            stopped = await first.until("stopped", 5)
            assert (stopped["why"], stopped["at"] < later["at"]) == (ev.Why.LOST, True)
            assert later["token"] > begun["token"]
        zookeeper_ensemble.heal()

    asyncio.run(main())
    asyncio.run(stays(lonely, another))


async def stays(one: ZooKeeperServer, other: ZooKeeperServer) -> None:
    url = on_zookeeper(one.address, other.address).replace("?", "-stays?")
    async with opened(url) as store:
        held = await insisting(
            lambda: store.take("others", claim("a_1"), Snapshot("others", Holding.VACANT, 0, 0))
        )
        link = await (await kept_session(store)).link()
        own = one if link.server.port == one.port else other
        own.kill()
        await link.lost
        await insisting(lambda: store.renew(held.lease), attempt_s=2.0)
        assert (await insisting(lambda: store.read("others"))).token == held.token


# -- etcd: whose word a keep-alive is -------------------------------------------------------------


class Answering(Client):
    """A member that answers as it is told: raft terms, in the order of the requests."""

    def __init__(self, *terms: str) -> None:
        self.terms = list(terms)

    async def ask(self, path: str, body: Any, *_: Any, **__: Any) -> Any:
        header = {"member_id": "1", "raft_term": self.terms.pop(0), "revision": "7"}
        if path == "/v3/lease/keepalive":
            return {"result": {"header": header, "ID": "5", "TTL": "2"}}
        return {"header": header, "succeeded": True}


def test_a_keep_alive_counts_if_its_leader_led_after_it() -> None:
    async def main() -> None:
        lease = KeptLease(Answering("4", "4", "4", "5", "5", "5"), TTL_S)
        lease.id = 5
        await lease.confirm({})
        with pytest.raises(StoreUnavailable, match="leader may have changed"):
            await lease.confirm({})
        await lease.confirm({})

    asyncio.run(main())


def test_a_renewal_keeps_the_lease_alive(etcd: Etcd) -> None:
    """Nothing else does here: what keeps it in the background has been stopped."""

    async def main() -> None:
        async with opened(of_their_own(on_etcd(etcd.address))) as store:
            held = await store.take(NAME, claim("a_1"), await store.read(NAME))
            assert isinstance(store, QueueStore)
            assert isinstance(store._driver, EtcdQueue)
            keeper = store._driver._leases[TTL_S]._keeper
            assert keeper is not None
            keeper.cancel()
            begun = boottime()
            while boottime() < begun + 2 * TTL_S:
                await store.renew(held.lease)
                await asyncio.sleep(TTL_S / 10)  # sleep: time is what ends a lease

    asyncio.run(main())


def test_a_lease_that_is_over_ends_the_term(etcd: Etcd) -> None:
    async def main() -> None:
        async with opened(of_their_own(on_etcd(etcd.address))) as store:
            held = await store.take(NAME, claim("a_1"), await store.read(NAME))
            hex_id = held.snapshot.lease_key.rpartition("/")[2]
            revoked = {"ID": str(int(hex_id, 16))}
            await asyncio.to_thread(etcd.request, "/v3/lease/revoke", revoked)
            told = await refused(store.renew(held.lease), "a renewal without a lease")
            assert told.holding is Holding.VACANT
            assert isinstance(store, QueueStore)
            assert isinstance(store._driver, EtcdQueue)
            both = (store._driver._lease(TTL_S), store._driver._lease(TTL_S))
            one, other = await asyncio.gather(*both)
            assert one is other, "a lease that nobody knows of would be kept for ever"
            again = await store.take(NAME, claim("a_1", 2), told)
            assert (again.token or 0) > (held.token or 0)
            await store.renew(again.lease)

    asyncio.run(main())


def test_a_lease_for_long_is_refused(etcd: Etcd) -> None:
    async def main() -> None:
        async with opened(of_their_own(on_etcd(etcd.address))) as store:
            with pytest.raises(StoreUnusable, match="up to 300 s: lower ttl_s"):
                await store.take(NAME, Claim("a_1", "a_1/x.1", 300.0), await store.read(NAME))

    asyncio.run(main())


@pytest.mark.slow
def test_a_holder_at_a_leader_without_its_peers_is_not_confirmed(etcd_cluster: Cluster) -> None:
    """The leader goes on answering keep-alives for a while: none of them counts."""

    async def main() -> None:
        leader = await asyncio.to_thread(etcd_cluster.leader)
        addresses = [member.address for member in etcd_cluster.members]
        near = on_etcd(addresses.pop(leader))
        far = near.replace(etcd_cluster.members[leader].address, ",".join(addresses))
        async with opened(near) as one, opened(far) as two:
            first = candidate(one, NAME, "a_1", Timing.plan(4.0))
            begun = await first.until("begun", 30)
            second = candidate(two, NAME, "b_2", Timing.plan(4.0))
            await second.until("waiting", 30, lambda e: e["holder"] == "a_1")
            probe = await one.take("probe", claim("p_1"), await one.read("probe"))
            await asyncio.to_thread(etcd_cluster.links.cut_off, leader)
            elected = asyncio.ensure_future(second.until("begun", LIMIT_S))
            while not elected.done():
                outcome = await outcome_of(one.renew(probe.lease), 1.0)
                assert not isinstance(outcome, Lease), "confirmed by a member without its peers"
                await asyncio.wait([elected], timeout=0.1)
            later, stopped = await elected, await first.until("stopped", 5)
            assert (stopped["why"], stopped["at"] < later["at"]) == (ev.Why.LOST, True)
            assert later["token"] > begun["token"]
            await asyncio.to_thread(etcd_cluster.links.heal)
            await first.until("waiting", LIMIT_S, lambda e: e["holder"] == "b_2")

    asyncio.run(main())


# -- who keeps to no rule, and what is written wrongly --------------------------------------------


def test_a_key_without_a_lease_keeps_us_out_until_somebody_removes_it(etcd: Etcd) -> None:
    async def main() -> None:
        lock = secrets.token_hex(6)
        etcd.put(f"{lock}/forever", b"by hand")
        async with opened(f"{on_etcd(etcd.address)}&lock={lock}") as store:
            waits = candidate(store, NAME, "a_1", Timing.plan(TTL_S))
            await waits.until("waiting", 30, lambda e: e["holder"] == "by hand", count=3)
            etcd.delete(f"{lock}/forever")
            await waits.until("begun", 30)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("zookeeper://h?recipe=latch", "there is no recipe='latch'"),
        ("zookeeper://h?lock=/x", "say which, by recipe="),
        ("zookeeper://h?recipe=kazoo-lock&lock=/a//b", "cannot be the path of a lock"),
        ("zookeeper://h?recipe=kazoo-lock&lock=/zookeeper/x", "cannot be the path of a lock"),
        ("etcd://h?recipe=mutex", "there is no recipe='mutex'"),
        ("etcd://h?recipe=lock&lock=x/", "ends in a slash"),
    ],
)
def test_what_cannot_be_a_queue(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        open_store(url)
