"""Cases about becoming the holder: compare and swap, takeover, and who wins."""

from __future__ import annotations

import asyncio

from incumbent.core.records import (
    Held,
    Holding,
)
from incumbent.errors import Refused
from incumbent.testing.conformance.kit import Candidate, Harness, expired, refused, same, two

__all__ = ["CHECKS"]


async def an_election_that_nobody_used_is_absent(h: Harness) -> None:
    a, _ = await two(h)
    name = h.name()
    seen = await a.read(name)
    assert (seen.name, seen.holding, seen.version) == (name, Holding.ABSENT, None)
    assert (seen.holder, seen.term, seen.token) == ("", "", None)


async def what_is_absent_can_be_taken(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    held = await a.take(name)
    assert (held.token is not None) == a.store.capabilities.token
    for seen in (held.snapshot, await a.read(name), await b.read(name)):
        assert seen.holding is Holding.HELD
        assert (seen.name, seen.holder, seen.term) == (name, a.identity, held.term)
        assert seen.ttl_s == h.ttl_s
        assert seen.lease_key
        assert seen.token in (None, held.token)
        assert seen.watched == held.snapshot.watched
    assert (held.lease.owner, held.lease.ttl_s) == (a.identity, h.ttl_s)


async def what_is_vacant_can_be_taken(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    vacant = await a.release(await a.take(name))
    assert vacant.holding is Holding.VACANT
    seen = await b.read(name)
    assert same(seen, vacant)
    held = await b.take(name, seen)
    assert (await a.read(name)).term == held.term


async def the_second_taker_is_refused(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    nothing = await b.read(name)
    held = await a.take(name)
    told = await refused(b.take(name, nothing), "a take over what was absent")
    assert (told.holding, told.term) == (Holding.HELD, held.term)
    assert same(await a.read(name), held.snapshot)
    vacant = await a.release(held)
    again = await a.take(name, vacant)
    told = await refused(b.take(name, vacant), "a take over what was vacant")
    assert told.term == again.term
    assert same(await b.read(name), again.snapshot)


async def a_refusal_changes_nothing(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    stale = await a.release(await a.take(name))
    held = await a.take(name)
    before = await b.read(name)
    await refused(b.take(name, stale), "a take over a stale version")
    assert same(await b.read(name), before)
    await a.renew(name)
    assert (await b.read(name)).term == held.term


async def one_of_ten_wins(h: Harness) -> None:
    candidates = [await Candidate.new(h, f"c{number}_x") for number in range(10)]
    name = h.name()
    for _ in range(2):
        seen = [await c.read(name) for c in candidates]
        results = await asyncio.gather(
            *(c.take(name, s) for c, s in zip(candidates, seen, strict=True)),
            return_exceptions=True,
        )
        winners = [r for r in results if isinstance(r, Held)]
        losers = [r.snapshot for r in results if isinstance(r, Refused)]
        assert len(winners) == 1, results
        assert len(losers) == 9, results
        assert {s.term for s in losers} == {winners[0].term}
        assert (await candidates[0].read(name)).term == winners[0].term
        winner = next(c for c in candidates if c.identity == winners[0].snapshot.holder)
        await winner.release(winners[0])


async def a_silent_holder_can_be_taken_over(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    old = await a.take(name)
    held = await b.take(name, await expired(b, name))
    seen = await a.read(name)
    assert (seen.holder, seen.term) == (b.identity, held.term)
    if old.token is not None:
        assert held.token is not None
        assert held.token > old.token


async def a_renewal_in_between_refuses_the_takeover(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    held = await a.take(name)
    watched = await b.read(name)
    await a.renew(name)
    told = await refused(b.take(name, watched), "a takeover after a renewal")
    assert (told.holding, told.term) == (Holding.HELD, held.term)
    assert told.watched != watched.watched
    await a.renew(name)


async def a_renewal_moves_what_is_watched_and_nothing_else_does(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    held = await a.take(name)
    versions = [(await b.read(name)).watched]
    for _ in range(3):
        await a.renew(name)
        seen = await b.read(name)
        assert (seen.term, seen.holder) == (held.term, a.identity)
        assert seen.watched not in versions
        versions.append(seen.watched)
    assert same(await b.read(name), await b.read(name))
    assert (await b.read(name)).watched == versions[-1]


async def each_record_has_its_own_ttl(h: Harness) -> None:
    a, b = await two(h)
    name, other = h.name(), h.name()
    await a.take(name)
    await b.take(other, ttl_s=h.ttl_s * 3)
    assert (await b.read(name)).ttl_s == h.ttl_s
    assert (await a.read(other)).ttl_s == h.ttl_s * 3


async def many_elections_are_apart(h: Harness) -> None:
    a, b = await two(h)
    names = [h.name() for _ in range(20)]
    held = {name: await a.take(name) for name in names}
    assert len({one.term for one in held.values()}) == len(names)
    await a.release(held[names[3]])
    taken = await b.take(names[3])
    for name in names:
        seen = await b.read(name)
        assert seen.term == (taken if name == names[3] else held[name]).term


async def a_long_name_is_carried(h: Harness) -> None:
    a, b = await two(h)
    labels = a.store.capabilities.label_names
    name = f"{h.name()}-a-b-" if labels else f"{h.name()}.a-b."
    name += "x" * ((63 if labels else 200) - len(name))
    held = await a.take(name)
    assert (await b.read(name)).term == held.term


CHECKS = (
    an_election_that_nobody_used_is_absent,
    what_is_absent_can_be_taken,
    what_is_vacant_can_be_taken,
    the_second_taker_is_refused,
    a_refusal_changes_nothing,
    one_of_ten_wins,
    a_silent_holder_can_be_taken_over,
    a_renewal_in_between_refuses_the_takeover,
    a_renewal_moves_what_is_watched_and_nothing_else_does,
    each_record_has_its_own_ttl,
    many_elections_are_apart,
    a_long_name_is_carried,
)
