"""How many candidates of one process look and take at a time, and who waits for nobody.

The clock stands still until the test moves it.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

from incumbent.core.events import Seen
from incumbent.core.records import Claim, Held, Holding, Lease, Snapshot, absent
from incumbent.core.table import State
from incumbent.core.timing import Timing
from incumbent.runtime.driver import Driver
from incumbent.runtime.hub import Hub
from incumbent.runtime.turns import AT_ONCE
from incumbent.stores.memory import CAPABILITIES, MemoryStore
from tests.runtime.still import Listener, StillClock, settle

LIMIT_S = 30.0
TIMING = Timing.plan(600.0)
SHORT = Timing.plan(1.0)
MANY = 3 * AT_ONCE


class Crowded(MemoryStore):
    """Answers takes when it is told to, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = asyncio.Event()
        self.full = asyncio.Event()
        self.session = asyncio.Event()
        self.session.set()
        self.sent = 0
        self.renewed = 0

    async def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        self.sent += 1
        if self.sent >= AT_ONCE:
            self.full.set()
        if name != "held":
            await self.answer.wait()
        return await super().take(name, claim, over)

    async def open_session(self, owner: str, ttl_s: float) -> Lease:
        await self.session.wait()
        return await super().open_session(owner, ttl_s)

    async def renew(self, lease: Lease) -> Lease:
        self.renewed += 1
        return await super().renew(lease)


class Process(StillClock):
    """A process, its clock, and its store."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Crowded()
        self.hub = Hub(self.store, "p", None, lambda: self.now, self)

    def candidate(self, name: str) -> tuple[Driver, Listener]:
        listener = Listener()
        driver = Driver(self.hub, name, "p_1", "p1", TIMING, listener, armed=False)
        driver.start()
        return driver, listener


def test_so_many_take_at_once_and_a_renewal_or_release_waits_for_none_of_them() -> None:
    async def main() -> None:
        process = Process()
        held, at_work = process.candidate("held")
        await settle()
        assert held.state is State.LEADING
        others = [process.candidate(f"other-{number}") for number in range(MANY)]
        await process.store.full.wait()
        await settle()
        assert process.store.sent == 1 + AT_ONCE, "the others were begun as well"
        process.jump(process.now + TIMING.renew_every_s)
        await settle()
        assert process.store.renewed == 1
        held.step_down()
        (term,) = at_work.terms
        held.work_ended(term)
        await settle()
        assert (await process.store.read("held")).holding is Holding.VACANT
        held.close()
        process.store.answer.set()
        while any(driver.state is not State.LEADING for driver, _ in others):
            await settle()
        assert process.store.sent >= 1 + MANY

    asyncio.run(main())


class Queue:
    """One candidate before an absence whose TTL is over, and others who have all the turns."""

    def __init__(self, timing: Timing = TIMING) -> None:
        self.process = Process()
        self.store = self.process.store
        self.store.capabilities = replace(CAPABILITIES, absent_is_vacant=False)
        self.store.answer.set()
        self.listener = Quiet()
        self.driver = Driver(self.process.hub, "e", "p_1", "p1", timing, self.listener, armed=False)
        self.others = AsyncExitStack()
        self._due_s = timing.ttl_s

    async def __aenter__(self) -> Queue:
        self.driver.start()
        for _ in range(AT_ONCE):
            await self.others.enter_async_context(self.process.hub.turns.mine())
        self.process.jump(self.process.now + self._due_s)
        assert self.driver.state is State.TAKING
        await settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.driver.close()
        await self.its_turn()

    async def come_and_go(self) -> None:
        """Have another one take, and his record deleted."""
        store = MemoryStore(self.store.shelf)
        session = await store.open_session("q", 600.0)
        claim = Claim("q_1", "q_1/1.1", 600.0, session)
        await store.take("e", claim, await store.read("e"))
        del store.shelf.records["e"]
        for sink in store.shelf.sinks["e"]:
            sink(Seen(absent("e", store.shelf.serial + 1)))

    async def its_turn(self) -> None:
        """Let the others give back their turns."""
        await self.others.aclose()
        await settle()


class Quiet(Listener):
    """Hears nothing of turns: that one waits is nothing that people should know."""

    def note(self, code: str, text: str) -> None:
        raise AssertionError((code, text))


def test_a_turn_that_does_not_come_is_waited_for_again_and_nothing_was_sent() -> None:
    async def main() -> None:
        async with Queue(SHORT) as queue, asyncio.timeout(LIMIT_S):
            while queue.driver.attempts < 3:
                await settle()
            assert (queue.driver.state, queue.store.sent) == (State.TAKING, 0)
            await queue.its_turn()
            assert (queue.driver.state, queue.store.sent) == (State.LEADING, 1)

    asyncio.run(main())


def test_nobody_takes_over_an_absence_in_which_a_record_came_and_went_before_its_turn() -> None:
    """Whoever held may be at work; the store compares absences, and one is like the other."""

    async def main() -> None:
        async with Queue() as queue:
            await queue.come_and_go()
            await queue.its_turn()
            assert (queue.driver.state, queue.store.sent) == (State.STANDBY, 0)
            queue.process.jump(queue.process.now + TIMING.ttl_s - 0.1)
            await settle()
            assert (queue.driver.state, queue.store.sent) == (State.STANDBY, 0)
            queue.process.jump(queue.process.now + 0.2)
            await settle()
            assert (queue.driver.state, queue.store.sent) == (State.LEADING, 1)

    asyncio.run(main())


def test_nobody_takes_over_an_absence_that_he_slept_through_before_his_turn() -> None:
    async def main() -> None:
        async with Queue() as queue:
            queue.process.jump(queue.process.now + 2.1 * TIMING.attempt_s)
            await queue.its_turn()
            assert (queue.driver.state, queue.store.sent) == (State.STANDBY, 0)

    asyncio.run(main())


def test_nobody_takes_over_an_absence_in_which_a_record_came_and_went_beside_a_new_session() -> (
    None
):
    """The session of a first take is opened when its turn has come."""

    async def main() -> None:
        queue = Queue()
        queue.store.session.clear()
        async with queue:
            await queue.its_turn()
            await queue.come_and_go()
            queue.store.session.set()
            await settle()
            assert (queue.driver.state, queue.store.sent) == (State.STANDBY, 0)

    asyncio.run(main())


def test_who_withdraws_before_his_turn_sends_nothing() -> None:
    async def main() -> None:
        async with Queue() as queue:
            queue.driver.close()
            await queue.its_turn()
            assert (queue.driver.state, queue.store.sent) == (State.CLOSED, 0)

    asyncio.run(main())
