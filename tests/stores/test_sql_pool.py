"""The pool of `stores.sql`: which connections are kept, and for how long."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from incumbent.stores.sql import pool as module
from incumbent.stores.sql.pool import Pool

LIMIT_S = 30.0


class Fake:
    """A connection that can tell of its end."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    def is_sound(self) -> bool:
        return not self.closed.is_set()

    def close(self) -> None:
        self.closed.set()


class Maker:
    """Connects, and remembers."""

    def __init__(self) -> None:
        self.made: list[Fake] = []

    async def __call__(self) -> Fake:
        self.made.append(Fake())
        return self.made[-1]


async def use_at_once(pool: Pool[Fake], count: int) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(count):
            await stack.enter_async_context(pool.use())


def test_two_that_are_needed_again_and_again_are_made_once() -> None:
    async def main() -> None:
        make = Maker()
        pool = Pool(make)
        pool.open()
        for _ in range(5):
            await use_at_once(pool, 2)
        assert len(make.made) == 2
        pool.close()
        assert all(one.closed.is_set() for one in make.made)

    asyncio.run(main())


def test_one_is_left_when_no_more_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SPARE_S", 0.0)

    async def main() -> None:
        make = Maker()
        pool = Pool(make)
        pool.open()
        await use_at_once(pool, 3)
        ends = [asyncio.create_task(one.closed.wait()) for one in make.made]
        async with asyncio.timeout(LIMIT_S):
            for _ in range(2):
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                ends = [end for end in ends if not end.done()]
                if len(ends) == 1:
                    break
        assert [one.closed.is_set() for one in make.made].count(False) == 1
        async with pool.use():
            pass
        assert len(make.made) == 3
        pool.close()
        await asyncio.gather(*ends)

    asyncio.run(main())
