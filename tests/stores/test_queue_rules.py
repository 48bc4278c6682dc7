"""The elections of `stores.queue`, on a server of queues in this process."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from incumbent.core.records import Claim, Held
from incumbent.errors import OutcomeUnknown, StoreError, StoreUnavailable
from incumbent.stores.api import Store
from incumbent.stores.queue import QueueStore
from incumbent.stores.queue.api import Node
from incumbent.testing import conformance
from incumbent.testing.conformance.kit import Candidate, Watch, refused
from incumbent.testing.queue import CAPABILITIES, MemoryQueue, Queues

NAME = "jobs"
TTL_S = 5.0


class QueueHarness:
    """A server of queues per case; drivers of real servers have harnesses of the same shape."""

    ttl_s = TTL_S

    def __init__(self) -> None:
        self.queues = Queues()
        self.stores: list[Store] = []
        self._numbers = itertools.count(1)

    def name(self) -> str:
        return f"election-{next(self._numbers)}"

    async def store(self, *, create: bool = True) -> QueueStore:
        return await self.over(MemoryQueue(self.queues), create=create)

    async def over(self, driver: MemoryQueue, *, create: bool = True) -> QueueStore:
        store = QueueStore(driver, "memory://", CAPABILITIES, lambda name: f"locks/{name}")
        self.stores.append(store)
        await store.open(create=create)
        return store

    async def delete(self, name: str) -> bool:
        self.queues.remove(f"locks/{name}", lambda one: True)
        return True

    async def scribble(self, name: str) -> bool:
        return False

    async def disturb(self, name: str) -> bool:
        return False

    async def close(self) -> None:
        for store in self.stores:
            await store.close()


@pytest.mark.parametrize("case", conformance.QUEUE_CASES, ids=str)
def test_queue(case: conformance.Case) -> None:
    conformance.run(case, QueueHarness)


# -- what is left behind --------------------------------------------------------------------------


class Unheard(MemoryQueue):
    """Of a driver whose requests to leave come to nothing, so often and in this way."""

    failures: list[StoreError]

    async def leave(self, lock: str, tag: str, ttl_s: float) -> None:
        if self.failures:
            raise self.failures.pop()
        await super().leave(lock, tag, ttl_s)


class Paused:
    """Stands in for the store's waiting; each time it waits for, it is told to go on."""

    def __init__(self, store: QueueStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting = asyncio.Semaphore(0)
        self._closing = store._closing
        self._over = asyncio.Semaphore(0)
        monkeypatch.setattr(store, "_closes_within", self._closes_within)

    async def _closes_within(self, _: float) -> bool:
        self.waiting.release()
        both = {asyncio.ensure_future(w) for w in (self._over.acquire(), self._closing.wait())}
        for late in (await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED))[1]:
            late.cancel()
        return self._closing.is_set()

    def over(self) -> None:
        self._over.release()


@asynccontextmanager
async def harness() -> AsyncIterator[QueueHarness]:
    made = QueueHarness()
    try:
        async with asyncio.timeout(30):
            yield made
    finally:
        await made.close()


async def first_of(candidate: Candidate) -> Held:
    """Wait until it is the first, and take."""
    with Watch(candidate.store, NAME) as watch:
        await refused(candidate.take(NAME), "a take behind another's node")
        seen = await watch.until(lambda s: s.lease_version == "first", "being the first")
        return await candidate.take(NAME, seen)


def test_who_withdraws_unheard_leaves_as_soon_as_he_is_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its process goes on, and keeps the session for the others."""

    async def main() -> None:
        async with harness() as h:
            a = await Candidate.new(h, "alpha_1")
            held = await a.take(NAME)
            driver = Unheard(h.queues)
            driver.failures = [StoreUnavailable("down"), OutcomeUnknown("lost")] * 5
            b = Candidate(h, await h.over(driver), "beta_2")
            assert isinstance(b.store, QueueStore)
            paused = Paused(b.store, monkeypatch)
            with Watch(b.store, NAME):
                await refused(b.take(NAME), "a take behind another's node")
            await a.release(held)
            with Watch(b.store, NAME):
                told = await refused(b.take(NAME), "a take behind a node that is being given up")
                assert (told.holder, told.ttl_s) == ("beta_2", TTL_S)
                assert told.term == "", "a leftover of its own would be asked for at once, for ever"
            c = await Candidate.new(h, "gamma_3")
            third = asyncio.ensure_future(first_of(c))
            for _ in range(10):
                await paused.waiting.acquire()
                assert not third.done()
                paused.over()
            assert ((await third).token or 0) > (held.token or 0)

    asyncio.run(main())


class Robbed(MemoryQueue):
    """Of a driver whose node somebody removes by hand before it is proven."""

    def __init__(self, queues: Queues) -> None:
        super().__init__(queues)
        self.robbing = False
        self.left: asyncio.Queue[str] = asyncio.Queue()

    async def prove(self, lock: str, node: Node, ttl_s: float) -> None:
        if self.robbing:
            self._queues.remove(lock, lambda one: True)
        await super().prove(lock, node, ttl_s)

    async def leave(self, lock: str, tag: str, ttl_s: float) -> None:
        await super().leave(lock, tag, ttl_s)
        self.left.put_nowait(tag)


@pytest.mark.parametrize("when", ["renewed", "taken"])
def test_a_place_whose_node_is_gone_is_left_all_the_same(when: str) -> None:
    """A join of it that was not answered may be on its way yet, and only leaving ends that."""

    async def main() -> None:
        async with harness() as h:
            driver = Robbed(h.queues)
            a = Candidate(h, await h.over(driver), "alpha_1")
            if when == "renewed":
                await a.take(NAME)
            driver.robbing = True
            await refused(a.renew(NAME) if when == "renewed" else a.take(NAME), f"to be {when}")
            assert isinstance(a.store, QueueStore)
            assert a.store._leaving, "the place is left, in the background"
            await asyncio.wait(a.store._leaving)
            left = driver.left.get_nowait()
            driver.robbing = False
            await a.take(NAME)
            (standing,) = h.queues.standing[f"locks/{NAME}"]
            assert standing.tag != left

    asyncio.run(main())


def test_a_term_that_was_held_and_not_released_is_given_up_after_a_ttl_without_a_renewal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And not before: for so long somebody may work under it."""

    async def main() -> None:
        async with harness() as h:
            a = await Candidate.new(h, "alpha_1")
            assert isinstance(a.store, QueueStore)
            paused = Paused(a.store, monkeypatch)
            with Watch(a.store, NAME):
                held = await a.take(NAME)
            b = await Candidate.new(h, "beta_2")
            second = asyncio.ensure_future(first_of(b))
            for _ in range(3):
                await paused.waiting.acquire()
                await a.renew(NAME)
                assert not second.done()
                paused.over()
            await paused.waiting.acquire()
            assert not second.done()
            paused.over()
            assert ((await second).token or 0) > (held.token or 0)
            await refused(a.renew(NAME), "a renewal of what was given up")

    asyncio.run(main())


def test_who_comes_back_within_the_ttl_stands_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with harness() as h:
            a, b = await Candidate.new(h, "alpha_1"), await Candidate.new(h, "beta_2")
            assert isinstance(a.store, QueueStore)
            paused = Paused(a.store, monkeypatch)
            with Watch(a.store, NAME):
                held = await a.take(NAME)
            await paused.waiting.acquire()
            with Watch(b.store, NAME) as watch:
                await refused(b.take(NAME), "a take behind another's node")
                await refused(a.take(NAME), "a term that was lost goes to the end of the queue")
                seen = await watch.until(lambda s: s.lease_version == "first", "being the first")
                later = await b.take(NAME, seen)
                paused.over()
                assert isinstance(a.store, QueueStore)
                await asyncio.wait(a.store._leaving)
                await b.renew(NAME)
                assert (later.token or 0) > (held.token or 0)
                standing = [one.node.created for one in h.queues.standing[f"locks/{NAME}"]]
                assert len(standing) == 2, "the new place of who came back is left alone"

    asyncio.run(main())


def test_nothing_is_waited_for_when_the_store_is_closed() -> None:
    """A session that is left to the server takes the node along."""

    async def main() -> None:
        h = QueueHarness()
        store = await h.store()
        with Watch(store, NAME):
            await store.take(NAME, Claim("a_1", "a_1/x.1", 1e6), await store.read(NAME))
        async with asyncio.timeout(30):
            await store.close()
        assert len(h.queues.standing[f"locks/{NAME}"]) == 1

    asyncio.run(main())
