"""The elections of `stores.kv`, on a key-value server in this process."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping
from dataclasses import replace

from incumbent.core.records import Holding, Snapshot
from incumbent.stores.api import Store
from incumbent.stores.kv import KeyValueStore
from incumbent.stores.kv.api import Conditions, Entry, Writes
from incumbent.stores.memory import CAPABILITIES
from incumbent.testing import conformance
from incumbent.testing.conformance.kit import Candidate, Watch, refused
from incumbent.testing.keyvalue import MemoryKeyValue, Shelf

KEYVALUE = replace(CAPABILITIES, absent_is_vacant=False)


class KeyValueHarness:
    """A shelf per case; drivers of real servers have harnesses of the same shape."""

    ttl_s = 5.0

    def __init__(self) -> None:
        self.shelf = Shelf()
        self._numbers = itertools.count(1)

    def name(self) -> str:
        return f"election-{next(self._numbers)}"

    async def store(self, *, create: bool = True) -> Store:
        store = KeyValueStore(MemoryKeyValue(self.shelf), "memory://", KEYVALUE)
        await store.open(create=create)
        return store

    async def delete(self, name: str) -> bool:
        self.shelf.delete(f"elections/{name}")
        return True

    async def scribble(self, name: str) -> bool:
        self.shelf.write(f"elections/{name}", b'{"format": 999}')
        return True

    async def disturb(self, name: str) -> bool:
        entry = self.shelf.entries[f"elections/{name}"]
        changed = {**json.loads(entry.value), "note": self.shelf.revision}
        self.shelf.write(entry.key, json.dumps(changed).encode())
        return True

    async def close(self) -> None:
        pass


@conformance.parametrize(KeyValueHarness)
def test_key_value(conform: conformance.Bound) -> None:
    conform()


def test_an_absence_is_taken_only_if_it_stood() -> None:
    """Somebody held and was deleted by hand; what was seen before looks the same as what is now."""

    async def main() -> None:
        h = KeyValueHarness()
        a, b = await Candidate.new(h, "alpha_1"), await Candidate.new(h, "beta_2")
        name = h.name()
        with Watch(b.store, name) as watch:
            seen = await watch.until(_is_absent, "the absence")
            await a.take(name)
            await h.delete(name)
            await watch.until(_is_absent, "the absence")
            told = await refused(b.take(name, seen), "a take over an absence that was over")
            assert _is_absent(told)
            await b.take(name, watch.seen[-1])

    asyncio.run(main())


def test_an_absence_does_not_stand_over_a_gap() -> None:
    async def main() -> None:
        h = KeyValueHarness()
        b = await Candidate.new(h, "beta_2")
        name = h.name()
        key = f"elections/{name}"
        with Watch(b.store, name) as watch:
            seen = await watch.until(_is_absent, "the absence")
            for sink in h.shelf.sinks[key]:
                sink(h.shelf.report(key, gap=False))
            assert watch.seen[-1].watched == seen.watched
            for sink in h.shelf.sinks[key]:
                sink(h.shelf.report(key, gap=True))
            assert watch.seen[-1].watched != seen.watched
            await refused(b.take(name, seen), "a take over an absence before a gap")
            await b.take(name, watch.seen[-1])

    asyncio.run(main())


def test_what_a_stream_brings_late_is_no_news() -> None:
    async def main() -> None:
        h = KeyValueHarness()
        a, b = await Candidate.new(h, "alpha_1"), await Candidate.new(h, "beta_2")
        name = h.name()
        with Watch(b.store, name) as watch:
            held = await a.take(name)
            late = h.shelf.report(f"elections/{name}", gap=False)
            vacant = await a.release(held)
            count = len(watch.seen)
            for sink in h.shelf.sinks[f"elections/{name}"]:
                sink(late)
            assert len(watch.seen) == count
            assert watch.seen[-1].watched == vacant.watched

    asyncio.run(main())


class Late(MemoryKeyValue):
    """A driver whose next answer is kept back until another one has written."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self.held_back: asyncio.Event | None = None

    async def get(self, key: str, *, urgent: bool = False) -> tuple[Entry | None, int]:
        answer = await super().get(key, urgent=urgent)
        if (held_back := self.held_back) is not None:
            self.held_back = None
            await held_back.wait()
        return answer


def test_a_late_absence_is_no_deletion() -> None:
    """It was read before the record was written, and comes after the stream has told of that."""

    async def main() -> None:
        h = KeyValueHarness()
        a = await Candidate.new(h, "alpha_1")
        late = Late(h.shelf)
        store = KeyValueStore(late, "memory://", KEYVALUE)
        await store.open(create=True)
        name = h.name()
        with Watch(store, name) as watch:
            await watch.until(_is_absent, "the absence")
            late.held_back = held_back = asyncio.Event()
            reading = asyncio.create_task(store.read(name))
            await asyncio.sleep(0)
            held = await a.take(name)
            held_back.set()
            assert (await reading).term == held.term
            assert watch.seen[-1].watched == (await store.read(name)).watched

    asyncio.run(main())


class Counted(MemoryKeyValue):
    """A driver that remembers what it was asked."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(shelf)
        self.asked: list[str] = []

    async def get(self, key: str, *, urgent: bool = False) -> tuple[Entry | None, int]:
        self.asked.append("get")
        return await super().get(key, urgent=urgent)

    async def swap(
        self, conditions: Conditions, writes: Writes, *, urgent: bool = False
    ) -> Mapping[str, Entry]:
        self.asked.append("swap")
        return await super().swap(conditions, writes, urgent=urgent)


class CountedHarness(KeyValueHarness):
    """The same, with such drivers; `asked` is of the last one."""

    asked: list[str]

    async def store(self, *, create: bool = True) -> Store:
        driver = Counted(self.shelf)
        self.asked = driver.asked
        return KeyValueStore(driver, "memory://", KEYVALUE)


def test_a_release_of_what_is_followed_is_one_request() -> None:
    async def main() -> None:
        h = CountedHarness()
        a = await Candidate.new(h, "alpha_1")
        name = h.name()
        with Watch(a.store, name) as watch:
            await watch.until(_is_absent, "the absence")
            held = await a.take(name, watch.seen[-1])
            h.asked.clear()
            vacant = await a.release(held)
            assert h.asked == ["swap"]
            assert (vacant.holding, vacant.token) == (Holding.VACANT, held.token)
            again = await a.take(name, vacant)
            assert again.token is not None
            assert held.token is not None
            assert again.token > held.token

    asyncio.run(main())


def test_a_release_of_what_has_changed_reads_it_first() -> None:
    """What a stream has not told yet is found out by the comparison."""

    async def main() -> None:
        h = CountedHarness()
        a = await Candidate.new(h, "alpha_1")
        name = h.name()
        with Watch(a.store, name) as watch:
            await watch.until(_is_absent, "the absence")
            held = await a.take(name, watch.seen[-1])
            sinks, h.shelf.sinks = h.shelf.sinks, {}
            await h.disturb(name)
            h.shelf.sinks = sinks
            h.asked.clear()
            vacant = await a.release(held)
            assert h.asked[0] == "swap"
            assert "get" in h.asked
            assert vacant.holding is Holding.VACANT
            assert "note" in json.loads(h.shelf.entries[f"elections/{name}"].value)

    asyncio.run(main())


def test_a_release_leaves_what_was_heard_of_another_alone() -> None:
    async def main() -> None:
        h = KeyValueHarness()
        a, b = await Candidate.new(h, "alpha_1"), await Candidate.new(h, "beta_2")
        name = h.name()
        with Watch(a.store, name) as watch:
            await watch.until(_is_absent, "the absence")
            held = await a.take(name, watch.seen[-1])
            theirs = await b.take(name, await b.read(name))
            assert watch.seen[-1].term == theirs.term
            found = await a.release(held)
            assert (found.holding, found.term) == (Holding.HELD, theirs.term)
            assert (await b.read(name)).watched == theirs.snapshot.watched

    asyncio.run(main())


def test_a_release_that_was_overtaken_unheard_leaves_the_successor_alone() -> None:
    """The stream is late by a whole takeover: what is known is ours, and is over."""

    async def main() -> None:
        h = KeyValueHarness()
        a, b = await Candidate.new(h, "alpha_1"), await Candidate.new(h, "beta_2")
        name = h.name()
        with Watch(a.store, name) as watch:
            await watch.until(_is_absent, "the absence")
            held = await a.take(name, watch.seen[-1])
            sinks, h.shelf.sinks = h.shelf.sinks, {}
            theirs = await b.take(name, await b.read(name))
            found = await a.release(held)
            h.shelf.sinks = sinks
            assert (found.holding, found.term) == (Holding.HELD, theirs.term)
            assert (await b.read(name)).watched == theirs.snapshot.watched

    asyncio.run(main())


def test_what_was_followed_last_is_followed_on_and_nothing_else() -> None:
    """One election and one session for nobody; each is let go for the next one."""

    async def main() -> None:
        h = KeyValueHarness()
        a, b = await Candidate.new(h, "alpha_1"), await Candidate.new(h, "beta_2")
        first, second = h.name(), h.name()
        with Watch(b.store, first):
            held = await a.take(first)
            mine = f"sessions/{held.lease.key}"
            assert _followed(h) == {f"elections/{first}", mine}
            await a.release(held)
            assert _followed(h) == {f"elections/{first}", mine}
        assert _followed(h) == {f"elections/{first}", mine}
        with Watch(b.store, second) as watch:
            theirs = f"sessions/{(await b.take(second)).lease.key}"
            assert _followed(h) == {f"elections/{n}" for n in (first, second)} | {mine, theirs}
            assert watch.seen[-1].lease_key == theirs.partition("/")[2]
        assert _followed(h) == {f"elections/{second}", mine, theirs}
        await b.store.close()
        assert _followed(h) == set()

    asyncio.run(main())


def test_a_session_that_is_over_is_not_followed_on() -> None:
    async def main() -> None:
        h = KeyValueHarness()
        a, b = await Candidate.new(h, "alpha_1"), await Candidate.new(h, "beta_2")
        name = h.name()
        with Watch(a.store, name):
            held = await a.take(name)
            theirs = await b.take(name, await b.read(name))  # Which voids the session of `a`.
            assert _followed(h) == {f"elections/{name}", f"sessions/{theirs.lease.key}"}
            await b.release(theirs)
            assert held.lease.key != theirs.lease.key
            await b.store.close_session(theirs.lease)
            assert _followed(h) == {f"elections/{name}"}

    asyncio.run(main())


def test_what_was_followed_on_is_known_as_it_is_now() -> None:
    """Nobody wanted it while it changed; who wants it next is told what it is by now."""

    async def main() -> None:
        h = KeyValueHarness()
        a, b = await Candidate.new(h, "alpha_1"), await Candidate.new(h, "beta_2")
        name = h.name()
        with Watch(b.store, name):
            held = await a.take(name)
        await a.renew(name)
        with Watch(b.store, name) as watch:
            assert watch.seen[-1] == await b.read(name)
            assert watch.seen[-1].lease_version != held.snapshot.lease_version
        await a.release(held)
        await h.delete(name)
        with Watch(b.store, name) as watch:
            assert _is_absent(watch.seen[-1])

    asyncio.run(main())


def _followed(h: KeyValueHarness) -> set[str]:
    return {key for key, sinks in h.shelf.sinks.items() if sinks}


def _is_absent(snapshot: Snapshot) -> bool:
    return snapshot.holding is Holding.ABSENT
