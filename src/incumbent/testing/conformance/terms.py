"""Cases about a term and its end: renewal, release, the fencing token, unknown outcomes."""

from __future__ import annotations

import asyncio
import contextlib

from incumbent.core.records import (
    Claim,
    Held,
    Holding,
    Snapshot,
)
from incumbent.errors import Refused
from incumbent.testing.conformance.kit import Candidate, Harness, expired, refused, same, two

__all__ = ["CHECKS"]


async def a_term_that_was_taken_over_is_not_renewed(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    await a.take(name)
    held = await b.take(name, await expired(b, name))
    await refused(a.renew(name), "a renewal after the takeover")
    seen = await b.read(name)
    assert (seen.term, seen.watched) == (held.term, held.snapshot.watched)
    await b.renew(name)


async def a_late_release_changes_nothing(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    old = await a.take(name)
    held = await b.take(name, await expired(b, name))
    told = await a.release(old)
    assert (told.holding, told.term) == (Holding.HELD, held.term)
    assert same(await b.read(name), held.snapshot)
    await b.renew(name)


async def a_release_names_the_term_and_not_the_candidate(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    old = await a.take(name)
    await a.release(old)
    held = await a.take(name)
    told = await a.release(old)
    assert (told.holding, told.term) == (Holding.HELD, held.term)
    assert same(await b.read(name), held.snapshot)


async def a_second_release_is_no_error(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    held = await a.take(name)
    first = await a.release(held)
    second = await a.release(held)
    assert first.holding is Holding.VACANT
    assert same(first, second)
    assert same(await b.read(name), first)


async def a_release_after_renewals_is_exact(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    held = await a.take(name)
    for _ in range(3):
        await a.renew(name)
    assert (await a.release(held)).holding is Holding.VACANT
    assert (await b.read(name)).holding is Holding.VACANT
    if not a.store.capabilities.sessions:
        await refused(a.renew(name), "a renewal after the release")


async def a_successor_is_remembered(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    held = await a.take(name)
    told = await a.release(held, successor=b.identity)
    assert told.successor == b.identity
    assert (await b.read(name)).successor == b.identity
    held = await b.take(name)
    assert (await b.release(held)).successor == ""


async def the_token_grows(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    tokens = []

    def note(held: Held) -> Held:
        tokens.append(held.token)
        return held

    held = note(await a.take(name))
    await a.renew(name)
    await a.release(held)
    held = note(await b.take(name))
    note(await a.take(name, await expired(a, name)))
    again = await Candidate.new(h, a.identity)
    held = note(await again.take(name, await expired(again, name)))
    if await h.delete(name):
        held = note(await again.take(name))
    await again.release(held)
    note(await b.take(name))
    if a.store.capabilities.token:
        assert all(x is not None for x in tokens), tokens
        assert tokens == sorted(set(tokens), key=lambda x: x or 0), tokens
    else:
        assert set(tokens) == {None}, tokens


async def the_record_tells_the_token(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    held = await a.take(name)
    await a.renew(name)
    assert (await b.read(name)).token == held.token


async def serials_never_fall(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    serials = [(await b.read(name)).serial]

    async def look() -> None:
        serials.append((await b.read(name)).serial)

    held = await a.take(name)
    await look()
    assert serials[-1] >= held.snapshot.serial
    await a.renew(name)
    await look()
    await a.release(held)
    await look()
    await b.take(name)
    await look()
    if await h.delete(name):
        await look()
        await a.take(name)
        await look()
    assert serials == sorted(serials), serials


async def a_nonce_is_found_again(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    claim = await a.claim()
    held = await a.store.take(name, claim, await a.read(name))
    found = await a.store.read_back(name, claim)
    assert isinstance(found, Held)
    assert (found.name, found.term) == (name, held.term)
    assert found.lease.key == held.lease.key
    assert (found.token is None) == (held.token is None)
    assert (found.token or 0) >= (held.token or 0)
    a.leases[name] = found.lease
    await a.renew(name)
    await a.release(found)
    later = await b.take(name)
    assert (later.token or 1) > (found.token or 0)


async def a_nonce_that_is_not_there_is_not_found(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    claim = await a.claim()
    seen = await a.store.read_back(name, claim)
    assert isinstance(seen, Snapshot)
    assert seen.holding is Holding.ABSENT
    held = await b.take(name)
    seen = await a.store.read_back(name, claim)
    assert isinstance(seen, Snapshot)
    assert seen.term == held.term
    mine = await a.take(name, await expired(a, name))
    again = await a.claim()
    seen = await a.store.read_back(name, again)
    assert isinstance(seen, Snapshot), "an older term of the same candidate is not this one"
    assert seen.term == mine.term
    await a.release(mine)
    old = Claim(a.identity, mine.term, h.ttl_s, a.session)
    assert isinstance(await a.store.read_back(name, old), Snapshot), "it was released"


async def a_cancelled_take_is_resolved_by_reading_back(h: Harness) -> None:
    a, b = await two(h)
    for steps in range(12):
        name = h.name()
        over = await a.read(name)
        claim = await a.claim()
        taking = asyncio.ensure_future(a.store.take(name, claim, over))
        for _ in range(steps):
            await asyncio.sleep(0)
        taking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await taking
        # What was sent may be under way still, so what is true is true at last and not at once.
        found = await a.store.read_back(name, claim)
        if isinstance(found, Held):
            assert (await b.read(name)).term == claim.term
            continue
        term = claim.term
        with contextlib.suppress(Refused):
            term = (await a.take(name)).term
        assert (await b.read(name)).term == term


CHECKS = (
    a_term_that_was_taken_over_is_not_renewed,
    a_late_release_changes_nothing,
    a_release_names_the_term_and_not_the_candidate,
    a_second_release_is_no_error,
    a_release_after_renewals_is_exact,
    a_successor_is_remembered,
    the_token_grows,
    the_record_tells_the_token,
    serials_never_fall,
    a_nonce_is_found_again,
    a_nonce_that_is_not_there_is_not_found,
    a_cancelled_take_is_resolved_by_reading_back,
)
