"""What is asked while a request is under way goes together; each is told what it came to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from incumbent.errors import LeadershipLost, OutcomeUnknown, StoreError
from incumbent.runtime.grouping import Groups

MOST, ROOM = 8, 100


class Place:
    """Answers what it is asked when the test says so: an answer is ten times the question."""

    def __init__(self) -> None:
        self.requests: list[list[int]] = []
        self.odd: dict[int, Exception] = {}
        self.failing: Exception | None = None
        self.cancelled = 0
        self.groups: Groups[int, int] = Groups(self.carry, MOST, ROOM, lambda what: what)
        self._asked = asyncio.Event()
        self._answered = asyncio.Event()

    async def carry(self, asked: Sequence[int]) -> list[int | Exception]:
        self.requests.append(list(asked))
        self._asked.set()
        try:
            await self._answered.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self._answered.clear()
        if self.failing:
            raise self.failing
        return [self.odd.get(what) or 10 * what for what in asked]

    def ask(self, what: int, check: Callable[[], None] = lambda: None) -> asyncio.Task[int]:
        return asyncio.create_task(self.groups.ask(what, check))

    async def asked(self) -> list[int]:
        """Wait for the next request, and return it."""
        await self._asked.wait()
        self._asked.clear()
        return self.requests[-1]

    def given_up(self) -> int:
        """Return how many requests were cancelled."""
        return self.cancelled

    async def answer(self) -> None:
        """Answer the request that is under way, and let those hear it who asked."""
        self._answered.set()
        for _ in range(5):
            await asyncio.sleep(0)


def run(work: Callable[[Place], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            place = Place()
            await work(place)
            await place.groups.close()

    asyncio.run(main())


def test_what_comes_meanwhile_goes_together_in_its_order() -> None:
    async def work(place: Place) -> None:
        first = place.ask(1)
        assert await place.asked() == [1]
        others = [place.ask(what) for what in (2, 3, 4)]
        await asyncio.sleep(0)
        await place.answer()
        assert await first == 10
        assert await place.asked() == [2, 3, 4]
        await place.answer()
        assert await asyncio.gather(*others) == [20, 30, 40]
        assert len(place.requests) == 2

    run(work)


def test_an_error_is_raised_to_the_one_whose_it_is() -> None:
    async def work(place: Place) -> None:
        place.odd = {2: StoreError("two")}
        asked = [place.ask(what) for what in (1, 2, 3)]
        assert await place.asked() == [1, 2, 3]
        await place.answer()
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert (found[0], found[2]) == (10, 30)
        assert str(found[1]) == "two"

    run(work)


def test_as_many_go_as_find_room() -> None:
    async def work(place: Place) -> None:
        sizes = [1] * (MOST + 2) + [60, 40, 1, 500, 1]
        for what in sizes:
            place.ask(what)
        for expected in ([1] * MOST, [1, 1, 60], [40, 1], [500], [1]):
            assert await place.asked() == expected
            await place.answer()

    run(work)


def test_a_request_that_failed_failed_for_each_and_the_next_ones_are_smaller() -> None:
    async def work(place: Place) -> None:
        asked = [place.ask(1) for _ in range(MOST)]
        place.failing = OutcomeUnknown("no answer")
        await place.asked()
        await place.answer()
        for outcome in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(outcome, OutcomeUnknown)
        asked = [place.ask(1) for _ in range(40)]
        sizes = []
        for _ in range(7):
            sizes.append(len(await place.asked()))
            place.failing = OutcomeUnknown("no answer") if len(sizes) < 3 else None
            await place.answer()
        assert sizes == [4, 2, 1, 2, 4, MOST, MOST]
        await asyncio.gather(*asked[: sum(sizes)], return_exceptions=True)

    run(work)


def test_who_may_not_go_any_more_is_told_and_is_no_part_of_it() -> None:
    async def work(place: Place) -> None:
        def over() -> None:
            raise LeadershipLost("w", "it ended")

        ended: list[bool] = []

        def ends() -> None:
            if ended:
                over()

        first = place.ask(1)
        await place.asked()
        later = [place.ask(2, ends), place.ask(3)]
        await asyncio.sleep(0)
        ended.append(True)
        await place.answer()
        assert await first == 10
        assert await place.asked() == [3]
        with pytest.raises(LeadershipLost):
            await later[0]
        await place.answer()
        assert await later[1] == 30
        with pytest.raises(LeadershipLost):
            await place.ask(4, over)
        assert place.requests == [[1], [3]]

    run(work)


def test_who_waits_no_more_is_not_sent() -> None:
    async def work(place: Place) -> None:
        place.ask(1)
        await place.asked()
        gone, there = place.ask(2), place.ask(3)
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        await place.answer()
        assert await place.asked() == [3]
        await place.answer()
        assert await there == 30

    run(work)


def test_a_request_goes_on_while_anybody_waits_for_it() -> None:
    async def work(place: Place) -> None:
        one, other = place.ask(1), place.ask(2)
        assert await place.asked() == [1, 2]
        next_one = place.ask(3)
        one.cancel()
        await asyncio.sleep(0)
        assert place.given_up() == 0
        other.cancel()
        assert await place.asked() == [3], "it was given up, and the next one went"
        assert place.given_up() == 1
        await place.answer()
        assert await next_one == 30

    run(work)


def test_an_answer_too_few_is_an_error_and_nobody_waits_for_ever() -> None:
    async def main() -> None:
        async def carry(_: Sequence[int]) -> list[int | Exception]:
            return [1]

        groups: Groups[int, int] = Groups(carry, MOST)
        asked = [groups.ask(what, lambda: None) for what in (1, 2)]
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(one) for one in found] == [ValueError, ValueError]

    asyncio.run(main())


def test_when_it_is_closed_nobody_waits() -> None:
    async def work(place: Place) -> None:
        under_way = place.ask(1)
        await place.asked()
        waiting = place.ask(2)
        await asyncio.sleep(0)
        await place.groups.close()
        for task in (under_way, waiting):
            with pytest.raises(asyncio.CancelledError):
                await task
        assert place.requests == [[1]]
        at_once = place.ask(3)
        await asyncio.sleep(0)
        await place.groups.close()
        with pytest.raises(asyncio.CancelledError):
            await at_once

    run(work)
