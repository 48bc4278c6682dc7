"""The lock of redis-py as a store: the suite for all stores, and its own rules."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from redis.exceptions import LockNotOwnedError

from incumbent.core.records import Bar, Holding
from incumbent.errors import ConfigError, OutcomeUnknown, StoreUnavailable, StoreUnusable
from incumbent.stores import open_store
from incumbent.stores.api import Grade, Store
from incumbent.stores.beside import wire
from incumbent.stores.beside.store import OPENED
from incumbent.stores.redis import recipe
from incumbent.stores.redis.recipe import BESIDE
from incumbent.testing import conformance
from incumbent.testing.conformance.kit import Watch
from tests.servers.redis import Redis
from tests.stores.beside_kit import is_theirs, refused, two
from tests.stores.redis_kit import eventually, raw

TTL_S = 5.0
BAR, NEXT = Bar("moved to elsewhere", "nonce-1"), Bar("moved to elsewhere", "nonce-2")
T = TypeVar("T")


class Harness:
    """Locks with a beginning of their own for each case."""

    ttl_s = TTL_S

    def __init__(self, server: Redis) -> None:
        self._server = server
        self._beginning = f"test-{secrets.token_hex(4)}:"
        self._admin = server.client()
        self._stores: list[Store] = []

    def name(self) -> str:
        return f"election-{secrets.token_hex(4)}"

    def lock(self, name: str) -> str:
        return self._beginning + name

    async def store(self, *, create: bool = True) -> Store:
        options = f"recipe=redis-py&lock={self._beginning}{{name}}"
        store = open_store(self._server.url(options))
        self._stores.append(store)
        await store.open(create=create)
        return store

    async def delete(self, name: str) -> bool:
        self._admin.hdel(BESIDE + self.lock(name), "record")
        self._admin.delete(self.lock(name))
        self._admin.publish(f"{BESIDE}0:{self.lock(name)}", "")
        return True

    async def scribble(self, name: str) -> bool:
        self._write(name, {"format": 999})
        return True

    async def disturb(self, name: str) -> bool:
        found = self._admin.hget(BESIDE + self.lock(name), "record")
        assert isinstance(found, bytes)
        self._write(name, {**json.loads(found), "note": secrets.token_hex(4)})
        return True

    def _write(self, name: str, record: wire.Object) -> None:
        side = BESIDE + self.lock(name)
        self._admin.hincrby(side, "serial", 1)
        self._admin.hset(side, "record", wire.encode(record))

    async def close(self) -> None:
        for store in self._stores:
            await store.close()
        for key in self._admin.scan_iter(f"*{self._beginning}*"):
            self._admin.delete(key)
        self._admin.close()


@pytest.mark.parametrize("case", conformance.CASES, ids=str)
def test_conformance(case: conformance.Case, redis_server: Redis) -> None:
    conformance.run(case, lambda: Harness(redis_server))


# -- its own rules --------------------------------------------------------------------------------


def test_the_library_itself_finds_our_lock_and_we_find_its(redis_server: Redis) -> None:
    async def main() -> None:
        async with two(Harness(redis_server)) as (harness, a, b):
            name = harness.name()
            with raw(redis_server) as client:
                lock = client.lock(harness.lock(name), timeout=60)
                held = await a.take(name)
                assert not lock.acquire(blocking=False)
                await a.release(held)
                assert lock.acquire(blocking=False)
                seen = await b.read(name)
                assert is_theirs(seen)
                token = lock.local.token.decode()
                assert token not in seen.holder, "whoever knows all of it could release the lock"
                assert is_theirs(await refused(b.take(name, seen)))
                lock.release()
                await b.take(name)
                lock.local.token = b"of somebody else"
                with pytest.raises(LockNotOwnedError):
                    lock.release()

    asyncio.run(main())


def test_a_lock_of_theirs_without_a_timeout_is_waited_for(redis_server: Redis) -> None:
    async def main() -> None:
        async with two(Harness(redis_server)) as (harness, a, _):
            name = harness.name()
            with raw(redis_server) as client:
                assert client.lock(harness.lock(name)).acquire(blocking=False)
                assert client.pttl(harness.lock(name)) == -1
                assert is_theirs(await refused(a.take(name)))

    asyncio.run(main())


async def an_emptied_server_is_waited_out(server: Redis) -> None:
    async with two(Harness(server)) as (harness, a, b):
        name = harness.name()
        held = await a.take(name)
        with raw(server) as admin:
            admin.flushall()
        seen = await b.read(name)
        assert seen.holding is Holding.ABSENT
        assert seen.serial >= held.snapshot.serial
        assert (await refused(a.renew(name))).holding is Holding.ABSENT
        later = await b.take(name, seen)
        assert (later.token or 0) > (held.token or 0)


async def a_lock_of_theirs_that_came_in_the_last_moment(server: Redis) -> None:
    """What was watched is vacant still, as far as our record says: the script has to look."""
    async with two(Harness(server)) as (harness, a, b):
        name = harness.name()
        vacant = await a.release(await a.take(name))
        assert (await b.read(name)).watched == vacant.watched
        with raw(server) as admin:
            admin.set(harness.lock(name), "theirs")
            assert is_theirs(await refused(b.take(name, vacant)))
            assert admin.get(harness.lock(name)) == b"theirs"


async def a_holder_whose_key_is_gone(server: Redis) -> None:
    async with two(Harness(server)) as (harness, a, b):
        name = harness.name()
        held = await a.take(name)
        before = await b.read(name)
        with raw(server) as admin:
            admin.delete(harness.lock(name))
            assert (await b.read(name)).watched == before.watched, "no sign of its death"
            told = await refused(a.renew(name))
            assert told.term == held.term
            admin.set(harness.lock(name), "theirs")
            assert is_theirs(await b.read(name))
            assert is_theirs(await refused(a.renew(name)))
            admin.delete(harness.lock(name))
        again = await b.read(name)
        assert (again.holding, again.term) == (Holding.HELD, held.term)
        later = await b.take(name, again)
        assert (later.token or 0) > (held.token or 0)


async def a_release_leaves_their_lock_alone(server: Redis) -> None:
    async with two(Harness(server)) as (harness, a, _):
        name = harness.name()
        held = await a.take(name)
        with raw(server) as admin:
            admin.set(harness.lock(name), "theirs")
            assert is_theirs(await a.release(held))
            assert admin.get(harness.lock(name)) == b"theirs"


async def a_renewal_keeps_them_out_for_a_whole_ttl(server: Redis) -> None:
    async with two(Harness(server)) as (harness, a, _):
        name = harness.name()
        await a.take(name, ttl_s=600.0)
        with raw(server) as admin:
            assert 500_000 < admin.pttl(harness.lock(name)) <= 600_000
            admin.pexpire(harness.lock(name), 300_000)
            await a.renew(name)
            assert 500_000 < admin.pttl(harness.lock(name)) <= 600_000


async def an_old_copy_is_not_believed(server: Redis) -> None:
    """Nobody holds, according to what the server knew before it was started anew."""
    async with two(Harness(server)) as (harness, a, b):
        name = harness.name()
        held = await a.take(name)
        await a.release(held)
        await asyncio.to_thread(server.save_data)
        held = await a.take(name)
        await asyncio.to_thread(server.kill)
        server.restore_data()
        await asyncio.to_thread(server.start)
        seen = await once_more(b.read, name)
        assert seen.holding is Holding.ABSENT, "vacant in the old copy, and held by a"
        told = await refused(once_more(a.renew, name))
        assert told.holding is Holding.ABSENT
        later = await b.take(name, seen)
        assert (later.token or 0) > (held.token or 0)


async def once_more(ask: Callable[[str], Awaitable[T]], name: str) -> T:
    """Ask; a connection may break once by the restart."""
    with contextlib.suppress(StoreUnavailable, OutcomeUnknown):
        return await ask(name)
    return await ask(name)


async def a_bar_keeps_them_out_and_does_not_lapse(server: Redis) -> None:
    async with two(Harness(server)) as (harness, a, b):
        name = harness.name()
        left = await a.store.bar((await a.take(name)).snapshot, BAR)
        with raw(server) as client:
            lock = client.lock(harness.lock(name), timeout=60)
            assert client.pttl(harness.lock(name)) == -1
            assert not lock.acquire(blocking=False)
            for call in (lock.release, lock.reacquire):
                lock.local.token = b"of somebody else"
                with pytest.raises(LockNotOwnedError):
                    call()
            assert (await b.read(name)).bar == BAR
            await b.store.unbar(left)
            assert lock.acquire(blocking=False)
            assert is_theirs(await refused(a.take(name)))


async def a_bar_is_compared_in_the_last_moment(server: Redis) -> None:
    """What was read is a bar still, as far as we know: the script has to look."""
    async with two(Harness(server)) as (harness, a, _):
        name = harness.name()
        left = await a.store.bar((await a.take(name)).snapshot, BAR)
        with raw(server) as admin:
            value = admin.get(harness.lock(name))
            assert value is not None
            for work in (a.store.unbar, lambda over: a.store.bar(over, NEXT)):
                admin.set(harness.lock(name), value)
                assert (await a.read(name)).watched == left.watched
                admin.set(harness.lock(name), "theirs")
                assert (await refused(work(left))).why == f"{BAR.text}; {OPENED}"
                assert admin.get(harness.lock(name)) == b"theirs"


async def a_bar_whose_key_is_gone(server: Redis) -> None:
    """As people do with a lock that looks stuck: it lets members of theirs in, and none of ours."""
    async with two(Harness(server)) as (harness, a, b):
        name = harness.name()
        left = await a.store.bar((await a.take(name)).snapshot, BAR)
        with raw(server) as client:
            client.delete(harness.lock(name))
            opened = await b.read(name)
            assert (opened.bar, opened.why) == (BAR, f"{BAR.text}; {OPENED}")
            assert (await refused(b.take(name, opened))).bar == BAR
            await refused(a.store.unbar(left))
            left = await a.store.bar(opened, NEXT)
            assert (left.why, client.pttl(harness.lock(name))) == (BAR.text, -1), "closed again"
            client.delete(harness.lock(name))
            opened = await b.read(name)
            lock = client.lock(harness.lock(name), timeout=60)
            assert lock.acquire(blocking=False)
            await refused(b.store.bar(opened, BAR))
            opened = await b.read(name)
            assert (await refused(b.store.bar(opened, BAR))).bar == NEXT
            assert is_theirs(await b.store.unbar(opened))
            lock.release()


async def a_bar_outlives_a_restart(server: Redis) -> None:
    async with two(Harness(server)) as (harness, a, b):
        name, other = harness.name(), harness.name()
        left = await a.store.bar((await a.take(name)).snapshot, BAR)
        await a.take(other)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        seen = await once_more(b.read, name)
        assert (seen.bar, seen.token) == (BAR, left.token)
        assert [s.bar for s in await b.store.elections() if s.name == name] == [BAR]
        assert not (await b.read(other)).term, "what else it knew is not believed"
        assert (await refused(b.take(name, seen))).bar == BAR
        again = await b.store.bar(seen, BAR)
        assert again.watched != seen.watched
        assert (await b.store.unbar(again)).holding is Holding.VACANT
        later = await b.take(name)
        assert (later.token or 0) > (left.token or 0)


async def a_bar_outlives_the_counter(server: Redis) -> None:
    """The clock that it begins anew with is behind what was given out."""
    async with two(Harness(server)) as (harness, a, b):
        name = harness.name()
        await a.release(await a.take(name))
        with raw(server) as admin:
            admin.hincrby(BESIDE + harness.lock(name), "serial", 10**15)
            left = await a.store.bar((await a.take(name)).snapshot, BAR)
            admin.delete(BESIDE + harness.lock(name))
        await b.store.unbar(await b.read(name))
        assert ((await b.take(name)).token or 0) > (left.token or 0)


Check = Callable[[Redis], Awaitable[None]]

MISTAKES: dict[str, tuple[str, str, Check]] = {
    "what theirs has is taken": (
        "if deed == 'take' and kind ~= 'none' and value ~= over then return {0} end",
        "",
        a_lock_of_theirs_that_came_in_the_last_moment,
    ),
    "a renewal does not look at the key": (
        "if deed == 'keep' and value ~= own then return {0} end",
        "",
        a_holder_whose_key_is_gone,
    ),
    "a release deletes whatever is there": (
        "if deed == 'free' and value == own",
        "if deed == 'free'",
        a_release_leaves_their_lock_alone,
    ),
    "a renewal does not make the key last": (
        "redis.call('PEXPIRE', lock, px)",
        "redis.call('PTTL', lock)",
        a_renewal_keeps_them_out_for_a_whole_ttl,
    ),
    "an old copy is believed": (
        "meta[2] == history and known",
        "known",
        an_old_copy_is_not_believed,
    ),
    "numbers begin anew in an emptied server": (
        "math.max(known or 0, now)",
        "(known or 0)",
        an_emptied_server_is_waited_out,
    ),
    "a bar lapses as a lock does": (
        "if deed == 'bar' then redis.call('SET', lock, own)",
        "if deed == 'bar' then redis.call('SET', lock, own, 'KEEPTTL')",
        a_bar_keeps_them_out_and_does_not_lapse,
    ),
    "a bar is put over whatever is there": (
        "if (deed == 'bar' or deed == 'unbar') and",
        "if deed == 'unbar' and",
        a_bar_is_compared_in_the_last_moment,
    ),
    "a bar is lifted whatever is there": (
        "if (deed == 'bar' or deed == 'unbar') and",
        "if deed == 'bar' and",
        a_bar_is_compared_in_the_last_moment,
    ),
}
RULES = (
    *dict.fromkeys(check for _, _, check in MISTAKES.values()),
    a_bar_whose_key_is_gone,
    a_bar_outlives_a_restart,
    a_bar_outlives_the_counter,
)


@pytest.mark.parametrize("check", RULES)
def test_its_rules(own_redis: Redis, check: Check) -> None:
    asyncio.run(run(check(own_redis)))


async def run(check: Awaitable[None]) -> None:
    await check


@pytest.mark.parametrize("mistake", MISTAKES)
def test_planted_mistakes_are_found(
    own_redis: Redis, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    right, wrong, check = MISTAKES[mistake]
    assert right in recipe.CHANGE
    for name in ("CHANGE", "READ"):
        monkeypatch.setattr(recipe, name, getattr(recipe, name).replace(right, wrong))
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        asyncio.run(run(check(own_redis)))


def test_the_first_replica_that_joins_ends_all_terms_and_none_begins(
    own_redis: Redis, tmp_path: Path
) -> None:
    async def main() -> None:
        async with two(Harness(own_redis)) as (harness, a, _):
            name = harness.name()
            await a.take(name)
            settings = [f"replicaof {own_redis.host} {own_redis.port}"]
            with Redis(tmp_path / "replica", settings=settings), raw(own_redis) as admin:
                await eventually("it follows", lambda: admin.info()["connected_slaves"] == 1)
                assert not (await refused(a.renew(name))).term
                admin.delete(harness.lock(name))
                assert (await a.read(name)).holding is Holding.ABSENT
                with pytest.raises(StoreUnusable, match="has got 1 replicas"):
                    await a.take(name)
                anew = open_store(own_redis.url("recipe=redis-py"))
                with pytest.raises(StoreUnusable, match="has 1 replica"):
                    await anew.open()
                await anew.close()

    asyncio.run(main())


def test_a_key_of_another_kind_is_left_alone(redis_server: Redis) -> None:
    async def main() -> None:
        async with two(Harness(redis_server)) as (harness, a, _):
            name = harness.name()
            with raw(redis_server) as admin:
                admin.rpush(harness.lock(name), "x")
                seen = await a.read(name)
                assert seen.holding is Holding.FOREIGN
                assert "list" in seen.why
                await refused(a.take(name, seen))
                assert admin.type(harness.lock(name)) == b"list"

    asyncio.run(main())


def test_whoever_follows_hears_of_their_release_from_the_server(own_redis: Redis) -> None:
    async def main() -> None:
        async with two(Harness(own_redis)) as (harness, a, b):
            name = harness.name()
            with raw(own_redis) as admin:
                admin.config_set("notify-keyspace-events", "Kg$x")
                await a.release(await a.take(name))
                with Watch(b.store, name) as watch:
                    await watch.until(lambda s: s.holding is Holding.VACANT, "the vacancy")
                    admin.set(harness.lock(name), "theirs", px=600_000)
                    await watch.until(is_theirs, "their lock")
                    admin.delete(harness.lock(name))
                    await watch.until(lambda s: s.holding is Holding.VACANT, "their release")
            findings = {found.check: found.ok for found in await b.store.examine()}
            assert findings["news of their locks"]

    asyncio.run(main())


def test_a_bar_of_another_version_keeps_everybody_out(redis_server: Redis) -> None:
    """To a candidate that knows no bars, and after a restart, when the record is not believed."""

    async def main() -> None:
        async with two(Harness(redis_server)) as (harness, a, b):
            name = harness.name()
            await a.store.bar((await a.take(name)).snapshot, BAR)
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(recipe, "OUR_BAR", b"unheard of")
                patched.setattr(wire, "parse_bar", lambda _: None)
                seen = await b.read(name)
                assert (seen.holding, seen.bar) == (Holding.FOREIGN, None)
                assert "format 'barred'" in seen.why
                await refused(b.take(name, seen))
                with raw(redis_server) as admin:
                    admin.delete(BESIDE + harness.lock(name))
                seen = await b.read(name)
                assert is_theirs(seen)
                assert is_theirs(await refused(b.take(name, seen)))
            with raw(redis_server) as admin:
                admin.set(harness.lock(name), recipe.OUR_BAR + b"7 {}")
                seen = await b.read(name)
                assert (seen.holding, seen.bar) == (Holding.FOREIGN, None)
                await refused(b.take(name, seen))
                await refused(b.store.unbar(seen))

    asyncio.run(main())


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("recipe=redis-py&prefix=x", "has no prefix; name the key by lock="),
        ("recipe=redis-py&lock=x", None),
        ("lock=x", "lock= names the lock of another library"),
        ("recipe=redlock", "there is no recipe='redlock'"),
    ],
)
def test_its_url(options: str, why: str | None) -> None:
    url = f"redis://host:1/0?{options}"
    if why is None:
        store = open_store(url)
        assert store.url == "redis://host:1/0?recipe=redis-py&lock=x"
        assert store.capabilities.partner == "redis-py's Lock"
        assert store.capabilities.grade is Grade.EXCLUSIVE_WITH_FENCING
        accepted = open_store(f"{url}&replicas=accept")
        assert accepted.capabilities.grade is Grade.EFFICIENCY_ONLY
    else:
        with pytest.raises(ConfigError, match=why):
            open_store(url)
