"""Cases about what others do and see: requests, tampering, following, sessions, listings."""

from __future__ import annotations

import contextlib
from functools import partial

from incumbent.core.records import (
    Holding,
    StepDownRequest,
)
from incumbent.errors import SessionGone, StoreAbsent, StoreError
from incumbent.testing.conformance.kit import (
    Candidate,
    Harness,
    Watch,
    expired,
    refused,
    same,
    two,
)

__all__ = ["CHECKS"]


async def a_request_reaches_only_the_term_that_it_names(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    await refused(b.store.ask(name, StepDownRequest("nobody/1.1")), "a request to nobody")
    old = await a.take(name)
    held = await b.take(name, await expired(b, name))
    told = await refused(a.store.ask(name, StepDownRequest(old.term)), "a request to an old term")
    assert told.term == held.term
    assert (await b.read(name)).request is None
    request = StepDownRequest(held.term, a.identity)
    told = await a.store.ask(name, request)
    assert told.request == request
    await b.renew(name)
    assert (await a.read(name)).request == request, "the renewal lost it"
    await b.release(held)
    assert (await a.read(name)).request is None
    await a.take(name)
    assert (await a.read(name)).request is None


async def a_renewal_survives_others_changes(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    held = await a.take(name)
    for _ in range(2):
        await h.disturb(name)
        await a.renew(name)
        assert (await b.read(name)).term == held.term
    await h.disturb(name)
    assert (await a.release(held)).holding is Holding.VACANT


async def a_deleted_record_ends_the_term(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    held = await a.take(name)
    if not await h.delete(name):
        assert (await b.read(name)).term == held.term
        return
    assert (await b.read(name)).holding is Holding.ABSENT
    if not a.store.capabilities.sessions:
        told = await refused(a.renew(name), "a renewal of what was deleted")
        assert told.holding is Holding.ABSENT
    assert (await a.release(held)).holding is Holding.ABSENT
    assert (await b.read(name)).holding is Holding.ABSENT, "the release brought it back"


async def a_record_that_cannot_be_understood_is_left_alone(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    held = await a.take(name)
    if not await h.scribble(name):
        assert (await b.read(name)).term == held.term
        return
    seen = await b.read(name)
    assert seen.holding is Holding.FOREIGN
    assert seen.why
    told = await refused(b.take(name, seen), "a takeover of a foreign record")
    assert told.holding is Holding.FOREIGN
    told = await a.release(held)
    assert told.holding is Holding.FOREIGN
    if not a.store.capabilities.sessions:
        await refused(a.renew(name), "a renewal of a foreign record")
    await refused(b.store.ask(name, StepDownRequest(held.term)), "a request in a foreign record")
    assert same(await b.read(name), seen)


async def following_reports_what_is_now(h: Harness) -> None:
    a, b = await two(h)
    name, other = h.name(), h.name()
    held = await a.take(name)
    with Watch(b.store, name) as watch, Watch(b.store, other) as nothing:
        await watch.until(lambda s: s.term == held.term, "the holder")
        await nothing.until(lambda s: s.holding is Holding.ABSENT, "the absence")


async def following_reports_each_change_at_last(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    with Watch(b.store, name) as watch:
        await watch.until(lambda s: s.holding is Holding.ABSENT, "the absence")
        held = await a.take(name)
        await watch.until(lambda s: s.term == held.term, "the take")
        for _ in range(3):
            await a.renew(name)
            now = await a.read(name)
            await watch.until(partial(same, now), "the renewal")
        await a.store.ask(name, StepDownRequest(held.term))
        await watch.until(lambda s: s.request is not None, "the request")
        await a.release(held, successor=b.identity)
        vacant = await watch.until(lambda s: s.holding is Holding.VACANT, "the release")
        assert vacant.successor == b.identity
        held = await b.take(name, vacant)
        await watch.until(lambda s: s.term == held.term, "one's own take")
        if await h.delete(name):
            await watch.until(lambda s: s.holding is Holding.ABSENT, "the deletion")
        await b.take(name, await expired(b, name))
        last = await a.read(name)
        await watch.until(lambda s: same(s, last), "the last state")
    serials = [s.serial for s in watch.seen]
    assert serials == sorted(serials), serials


async def an_absence_that_stands_is_one_version(h: Harness) -> None:
    _, b = await two(h)
    name = h.name()
    with Watch(b.store, name) as watch:
        seen = await watch.until(lambda s: s.holding is Holding.ABSENT, "the absence")
        assert (await b.read(name)).watched == seen.watched
        await b.take(name, watch.seen[-1])


async def unfollowing_is_silence(h: Harness) -> None:
    a, b = await two(h)
    name = h.name()
    with Watch(b.store, name) as stays:
        with Watch(b.store, name) as goes:
            held = await a.take(name)
            await stays.until(lambda s: s.term == held.term, "the take")
            await goes.until(lambda s: s.term == held.term, "the take, to the second sink")
        count = len(goes.seen)
        await a.release(held)
        await stays.until(lambda s: s.holding is Holding.VACANT, "the release")
        assert len(goes.seen) == count
    with Watch(b.store, name) as anew:
        await anew.until(lambda s: s.holding is Holding.VACANT, "the state, followed anew")


async def many_are_followed_at_once(h: Harness) -> None:
    a, b = await two(h)
    names = [h.name() for _ in range(20)]
    with contextlib.ExitStack() as stack:
        watches = {name: stack.enter_context(Watch(b.store, name)) for name in names}
        for name, watch in watches.items():
            await watch.until(lambda s: s.holding is Holding.ABSENT, f"the absence of {name}")
        for name, watch in watches.items():
            held = await a.take(name)
            await watch.until(partial(same, held.snapshot), "the take")
        late = h.name()
        held = await a.take(late)
        with Watch(b.store, late) as watch:
            await watch.until(lambda s: s.term == held.term, "what was followed later")


async def a_session_ends_everything_held_under_it(h: Harness) -> None:
    a, b = await two(h)
    names = [h.name(), h.name()]
    if not a.store.capabilities.sessions:
        try:
            await a.store.open_session(a.identity, h.ttl_s)
        except StoreError:
            return
        raise AssertionError("a store without sessions opened one")
    for name in names:
        await a.take(name)
    assert a.session is not None
    session = a.session = await a.store.renew(a.session)
    await a.store.close_session(session)
    for name in names:
        assert (await b.read(name)).holding is not Holding.HELD
        await b.take(name)
    await refused(a.store.renew(session), "a renewal of a closed session")
    other = h.name()
    claim = await a.claim()
    try:
        await a.store.take(other, claim, await a.read(other))
    except SessionGone:
        pass
    else:
        raise AssertionError("a take under a closed session")
    assert (await b.read(other)).holding is not Holding.HELD


async def a_takeover_voids_the_dead_session(h: Harness) -> None:
    a, b = await two(h)
    name, other = h.name(), h.name()
    await a.take(name)
    kept = await a.take(other)
    await b.take(name, await expired(b, name))
    await refused(a.renew(name), "a renewal after the takeover")
    if a.store.capabilities.sessions:
        assert (await b.read(other)).holding is not Holding.HELD, "held under a void session"
    elif a.store.capabilities.judged_by == "observers":
        await a.renew(other)
        assert (await b.read(other)).term == kept.term


async def elections_are_listed(h: Harness) -> None:
    a, b = await two(h)
    name, other = h.name(), h.name()
    held = await a.take(name)
    await b.release(await b.take(other))
    listed = {s.name: s for s in await b.store.elections()}
    assert listed[name].term == held.term
    assert listed[other].holding is Holding.VACANT


async def who_only_looks_sees_and_asks(h: Harness) -> None:
    name = h.name()
    with contextlib.suppress(StoreAbsent):
        looker = await h.store(create=False)
        assert (await looker.read(name)).holding is Holding.ABSENT
    a = await Candidate.new(h, "alpha_1")
    held = await a.take(name)
    looker = await h.store(create=False)
    assert name in [s.name for s in await looker.elections()]
    with Watch(looker, name) as watch:
        await watch.until(lambda s: s.term == held.term, "the holder, to who only looks")
        await looker.ask(name, StepDownRequest(held.term))
        await watch.until(lambda s: s.request is not None, "a request by who only looks")


async def a_store_says_what_it_is(h: Harness) -> None:
    a, _ = await two(h)
    can = a.store.capabilities
    assert a.store.url.startswith(f"{can.scheme}://")
    assert can.judged_by in ("observers", "server", "kernel")
    assert can.confirmed_by
    assert can.wakes_by
    assert can.assumes
    assert all(f.check and f.text for f in await a.store.examine())
    held = await a.take(h.name())
    fds = a.store.inherited_fds(held.lease)
    assert bool(can.evidence) or not fds


CHECKS = (
    a_request_reaches_only_the_term_that_it_names,
    a_renewal_survives_others_changes,
    a_deleted_record_ends_the_term,
    a_record_that_cannot_be_understood_is_left_alone,
    following_reports_what_is_now,
    following_reports_each_change_at_last,
    an_absence_that_stands_is_one_version,
    unfollowing_is_silence,
    many_are_followed_at_once,
    a_session_ends_everything_held_under_it,
    a_takeover_voids_the_dead_session,
    elections_are_listed,
    who_only_looks_sees_and_asks,
    a_store_says_what_it_is,
)
