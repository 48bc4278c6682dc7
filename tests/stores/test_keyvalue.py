"""The elections of `stores.kv`, on a key-value server in this process."""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import replace

from incumbent.core.records import Holding, Snapshot
from incumbent.stores.api import Store
from incumbent.stores.kv import KeyValueStore
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


def _is_absent(snapshot: Snapshot) -> bool:
    return snapshot.holding is Holding.ABSENT
