"""Redis with replicas: refused unless it is accepted, and what that is worth.

A replica that is promoted while the old primary still answers makes two leaders, each confirmed by
a server of its own. No client can tell, and `WAIT` changes nothing. What saves the work is a
fencing token that the resource compares: the last test is the recipe of the documentation.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis as Client

from incumbent.core.records import Holding
from incumbent.errors import StoreError, StoreUnavailable, StoreUnusable
from incumbent.stores.api import Grade
from incumbent.testing.conformance.kit import Candidate, Watch, refused
from tests.servers.proxy import Proxy
from tests.servers.redis import Redis
from tests.stores.candidate import candidate, plan
from tests.stores.redis_kit import RedisHarness, eventually, opened, raw, say, store_of

NAME = "jobs"


@pytest.fixture
def link(own_redis: Redis) -> Iterator[Proxy]:
    """The network between the primary and its replica."""
    with Proxy(own_redis.host, own_redis.port) as proxy:
        yield proxy


@pytest.fixture
def replica(own_redis: Redis, link: Proxy, tmp_path: Path) -> Iterator[Redis]:
    with Redis(tmp_path / "replica", settings=[f"replicaof {link.host} {link.port}"]) as server:
        with raw(own_redis) as client:
            asyncio.run(eventually("it follows", lambda: followers(client) == 1))
        with raw(server) as client:
            asyncio.run(eventually("it is in step", lambda: linked(client)))
        yield server


def followers(client: Client) -> int:
    told = client.info("replication")
    assert isinstance(told, dict)
    return int(told["connected_slaves"])


def linked(client: Client) -> bool:
    told = client.info("replication")
    assert isinstance(told, dict)
    return bool(told["master_link_status"] == "up")


async def refusal(url: str) -> StoreError:
    store = store_of(url)
    with pytest.raises((StoreUnusable, StoreUnavailable)) as raised:
        await store.open()
    await store.close()
    return raised.value


def test_replicas_are_refused_unless_they_are_accepted(own_redis: Redis, replica: Redis) -> None:
    async def main() -> None:
        error = await refusal(own_redis.url())
        assert isinstance(error, StoreUnusable)
        assert "has 1 replica." in str(error)
        assert "replicas=accept" in str(error)
        async with opened(own_redis.url("replicas=accept")) as store:
            assert store.capabilities.grade is Grade.EFFICIENCY_ONLY
            findings = {finding.check: finding for finding in await store.examine()}
            assert findings["replicas"].ok is False
            await Candidate(RedisHarness(own_redis), store, "a_1").take(NAME)
        error = await refusal(replica.url("replicas=accept"))
        assert isinstance(error, StoreUnavailable)
        assert "is a replica" in str(error)

    asyncio.run(main())


def test_a_replica_that_comes_later_ends_all_terms(
    own_redis: Redis, link: Proxy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with opened(own_redis.url()) as store:
            holder = Candidate(RedisHarness(own_redis), store, "a_1")
            await holder.take(NAME)
            settings = [f"replicaof {link.host} {link.port}"]
            server = Redis(tmp_path / "replica", settings=settings)
            await asyncio.to_thread(server.start)
            try:
                with raw(own_redis) as client:
                    await eventually("it follows", lambda: followers(client) == 1)
                told = await refused(holder.renew(NAME), "a renewal in another history")
                assert told.holding is Holding.ABSENT
                assert "has got 1 replica. " in caplog.text
                holder.session = None
                with pytest.raises(StoreUnusable, match="has got 1 replica"):
                    await holder.take(NAME)
                assert isinstance(await refusal(own_redis.url()), StoreUnusable)
            finally:
                await asyncio.to_thread(server.stop)

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())


def test_a_primary_that_becomes_a_replica_confirms_nothing(
    own_redis: Redis, tmp_path: Path
) -> None:
    async def main() -> None:
        async with opened(own_redis.url()) as store:
            holder = Candidate(RedisHarness(own_redis), store, "a_1")
            await holder.take(NAME)
            with raw(own_redis) as client:
                client.replicaof("127.0.0.1", 1)
                for work in (holder.renew(NAME), holder.read(NAME)):
                    with pytest.raises(StoreUnavailable, match="replica"):
                        await work
                client.replicaof("NO", "ONE")
                # It may have taken over another's data meanwhile: a new history.
                assert (await holder.read(NAME)).holding is Holding.ABSENT

    asyncio.run(main())


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Redis]:
    with Redis(tmp_path / "node", settings=["cluster-enabled yes"]) as server:
        yield server


def test_a_node_of_a_cluster(node: Redis) -> None:
    async def main() -> None:
        assert "node of a Redis Cluster" in str(await refusal(node.url()))
        error = await refusal(node.url("replicas=accept"))
        assert isinstance(error, StoreUnavailable), "no node has our slot"
        with raw(node) as client:
            say(client, "CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            await eventually("it is up", lambda: "cluster_state:ok" in cluster_info(client))
        async with opened(node.url("replicas=accept")) as store:
            with Watch(store, NAME) as watch:
                await watch.until(lambda s: s.holding is Holding.ABSENT, "the absence")
                held = await Candidate(RedisHarness(node), store, "a_1").take(NAME)
                await watch.until(lambda s: s.term == held.term, "the take")

    asyncio.run(main())


def cluster_info(client: Client) -> str:
    return str(say(client, "CLUSTER", "INFO"))


def test_a_sentinel_is_none_of_our_servers(tmp_path: Path) -> None:
    folder = tmp_path / "sentinel"
    server = Redis(folder, settings=[])
    path = folder / "redis.conf"
    path.write_text(f"bind {server.host}\nport {server.port}\ndir {folder}\n", encoding="utf-8")
    server.command = (*server.command, "--sentinel")
    with server:
        assert "is a Sentinel" in str(asyncio.run(refusal(server.url())))


# -- the promotion of a replica that lags ---------------------------------------------------------

FENCED = """
local seen = tonumber(redis.call('HGET', KEYS[1], 'token') or 0)
if tonumber(ARGV[1]) < seen then
  return redis.error_reply('STALE ' .. string.format('%.0f', seen))
end
redis.call('HSET', KEYS[1], 'token', ARGV[1])
if ARGV[2] then redis.call('RPUSH', KEYS[2], ARGV[2]) end
return 1
"""
"""Seals what it protects with a token; with a value, writes it too. Refuses an older token."""


def test_a_lagging_replica_is_promoted_and_fencing_holds(
    own_redis: Redis, replica: Redis, link: Proxy, tmp_path: Path
) -> None:
    async def main(resource: Client) -> None:
        fenced = resource.register_script(FENCED)
        timing = plan(2)
        async with (
            opened(own_redis.url("replicas=accept")) as old,
            opened(own_redis.url("replicas=accept")) as also,
        ):
            earlier = candidate(also, NAME, "earlier_1", timing)
            await earlier.until("begun", 10)
            assert earlier.driver is not None
            earlier.driver.close()
            await earlier.until("closed", 10)
            link.cut()  # From here on the replica lags; its data say that the election is vacant.
            first = candidate(old, NAME, "first_1", timing)
            one = await first.until("begun", 10)
            fenced(["account", "entries"], [one["token"], "of the first"])
            with raw(replica) as client:
                client.replicaof("NO", "ONE")
            async with opened(replica.url("replicas=accept")) as new:
                second = candidate(new, NAME, "second_1", timing)
                two = await second.until("begun", 10)
                one["term"].check()
                two["term"].check()  # Two terms are valid: what the grade says.
                assert two["token"] > one["token"]
                fenced(["account", "entries"], [two["token"]])
                for _ in range(50):
                    one["term"].check()
                    with pytest.raises(Exception, match="STALE"):
                        fenced(["account", "entries"], [one["token"], "too late"])
                fenced(["account", "entries"], [two["token"], "of the second"])
                assert resource.lrange("entries", 0, -1) == [b"of the first", b"of the second"]
                for recorder in (first, second):
                    assert recorder.driver is not None
                    recorder.driver.close()
                    await recorder.until("closed", 10)

    with Redis(tmp_path / "resource") as server, raw(server) as resource:
        asyncio.run(main(resource))


def test_a_promotion_behind_a_dead_primary_makes_no_two_terms(
    own_redis: Redis, replica: Redis, link: Proxy
) -> None:
    """Whoever finds another history believes nothing of it, and waits."""

    async def main() -> None:
        with Proxy(own_redis.host, own_redis.port) as address:
            url = own_redis.url("replicas=accept", address=address.address)
            async with opened(url) as old:
                first = candidate(old, NAME, "first_1", plan(2))
                await first.until("begun", 10)
                assert first.driver is not None
                first.driver.step_down()
                await first.until("waiting", 10, lambda e: e["holding"] is Holding.VACANT)
                link.cut()
                one = await first.until("begun", 10, count=2)
                await asyncio.to_thread(own_redis.kill)
                with raw(replica) as client:
                    client.replicaof("NO", "ONE")
                async with opened(replica.url("replicas=accept")) as new:
                    second = candidate(new, NAME, "second_1", plan(2))
                    two = await second.until("begun", 10)
                    assert one["term"].remaining() <= 0
                    assert [e for e in first.all("stopped") if e["at"] < two["at"]][-1:]
                    assert two["token"] > one["token"]
                    for recorder in (second, first):
                        assert recorder.driver is not None
                        recorder.driver.close()
                        await recorder.until("closed", 10)

    asyncio.run(main())
