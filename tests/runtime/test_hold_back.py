"""A take that somebody holds back: it is sent only if it still stands, and decided anew if not.

The clock stands still until the test moves it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from incumbent.core.events import Seen
from incumbent.core.records import Claim, absent
from incumbent.core.table import State
from incumbent.core.timing import Timing
from incumbent.runtime.driver import Driver
from incumbent.runtime.hub import Hub
from incumbent.stores.memory import CAPABILITIES, MemoryStore
from tests.runtime.still import Listener, StillClock, settle

TIMING = Timing.plan(600.0)


class Held:
    """A candidate before an absence whose TTL is over, which is held back until the test says."""

    def __init__(self) -> None:
        self.clock = StillClock()
        self.store = MemoryStore()
        self.store.capabilities = replace(CAPABILITIES, absent_is_vacant=False)
        hub = Hub(self.store, "p", None, lambda: self.clock.now, self.clock)
        self.driver = Driver(hub, "e", "p_1", "p1", TIMING, Listener(), armed=False)
        self.driver.hold_back = self._hold_back
        self.asked: list[asyncio.Future[bool]] = []
        self.stands: Callable[[], bool] = lambda: False

    async def _hold_back(self, stands: Callable[[], bool]) -> bool:
        self.stands = stands
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]

    async def due(self) -> None:
        self.driver.start()
        await settle()
        await self.clock.to(self.clock.now + TIMING.ttl_s)
        assert (self.driver.state, len(self.asked)) == (State.TAKING, 1)

    async def answer(self, may: bool) -> None:
        self.asked[-1].set_result(may)
        await settle()

    async def close(self) -> None:
        self.driver.close()
        if self.asked and not self.asked[-1].done():
            self.asked[-1].set_result(False)
        await settle()
        assert self.driver.state is not State.TAKING

    async def come_and_go(self) -> None:
        """Have another one take, and its record deleted."""
        store = MemoryStore(self.store.shelf)
        session = await store.open_session("q", 600.0)
        await store.take("e", Claim("q_1", "q_1/1.1", 600.0, session), await store.read("e"))
        del store.shelf.records["e"]
        for sink in store.shelf.sinks["e"]:
            sink(Seen(absent("e", store.shelf.serial + 1)))


def test_it_is_sent_when_it_is_let_go_and_stands() -> None:
    async def main() -> None:
        held = Held()
        await held.due()
        assert held.stands()
        assert "e" not in held.store.shelf.records
        await held.answer(True)
        assert held.driver.state is State.LEADING
        assert held.driver.term is not None
        held.driver.work_ended(held.driver.term)
        await held.close()

    asyncio.run(main())


def test_nobody_takes_over_an_absence_in_which_a_record_came_and_went_while_held_back() -> None:
    """Whoever held may be at work; the store compares absences, and one is like the other."""

    async def main() -> None:
        held = Held()
        await held.due()
        await held.come_and_go()
        assert not held.stands()
        await held.answer(True)
        assert (held.driver.state, len(held.asked)) == (State.STANDBY, 1)
        assert "e" not in held.store.shelf.records
        await held.close()

    asyncio.run(main())


def test_it_does_not_stand_when_it_was_held_back_for_too_long() -> None:
    async def main() -> None:
        held = Held()
        await held.due()
        held.clock.now += TIMING.attempt_s + 0.1
        assert not held.stands()
        await held.answer(True)
        assert "e" not in held.store.shelf.records
        await held.close()

    asyncio.run(main())


def test_what_is_refused_is_decided_anew() -> None:
    async def main() -> None:
        held = Held()
        await held.due()
        await held.answer(False)
        assert (held.driver.state, len(held.asked)) == (State.TAKING, 2)
        assert "e" not in held.store.shelf.records
        await held.answer(True)
        assert held.driver.state is State.LEADING
        assert held.driver.term is not None
        held.driver.work_ended(held.driver.term)
        await held.close()

    asyncio.run(main())


def test_who_withdraws_while_held_back_sends_nothing() -> None:
    async def main() -> None:
        held = Held()
        await held.due()
        held.driver.close()
        assert not held.stands()
        await held.answer(True)
        assert held.driver.state is State.CLOSED
        assert "e" not in held.store.shelf.records

    asyncio.run(main())
