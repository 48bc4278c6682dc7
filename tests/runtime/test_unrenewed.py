"""A store that cannot renew: terms end by plan, in time to stop the work, and are given up.

The driver and the lease's keeper are the real ones, on a clock that stands still until it is moved.
The store is the reference store with its renewal taken away: a session a term, so that the lease of
one is not that of the next.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from incumbent.core import events as ev
from incumbent.core.records import Claim, Held, Holding, Lease, Snapshot
from incumbent.core.table import State
from incumbent.core.timing import Timing
from incumbent.runtime.driver import Driver
from incumbent.runtime.hub import Hub
from incumbent.stores.memory import MemoryStore
from tests.runtime.still import Listener, StillClock, settle

TIMING = Timing.plan(60.0, grace_s=10.0)


class Unrenewed(MemoryStore):
    """Keeps a term for as long as it was taken for, and cannot keep it longer."""

    capabilities = replace(MemoryStore.capabilities, sessions=False, renews=False, token=False)

    def __init__(self) -> None:
        super().__init__()
        self.released: list[str] = []

    async def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        session = await self.open_session(claim.identity, claim.ttl_s)
        held = await super().take(name, replace(claim, session=session), over)
        return replace(held, token=None)

    async def renew(self, lease: Lease) -> Lease:
        raise AssertionError("a renewal was sent")

    async def release(self, held: Held, lease: Lease, successor: str) -> Snapshot:
        self.released.append(held.term)
        return await super().release(held, lease, successor)


class Process(StillClock):
    """One candidate that leads, its clock, and its store."""

    def __init__(self) -> None:
        super().__init__()
        self.store, self.work = Unrenewed(), Listener()
        self.driver = Driver(
            Hub(self.store, "p", None, lambda: self.now, self),
            "e",
            "p_1",
            "p1",
            TIMING,
            self.work,
            armed=False,
        )

    async def lead(self) -> None:
        self.driver.start()
        await settle()
        assert self.state is State.LEADING

    @property
    def state(self) -> State:
        return self.driver.state


STOP_AT = 1000.0 + TIMING.patience_s


def test_nothing_is_renewed_and_the_work_is_told_in_time() -> None:
    async def main() -> None:
        process = Process()
        await process.lead()
        await process.to(STOP_AT - 0.001)
        assert not process.work.stops
        await process.to(STOP_AT)
        ((why, deadline),) = process.work.stops
        assert why is ev.Why.EXPIRED
        assert deadline == pytest.approx(1000.0 + TIMING.validity_s)
        assert process.work.terms[0].valid_until >= deadline - 1e-6

    asyncio.run(main())


def test_it_is_released_when_the_work_has_ended_and_not_before() -> None:
    async def main() -> None:
        process = Process()
        await process.lead()
        await process.to(STOP_AT + 1)
        assert not process.store.released
        first = process.work.terms[0]
        process.driver.work_ended(first)
        await settle()
        assert process.store.released == [first.id]
        assert process.state is State.LEADING, "it contends again, and nobody else did"
        assert process.work.terms[1].id != first.id
        assert process.work.terms[1].valid_until == pytest.approx(process.now + TIMING.validity_s)

    asyncio.run(main())


def test_work_that_ends_after_its_trust_is_left_to_expire() -> None:
    async def main() -> None:
        process = Process()
        await process.lead()
        await process.to(STOP_AT)
        process.now = process.work.terms[0].valid_until  # It slept, and its alarms with it.
        process.driver.work_ended(process.work.terms[0])
        assert process.state is State.LOOKING
        await settle()
        assert not process.store.released

    asyncio.run(main())


def test_work_that_does_not_stop_is_stuck_and_never_released() -> None:
    async def main() -> None:
        process = Process()
        await process.lead()
        await process.to(STOP_AT + TIMING.stop_s + 0.001)
        assert process.state is State.STUCK
        assert process.work.stuck_ones
        process.driver.work_ended(process.work.terms[0])
        await settle()
        assert not process.store.released

    asyncio.run(main())


def test_who_asks_for_the_end_first_is_the_reason_for_it() -> None:
    async def main() -> None:
        process = Process()
        await process.lead()
        await process.to(STOP_AT - 5)
        process.driver.step_down()
        await process.to(STOP_AT + 1)
        assert [why for why, _ in process.work.stops] == [ev.Why.STEP_DOWN]
        process.driver.work_ended(process.work.terms[0])
        await settle()
        assert process.store.released == [process.work.terms[0].id]
        found = await process.store.read("e")
        assert found.holding is Holding.VACANT, "left to others for a while"

    asyncio.run(main())
