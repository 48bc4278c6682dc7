"""Cases for stores whose candidates stand in a queue (`Capabilities.queue`).

In such a store nothing is compared and swapped: whoever is not the first is refused and waits in
the queue, and the server takes out whoever is gone. So these cases stand in place of those in which
a record that stood still is taken over, is absent, or is kept for a successor.
"""

from __future__ import annotations

import asyncio
import contextlib

from incumbent.core.records import Held, Holding, Snapshot, StepDownRequest
from incumbent.errors import Refused, StoreError, StoreUnavailable, StoreUnusable
from incumbent.testing.conformance.kit import Candidate, Harness, Watch, refused, two

__all__ = ["CHECKS"]


async def _first(candidate: Candidate, name: str) -> Held:
    """Wait until the candidate's own node is the first, and take."""
    with Watch(candidate.store, name) as watch:
        seen = await watch.until(lambda s: s.lease_version == "first", "being the first")
        return await candidate.take(name, seen)


async def an_empty_queue_is_vacant_and_is_taken(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    seen = await a.read(name)
    assert (seen.holding, seen.holder, seen.term, seen.token) == (Holding.VACANT, "", "", None)
    held = await a.take(name, seen)
    assert (held.lease.key, held.lease.name, held.lease.ttl_s) == (held.term, name, h.ttl_s)
    for seen in (held.snapshot, await a.read(name), await b.read(name)):
        assert seen.holding is Holding.HELD
        assert (seen.holder, seen.term, seen.token) == (a.identity, held.term, held.token)
    vacant = await a.release(held)
    assert vacant.holding is Holding.VACANT
    assert (await b.read(name)).watched == vacant.watched


async def who_is_not_the_first_waits_in_the_queue(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    assert (await b.read(name)).ttl_s == 0, "a candidate that does not wait there joins at once"
    held = await a.take(name)
    seen = await b.read(name)
    assert seen.ttl_s == 0, "a candidate that does not wait there joins at once"
    with Watch(b.store, name) as watch:
        told = await refused(b.take(name, seen), "a take behind another's node")
        assert (told.term, told.ttl_s) == (held.term, h.ttl_s)
        again = await refused(b.take(name, told), "a look at one's own place")
        assert again.watched != told.watched, "it must count as news"
        await a.renew(name)
        await a.release(held)
        seen = await watch.until(lambda s: s.lease_version == "first", "being the first")
        assert (seen.holder, seen.token) == (b.identity, None)
        later = await b.take(name, seen)
        assert (held.token or 0) < (later.token or 0)
        assert (await b.read(name)).term == later.term


async def ten_hold_one_after_the_other_in_their_order(h: Harness) -> None:
    name = h.name()
    candidates = [await Candidate.new(h, f"c{number}_x") for number in range(10)]
    with contextlib.ExitStack() as stack:
        for candidate in candidates:
            stack.enter_context(Watch(candidate.store, name))
        held: Held | None = await candidates[0].take(name)
        for candidate in candidates[1:]:
            await refused(candidate.take(name), "a take behind others")
        tokens = []
        for number, candidate in enumerate(candidates):
            if held is None:
                held = await _first(candidate, name)
            assert (await candidates[0].read(name)).holder == candidate.identity, number
            tokens.append(held.token or 0)
            await candidate.release(held)
            held = None
    assert tokens == sorted(set(tokens)), tokens


async def one_of_ten_at_once_wins(h: Harness) -> None:
    candidates = [await Candidate.new(h, f"c{number}_x") for number in range(10)]
    name = h.name()
    answers: list[Held | Refused | None] = [None] * len(candidates)
    while None in answers or not any(isinstance(answer, Held) for answer in answers):
        # Whoever got no answer asks again, and leaves the place that it may have got; so one that
        # was refused because of it asks again too.
        asked = [n for n, answer in enumerate(answers) if not isinstance(answer, Held)]
        found = await asyncio.gather(*(_answer(candidates[n], name) for n in asked))
        for n, answer in zip(asked, found, strict=True):
            answers[n] = answer
    winners = [answer for answer in answers if isinstance(answer, Held)]
    assert len(winners) == 1, answers
    assert (await candidates[0].read(name)).token == winners[0].token


async def _answer(candidate: Candidate, name: str) -> Held | Refused | None:
    try:
        return await candidate.take(name)
    except Refused as error:
        return error
    except StoreUnavailable:
        return None


async def a_node_is_held_for_one_term_only(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    held = await a.take(name)
    again = await a.take(name, held.snapshot)
    assert (again.token or 0) > (held.token or 0), "a later term has a greater token"
    await refused(a.store.renew(held.lease), "a renewal of the term before")
    with Watch(b.store, name):
        await refused(b.take(name), "a take behind another's node")
        told = await refused(a.take(name), "a term that was lost goes to the end of the queue")
        assert told.holder == b.identity
        assert ((await _first(b, name)).token or 0) > (again.token or 0)


async def who_waits_for_nobody_leaves_the_queue(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    held = await a.take(name)
    with Watch(b.store, name):
        await refused(b.take(name), "a take behind another's node")
    c = await Candidate.new(h, "gamma_3")
    with Watch(c.store, name) as watch:
        await refused(c.take(name), "a take behind another's node")
        await a.release(held)
        await watch.until(lambda s: s.lease_version == "first", "being the first")


async def a_node_that_is_gone_ends_the_term(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    held = await a.take(name)
    assert await h.delete(name), "members of others can"
    assert (await b.read(name)).holding is Holding.VACANT
    later = await b.take(name)
    told = await refused(a.store.renew(held.lease), "a renewal of what was deleted")
    assert told.term == later.term
    assert (await a.release(held)).term == later.term, "the release touched another's node"
    await b.renew(name)
    assert (later.token or 0) > (held.token or 0)


async def a_late_release_names_its_own_node(h: Harness) -> None:
    a, _ = await two(h)
    name = h.name()
    old = await a.take(name)
    await a.release(old)
    held = await a.take(name)
    assert (await a.release(old)).term == held.term
    await a.renew(name)
    assert (await a.release(held)).holding is Holding.VACANT
    await refused(a.renew(name), "a renewal after the release")


async def an_unknown_take_is_found_again(h: Harness) -> None:
    a, b = await two(h)
    for steps in range(0, 40, 3):
        name = h.name()
        claim = await a.claim()
        taking = asyncio.ensure_future(a.store.take(name, claim, await a.read(name)))
        for _ in range(steps):
            await asyncio.sleep(0)
        taking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await taking
        found = await a.store.read_back(name, claim)
        term = claim.term
        if isinstance(found, Snapshot):
            term = (await a.take(name)).term
        seen = await b.read(name)
        assert (seen.holder, (await a.read(name)).term) == (a.identity, term)
        told = await a.store.read_back(name, await a.claim())
        assert isinstance(told, Snapshot), "another attempt is not this one"


async def a_request_reaches_its_term_and_nobody_is_named(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    await refused(b.store.ask(name, StepDownRequest("nobody/1.1")), "a request to nobody")
    held = await a.take(name)
    with Watch(a.store, name) as watch:
        told = await b.store.ask(name, StepDownRequest((await b.read(name)).term))
        assert told.request is not None
        seen = await watch.until(lambda s: s.request is not None, "the request")
        assert seen.request == StepDownRequest(held.term)
        assert seen.serial > held.snapshot.serial
    try:
        await b.store.ask(name, StepDownRequest(held.term, "beta_2"))
    except StoreUnusable:
        pass
    else:
        raise AssertionError("a successor was named in a queue")
    await a.release(held)
    await b.take(name)
    assert (await b.read(name)).request is None
    await refused(b.store.ask(name, StepDownRequest(held.term)), "a request to an old term")


async def elections_are_listed_and_serials_grow(h: Harness) -> None:
    a, b = await two(h)
    name, other = h.name(), h.name()
    serials = [(await b.read(name)).serial]
    held = await a.take(name)
    serials.append((await b.read(name)).serial)
    await b.release(await b.take(other))
    listed = {s.name: s for s in await b.store.elections()}
    assert listed[name].term == held.term
    assert listed[other].holding is Holding.VACANT
    await a.release(held)
    serials.append((await b.read(name)).serial)
    await b.take(name)
    serials.append((await b.read(name)).serial)
    assert serials == sorted(set(serials)), serials


async def a_queue_says_what_it_is(h: Harness) -> None:
    a, _ = await two(h)
    can = a.store.capabilities
    assert (can.queue, can.sessions, can.judged_by) == (True, False, "server")
    assert can.partner
    assert can.partner_breaks
    assert all(f.check and f.text for f in await a.store.examine())
    try:
        await a.store.open_session(a.identity, h.ttl_s)
    except StoreError:
        return
    raise AssertionError("a store without sessions opened one")


CHECKS = (
    an_empty_queue_is_vacant_and_is_taken,
    who_is_not_the_first_waits_in_the_queue,
    ten_hold_one_after_the_other_in_their_order,
    one_of_ten_at_once_wins,
    a_node_is_held_for_one_term_only,
    who_waits_for_nobody_leaves_the_queue,
    a_node_that_is_gone_ends_the_term,
    a_late_release_names_its_own_node,
    an_unknown_take_is_found_again,
    a_request_reaches_its_term_and_nobody_is_named,
    elections_are_listed_and_serials_grow,
    a_queue_says_what_it_is,
)
