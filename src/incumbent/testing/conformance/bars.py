"""Cases about bars: a record that nobody takes until the bar is lifted."""

from __future__ import annotations

from incumbent.core.records import Bar, Holding, Snapshot, StepDownRequest
from incumbent.errors import StoreUnusable
from incumbent.testing.conformance.kit import Candidate, Harness, Watch, expired, refused, same, two

__all__ = ["CHECKS"]

ONE, TWO = Bar("moved to elsewhere", "nonce-1"), Bar("moved to elsewhere", "nonce-2")


async def _can(a: Candidate, seen: Snapshot) -> bool:
    """Tell whether the store has bars; one that declares that it has none has to say so."""
    if a.store.capabilities.bars:
        return True
    try:
        await a.store.bar(seen, ONE)
    except StoreUnusable:
        return False
    raise AssertionError("barred, in a store that declares that it cannot be")


async def _barred(h: Harness) -> tuple[Candidate, Candidate, str, Snapshot] | None:
    """Return two candidates, and an election that the first one has held and barred."""
    a, b = await two(h)
    name = h.name()
    held = await a.take(name)
    if not await _can(a, held.snapshot):
        return None
    return a, b, name, await a.store.bar(held.snapshot, ONE)


async def a_bar_is_left_alone_by_everybody(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    held = await a.take(name)
    if not await _can(a, held.snapshot):
        return
    left = await a.store.bar(held.snapshot, ONE)
    for candidate in (a, b):
        seen = await candidate.read(name)
        assert (seen.holding, seen.bar, seen.why) == (Holding.FOREIGN, ONE, ONE.text)
        assert same(seen, left)
        assert seen.token == left.token
        told = await refused(candidate.store.take(name, await candidate.claim(), seen), "a take")
        assert told.bar == ONE
    if held.token is not None:
        assert left.token is not None
        assert left.token >= held.token
    await refused(b.store.ask(name, StepDownRequest(held.term)), "a request in a bar")
    await refused(b.take(name, held.snapshot), "a take of what was held before")
    assert (await a.release(held)).bar == ONE
    if not a.store.capabilities.sessions:
        await refused(a.renew(name), "a renewal of what was barred")
    assert [s.bar for s in await b.store.elections() if s.name == name] == [ONE]
    assert same(await b.read(name), left)


async def only_the_term_that_it_names_is_barred(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    nothing = await a.read(name)
    if not await _can(a, nothing):
        return
    await refused(a.store.bar(nothing, ONE), "a bar over nothing")
    old = await a.take(name)
    held = await b.take(name, await expired(b, name))
    told = await refused(a.store.bar(old.snapshot, ONE), "a bar over a term that is over")
    assert told.term == held.term
    await refused(a.store.unbar(old.snapshot), "to lift what is no bar")
    request = StepDownRequest(held.term, a.identity)
    await a.store.ask(name, request)
    await b.renew(name)
    assert (await b.store.bar(held.snapshot, ONE)).bar == ONE, "the term had another version"


async def a_bar_is_replaced_at_exactly_its_version(h: Harness) -> None:
    made = await _barred(h)
    if made is None:
        return
    a, b, name, first = made
    second = await b.store.bar(first, TWO)
    assert (second.bar, second.token) == (TWO, first.token)
    assert not same(first, second)
    await refused(a.store.bar(first, ONE), "a bar over one that was replaced")
    await refused(a.store.unbar(first), "to lift one that was replaced")
    again = await a.store.bar(second, TWO)
    assert not same(again, second), "the same text is another write"
    await refused(b.store.unbar(second), "to lift one that was written anew")
    assert same(await b.read(name), again)


async def a_bar_that_was_lifted_is_a_vacancy(h: Harness) -> None:
    made = await _barred(h)
    if made is None:
        return
    a, b, name, left = made
    assert (await b.store.unbar(left)).holding is Holding.VACANT
    seen = await a.read(name)
    assert (seen.holding, seen.bar, seen.successor) == (Holding.VACANT, None, "")
    await refused(a.store.unbar(left), "to lift it twice")
    await refused(a.store.bar(left, TWO), "a bar over one that was lifted")
    held = await b.take(name)
    if held.token is not None:
        assert left.token is not None
        assert held.token > left.token
    await b.renew(name)
    assert (await a.read(name)).term == held.term


async def following_reports_a_bar_and_its_end(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    held = await a.take(name)
    if not await _can(a, held.snapshot):
        return
    with Watch(b.store, name) as watch:
        await watch.until(lambda s: s.term == held.term, "the holder")
        left = await a.store.bar(held.snapshot, ONE)
        await watch.until(lambda s: s.bar == ONE, "the bar")
        left = await a.store.bar(left, TWO)
        await watch.until(lambda s: s.bar == TWO, "the next bar")
        await a.store.unbar(left)
        await watch.until(lambda s: s.holding is Holding.VACANT, "the vacancy")


CHECKS = (
    a_bar_is_left_alone_by_everybody,
    only_the_term_that_it_names_is_barred,
    a_bar_is_replaced_at_exactly_its_version,
    a_bar_that_was_lifted_is_a_vacancy,
    following_reports_a_bar_and_its_end,
)
