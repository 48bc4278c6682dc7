"""The ZooKeeper store on real servers: versions, connections, rights, and who is cut off."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError

from incumbent.core import events as ev
from incumbent.core.records import Claim, Held, Holding, Lease, Snapshot
from incumbent.core.timing import Timing
from incumbent.errors import (
    ConfigError,
    OutcomeUnknown,
    PermissionDenied,
    Refused,
    StoreAbsent,
    StoreError,
    StoreUnavailable,
    StoreUnusable,
)
from incumbent.stores import open_store
from incumbent.stores.api import Store, StoreURL, redact
from incumbent.stores.kv import ABSENT, Conflict, KeyValueStore
from incumbent.stores.zookeeper import open as open_zookeeper
from incumbent.stores.zookeeper.driver import ZooKeeper
from incumbent.stores.zookeeper.link import Link, Server, Settings, Stat, Unmet
from incumbent.testing import conformance
from incumbent.testing.conformance.kit import Watch, refused, same
from tests.servers.proxy import Proxy
from tests.servers.zookeeper import ZooKeeperEnsemble, ZooKeeperServer
from tests.stores.candidate import candidate

NAME = "jobs"
TTL_S = 5.0


@contextlib.asynccontextmanager
async def opened(url: str, *, create: bool = True) -> AsyncIterator[KeyValueStore]:
    store = open_zookeeper(StoreURL.parse(url))
    assert isinstance(store, KeyValueStore)
    await store.open(create=create)
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def a_candidate(
    url: str, identity: str = "a_1"
) -> AsyncIterator[tuple[KeyValueStore, Claim]]:
    """A store, and a claim under a session of it."""
    async with opened(url) as store:
        yield store, await claim(store, identity)


async def claim(store: Store, identity: str = "a_1", ttl_s: float = TTL_S) -> Claim:
    session = await store.open_session(identity, ttl_s)
    return Claim(identity, f"{identity}/{secrets.token_hex(3)}.1", ttl_s, session)


def at(lease: Lease) -> Callable[[Snapshot], bool]:
    return lambda snapshot: snapshot.lease_version == lease.version


def driver(store: KeyValueStore) -> ZooKeeper:
    assert isinstance(store._driver, ZooKeeper)
    return store._driver


def node(client: Any, prefix: str, name: str = NAME) -> str:
    """The path of the node that has the record."""
    upper = f"{prefix}/elections/{name}"
    (nonce,) = client.get_children(upper)
    return f"{upper}/{nonce}"


@pytest.fixture
def prefix() -> str:
    return f"/test-{secrets.token_hex(6)}"


@pytest.fixture
def url(zookeeper: ZooKeeperServer, prefix: str) -> str:
    return f"zookeeper://{zookeeper.address}{prefix}"


@pytest.fixture
def proxied(zookeeper_proxy: Proxy, prefix: str) -> str:
    return f"zookeeper://{zookeeper_proxy.address}{prefix}"


# -- the conformance suite ------------------------------------------------------------------------


class Harness:
    ttl_s = TTL_S

    def __init__(self, *urls: str) -> None:
        """With several URLs, each store has the next one."""
        self._urls = itertools.cycle(urls)
        self._parsed = StoreURL.parse(urls[0])
        self._stores: list[Store] = []
        self._client: Any = KazooClient(hosts=self._parsed.host + ":" + str(self._parsed.port))
        if self._parsed.username:
            credentials = f"{self._parsed.username}:{self._parsed.password}"
            self._client.add_auth("digest", credentials)
        self._client.start(20)

    def name(self) -> str:
        return f"election-{secrets.token_hex(4)}"

    async def store(self, *, create: bool = True) -> Store:
        store = open_zookeeper(StoreURL.parse(next(self._urls)))
        self._stores.append(store)
        await store.open(create=create)
        return store

    async def delete(self, name: str) -> bool:
        self._client.delete(f"{self._parsed.path}/elections/{name}", recursive=True)
        return True

    async def scribble(self, name: str) -> bool:
        self._client.set(node(self._client, self._parsed.path, name), b'{"format": 999}')
        return True

    async def disturb(self, name: str) -> bool:
        path = node(self._client, self._parsed.path, name)
        changed = {**json.loads(self._client.get(path)[0]), "note": secrets.token_hex(4)}
        self._client.set(path, json.dumps(changed).encode())
        return True

    async def close(self) -> None:
        for store in self._stores:
            await store.close()
        self._client.stop()
        self._client.close()


@pytest.mark.parametrize("case", conformance.CASES, ids=str)
def test_conformance(case: conformance.Case, url: str) -> None:
    conformance.run(case, lambda: Harness(url))


@pytest.mark.slow
def test_conformance_of_candidates_at_different_servers(
    zookeeper_ensemble: ZooKeeperEnsemble, prefix: str
) -> None:
    """Every third case is enough for what differs: who asks another server has seen less."""
    urls = [f"zookeeper://{server.address}{prefix}" for server in zookeeper_ensemble.servers]
    for case in conformance.CASES[::3]:
        conformance.run(case, lambda: Harness(*urls))


# -- versions -------------------------------------------------------------------------------------


def test_a_version_is_not_used_again_when_a_record_was_deleted_and_made_anew(
    zookeeper: ZooKeeperServer, url: str, prefix: str
) -> None:
    """ZooKeeper's own count is the same in both records; only the creation tells them apart."""

    async def main() -> None:
        async with a_candidate(url, "a_1") as (a, of_a), a_candidate(url, "b_2") as (b, of_b):
            await a.take(NAME, of_a, await a.read(NAME))
            watched = await b.read(NAME)
            client.delete(f"{prefix}/elections/{NAME}", recursive=True)
            async with opened(url) as c:
                again = await c.take(NAME, await claim(c, "c_3"), await c.read(NAME))
                versions = (watched.version, again.snapshot.version)
                counts = {version[1] for version in versions if isinstance(version, tuple)}
                assert counts == {1}, "otherwise this test shows nothing"
                told = await refused(b.take(NAME, of_b, watched), "a take over the old version")
                assert told.term == again.term
                assert (await b.read(NAME)).term == again.term

    with zookeeper.by_hand() as client:
        asyncio.run(main())


def test_of_two_who_make_a_record_over_an_empty_node_one_is_refused(
    zookeeper: ZooKeeperServer, url: str, prefix: str
) -> None:
    """Whoever deletes by hand deletes the inner node first; what is left is no record."""

    async def main() -> None:
        async with opened(url) as a, opened(url) as b:
            for key in (f"elections/{NAME}", "sessions/x"):
                client.create(f"{prefix}/{key}")
                assert (await driver(a).get(key))[0] is None
            key = f"elections/{NAME}"
            # Both have seen that the node is empty.
            plans = [
                driver(store)._nodes.plan({key: ABSENT}, {key: b"{}"}, frozenset({key}))
                for store in (a, b)
            ]
            link = await driver(a)._ensemble.link()
            await link.transact(plans[0].ops)
            with pytest.raises(Unmet):
                await link.transact(plans[1].ops)
            assert len(client.get_children(f"{prefix}/{key}")) == 1
            with pytest.raises(Conflict):
                await driver(b).swap({key: ABSENT}, {key: b"{}"})

    with zookeeper.by_hand() as client:
        asyncio.run(main())


def test_an_absence_can_be_a_condition_and_leaves_nothing(
    zookeeper: ZooKeeperServer, url: str, prefix: str
) -> None:
    async def main() -> None:
        async with opened(url) as store:
            swap = driver(store).swap
            absent = {"sessions/gone": ABSENT, "elections/one": ABSENT}
            written = await swap(absent, {"elections/one": b"1"})
            version = written["elections/one"].version
            assert client.exists(f"{prefix}/sessions/gone") is None
            client.create(f"{prefix}/sessions/gone")
            held = {"sessions/gone": ABSENT, "elections/one": version}
            written = await swap(held, {"elections/one": b"2"})
            assert client.exists(f"{prefix}/sessions/gone") is None, "an empty node is no key"
            await swap({"sessions/gone": ABSENT}, {"sessions/gone": b"s"})
            held = {"sessions/gone": ABSENT, "elections/one": written["elections/one"].version}
            with pytest.raises(Conflict):
                await swap(held, {"elections/one": b"3"})
            entry, _ = await driver(store).get("elections/one")
            assert entry == written["elections/one"]

    with zookeeper.by_hand() as client:
        asyncio.run(main())


def test_each_condition_counts_and_a_refusal_writes_nothing(url: str) -> None:
    async def main() -> None:
        async with opened(url) as store:
            zk = driver(store)
            keys = ("elections/one", "sessions/two")
            made = await zk.swap(dict.fromkeys(keys, ABSENT), dict.fromkeys(keys, b"0"))
            assert len({entry.revision for entry in made.values()}) == 1, "one transaction"
            stale = {key: entry.version for key, entry in made.items()}
            moved = await zk.swap({keys[1]: stale[keys[1]]}, {keys[1]: b"1"})
            for wrong in (
                {**stale},
                {keys[0]: ("other", 1), keys[1]: moved[keys[1]].version},
                {keys[0]: "gone", keys[1]: moved[keys[1]].version},
                {keys[0]: ABSENT, keys[1]: moved[keys[1]].version},
            ):
                for writes in ({keys[0]: b"x"}, {keys[1]: b"x"}, dict.fromkeys(keys, b"x")):
                    with pytest.raises(Conflict):
                        await zk.swap(wrong, writes)
            assert (await zk.get(keys[0]))[0] == made[keys[0]]
            assert (await zk.get(keys[1]))[0] == moved[keys[1]]
            with pytest.raises(Conflict):
                await zk.remove(keys[1], stale[keys[1]])
            await zk.remove(keys[1], moved[keys[1]].version)
            assert (await zk.get(keys[1]))[0] is None

    asyncio.run(main())


def test_what_was_put_there_by_hand_is_foreign(
    zookeeper: ZooKeeperServer, url: str, prefix: str
) -> None:
    async def main() -> None:
        async with a_candidate(url) as (store, mine):
            client.create(f"{prefix}/elections/{NAME}", b"theirs")
            held = await store.take("other", mine, await store.read("other"))
            copied, _ = client.get(node(client, prefix, "other"))
            client.create(f"{prefix}/elections/other/theirs", copied)
            for name in (NAME, "other"):
                seen = await store.read(name)
                assert seen.holding is Holding.FOREIGN, name
                await refused(store.take(name, mine, seen), "a take over a foreign record")
                assert same(await store.read(name), seen)
            assert (await store.release(held, held.lease, "")).holding is Holding.FOREIGN
            assert client.get(f"{prefix}/elections/{NAME}")[0] == b"theirs"

    with zookeeper.by_hand() as client:
        asyncio.run(main())


def test_everything_deleted_by_hand_is_made_anew_by_candidates_only(
    zookeeper: ZooKeeperServer, url: str, prefix: str
) -> None:
    async def main() -> None:
        async with a_candidate(url) as (store, mine), opened(url, create=False) as looker:
            held = await store.take(NAME, mine, await store.read(NAME))
            client.delete(prefix, recursive=True)
            for reader in (store, looker):
                seen = await reader.read(NAME)
                assert seen.holding is Holding.ABSENT
                assert await reader.elections() == []
            with pytest.raises(Refused):
                await store.renew(held.lease)
            with pytest.raises(StoreAbsent):
                await looker.open_session("looker_1", TTL_S)
            assert client.exists(prefix) is None
            again = await store.take(NAME, await claim(store), await store.read(NAME))
            assert again.token is not None
            assert held.token is not None
            assert again.token > held.token

    with zookeeper.by_hand() as client:
        asyncio.run(main())


def test_a_session_deleted_by_hand_proves_nothing(
    zookeeper: ZooKeeperServer, url: str, prefix: str
) -> None:
    async def main() -> None:
        async with a_candidate(url) as (a, of_a), a_candidate(url, "b_2") as (b, of_b):
            held = await a.take(NAME, of_a, await a.read(NAME))
            client.delete(f"{prefix}/sessions/{held.lease.key}", recursive=True)
            seen = await b.read(NAME)
            assert seen.holding is Holding.HELD, "it is waited out"
            with pytest.raises(Refused):
                await a.renew(held.lease)
            taken = await b.take(NAME, of_b, seen)
            assert (await a.read(NAME)).term == taken.term

    with zookeeper.by_hand() as client:
        asyncio.run(main())


# -- following ------------------------------------------------------------------------------------


def test_an_absence_that_stood_is_known_although_the_connection_was_lost(
    url: str, proxied: str, zookeeper_proxy: Proxy
) -> None:
    async def main() -> None:
        async with a_candidate(proxied) as (store, mine):
            with Watch(store, NAME) as watch:
                seen = await watch.until(lambda s: s.holding is Holding.ABSENT, "the absence")
                for _ in range(3):
                    zookeeper_proxy.reset()
                    await reconnected(store)
                    assert (await store.read(NAME)).watched == seen.watched
                assert len(watch.seen) == 1
                await store.take(NAME, mine, seen)

    asyncio.run(main())


def test_an_absence_that_did_not_stand_is_noticed_although_the_connection_was_lost(
    zookeeper: ZooKeeperServer, url: str, prefix: str, proxied: str, zookeeper_proxy: Proxy
) -> None:
    async def main() -> None:
        async with a_candidate(proxied) as (store, mine):
            with Watch(store, NAME) as watch:
                seen = await watch.until(lambda s: s.holding is Holding.ABSENT, "the absence")
                zookeeper_proxy.refuse()
                client.create(f"{prefix}/elections/{NAME}")
                client.delete(f"{prefix}/elections/{NAME}")
                zookeeper_proxy.heal()
                await watch.until(lambda s: s.watched != seen.watched, "an absence counted anew")
                await refused(store.take(NAME, mine, seen), "a take over an absence that was not")

    with zookeeper.by_hand() as client:
        asyncio.run(main())


def test_an_absence_that_did_not_stand_is_not_taken_over_before_it_is_looked_at_again(
    zookeeper: ZooKeeperServer, prefix: str, proxied: str, zookeeper_proxy: Proxy
) -> None:
    async def main() -> None:
        async with a_candidate(proxied) as (store, mine):
            with Watch(store, NAME) as watch:
                seen = await watch.until(lambda s: s.holding is Holding.ABSENT, "the absence")
                zookeeper_proxy.refuse()
                await asyncio.shield((await driver(store)._ensemble.link()).lost)
                client.create(f"{prefix}/elections/{NAME}")
                client.delete(f"{prefix}/elections/{NAME}")
                taking = asyncio.ensure_future(store.take(NAME, mine, seen))
                await asyncio.sleep(0)  # sleep: one turn of the loop, so that it has begun to wait
                zookeeper_proxy.heal()
                with pytest.raises((Refused, StoreUnavailable)):
                    await taking
                await refused(store.take(NAME, mine, seen), "a take over an absence that was not")

    with zookeeper.by_hand() as client:
        asyncio.run(main())


def test_a_record_that_came_and_went_between_two_looks_starts_the_absence_anew(
    zookeeper: ZooKeeperServer, url: str, prefix: str
) -> None:
    async def main() -> None:
        async with a_candidate(url) as (store, mine):
            with Watch(store, NAME) as watch:
                seen = await watch.until(lambda s: s.holding is Holding.ABSENT, "the absence")
                transaction = client.transaction()
                transaction.create(f"{prefix}/elections/{NAME}")
                transaction.delete(f"{prefix}/elections/{NAME}")
                assert not [x for x in transaction.commit() if isinstance(x, Exception)]
                await watch.until(lambda s: s.watched != seen.watched, "an absence counted anew")
                await refused(store.take(NAME, mine, seen), "a take over an absence that was not")

    with zookeeper.by_hand() as client:
        asyncio.run(main())


def test_an_absence_is_marked_by_a_moment_in_which_nothing_changed(
    zookeeper: ZooKeeperServer, url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key comes and goes just when it is being looked at, and is missed: the mark is not."""

    async def main() -> None:
        async with opened(url) as store:
            link = await driver(store)._ensemble.link()
            real, upper = link.exists, f"{prefix}/elections/{NAME}"
            meddled: list[str] = []

            async def exists(path: str, *, watch: bool = False) -> Stat | None:
                found = await real(path, watch=watch)
                if not meddled:
                    meddled.append(path)
                    client.create(upper)
                    client.delete(upper)
                return found

            monkeypatch.setattr(link, "exists", exists)
            found = await driver(store)._nodes.look(link, f"elections/{NAME}")
            assert meddled == [f"{prefix}/elections"]
            folder = await real(f"{prefix}/elections")
            assert folder is not None
            assert found.mark is not None
            assert found.mark.zxid == found.revision == folder.children_changed

    with zookeeper.by_hand() as client:
        asyncio.run(main())


def test_a_follower_misses_no_last_state_when_its_connection_breaks(
    url: str, proxied: str, zookeeper_proxy: Proxy
) -> None:
    async def main() -> None:
        async with a_candidate(url) as (holder, mine), opened(proxied) as store:
            with Watch(store, NAME) as watch:
                held = await holder.take(NAME, mine, await holder.read(NAME))
                await watch.until(lambda s: s.term == held.term, "the take")
                lease = held.lease
                for _ in range(5):
                    zookeeper_proxy.reset()
                    lease = await holder.renew(lease)
                    await watch.until(at(lease), "the renewal")
                zookeeper_proxy.refuse()
                vacant = await holder.release(held, lease, "")
                zookeeper_proxy.heal()
                await watch.until(lambda s: same(s, vacant), "the release")
            assert [s.serial for s in watch.seen] == sorted(s.serial for s in watch.seen)

    asyncio.run(main())


# -- outcomes -------------------------------------------------------------------------------------


async def reconnected(store: KeyValueStore) -> None:
    """Wait until there is a connection again."""
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(StoreUnavailable):
                await driver(store)._settled(await driver(store)._ensemble.link())
                return


def test_a_write_whose_answer_is_lost_is_unknown_and_found_again(
    proxied: str, zookeeper_proxy: Proxy
) -> None:
    async def main() -> None:
        async with a_candidate(proxied) as (store, mine):
            over = await store.read(NAME)
            zookeeper_proxy.drop_replies()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await store.take(NAME, mine, over)
            zookeeper_proxy.heal()
            found = await store.read_back(NAME, mine)
            assert isinstance(found, Held)
            lease = found.lease
            zookeeper_proxy.drop_replies()
            renewing = asyncio.ensure_future(store.renew(lease))
            await asyncio.wait({renewing}, timeout=0.3)
            zookeeper_proxy.heal()  # What lost bytes is reset.
            with pytest.raises(OutcomeUnknown):
                await renewing
            lease = await store.renew(lease)
            assert (await store.read(NAME)).lease_version == lease.version

    asyncio.run(main())


def test_nothing_is_sent_twice(
    zookeeper: ZooKeeperServer, proxied: str, prefix: str, zookeeper_proxy: Proxy
) -> None:
    """A write of unknown outcome is counted at the server: once, also after the reconnection."""

    async def main() -> None:
        async with a_candidate(proxied) as (store, mine):
            await store.take(NAME, mine, await store.read(NAME))
            before = client.get(node(client, prefix))[1].version
            zookeeper_proxy.drop_replies()
            key = f"elections/{NAME}"
            entry = json.loads(client.get(node(client, prefix))[0])
            version = (node(client, prefix).rpartition("/")[2], before)
            writing = asyncio.ensure_future(
                driver(store).swap({key: version}, {key: json.dumps(entry).encode()})
            )
            await asyncio.wait({writing}, timeout=0.3)
            zookeeper_proxy.heal()
            with pytest.raises(OutcomeUnknown):
                await writing
            await reconnected(store)
            assert client.get(node(client, prefix))[1].version == before + 1

    with zookeeper.by_hand() as client:
        asyncio.run(main())


def test_a_server_that_is_away_is_an_error_at_once_and_is_found_again(
    own_zookeeper: ZooKeeperServer, prefix: str
) -> None:
    async def main() -> None:
        async with a_candidate(f"zookeeper://{own_zookeeper.address}{prefix}") as (store, mine):
            held = await store.take(NAME, mine, await store.read(NAME))
            with Watch(store, NAME) as watch:
                await watch.until(lambda s: s.term == held.term, "the take")
                own_zookeeper.kill()
                for _ in range(3):
                    async with asyncio.timeout(5):
                        with pytest.raises(StoreError) as caught:
                            await store.renew(held.lease)
                    assert own_zookeeper.address in str(caught.value)
                with pytest.raises(StoreUnavailable, match="refused"):
                    await store.renew(held.lease)
                own_zookeeper.start()
                await reconnected(store)
                lease = await store.renew(held.lease)
                vacant = await store.release(held, lease, "")
                await watch.until(lambda s: same(s, vacant), "the release")
                again = await store.take(NAME, mine, vacant)
                assert again.token is not None
                assert held.token is not None
                assert again.token > held.token, "it grows over a restart of the server"

    asyncio.run(main())


def test_a_connection_that_is_lost_while_a_store_opens_is_made_anew(
    zookeeper: ZooKeeperServer, zookeeper_proxy: Proxy, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that looks for another leader ends what it has just let in."""
    lost: list[str] = []
    exists = Link.exists

    async def losing(link: Link, path: str, **options: Any) -> Stat | None:
        if not lost:
            lost.append(path)
            await asyncio.to_thread(zookeeper_proxy.reset)
        return await exists(link, path, **options)

    monkeypatch.setattr(Link, "exists", losing)

    async def main() -> None:
        async with opened(f"zookeeper://{zookeeper_proxy.address}{prefix}") as store:
            await store.read(NAME)
            assert lost

    asyncio.run(main())


def test_a_request_that_waits_while_the_server_stands_still_can_be_given_up(
    own_zookeeper: ZooKeeperServer, prefix: str
) -> None:
    async def main() -> None:
        async with a_candidate(f"zookeeper://{own_zookeeper.address}{prefix}") as (store, mine):
            held = await store.take(NAME, mine, await store.read(NAME))
            own_zookeeper.pause()
            for _ in range(3):
                with pytest.raises((TimeoutError, StoreUnavailable)):
                    async with asyncio.timeout(0.5):
                        await store.renew(held.lease)
            own_zookeeper.resume()
            await reconnected(store)
            await store.renew(held.lease)

    asyncio.run(main())


def test_a_store_that_is_closed_can_be_opened_again(url: str) -> None:
    async def main() -> None:
        store = open_zookeeper(StoreURL.parse(url))
        with pytest.raises(StoreUnavailable):
            await store.read(NAME)
        for _ in range(2):
            await store.open()
            assert (await store.read(NAME)).holding is Holding.ABSENT
            await store.close()
        with pytest.raises(StoreUnavailable):
            await store.read(NAME)

    asyncio.run(main())


# -- several servers ------------------------------------------------------------------------------


def plan(ttl_s: float) -> Timing:
    return Timing.plan(ttl_s)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["leader", "follower"])
def test_a_holder_whose_server_is_cut_off_is_not_confirmed_and_is_taken_over(
    zookeeper_ensemble: ZooKeeperEnsemble, where: str
) -> None:
    """Its server answers pings and reads all the while, and would have kept its session."""
    lonely = zookeeper_ensemble.leader() if where == "leader" else zookeeper_ensemble.followers()[0]
    others = [server for server in zookeeper_ensemble.servers if server is not lonely]

    async def main() -> None:
        majority = ",".join(server.address for server in others)
        async with (
            opened(f"zookeeper://{lonely.address}") as one,
            opened(f"zookeeper://{majority}") as two,
        ):
            holder = candidate(one, NAME, "a_1", plan(2))
            begun = await holder.until("begun", 20)
            standby = candidate(two, NAME, "b_2", plan(2))
            await standby.until("waiting", 10, lambda e: e["holder"] == "a_1")
            with lonely.by_hand() as client:
                zookeeper_ensemble.cut_off(lonely)
                cut_at = asyncio.get_running_loop().time()
                stopped = await holder.until("stopped", 10)
                assert stopped["why"] is ev.Why.LOST
                assert asyncio.get_running_loop().time() - cut_at < 4
                # The server is as friendly as ever to whoever only reads.
                assert client.exists("/incumbent") is not None
                taken = await standby.until("begun", 60)
                assert taken["at"] > stopped["at"]
                assert taken["token"] > begun["token"]
                if where == "follower":
                    assert client.connected, "it still gets its pings answered"
                    assert client.exists("/incumbent") is not None
                zookeeper_ensemble.heal()
                await holder.until("waiting", 60, lambda e: e["holder"] == "b_2")

    asyncio.run(main())


@pytest.mark.slow
def test_a_holder_that_knows_all_servers_stays_when_its_own_is_cut_off(
    zookeeper_ensemble: ZooKeeperEnsemble,
) -> None:
    async def main() -> None:
        addresses = ",".join(server.address for server in zookeeper_ensemble.servers)
        async with opened(f"zookeeper://{addresses}/some/where") as store:
            holder = candidate(store, NAME, "a_1", plan(6))
            begun = await holder.until("begun", 20)
            link = await driver(store)._ensemble.link()
            leader = zookeeper_ensemble.leader()
            if link.server.port == leader.port:
                # Another leader has to be found first, which takes the servers longer than this.
                link.drop("not the leader, please")
                link = await driver(store)._ensemble.link()
            own = next(s for s in zookeeper_ensemble.servers if s.port == link.server.port)
            zookeeper_ensemble.cut_off(own)
            async with asyncio.timeout(20):
                await asyncio.shield(link.lost)
            async with opened(f"zookeeper://{leader.address}/some/where") as other:
                with Watch(other, NAME) as watch:
                    await watch.until(lambda s: len(watch.seen) > 5, "renewals")
            assert {s.token for s in watch.seen} == {begun["token"]}
            assert len(holder.all("begun")) == 1
            assert not holder.all("stopped")

    asyncio.run(main())


@pytest.mark.slow
def test_a_read_is_confirmed_by_a_majority_and_sync_would_not_be(
    zookeeper_ensemble: ZooKeeperEnsemble,
) -> None:
    lonely = zookeeper_ensemble.leader()

    async def main() -> None:
        async with opened(f"zookeeper://{lonely.address}") as store:
            await store.read(NAME)
            with lonely.by_hand() as client:
                zookeeper_ensemble.cut_off(lonely)
                client.sync_async("/incumbent").get(timeout=1)
                assert client.exists("/incumbent") is not None
                with pytest.raises((TimeoutError, StoreUnavailable)):
                    async with asyncio.timeout(1):
                        await store.read(NAME)

    asyncio.run(main())


@pytest.mark.slow
def test_a_server_that_died_or_stands_still_costs_a_moment_and_no_term(
    zookeeper_ensemble: ZooKeeperEnsemble,
) -> None:
    async def main() -> None:
        addresses = ",".join(server.address for server in zookeeper_ensemble.servers)
        async with a_candidate(f"zookeeper://{addresses}") as (store, mine):
            held = await store.take(NAME, mine, await store.read(NAME))
            lease: Lease = held.lease
            follower = zookeeper_ensemble.followers()[0]
            for harm, mend in (("pause", "resume"), ("kill", "start")):
                ensemble = driver(store)._ensemble
                while (link := await ensemble.link()).server.port != follower.port:
                    link.drop("not this one")
                getattr(follower, harm)()
                async with asyncio.timeout(10):
                    while True:
                        with contextlib.suppress(TimeoutError, StoreUnavailable, OutcomeUnknown):
                            async with asyncio.timeout(1):
                                lease = await store.renew(lease)
                                break
                assert (await ensemble.link()).server.port != follower.port
                getattr(follower, mend)()

    asyncio.run(main())


# -- rights ---------------------------------------------------------------------------------------


def test_only_the_user_of_the_url_may_write(zookeeper: ZooKeeperServer, prefix: str) -> None:
    secret = "p:w,d@/%-" + secrets.token_hex(4)
    from urllib.parse import quote

    def url(user: str, password: str = secret) -> str:
        return f"zookeeper://{user}:{quote(password, safe='')}@{zookeeper.address}{prefix}"

    async def main() -> None:
        async with a_candidate(url("ours")) as (store, mine):
            held = await store.take(NAME, mine, await store.read(NAME))
            for other in (url("ours", "wrong"), url("theirs"), redacted):
                with pytest.raises(PermissionDenied, match="user name, password"):
                    await open_zookeeper(StoreURL.parse(other)).open()
            for path in (node(anybody, prefix), f"{prefix}/sessions"):
                with pytest.raises(NoAuthError):
                    anybody.get(path)
                with pytest.raises(NoAuthError):
                    anybody.set(path, b"")
            with pytest.raises(NoAuthError):
                anybody.create(f"{prefix}/elections/more")
            with pytest.raises(NoAuthError):
                anybody.delete(node(anybody, prefix))
            findings = {f.check: f for f in await store.examine()}
            assert findings["rights"].ok, findings["rights"]
            assert "digest:ours" in findings["rights"].text
            assert "password" in findings["encryption"].text
            await store.renew(held.lease)

    redacted = f"zookeeper://{zookeeper.address}{prefix}"
    with zookeeper.by_hand() as nobody, zookeeper.by_hand("x:y") as anybody:
        # Names can be listed by nobody else, so the test asks the owner for the path.
        with zookeeper.by_hand(f"ours:{secret}") as owner:
            anybody.get_children = owner.get_children
            asyncio.run(main())
        assert nobody.exists(prefix) is not None


def test_without_a_user_the_doctor_says_who_may_write(url: str) -> None:
    async def main() -> None:
        async with opened(url) as store:
            findings = {f.check: f for f in await store.examine()}
            assert findings["rights"].ok is None
            assert findings["rights"].fix
            server = next(f for check, f in findings.items() if check.startswith("server "))
            assert server.text == "ZooKeeper 3.8.0, standalone"
            assert findings["reachable"].ok
            assert findings["round trip"].ok
            assert findings["encryption"].ok is None

    asyncio.run(main())


def test_a_right_that_is_missing_on_the_way_is_permission_denied(
    zookeeper: ZooKeeperServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kazoo.security import make_digest_acl

    said = threading.Event()
    log = logging.getLogger("incumbent.stores.zookeeper")
    monkeypatch.setattr(log, "warning", lambda *_: said.set())

    async def main() -> None:
        url = f"zookeeper://{zookeeper.address}{prefix}"
        async with a_candidate(url) as (store, mine):
            held = await store.take(NAME, mine, await store.read(NAME))
            client.set_acls(node(client, prefix), [make_digest_acl("root", "x", all=True)])
            with pytest.raises(PermissionDenied):
                await store.read(NAME)
            with pytest.raises(PermissionDenied):
                await driver(store).swap(
                    {f"elections/{NAME}": held.snapshot.version}, {f"elections/{NAME}": b"{}"}
                )
            with Watch(store, NAME):
                await asyncio.wait_for(asyncio.to_thread(said.wait), 10)

    with zookeeper.by_hand() as client:
        asyncio.run(main())


# -- TLS ------------------------------------------------------------------------------------------


def test_tls(
    encrypted_zookeeper: tuple[ZooKeeperServer, Path], certificates: Path, prefix: str
) -> None:
    server, trusted = encrypted_zookeeper
    base = f"zookeeper://{server.secure_address}{prefix}"

    async def main() -> None:
        async with a_candidate(f"{base}?cafile={trusted}") as (store, mine):
            await store.take(NAME, mine, await store.read(NAME))
            findings = {f.check: f for f in await store.examine()}
            assert findings["encryption"].ok
            assert findings[f"server {server.secure_address}"].text.startswith("ZooKeeper 3.8")
        with pytest.raises(StoreUnusable, match="certificate"):
            await open_zookeeper(StoreURL.parse(f"{base}?cafile={certificates / 'ca.crt'}")).open()
        by_name = base.replace("127.0.0.1", "localhost")
        with pytest.raises(StoreUnusable, match=r"certificate.*localhost"):
            await open_zookeeper(StoreURL.parse(f"{by_name}?cafile={trusted}")).open()
        for wrong in (base, f"zookeeper://{server.address}{prefix}?cafile={trusted}"):
            with pytest.raises(StoreUnavailable):
                await open_zookeeper(StoreURL.parse(wrong)).open()

    asyncio.run(main())


def test_a_client_certificate_owns_what_it_made(
    encrypted_zookeeper: tuple[ZooKeeperServer, Path], certificates: Path, prefix: str
) -> None:
    server, trusted = encrypted_zookeeper

    def url(name: str) -> str:
        files = f"certfile={certificates / name}.crt&keyfile={certificates / name}.key"
        return f"zookeeper://{server.secure_address}{prefix}?cafile={trusted}&{files}"

    async def main() -> None:
        async with a_candidate(url("chief")) as (store, mine):
            await store.take(NAME, mine, await store.read(NAME))
            findings = {f.check: f for f in await store.examine()}
            assert "x509:" in findings["rights"].text
            with pytest.raises(PermissionDenied):
                await open_zookeeper(StoreURL.parse(url("stranger"))).open()

    asyncio.run(main())


# -- URLs, secrets, processes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("zookeeper://", "needs a server"),
        ("zookeeper:///prefix", "needs a server"),
        ("zookeeper://a:1,/x", "has no name"),
        ("zookeeper://a:1,b:port/x", "'b:port' is no server"),
        ("zookeeper://a:99999,b/x", "is no server"),
        ("zookeeper://a:99999/x", "Port out of range"),
        ("zookeeper://a/x//y", "cannot be a prefix"),
        ("zookeeper://a/x/", "cannot be a prefix"),
        ("zookeeper://a/../x", "cannot be a prefix"),
        ("zookeeper://a/x%0ay", "cannot be a prefix"),
        ("zookeeper://a/zookeeper/x", "servers' own"),
        ("zookeeper://user@a/x", "both a user and a password"),
        ("zookeeper://us%3Aer:pw@a/x", "no colon"),
        ("zookeeper://a/x?keyfile=/k", "certfile"),
        ("zookeeper://a/x?cafile=/does/not/exist", "cannot be used for TLS"),
        ("zookeeper://a/x?tls=1", "does not know the option 'tls'"),
    ],
)
def test_urls_that_cannot_be(url: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        open_store(url)


@pytest.mark.parametrize(
    ("url", "shown", "servers"),
    [
        ("zookeeper://a", "zookeeper://a:2181/incumbent", ["a:2181"]),
        ("zookeeper://a/", "zookeeper://a:2181/incumbent", ["a:2181"]),
        ("zookeeper://a:1,B,c:3/x/y", "zookeeper://a:1,b:2181,c:3/x/y", ["a:1", "b:2181", "c:3"]),
        ("zookeeper://u:p%2Cw%40@a:1,b:2/x", "zookeeper://a:1,b:2/x", ["a:1", "b:2"]),
        ("zookeeper://[::1]:5,[fe::2]/x", "zookeeper://[::1]:5,[fe::2]:2181/x", None),
    ],
)
def test_unusual_urls(url: str, shown: str, servers: list[str] | None) -> None:
    store = open_zookeeper(StoreURL.parse(url))
    assert isinstance(store, KeyValueStore)
    assert store.url == shown
    if servers is not None:
        assert sorted(map(str, driver(store)._ensemble.servers)) == servers


def test_several_servers_are_no_host_of_another_store() -> None:
    for url in ("sqlite://a,b/x", "kubernetes://a,b"):
        with pytest.raises(ConfigError):
            open_store(url)


def test_a_name_that_cannot_be_resolved_says_so() -> None:
    async def main() -> None:
        store = open_zookeeper(StoreURL.parse("zookeeper://no-such-host.invalid/x"))
        with pytest.raises(StoreUnavailable, match="cannot be resolved"):
            await store.open()

    asyncio.run(main())


def test_secrets_are_not_shown(
    zookeeper: ZooKeeperServer, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    secret = secrets.token_hex(8)
    url = f"zookeeper://me:{secret}@{zookeeper.address},127.0.0.1:1{prefix}"
    assert secret not in redact(url)
    caplog.set_level(1)
    for name in ("kazoo", "kazoo.client", "kazoo.protocol.connection"):
        caplog.set_level(1, logger=name)

    async def main() -> None:
        async with a_candidate(url) as (store, mine):
            await store.take(NAME, mine, await store.read(NAME))
            assert secret not in store.url
            assert secret not in repr(driver(store)._ensemble.settings)
            assert secret not in str(await store.examine())
        with pytest.raises(PermissionDenied) as caught:
            await open_zookeeper(StoreURL.parse(url.replace("me:", "you:"))).open()
        assert secret not in str(caught.value)

    asyncio.run(main())
    assert secret not in caplog.text


_FORKING = """
import asyncio, os, sys, threading
from incumbent.stores.api import StoreURL
from incumbent.stores.zookeeper import open as open_zookeeper

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()

def wait_for(work):
    return asyncio.run_coroutine_threadsafe(work, loop).result(10)

async def begin():
    store = open_zookeeper(StoreURL.parse(sys.argv[1]))
    await store.open()
    return store, await store.open_session("a_1", 5.0)

store, lease = wait_for(begin())
handler = store._driver._ensemble._link._handler
for locks in ([], [handler.callback_queue.mutex, handler.completion_queue.mutex]) * 5:
    # A thread may hold them at any moment, and in the child nobody would give them back.
    for lock in locks:
        lock.acquire()
    pid = os.fork()
    if pid == 0:
        sys.exit(0)  # with all that runs at the exit of an interpreter
    for lock in locks:
        lock.release()
    assert os.waitpid(pid, 0)[1] == 0
    lease = wait_for(store.renew(lease))
"""


def test_a_child_that_was_forked_ends_and_takes_nothing_with_it(url: str) -> None:
    """Neither it nor the program itself waits at its end for the threads of the connection."""
    command = [sys.executable, "-W", "ignore", "-c", _FORKING, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_connection_is_not_mended_at_another_address_of_the_same_name(
    zookeeper_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: 2 * real(*args, **more))

    async def main() -> None:
        link = await Link.connected(Server("127.0.0.1", zookeeper_proxy.port), Settings())
        zookeeper_proxy.reset()
        await asyncio.wait_for(asyncio.shield(link._disposed), 20)
        assert link.lost.done()
        assert zookeeper_proxy.accepted == 1

    asyncio.run(main())


def test_connections_leave_no_thread_and_no_socket_behind(
    proxied: str, zookeeper_proxy: Proxy
) -> None:
    def threads() -> list[threading.Thread]:
        return [t for t in threading.enumerate() if t.name.startswith("incumbent-zookeeper")]

    def sockets() -> int:
        links = [Path("/proc/self/fd", fd) for fd in os.listdir("/proc/self/fd")]
        return sum(os.readlink(link).startswith("socket:") for link in links if link.is_symlink())

    async def main() -> None:
        before = sockets()
        async with opened(proxied) as store:
            for _ in range(10):
                zookeeper_proxy.reset()
                await reconnected(store)
        for thread in threads():
            await asyncio.to_thread(thread.join, 10)
        zookeeper_proxy.reset()  # Its sockets are counted, too; the last pair may linger there.
        assert sockets() == before

    asyncio.run(main())


# -- candidates -----------------------------------------------------------------------------------


def test_a_handover_is_two_transactions_and_one_notification(url: str) -> None:
    async def main() -> None:
        async with opened(url) as one, opened(url) as two:
            first = candidate(one, NAME, "a_1", plan(5))
            await first.until("begun", 20)
            second = candidate(two, NAME, "b_2", plan(5))
            await second.until("waiting", 10, lambda e: e["holder"] == "a_1")
            assert first.driver is not None
            first.driver.step_down(to="b_2")
            begun = await second.until("begun", 5)
            assert begun["at"] - first.all("stopped")[0]["at"] < 1.0
            assert begun["token"] > first.all("begun")[0]["token"]

    asyncio.run(main())


def test_the_cells_of_the_capabilities(zookeeper: ZooKeeperServer, url: str, prefix: str) -> None:
    """What is confirmed is a transaction; what wakes is a watch; nothing vanishes by itself."""

    async def main() -> None:
        async with a_candidate(url) as (store, mine):
            can = store.capabilities
            assert (can.scheme, can.sessions, can.token) == ("zookeeper", True, True)
            assert (can.judged_by, can.evidence, can.absent_is_vacant) == ("observers", "", False)
            held = await store.take(NAME, mine, await store.read(NAME))
            stat = client.get(node(client, prefix))[1]
            assert (held.token, stat.ephemeralOwner) == (stat.mzxid, 0)
            session = f"{prefix}/sessions/{held.lease.key}"
            (nonce,) = client.get_children(session)
            before = client.get(f"{session}/{nonce}")[1]
            lease = await store.renew(held.lease)
            after = client.get(f"{session}/{nonce}")[1]
            assert (after.version, after.ephemeralOwner) == (before.version + 1, 0)
            assert lease.version == (nonce, after.version)
            assert client.get(node(client, prefix))[1] == stat, "one session renews all"
        # The connection is gone, and with it the session at the servers.
        assert client.get(node(client, prefix))[1] == stat

    with zookeeper.by_hand() as client:
        asyncio.run(main())
