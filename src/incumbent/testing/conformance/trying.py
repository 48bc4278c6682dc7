"""Cases that look at nothing: what a candidate learns by trying, and by giving back.

They are asked of every store, and are all that can be asked of one that tells nobody who holds
(`Capabilities.reads`) or cannot renew. There, what other cases would look at is refused instead.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable

from incumbent.core.records import Held, Holding, StepDownRequest
from incumbent.errors import Refused, StoreError
from incumbent.testing.conformance.kit import EVENT_LIMIT_S, Candidate, Harness, refused, two

__all__ = ["CHECKS", "what_is_not_declared_is_refused"]

_TRY_S = 0.05


async def one_is_let_in_and_the_next_after_it(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    nothing = await b.read(name)
    held = await a.take(name)
    for _ in range(2):
        told = await refused(b.take(name, nothing), "a second take")
        assert told.holding is Holding.HELD
        assert told.ttl_s > 0, "when to try again"
    assert (await a.release(held)).holding is Holding.VACANT
    await b.take(name)


async def a_release_gives_back_no_other_term(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    nothing = await b.read(name)
    old = await a.take(name)
    await a.release(old)
    held = await b.take(name)
    assert (await a.release(old)).holding is Holding.HELD
    await refused(a.take(name, nothing), "a take of what is held")
    await b.release(held)
    again = await b.take(name)
    assert (await b.release(held)).holding is Holding.HELD, "of the same candidate, too"
    await refused(a.take(name, nothing), "a take of what is held again")
    await b.release(again)


async def ten_try_and_one_is_let_in(h: Harness) -> None:
    candidates = [await Candidate.new(h, f"c{number}_x") for number in range(10)]
    name = h.name()
    for _ in range(2):
        seen = [await c.read(name) for c in candidates]
        results = await asyncio.gather(
            *(c.take(name, s) for c, s in zip(candidates, seen, strict=True)),
            return_exceptions=True,
        )
        (winner,) = [r for r in results if isinstance(r, Held)]
        assert sum(isinstance(r, Refused) for r in results) == 9, results
        await candidates[results.index(winner)].release(winner)


async def elections_are_tried_apart(h: Harness) -> None:
    a, b = await two(h)
    name, other = h.name(), h.name()
    await a.take(name)
    held = await b.take(other)
    await b.release(held)
    await a.take(other)


async def reading_back_settles_what_may_have_been_taken(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    claim = await a.claim()
    await a.store.take(name, claim, await a.read(name))
    found = await a.store.read_back(name, claim)
    if isinstance(found, Held):
        found = await a.store.release(found, found.lease, "")
    assert found.holding is Holding.VACANT
    held = await b.take(name)
    assert not isinstance(await a.store.read_back(name, claim), Held)
    assert (await a.store.release(held, held.lease, "")).holding is Holding.VACANT


async def a_server_that_judges_ends_a_term_when_its_time_is_over(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    begun_at = asyncio.get_running_loop().time()
    await a.take(name)
    if a.store.capabilities.judged_by != "server":
        return
    async with asyncio.timeout(h.ttl_s + EVENT_LIMIT_S):
        while True:
            with contextlib.suppress(Refused):
                await b.take(name, await b.read(name))
                break
            await asyncio.sleep(_TRY_S)  # sleep: nobody is told of an expiry
    # That it is no shorter is the promise; a busy machine makes it longer.
    assert asyncio.get_running_loop().time() - begun_at >= h.ttl_s * 0.99


async def what_is_not_declared_is_refused(h: Harness) -> None:
    """Take the place of the cases that read or renew, where a store declares that it cannot."""
    a, b = await two(h)
    can, name = a.store.capabilities, h.name()
    held = await a.take(name)
    if not can.reads:
        told = await b.read(name)
        assert told.holding is not Holding.VACANT, "a guess"
        assert (told.term, told.holder, told.token) == ("", "", None)
        looker = await h.store(create=False)
        await _not_possible(looker.read(name), "a look")
        await _not_possible(looker.elections(), "a list")
        await _not_possible(b.store.ask(name, StepDownRequest(held.term)), "a request")
    if not can.renews:
        await _not_possible(a.store.renew(held.lease), "a renewal")
    await a.release(held)


async def _not_possible(work: Awaitable[object], what: str) -> None:
    try:
        await work
    except StoreError:
        return
    raise AssertionError(f"{what} was not refused")


CHECKS = (
    one_is_let_in_and_the_next_after_it,
    a_release_gives_back_no_other_term,
    ten_try_and_one_is_let_in,
    elections_are_tried_apart,
    reading_back_settles_what_may_have_been_taken,
    a_server_that_judges_ends_a_term_when_its_time_is_over,
)
