"""Several candidates of one process under one session: what one of them does to the others.

Each is on a clock that stands still until the test moves it, and one take is answered late.
"""

from __future__ import annotations

import asyncio

import pytest

from incumbent.core import events as ev
from incumbent.core.records import Claim, Held, Holding, Lease, Snapshot
from incumbent.core.table import State
from incumbent.core.timing import Timing
from incumbent.errors import OutcomeUnknown
from incumbent.runtime.driver import Driver
from incumbent.runtime.hub import Hub
from incumbent.stores.memory import MemoryStore
from tests.runtime.still import Listener, StillClock, settle

TIMING = Timing.plan(15.0)
OTHER_TIMING = Timing.plan(30.0)


class Slow(MemoryStore):
    """Answers the take of one election, which it has done, when it is told to.

    Of that election it notifies nobody: news may be as late as the answer.
    """

    slow = ""

    def __init__(self) -> None:
        super().__init__()
        self.answer = asyncio.Event()
        self.opening = asyncio.Event()
        self.opening.set()

    async def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        held = await super().take(name, claim, over)
        if name == self.slow:
            await self.answer.wait()
        return held

    async def open_session(self, owner: str, ttl_s: float) -> Lease:
        await self.opening.wait()
        return await super().open_session(owner, ttl_s)

    def _tell(self, name: str) -> None:
        if name != self.slow:
            super()._tell(name)

    async def release(self, held: Held, lease: Lease, successor: str) -> Snapshot:
        raise AssertionError("nothing is released in these tests")


class Silent(MemoryStore):
    """Answers nothing about one election while it is `silent`, but takes it."""

    silent = ""

    async def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        held = await super().take(name, claim, over)
        self._answer(name)
        return held

    async def read(self, name: str) -> Snapshot:
        self._answer(name)
        return await super().read(name)

    async def read_back(self, name: str, claim: Claim) -> Held | Snapshot:
        self._answer(name)
        return await super().read_back(name, claim)

    async def release(self, held: Held, lease: Lease, successor: str) -> Snapshot:
        self._answer(held.name)
        return await super().release(held, lease, successor)

    def _answer(self, name: str) -> None:
        if name == self.silent:
            raise OutcomeUnknown("no answer")


class Process(StillClock):
    """A process, its clock, and its store."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        super().__init__()
        self.slow = Slow()
        self.store = store or self.slow
        self.hub = Hub(self.store, "p", None, lambda: self.now, self)

    async def candidate(
        self, name: str, timing: Timing = TIMING, attempts: int = 0
    ) -> tuple[Driver, Listener]:
        listener = Listener()
        driver = Driver(
            self.hub, name, "p_1", "p1", timing, listener, armed=False, attempts=attempts
        )
        driver.start()
        await settle()
        return driver, listener


def is_in(driver: Driver, state: State) -> bool:
    return driver.state is state


async def with_stuck_work(process: Process) -> tuple[Driver, Listener, Driver, Listener]:
    """Have the work of one election get stuck while the take of another is on its way."""
    stuck, at_it = await process.candidate("stuck")
    assert is_in(stuck, State.LEADING)
    stuck.step_down()
    await process.to(process.now + TIMING.stop_s - 0.1)
    process.slow.slow = "slow"
    slow, waits = await process.candidate("slow")
    assert is_in(slow, State.TAKING)
    await process.to(process.now + 0.2)
    assert is_in(stuck, State.STUCK)
    return stuck, at_it, slow, waits


async def respected(store: MemoryStore, listener: Listener) -> None:
    """See that whatever is trusted is held."""
    for term in listener.terms:
        if term.remaining():
            found = await store.read(term.name)
            assert (found.holding, found.term) == (Holding.HELD, term.id)


def test_a_term_that_begins_under_a_lease_that_has_ended_is_told_to_stop() -> None:
    """Nobody renews for it, and nobody would say so: it would end in a kill, or not at all."""

    async def main() -> None:
        process = Process()
        _, _, slow, waits = await with_stuck_work(process)
        process.slow.answer.set()
        await settle()
        [term] = waits.terms
        assert [why for why, _ in waits.stops] == [ev.Why.LOST]
        assert term.remaining() >= TIMING.stop_s
        slow.work_ended(term)
        await settle()
        assert not slow.term

    asyncio.run(main())


def test_no_term_begins_under_a_session_that_we_voided() -> None:
    """Work gets stuck, so another session is opened, and the work ends. Its leftover is taken over.

    That voids the first session, under which a take is on its way. Everybody sees what it took as
    vacant, so it must not begin a term.
    """

    async def main() -> None:
        process = Process()
        stuck, at_it, _, waits = await with_stuck_work(process)
        await process.candidate("another")
        stuck.work_ended(at_it.terms[0])
        await settle()
        assert len(at_it.terms) == 2
        assert (await process.store.read("slow")).holding is Holding.VACANT
        process.slow.answer.set()
        await settle()
        await respected(process.store, waits)

    asyncio.run(main())


def test_nor_under_one_that_had_ended_before_it_was_closed() -> None:
    """The same without another candidate: the session is closed, and not voided by a take."""

    async def main() -> None:
        process = Process()
        stuck, at_it, _, waits = await with_stuck_work(process)
        stuck.work_ended(at_it.terms[0])
        await settle()
        assert len(at_it.terms) == 2
        assert (await process.store.read("slow")).holding is Holding.VACANT
        process.slow.answer.set()
        await settle()
        await respected(process.store, waits)

    asyncio.run(main())


async def with_a_leftover(process: Process) -> Listener:
    """Leave something behind under the session under which the take of another is on its way."""
    session = (await process.hub.session(TIMING)).lease
    left = Claim("p_1", "p_1/p1.1", TIMING.ttl_s, session)
    await process.store.take("left", left, await process.store.read("left"))
    process.slow.slow = "slow"
    _, waits = await process.candidate("slow")
    return waits


def test_nor_under_one_that_a_candidate_with_another_ttl_voided() -> None:
    """The candidate before it, with the TTL of the others, could not release what it had."""

    async def main() -> None:
        process = Process()
        waits = await with_a_leftover(process)
        _, again = await process.candidate("left", OTHER_TIMING, attempts=1)
        assert again.terms
        assert (await process.store.read("slow")).holding is Holding.VACANT
        process.slow.answer.set()
        await settle()
        await respected(process.store, waits)

    asyncio.run(main())


def test_work_that_begins_while_a_session_is_opened_keeps_its_own() -> None:
    async def main() -> None:
        process = Process()
        waits = await with_a_leftover(process)
        process.slow.opening.clear()
        _, again = await process.candidate("left", OTHER_TIMING, attempts=1)
        process.slow.answer.set()
        await settle()
        [term] = waits.terms
        process.slow.opening.set()
        await settle()
        assert not again.terms
        assert term.remaining()
        await respected(process.store, waits)

    asyncio.run(main())


# -- what a candidate that withdraws cannot give up ------------------------------------------------


async def with_something_left(process: Process, store: Silent, *, begun: bool) -> Driver:
    """Have one go that could not release its term, or did not hear of it; another stays."""
    _, stays = await process.candidate("stays")
    assert stays.terms
    if not begun:
        store.silent = "goes"
    goes, at_it = await process.candidate("goes")
    assert is_in(goes, State.LEADING if begun else State.DOUBT)
    store.silent = "goes"
    goes.close()
    if begun:
        goes.work_ended(at_it.terms[0])
    await process.to(process.now + TIMING.ttl_s)
    assert is_in(goes, State.CLOSED)
    assert stays.terms[0].remaining() > 0, "the session goes on for the other election"
    return goes


async def found(store: MemoryStore, name: str) -> Snapshot:
    return await MemoryStore.read(store, name)


@pytest.mark.parametrize("begun", [True, False], ids=["released", "in-doubt"])
def test_what_could_not_be_given_up_is_as_soon_as_the_store_answers(begun: bool) -> None:
    """Nobody else could take it, for the session is renewed."""

    async def main() -> None:
        store = Silent()
        process = Process(store)
        await with_something_left(process, store, begun=begun)
        assert (await found(store, "goes")).holding is Holding.HELD
        for _ in range(5):
            await process.to(process.now + TIMING.ttl_s)
        assert (await found(store, "goes")).holding is Holding.HELD, "no answer, and still tried"
        store.silent = ""
        await process.to(process.now + TIMING.ttl_s)
        assert (await found(store, "goes")).holding is Holding.VACANT
        assert (await found(store, "stays")).holding is Holding.HELD
        assert not process.hub._giving_back

    asyncio.run(main())


def test_the_next_candidate_keeps_what_it_has_made_of_it() -> None:
    """It takes over its own leftover at once, under another term."""

    async def main() -> None:
        store = Silent()
        process = Process(store)
        gone = await with_something_left(process, store, begun=True)
        store.silent = ""
        _, again = await process.candidate("goes", attempts=gone.attempts)
        assert again.terms
        await process.to(process.now + 2 * TIMING.ttl_s)
        assert not process.hub._giving_back
        assert not again.stops
        await respected(store, again)
        assert again.terms[0].remaining() > 0

    asyncio.run(main())


def test_it_is_tried_no_longer_than_the_session_lasts() -> None:
    async def main() -> None:
        store = Silent()
        process = Process(store)
        await with_something_left(process, store, begun=True)
        await process.hub.close()
        assert not process.hub._giving_back

    asyncio.run(main())
