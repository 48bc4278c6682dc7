"""Several candidates of one process under one session: what one of them does to the others.

Each is on a clock that stands still until the test moves it, and one take is answered late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from incumbent.core import events as ev
from incumbent.core.records import Claim, Held, Holding, Lease, Snapshot
from incumbent.core.table import State
from incumbent.core.timing import Timing
from incumbent.runtime.driver import Driver
from incumbent.runtime.hub import Hub
from incumbent.runtime.term import Term
from incumbent.stores.memory import MemoryStore

TIMING = Timing.plan(15.0)
OTHER_TIMING = Timing.plan(30.0)


class Listener:
    """Work that stops when the test says so."""

    def __init__(self) -> None:
        self.terms: list[Term] = []
        self.told: list[ev.Why] = []

    def begun(self, term: Term) -> None:
        self.terms.append(term)

    def stop(self, term: Term, why: ev.Why, cause: str, deadline: float) -> None:
        self.told.append(why)

    def stuck(self, term: Term, cause: str) -> None:
        pass

    def waiting(self, snapshot: Snapshot, until: float) -> None:
        pass

    def note(self, code: str, text: str) -> None:
        assert code != "bug", text

    def closed(self) -> None:
        pass


class Alarm:
    def __init__(self, instant: float, callback: Callable[[], object]) -> None:
        self.instant = instant
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


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

    async def release(self, *args: object) -> Snapshot:
        raise AssertionError("nothing is released in these tests")


class Process:
    """A process, its clock, and its store."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.store = Slow()
        self.hub = Hub(self.store, "p", None, lambda: self.now, self)
        self._alarms: list[Alarm] = []

    def call_at(self, instant: float, callback: Callable[[], object]) -> Alarm:
        alarm = Alarm(instant, callback)
        self._alarms.append(alarm)
        return alarm

    async def settle(self) -> None:
        """Let everything happen that waits for nothing but its turn."""
        for _ in range(50):
            await asyncio.sleep(0)  # sleep: a turn of the loop

    async def to(self, instant: float) -> None:
        """Move the clock, from one alarm to the next."""
        while due := [a for a in self._alarms if a.callback and a.instant <= instant]:
            alarm = min(due, key=lambda alarm: alarm.instant)
            self.now = max(self.now, alarm.instant)
            callback, alarm.callback = alarm.callback, None
            assert callback is not None
            callback()
            await self.settle()
        self.now = instant
        await self.settle()

    async def candidate(
        self, name: str, timing: Timing = TIMING, attempts: int = 0
    ) -> tuple[Driver, Listener]:
        listener = Listener()
        driver = Driver(
            self.hub, name, "p_1", "p1", timing, listener, armed=False, attempts=attempts
        )
        driver.start()
        await self.settle()
        return driver, listener


def is_in(driver: Driver, state: State) -> bool:
    return driver.state is state


async def with_stuck_work(process: Process) -> tuple[Driver, Listener, Driver, Listener]:
    """Have the work of one election get stuck while the take of another is on its way."""
    stuck, at_it = await process.candidate("stuck")
    assert is_in(stuck, State.LEADING)
    stuck.step_down()
    await process.to(process.now + TIMING.stop_s - 0.1)
    process.store.slow = "slow"
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
        process.store.answer.set()
        await process.settle()
        [term] = waits.terms
        assert waits.told == [ev.Why.LOST]
        assert term.remaining() >= TIMING.stop_s
        slow.work_ended(term)
        await process.settle()
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
        await process.settle()
        assert len(at_it.terms) == 2
        assert (await process.store.read("slow")).holding is Holding.VACANT
        process.store.answer.set()
        await process.settle()
        await respected(process.store, waits)

    asyncio.run(main())


def test_nor_under_one_that_had_ended_before_it_was_closed() -> None:
    """The same without another candidate: the session is closed, and not voided by a take."""

    async def main() -> None:
        process = Process()
        stuck, at_it, _, waits = await with_stuck_work(process)
        stuck.work_ended(at_it.terms[0])
        await process.settle()
        assert len(at_it.terms) == 2
        assert (await process.store.read("slow")).holding is Holding.VACANT
        process.store.answer.set()
        await process.settle()
        await respected(process.store, waits)

    asyncio.run(main())


async def with_a_leftover(process: Process) -> Listener:
    """Leave something behind under the session under which the take of another is on its way."""
    session = (await process.hub.session(TIMING)).lease
    left = Claim("p_1", "p_1/p1.1", TIMING.ttl_s, session)
    await process.store.take("left", left, await process.store.read("left"))
    process.store.slow = "slow"
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
        process.store.answer.set()
        await process.settle()
        await respected(process.store, waits)

    asyncio.run(main())


def test_work_that_begins_while_a_session_is_opened_keeps_its_own() -> None:
    async def main() -> None:
        process = Process()
        waits = await with_a_leftover(process)
        process.store.opening.clear()
        _, again = await process.candidate("left", OTHER_TIMING, attempts=1)
        process.store.answer.set()
        await process.settle()
        [term] = waits.terms
        process.store.opening.set()
        await process.settle()
        assert not again.terms
        assert term.remaining()
        await respected(process.store, waits)

    asyncio.run(main())
