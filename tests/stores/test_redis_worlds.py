"""What becomes of elections when a Redis server forgets: all of it, the last minute, or nothing.

Nobody can tell from inside which of these it was. So the same is asked of all: no two valid terms,
and tokens that grow. `MISTAKES` are planted in the scripts; the checks must find each of them.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from incumbent.core import events as ev
from incumbent.core.records import Claim, Held, Holding
from incumbent.errors import Refused, StoreError
from incumbent.stores.kv import KeyValueStore
from incumbent.stores.redis import driver, follower, scripts
from incumbent.stores.redis.view import View
from incumbent.testing.conformance.kit import Candidate, Watch, refused
from tests.servers.proxy import Proxy
from tests.servers.redis import Redis
from tests.stores.candidate import Recorder, candidate, plan
from tests.stores.redis_kit import RedisHarness, eventually, opened, raw, say, under

NAME = "jobs"
TTL_S = 2.0

Forget = Callable[[Redis, Path], None]
"""Makes the server forget what it was told since its data were copied to a folder."""


def flush(server: Redis, copy: Path) -> None:
    with raw(server) as client:
        client.flushall()


def evict(server: Redis, copy: Path) -> None:
    with raw(server) as client:
        client.delete("incumbent")


def restart_with_everything(server: Redis, copy: Path) -> None:
    server.kill()
    server.start()


def restart_with_nothing(server: Redis, copy: Path) -> None:
    server.kill()
    server.remove_data()
    server.start()


def restart_with_old_data(server: Redis, copy: Path) -> None:
    server.kill()
    server.remove_data()
    shutil.copytree(copy, server.data_dir, dirs_exist_ok=True)
    server.start()


def old_copy_of_the_key(server: Redis, copy: Path) -> None:
    with raw(server) as client:
        client.restore("incumbent", 0, (copy / "key").read_bytes(), replace=True)


def counter_removed(server: Redis, copy: Path) -> None:
    with raw(server) as client:
        client.hdel("incumbent", "serial")


def counter_set_back(server: Redis, copy: Path) -> None:
    with raw(server) as client:
        client.hincrby("incumbent", "serial", -1000)


FORGETTING = [
    flush,
    evict,
    restart_with_everything,
    restart_with_nothing,
    restart_with_old_data,
    counter_removed,
    counter_set_back,
]
SEEN_BY_SOME = [old_copy_of_the_key]
"""Noticed by those who have seen more, and by no newcomer."""


def keep_copy(server: Redis, folder: Path) -> Path:
    """Copy the server's data as they are now: every answer was synced before."""
    copy = folder / "copy"
    shutil.copytree(server.data_dir, copy)
    with raw(server) as client:
        dumped = client.dump("incumbent")
        assert isinstance(dumped, bytes)
        (copy / "key").write_bytes(dumped)
    return copy


async def one_after_another(server: Redis, forget: Forget, folder: Path, address: str) -> None:
    """Let a holder live through it, and a newcomer come right after."""
    async with opened(server.url(address=address)) as here, opened(server.url()) as there:
        first = candidate(here, NAME, "first_1", plan(TTL_S))
        candidates = [first]
        try:
            # The copy is of a time at which it was vacant, and the session of its holder alive.
            before = await first.until("begun", 10)
            assert first.driver is not None
            first.driver.step_down()
            await first.until("waiting", 10, lambda e: e["holding"] is Holding.VACANT)
            copy = await asyncio.to_thread(keep_copy, server, folder)
            begun = await first.until("begun", 10, count=2)
            assert begun["token"] > before["token"]
            await asyncio.to_thread(forget, server, copy)
            second = candidate(there, NAME, "second_1", plan(TTL_S))
            candidates.append(second)
            await the_first_ends_before_another_begins(first, second, begun)
        finally:
            for recorder in candidates:
                assert recorder.driver is not None
                recorder.driver.close()
                await recorder.until("closed", 10)


async def the_first_ends_before_another_begins(
    first: Recorder, second: Recorder, begun: dict[str, Any]
) -> None:
    both = asyncio.create_task(first.until("begun", 15, count=3))
    other = asyncio.create_task(second.until("begun", 15))
    await asyncio.wait([both, other], return_when=asyncio.FIRST_COMPLETED)
    next_one = (both if both.done() else other).result()
    both.cancel()
    other.cancel()
    term = begun["term"]
    assert term.remaining() <= 0, "two valid terms"
    (stopped,) = (e for e in first.all("stopped") if e["term"] is term)
    assert stopped["at"] < next_one["at"], "two at work"
    assert stopped["why"] in (ev.Why.DEPOSED, ev.Why.LOST)
    assert next_one["token"] > begun["token"], "a token was used again"


@pytest.mark.slow
@pytest.mark.parametrize("cut_off", [False, True], ids=["", "cut-off"])
def test_no_two_terms_whatever_is_forgotten(tmp_path: Path, cut_off: bool) -> None:
    """A server for each way of forgetting, all at once: it is mostly waiting."""

    async def one(forget: Forget) -> None:
        folder = tmp_path / forget.__name__
        with Redis(folder / "redis") as server, Proxy(server.host, server.port) as proxy:

            def forgotten(server: Redis, copy: Path) -> None:
                if cut_off:
                    proxy.cut()
                forget(server, copy)

            address = proxy.address if cut_off else ""
            try:
                await one_after_another(server, forgotten, folder, address)
            except Exception as error:
                error.add_note(f"{forget.__name__}, {cut_off=}")
                raise

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for forget in FORGETTING:
                group.create_task(one(forget))

    asyncio.run(main())


@pytest.mark.parametrize("forget", [*FORGETTING, *SEEN_BY_SOME])
def test_what_was_held_and_watched_is_refused(
    own_redis: Redis, tmp_path: Path, forget: Forget
) -> None:
    asyncio.run(nothing_old_counts(own_redis, forget, tmp_path))


async def nothing_old_counts(server: Redis, forget: Forget, folder: Path) -> None:
    h = RedisHarness(server)
    async with opened(server.url()) as a, opened(server.url()) as b:
        one, two = Candidate(h, a, "a_1"), Candidate(h, b, "b_1")
        vacant = await one.release(await one.take(NAME))
        with Watch(b, "other") as watch:
            nothing = await watch.until(lambda s: s.holding is Holding.ABSENT, "the absence")
            copy = await asyncio.to_thread(keep_copy, server, folder)
            held = await one.take(NAME)
            await two.claim()
            watched = await two.read(NAME)
            await asyncio.to_thread(forget, server, copy)
            # A broken connection is noticed by whoever uses it first, who hears of nothing else.
            for store in (a, b):
                await noticed(store)
            for over in (vacant, watched, nothing):
                told = await refused(two.take(over.name, over), f"a take over {over.holding}")
                assert told.holding is Holding.ABSENT
        told = await refused(one.renew(NAME), "a renewal")
        assert told.holding is Holding.ABSENT
        assert (await one.release(held)).holding is Holding.ABSENT
        assert await b.elections() == []
        one.session = two.session = None
        again = await two.take(NAME)
        assert again.token is not None
        assert held.token is not None
        assert again.token > held.token
        assert (await one.read(NAME)).term == again.term
    await h.close()


async def noticed(store: KeyValueStore) -> None:
    try:
        await store.read("noticed")
    except StoreError:
        await store.read("noticed")


@pytest.mark.parametrize("forget", [flush, counter_removed, old_copy_of_the_key])
def test_a_holder_is_deposed_by_its_next_renewal(
    own_redis: Redis, tmp_path: Path, forget: Forget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else tells it: no connection breaks, and nothing is published."""
    monkeypatch.setattr(follower, "LOOK_S", 3600.0)

    async def main() -> None:
        async with opened(own_redis.url()) as store:
            holder = candidate(store, NAME, "a_1", plan(TTL_S))
            await holder.until("begun", 10)
            copy = await asyncio.to_thread(keep_copy, own_redis, tmp_path)
            with raw(own_redis) as client:
                before = client.hgetall("incumbent")
                await eventually("a renewal", lambda: client.hgetall("incumbent") != before)
            await asyncio.to_thread(forget, own_redis, copy)
            stopped = await holder.until("stopped", 10)
            assert stopped["why"] is ev.Why.DEPOSED

    asyncio.run(main())


async def take(store: KeyValueStore, name: str = NAME) -> Held:
    over = await store.read(name)
    session = await store.open_session("x_1", TTL_S)
    return await store.take(name, Claim("x_1", f"x_1/{id(session):x}.1", TTL_S, session), over)


async def a_record_deleted_by_hand(server: Redis) -> None:
    async with opened(server.url()) as store:
        h = RedisHarness(server)
        holder = Candidate(h, store, "a_1")
        with Watch(store, NAME) as watch, Watch(store, "kept") as kept:
            # What a watch hears first ends an absence that was only read.
            await watch.until(lambda s: True, "a first report")
            await kept.until(lambda s: True, "a first report")
            held = await holder.take(NAME)
            await holder.take("kept")
            await watch.until(under(held.term), "the take")
            with raw(server) as client:
                client.hdel("incumbent", f"elections/{NAME}")
            await holder.renew("kept")
            assert watch.seen[-1].holding is Holding.ABSENT, "the renewal counted before"
            count = len(watch.seen)
            await holder.renew("kept")
            assert len(watch.seen) == count
        await h.close()


def test_a_record_deleted_by_hand_is_noticed_with_the_next_renewal(
    own_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "LOOK_S", 3600.0)
    asyncio.run(a_record_deleted_by_hand(own_redis))


# -- being woken ----------------------------------------------------------------------------------


async def a_standby_is_woken(server: Redis) -> None:
    async with opened(server.url()) as a, opened(server.url()) as b:
        h = RedisHarness(server)
        holder = Candidate(h, a, "a_1")
        with Watch(b, NAME) as watch:
            await watch.until(lambda s: s.holding is Holding.ABSENT, "the absence")
            try:
                async with asyncio.timeout(2):
                    held = await holder.take(NAME)
                    await watch.until(under(held.term), "the take")
                    lease = await holder.renew(NAME)
                    await watch.until(lambda s: s.lease_version == lease.version, "the renewal")
                    await holder.release(held)
                    await watch.until(lambda s: s.holding is Holding.VACANT, "the release")
            except TimeoutError:
                raise AssertionError(f"a deaf standby: {watch.seen}") from None
        await h.close()


def test_a_standby_is_woken_by_messages_alone(
    own_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "LOOK_S", 3600.0)
    asyncio.run(a_standby_is_woken(own_redis))


def test_a_standby_whose_subscription_is_deaf_hears_by_reading_and_says_so(
    own_redis: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(follower, "LOOK_S", 0.3)
    mute = scripts.CHANGE.replace("redis.call('PUBLISH', ", "tostring(")
    monkeypatch.setattr(driver, "CHANGE", mute)

    async def main() -> None:
        async with opened(own_redis.url()) as a, opened(own_redis.url()) as b:
            holder = Candidate(RedisHarness(own_redis), a, "a_1")
            with Watch(b, NAME) as watch:
                await watch.until(lambda s: s.holding is Holding.ABSENT, "the absence")
                held = await holder.take(NAME)
                await watch.until(under(held.term), "the take")
                lease = await holder.renew(NAME)
                await watch.until(lambda s: s.lease_version == lease.version, "the renewal")
                await eventually("a warning", lambda: "no message told" in caplog.text)
                await holder.release(held)
                await watch.until(lambda s: s.holding is Holding.VACANT, "the release")

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())


@pytest.mark.parametrize("how", ["killed", "silent"])
def test_a_subscription_that_is_lost_is_begun_anew(
    own_redis: Redis, redis_proxy: Proxy, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """With a gap: what was absent before may have been held meanwhile."""
    monkeypatch.setattr(follower, "LOOK_S", 3600.0)
    monkeypatch.setattr(follower, "PING_S", 0.2)

    async def main() -> None:
        url = own_redis.url(address=redis_proxy.address)
        async with opened(own_redis.url()) as a, opened(url) as b:
            with Watch(b, NAME) as watch, Watch(b, "other") as other:
                seen = await other.until(lambda s: s.holding is Holding.ABSENT, "the absence")
                await watch.until(lambda s: s.holding is Holding.ABSENT, "the absence")
                connections = redis_proxy.accepted
                if how == "killed":
                    with raw(own_redis) as client:
                        say(client, "CLIENT", "KILL", "TYPE", "pubsub")
                else:
                    redis_proxy.drop_replies()
                    await eventually("given up", lambda: redis_proxy.accepted > connections)
                    redis_proxy.heal()
                await eventually("connected anew", lambda: redis_proxy.accepted > connections)
                await other.until(lambda s: s.lease_version != seen.lease_version, "the gap")
                with pytest.raises(Refused):
                    await Candidate(RedisHarness(own_redis), b, "b_1").take("other", seen)
                held = await take(a)
                await watch.until(under(held.term), "the take")

    asyncio.run(main())


def test_thousands_are_followed_and_renewed_at_once(own_redis: Redis) -> None:
    names = [f"e-{number}" for number in range(1100)]

    async def main() -> None:
        async with opened(own_redis.url()) as a, opened(own_redis.url()) as b:
            holder = Candidate(RedisHarness(own_redis), a, "a_1")
            watches = {name: Watch(b, name) for name in names}
            own = {name: Watch(a, name) for name in names}
            for watch in (*watches.values(), *own.values()):
                watch.__enter__()
            for watch in (*watches.values(), *own.values()):
                await watch.until(lambda s: s.holding is Holding.ABSENT, "the absence")
            for name in names[:200]:
                await holder.take(name)
            for name in names[:200]:
                await watches[name].until(lambda s: s.holding is Holding.HELD, "the take")
            await holder.renew(names[0])
            assert len(await b.elections()) == 200
            for watch in (*watches.values(), *own.values()):
                watch.__exit__()

    asyncio.run(main())


# -- mistakes that the checks must find -----------------------------------------------------------


async def one_of_two_takes(server: Redis, folder: Path) -> None:
    h = RedisHarness(server)
    async with opened(server.url()) as a, opened(server.url()) as b:
        one, two = Candidate(h, a, "a_1"), Candidate(h, b, "b_1")
        vacant = await one.release(await one.take(NAME))
        await one.take(NAME, vacant)
        await refused(two.take(NAME, vacant), "a take over what was taken")
    await h.close()


async def no_version_is_used_again(server: Redis, folder: Path) -> None:
    """After FLUSHALL another candidate does the same again, write for write."""
    h = RedisHarness(server)
    async with opened(server.url()) as a, opened(server.url()) as b:
        one = Candidate(h, a, "a_1")
        vacant = await one.release(await one.take(NAME))
        flush(server, folder)
        async with opened(server.url()) as c:
            three = Candidate(h, c, "c_1")
            await three.claim()
            assert three.session is not None
            three.session = await c.renew(three.session)
            await three.take(NAME)
            told = await refused(Candidate(h, b, "b_1").take(NAME, vacant), "an old version")
            assert told.holder == "c_1"
    await h.close()


async def nothing_expires(server: Redis, folder: Path) -> None:
    async with opened(server.url()) as store:
        held = await take(store)
        await store.renew(held.lease)
        with raw(server) as client:
            assert client.ttl("incumbent") == -1


async def an_old_dump_behind_a_holder_that_is_cut_off(server: Redis, folder: Path) -> None:
    with Proxy(server.host, server.port) as proxy:

        def forget(server: Redis, copy: Path) -> None:
            proxy.cut()
            restart_with_old_data(server, copy)

        await one_after_another(server, forget, folder, proxy.address)


async def an_old_copy_of_the_key(server: Redis, folder: Path) -> None:
    await nothing_old_counts(server, old_copy_of_the_key, folder)


async def a_deleted_record(server: Redis, folder: Path) -> None:
    await a_record_deleted_by_hand(server)


async def a_woken_standby(server: Redis, folder: Path) -> None:
    await a_standby_is_woken(server)


Check = Callable[[Redis, Path], Awaitable[None]]
NO_WORLDS = [
    (
        "local world, serial = meta[2] or '', tonumber(meta[4] or '')",
        "local world, serial = 'w', 0",
    ),
    (
        "if meta[3] ~= history or not serial then world = '' end",
        "serial = tonumber(meta[4] or '0')",
    ),
    ("if meta[1] ~= '1' and", "if false and"),
]
FORGETS_HIGH = [("serial < high", "false")]

MISTAKES: dict[str, tuple[list[tuple[str, str]], Check]] = {
    "the compare is dropped": (
        [("if not met then return answer('conflict') end", "")],
        one_of_two_takes,
    ),
    "versions start anew where there is nothing": (
        [*NO_WORLDS, *FORGETS_HIGH],
        no_version_is_used_again,
    ),
    "a world outlives a restart": (
        [("meta[3] ~= history or not serial", "not serial")],
        an_old_dump_behind_a_holder_that_is_cut_off,
    ),
    "a counter that went back is believed": (FORGETS_HIGH, an_old_copy_of_the_key),
    "nothing is published": ([("redis.call('PUBLISH', ", "tostring(")], a_woken_standby),
    "what was written before is not asked about": (
        [("if number_of(one[1]) ~= one[2] then", "if false then")],
        a_deleted_record,
    ),
    "a write expires by the server's clock": (
        [("unpack(entries)) end", "unpack(entries)) end redis.call('PEXPIRE', key, 60000)")],
        nothing_expires,
    ),
}


@pytest.mark.parametrize("check", [one_of_two_takes, no_version_is_used_again, nothing_expires])
def test_without_a_mistake(own_redis: Redis, tmp_path: Path, check: Check) -> None:
    asyncio.run(_run(check, own_redis, tmp_path))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_planted_mistakes_are_found(
    own_redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    replacements, check = MISTAKES[mistake]
    monkeypatch.setattr(follower, "LOOK_S", 3600.0)
    texts = {"CHANGE": scripts.CHANGE, "READ": scripts.READ}
    for right, wrong in replacements:
        assert right in texts["CHANGE"]
        texts = {name: text.replace(right, wrong) for name, text in texts.items()}
    for name, text in texts.items():
        monkeypatch.setattr(driver, name, text)
    if replacements[-1:] == FORGETS_HIGH:
        # The driver looks at the same by itself.
        forgets = property(lambda self: 0, lambda self, number: None)
        monkeypatch.setattr(driver.RedisKeyValue, "_high", forgets, raising=False)
    with pytest.raises(AssertionError):
        asyncio.run(_run(check, own_redis, tmp_path))


def test_a_world_that_is_told_to_nobody_is_found(
    own_redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(View, "start_over", lambda self, entries, number: None)
    monkeypatch.setattr(follower, "LOOK_S", 3600.0)
    with pytest.raises(AssertionError):
        asyncio.run(nothing_old_counts(own_redis, flush, tmp_path))


async def _run(check: Check, server: Redis, folder: Path) -> None:
    await check(server, folder)
