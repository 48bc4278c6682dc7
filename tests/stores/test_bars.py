"""Bars on real servers: whom they keep out, and what they outlive.

That they are swapped as everything else is in the conformance suite.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from incumbent import aio
from incumbent.core.records import Bar, Claim, Held, Holding, Lease, Snapshot
from incumbent.errors import Refused
from incumbent.runtime.candidacy import Sighting
from incumbent.stores import open_store
from incumbent.stores.api import Store
from incumbent.stores.file import wire as file_wire
from incumbent.stores.kubernetes import wire as lease_wire
from incumbent.stores.kv import wire as kv_wire
from incumbent.stores.sql import rows
from incumbent.stores.sqlite import tables
from tests.servers.clientgo import ClientGoCandidate
from tests.servers.kubernetes import ApiServer
from tests.servers.redis import Redis

NAME = "billing"
BAR = Bar("moved to elsewhere", "nonce-1")
GO = {"lease_duration_s": 3, "renew_deadline_s": 2, "retry_period_s": 0.5}


async def opened(url: str) -> Store:
    store = open_store(url)
    await store.open()
    return store


async def hold(store: Store, identity: str = "a_1") -> Held:
    session: Lease | None = None
    if store.capabilities.sessions:
        session = await store.open_session(identity, 5.0)
    claim = Claim(identity, f"{identity}/{secrets.token_hex(4)}", 5.0, session)
    return await store.take(NAME, claim, await store.read(NAME))


async def barred(store: Store) -> Snapshot:
    return await store.bar((await hold(store)).snapshot, BAR)


# ---- whom they keep out


@pytest.mark.parametrize("scheme", ["sqlite", "file"])
def test_a_candidate_waits_until_it_is_lifted(scheme: str, tmp_path: Path) -> None:
    """And says why, as it does when it was leading."""
    url = f"{scheme}://{tmp_path}/store"

    async def main() -> None:
        store, loop = await opened(url), asyncio.get_running_loop()
        notes: asyncio.Queue[str] = asyncio.Queue()

        def see(sighting: Sighting) -> None:
            if sighting.event == "barred":
                loop.call_soon_threadsafe(notes.put_nowait, sighting.text)

        left = await barred(store)
        election = aio.Election(NAME, store=url, ttl_s=5, observer=see)

        async def lead() -> int | None:
            async with election.hold() as term:
                return term.token

        leading = asyncio.create_task(lead())
        async with asyncio.timeout(30):
            assert await notes.get() == "'billing' is barred: moved to elsewhere"
        assert not leading.done()
        await store.unbar(left)
        async with asyncio.timeout(30):
            token = await leading
        assert token is not None
        assert left.token is not None
        assert token > left.token
        await store.close()

    asyncio.run(main())


def test_client_go_stays_out_until_it_is_lifted(
    api_server: ApiServer,
    namespace: str,
    clientgo_candidate: Callable[..., ClientGoCandidate],
) -> None:
    """For longer than it waits for a holder that is silent, as another Lease shows."""

    async def main() -> None:
        store = await opened(f"kubernetes://{namespace}?kubeconfig={api_server.kubeconfig()}")
        left = await barred(store)
        out = clientgo_candidate(NAME, "go-out", **GO)
        seen = await asyncio.to_thread(out.wait_for, "new_leader", 30)
        assert seen["leader"] == lease_wire.NOBODY
        silent = lease_wire.LEASE.created(
            "silent", namespace, Claim("somebody", "somebody/1", 3.0), 1_700_000_000.0
        )
        path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        await asyncio.to_thread(api_server.request, "POST", path, silent)
        after = clientgo_candidate("silent", "go-after", **GO)
        await asyncio.to_thread(after.wait_for, "started", 60)
        assert not [event for event in out.events if event["event"] == "started"]
        assert (await store.read(NAME)).bar == BAR
        await store.unbar(left)
        started = await asyncio.to_thread(out.wait_for, "started", 30)
        assert left.token is not None
        assert int(started["resource_version"]) > left.token
        await store.close()

    asyncio.run(main())


def test_to_a_version_that_knows_no_bars_it_is_foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    value = kv_wire.encode(kv_wire.barred(BAR, 7))
    assert "'barred'" in str(kv_wire.parse_election(value))
    value = file_wire.encode(file_wire.barred(BAR, 7, 8))
    assert "'barred'" in str(file_wire.parse_election(value))
    monkeypatch.setattr(rows, "BARRED", None)
    row = (NAME, 9, 5.0, NAME, -1, 9, BAR.text, BAR.nonce, 7, "", 5.0, "", "", "", None)
    assert rows.snapshot(row).holding is Holding.FOREIGN
    assert rows.snapshot(row).bar is None
    monkeypatch.setattr(tables, "BARRED", None)
    old = tables._snapshot((NAME, -1, 9, BAR.text, BAR.nonce, 7, "", "", "", "", None, None))
    assert (old.holding, old.bar) == (Holding.FOREIGN, None)
    lease = lease_wire.LEASE.created(NAME, "default", Claim("a", "a/1", 5.0), 1.7e9)
    lease["metadata"]["resourceVersion"] = "7"
    lease = lease_wire.LEASE.barred(lease, BAR, 1.7e9)
    assert lease_wire.LEASE.snapshot(NAME, lease).bar == BAR
    monkeypatch.setattr(lease_wire.Format, "bar_of", lambda *_: None)
    old = lease_wire.LEASE.snapshot(NAME, lease)
    assert (old.holding, old.why) == (
        Holding.FOREIGN,
        "its format is 'barred', and this version of incumbent knows 1",
    )


# ---- what they outlive


def test_redis_keeps_it_over_a_restart_and_forgets_it_with_its_data(own_redis: Redis) -> None:
    """All else counts as absent after a restart: who leads may be led astray by an old dump."""

    async def main() -> None:
        store = await opened(own_redis.url())
        left = await barred(store)
        other = await hold_other(store)
        await store.close()
        own_redis.kill()
        own_redis.start()
        looking = open_store(own_redis.url())
        await looking.open(create=False)
        assert (await looking.read(NAME)).bar == BAR, "seen before anybody has begun a world"
        assert [s.bar for s in await looking.elections()] == [BAR]
        await looking.close()
        store = await opened(own_redis.url())
        assert (await store.read("other")).holding is Holding.ABSENT
        assert (await store.read("other")).term != other.term
        seen = await store.read(NAME)
        assert (seen.bar, seen.token) == (BAR, left.token)
        with pytest.raises(Refused):
            await hold(store)
        with pytest.raises(Refused):
            await store.unbar(left)
        assert (await store.unbar(seen)).holding is Holding.VACANT
        held = await hold(store)
        assert held.token is not None
        assert left.token is not None
        assert held.token > left.token
        await store.bar(held.snapshot, BAR)
        await store.close()
        own_redis.kill()
        own_redis.remove_data()
        own_redis.start()
        store = await opened(own_redis.url())
        assert (await store.read(NAME)).holding is Holding.ABSENT
        await store.close()

    asyncio.run(main())


async def hold_other(store: Store) -> Held:
    session = await store.open_session("b_2", 5.0)
    return await store.take("other", Claim("b_2", "b_2/1", 5.0, session), await store.read("other"))


def test_redis_keeps_it_when_its_counter_is_lost(own_redis: Redis) -> None:
    async def main() -> None:
        store = await opened(own_redis.url())
        left = await barred(store)
        with own_redis.client() as client:
            losses: list[Callable[[], Any]] = [
                lambda: client.hdel("incumbent", "serial"),
                lambda: client.hset("incumbent", "serial", "1"),
            ]
            for lose in losses:
                lose()
                seen = await store.read(NAME)
                assert (seen.bar, seen.token) == (BAR, left.token)
                with pytest.raises(Refused):
                    await hold(store)
                assert [s.bar for s in await store.elections()] == [BAR]
        await store.close()

    asyncio.run(main())


def test_text_that_some_store_could_not_carry_is_no_bar() -> None:
    for text in ("", "x" * 401, "two\nlines", "ä"):
        with pytest.raises(ValueError, match="is no line of"):
            Bar(text, "n")
        assert Bar.of(text, "n") is None
    assert Bar.of(None, "n") is None
