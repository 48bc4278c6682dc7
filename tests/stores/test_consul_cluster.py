"""Three Consul servers, and what the holder's own server is worth without its peers.

The peers are stopped, which is how a server that was cut off sees them. The leader among them takes
itself for the leader for 2.5 s more (`raft_multiplier` 5, the default), and answers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from incumbent.core import events as ev
from incumbent.core.records import Claim, Held, Holding
from incumbent.core.timing import Timing
from incumbent.errors import OutcomeUnknown, StoreUnavailable
from incumbent.stores import open_store
from tests.servers.consul import Consul, ConsulCluster
from tests.stores.candidate import candidate
from tests.stores.test_consul import NAME, claimed, opened, taken

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@contextlib.contextmanager
def paused(servers: list[Consul]) -> Iterator[None]:
    for server in servers:
        server.pause()
    try:
        yield
    finally:
        for server in servers:
            server.resume()


def test_a_server_without_its_peers_confirms_nothing(consul_cluster: ConsulCluster) -> None:
    async def main() -> None:
        leader = await asyncio.to_thread(consul_cluster.leader)
        peers = [server for server in consul_cluster.servers if server is not leader]
        async with opened(leader.url()) as store:
            held = await taken(store)
            session = await asyncio.to_thread(
                leader.request, "PUT", "/v1/session/create", {"TTL": "10s"}
            )
            key = f"incumbent/elections/{NAME}/record"
            with paused(peers):
                # What Consul's own locks live on is answered from the leader's memory.
                theirs = asyncio.gather(
                    asyncio.to_thread(leader.request, "GET", f"/v1/kv/{key}"),
                    asyncio.to_thread(leader.request, "PUT", f"/v1/session/renew/{session['ID']}"),
                )
                ours = asyncio.gather(
                    store.read(NAME), store.renew(held.lease), return_exceptions=True
                )
                assert all(await theirs)
                read, renewed = await ours
            assert isinstance(read, StoreUnavailable), read
            assert isinstance(renewed, OutcomeUnknown | StoreUnavailable), renewed
            await asyncio.to_thread(consul_cluster.leader)
            await asyncio.to_thread(leader.wait_ready)
            assert (await store.read(NAME)).term == held.term

    asyncio.run(main())


def test_a_session_that_one_server_renewed_confirms_no_lock(consul_cluster: ConsulCluster) -> None:
    """Beside `consul lock`: the answer to the session's renewal comes, and counts for nothing."""

    async def main() -> None:
        leader = await asyncio.to_thread(consul_cluster.leader)
        peers = [server for server in consul_cluster.servers if server is not leader]
        store = open_store(leader.url("?recipe=lock"))
        await store.open()
        try:
            claim = Claim("a_1", "a_1/x.1", 60.0)
            held = await store.take(NAME, claim, await store.read(NAME))
            await store.renew(held.lease)
            lock = await asyncio.to_thread(leader.get, f"{NAME}/.lock")
            assert lock is not None
            with paused(peers):
                path = f"/v1/session/renew/{lock['Session']}"
                theirs = asyncio.ensure_future(asyncio.to_thread(leader.request, "PUT", path))
                ours = asyncio.gather(store.renew(held.lease), return_exceptions=True)
                assert await theirs
                (renewed,) = await ours
            assert isinstance(renewed, OutcomeUnknown | StoreUnavailable), renewed
            await asyncio.to_thread(consul_cluster.leader)
            await asyncio.to_thread(leader.wait_ready)
            assert isinstance(await store.read_back(NAME, claim), Held)
        finally:
            await store.close()

    asyncio.run(main())


def test_without_a_leader_nothing_happened(consul_cluster: ConsulCluster) -> None:
    async def main() -> None:
        leader = await asyncio.to_thread(consul_cluster.leader)
        alone, *others = (server for server in consul_cluster.servers if server is not leader)
        async with opened(alone.url()) as store:
            claim, over = await claimed(store), await store.read(NAME)
            for server in (leader, *others):
                await asyncio.to_thread(server.kill)
            await asyncio.to_thread(alone.wait_leaderless)
            with pytest.raises(StoreUnavailable, match="no leader"):
                await store.take(NAME, claim, over)
            for server in (leader, *others):
                await asyncio.to_thread(server.spawn)
            await asyncio.to_thread(consul_cluster.leader)
            await asyncio.to_thread(alone.wait_ready)
            found = await store.read_back(NAME, claim)
            assert not isinstance(found, Held)
            assert found.holding is Holding.ABSENT

    asyncio.run(main())


def test_the_work_has_stopped_before_another_takes_over_where_the_quorum_is(
    consul_cluster: ConsulCluster,
) -> None:
    async def main() -> None:
        timing = Timing.plan(6.0)
        alone = await asyncio.to_thread(consul_cluster.leader)
        majority = [server for server in consul_cluster.servers if server is not alone]
        async with opened(alone.url()) as one, opened(majority[0].url()) as two:
            first = candidate(one, NAME, "a_1", timing)
            begun = await first.until("begun", 20)
            second = candidate(two, NAME, "b_2", timing)
            await second.until("waiting", 10, lambda e: e["holder"] == "a_1")
            with paused(majority):
                stopped = await first.until("stopped", 10)
                assert stopped["why"] is ev.Why.LOST
            with paused([alone]):
                await asyncio.to_thread(consul_cluster.leader, majority)
                other = await second.until("begun", 30)
            assert stopped["at"] < other["at"]
            assert other["token"] > begun["token"]
            await first.until("waiting", 30, lambda e: e["holder"] == "b_2")

    asyncio.run(main())
