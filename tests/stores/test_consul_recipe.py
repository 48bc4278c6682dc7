"""The lock of `consul lock` as a store: the suite for all stores, and its own rules."""

from __future__ import annotations

import asyncio
import json
import secrets

import pytest

from incumbent.core.records import Holding
from incumbent.errors import ConfigError, StoreUnusable
from incumbent.stores import open_store
from incumbent.stores.api import Store
from incumbent.stores.beside import wire
from incumbent.stores.consul.recipe import GREATEST_TTL_S, LOCK_FLAGS
from incumbent.testing import conformance
from tests.servers.consul import Consul
from tests.stores.beside_kit import is_theirs, refused, two

TTL_S = 5.0


class Harness:
    """A prefix of its own for each case."""

    ttl_s = TTL_S

    def __init__(self, server: Consul) -> None:
        self.server = server
        self.prefix = f"test-{secrets.token_hex(4)}"
        self._stores: list[Store] = []

    def name(self) -> str:
        return f"election-{secrets.token_hex(4)}"

    def key(self, name: str, what: str) -> str:
        return f"{self.prefix}/{name}/{what}"

    async def store(self, *, create: bool = True) -> Store:
        store = open_store(self.server.url(f"?recipe=lock&lock={self.prefix}/{{name}}"))
        self._stores.append(store)
        await store.open(create=create)
        return store

    async def delete(self, name: str) -> bool:
        for what in (".incumbent/record", ".lock"):
            await asyncio.to_thread(self.server.delete, self.key(name, what))
        return True

    async def scribble(self, name: str) -> bool:
        await asyncio.to_thread(self.server.put, self.key(name, ".incumbent/record"), b"{}")
        return True

    async def disturb(self, name: str) -> bool:
        key = self.key(name, ".incumbent/record")
        found = await asyncio.to_thread(self.server.get, key)
        assert found
        record = {**json.loads(found["Value"]), "note": secrets.token_hex(4)}
        await asyncio.to_thread(self.server.put, key, wire.encode(record))
        return True

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


@pytest.mark.parametrize("case", conformance.CASES, ids=str)
def test_conformance(case: conformance.Case, consul: Consul) -> None:
    conformance.run(case, lambda: Harness(consul))


# -- its own rules --------------------------------------------------------------------------------


class Theirs:
    """What a member of theirs does, in its own calls, which the tests of partners try for real."""

    def __init__(self, server: Consul, key: str) -> None:
        self._server, self._key = server, key
        self.session = server.request("PUT", "/v1/session/create", {"TTL": "15s"})["ID"]

    def acquires(self, flags: int = LOCK_FLAGS) -> bool:
        path = f"/v1/kv/{self._key}?acquire={self.session}&flags={flags}"
        return bool(self._server.request("PUT", path, b""))

    def releases(self) -> None:
        path = f"/v1/kv/{self._key}?release={self.session}&flags={LOCK_FLAGS}"
        self._server.request("PUT", path, b"")


def holder_of(server: Consul, key: str) -> str:
    found = server.get(key)
    return str((found or {}).get("Session", ""))


def test_what_theirs_holds_is_not_taken(consul: Consul) -> None:
    async def main() -> None:
        async with two(Harness(consul)) as (harness, a, b):
            name = harness.name()
            key = harness.key(name, ".lock")
            vacant = await a.release(await a.take(name))
            theirs = Theirs(consul, key)
            assert (await b.read(name)).watched == vacant.watched
            assert theirs.acquires()
            assert is_theirs(await refused(b.take(name, vacant)))
            assert is_theirs(await refused(b.take(name)))
            assert holder_of(consul, key) == theirs.session
            theirs.releases()
            await b.take(name)
            assert not theirs.acquires()

    asyncio.run(main())


def test_a_session_that_is_ended_refuses_the_holder_and_keeps_theirs_out(consul: Consul) -> None:
    """The lock-delay is as long as the trust, whatever ended the session and why."""

    async def main() -> None:
        async with two(Harness(consul)) as (harness, a, b):
            name = harness.name()
            key = harness.key(name, ".lock")
            held = await a.take(name, ttl_s=60.0)
            session = holder_of(consul, key)
            (told,) = consul.request("GET", f"/v1/session/info/{session}")
            assert told["LockDelay"] == 60 * 10**9
            assert told["TTL"] == "60s"
            assert not told["NodeChecks"], "no word of gossip ends it"
            before = await b.read(name)
            consul.request("PUT", f"/v1/session/destroy/{session}")
            assert (await refused(a.renew(name))).term == held.term
            assert not Theirs(consul, key).acquires(), "the lock-delay"
            assert (await b.read(name)).watched == before.watched, "no sign of its death"

    asyncio.run(main())


def test_a_renewal_is_refused_when_the_key_is_theirs_though_the_session_lives(
    consul: Consul,
) -> None:
    async def main() -> None:
        async with two(Harness(consul)) as (harness, a, b):
            name = harness.name()
            key = harness.key(name, ".lock")
            held = await a.take(name)
            consul.delete(key)
            assert Theirs(consul, key).acquires()
            assert is_theirs(await refused(a.renew(name)))
            assert is_theirs(await a.release(held))
            assert is_theirs(await b.read(name))

    asyncio.run(main())


def test_a_takeover_among_ours_waits_for_no_lock_delay(consul: Consul) -> None:
    async def main() -> None:
        async with two(Harness(consul)) as (harness, a, b):
            name = harness.name()
            old = await a.take(name, ttl_s=60.0)
            held = await b.take(name)
            assert (held.token or 0) > (old.token or 0)
            assert (await refused(a.renew(name))).term == held.term
            await b.renew(name)

    asyncio.run(main())


def test_a_semaphore_is_left_alone(consul: Consul) -> None:
    async def main() -> None:
        async with two(Harness(consul)) as (harness, a, _):
            name = harness.name()
            key = harness.key(name, ".lock")
            semaphore = Theirs(consul, key)
            assert semaphore.acquires(flags=0xE0F69A2BAA414DE0)
            seen = await a.read(name)
            assert seen.holding is Holding.FOREIGN
            assert (await refused(a.take(name, seen))).holding is Holding.FOREIGN
            assert holder_of(consul, key) == semaphore.session

    asyncio.run(main())


def test_a_ttl_that_no_lock_delay_covers_is_refused(consul: Consul) -> None:
    async def main() -> None:
        async with two(Harness(consul)) as (harness, a, _):
            with pytest.raises(StoreUnusable, match="a TTL of at most 60 s"):
                await a.take(harness.name(), ttl_s=GREATEST_TTL_S + 1)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("rest", "why"),
    [
        ("/prefix?recipe=lock", "has no prefix; name the whole key by lock="),
        ("?lock=x", "lock= names the lock of another library"),
        ("?recipe=semaphore", "there is no recipe='semaphore'"),
    ],
)
def test_a_url_that_means_nothing_is_refused(rest: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        open_store(f"consul://host:1{rest}")


def test_its_url() -> None:
    store = open_store("consul://secret@host:1?recipe=lock&lock=a/{name}&dc=east")
    assert store.url == "consul://host:1/?dc=east&recipe=lock&lock=a%2F%7Bname%7D"
    assert store.capabilities.partner == "consul lock"
