"""How many candidates of one process look and take at a time, and who waits for nobody.

The clock stands still until the test moves it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from incumbent.core.records import Claim, Held, Holding, Lease, Snapshot
from incumbent.core.table import State
from incumbent.core.timing import Timing
from incumbent.errors import StoreUnavailable
from incumbent.runtime.driver import Driver
from incumbent.runtime.hub import Hub
from incumbent.runtime.turns import AT_ONCE
from incumbent.stores.memory import MemoryStore
from tests.runtime.test_shared_sessions import Alarm, Listener

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
        self.sent = 0
        self.renewed = 0

    async def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        self.sent += 1
        if self.sent >= AT_ONCE:
            self.full.set()
        if name != "held":
            await self.answer.wait()
        return await super().take(name, claim, over)

    async def renew(self, lease: Lease) -> Lease:
        self.renewed += 1
        return await super().renew(lease)


class Process:
    """A process, its clock, and its store."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.store = Crowded()
        self.hub = Hub(self.store, "p", None, lambda: self.now, self)
        self._alarms: list[Alarm] = []

    def call_at(self, instant: float, callback: Callable[[], object]) -> Alarm:
        self._alarms.append(Alarm(instant, callback))
        return self._alarms[-1]

    def to(self, instant: float) -> None:
        """Move the clock; whatever is due is called."""
        self.now = instant
        for alarm in [a for a in self._alarms if a.callback and a.instant <= instant]:
            callback, alarm.callback = alarm.callback, None
            assert callback is not None
            callback()

    def candidate(self, name: str) -> tuple[Driver, Listener]:
        listener = Listener()
        driver = Driver(self.hub, name, "p_1", "p1", TIMING, listener, armed=False)
        driver.start()
        return driver, listener


class Noted(Listener):
    """Hears that a take has failed."""

    def __init__(self) -> None:
        super().__init__()
        self.noted = asyncio.Event()

    def note(self, code: str, text: str) -> None:
        assert (code, "too many requests" in text) == ("take-failed", True)
        self.noted.set()


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)  # sleep: a turn of the loop


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
        process.to(process.now + TIMING.renew_every_s)
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


def test_a_turn_that_does_not_come_is_a_take_that_certainly_was_not_sent() -> None:
    """So nothing has to be read back, and it is tried again."""

    async def main() -> None:
        process = Process()
        async with AsyncExitStack() as stack:
            for _ in range(AT_ONCE):
                await stack.enter_async_context(process.hub.turns.mine(1.0))
            with pytest.raises(StoreUnavailable, match="too many"):
                async with process.hub.turns.mine(0.0):
                    raise AssertionError("it is nobody's turn")
            listener = Noted()
            driver = Driver(process.hub, "held", "p_1", "p1", SHORT, listener, armed=False)
            driver.start()
            async with asyncio.timeout(LIMIT_S):
                await listener.noted.wait()
            assert (driver.state, process.store.sent) == (State.STANDBY, 0)
        process.to(process.now + SHORT.retry_every_s)
        await settle()
        assert (driver.state, process.store.sent) == (State.LEADING, 1)

    asyncio.run(main())
