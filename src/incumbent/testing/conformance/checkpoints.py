"""Cases about checkpoints: how far the work has come, kept beside an election."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from incumbent.core.records import Checkpoint
from incumbent.errors import CheckpointMoved, StoreUnusable
from incumbent.stores.api import MAX_CHECKPOINT_BYTES, Store
from incumbent.testing.conformance.kit import Candidate, Harness, Watch, expired, same, two

__all__ = ["CHECKS", "QUEUE_CHECKS"]

PART = "orders"
EVERY_BYTE = bytes(range(256))
WRITERS = 5


async def _keeping(h: Harness) -> tuple[Store, Store, str] | None:
    """Return two stores and an unused name; None if it declares to keep none, and says so."""
    one, other = await h.store(), await h.store()
    name = h.name()
    if one.capabilities.checkpoints:
        return one, other, name
    for asked in (
        one.checkpoint(name, PART),
        one.checkpoints(name),
        one.advance(Checkpoint(name, PART), b"x", 1),
    ):
        try:
            await asked
        except StoreUnusable:
            continue
        raise AssertionError("kept, in a store that declares to keep no checkpoints")
    return None


async def _moved(asked: Awaitable[Checkpoint], what: str) -> Checkpoint:
    """Return the checkpoint that a refusal carries; anything else is a failure."""
    try:
        written = await asked
    except CheckpointMoved as error:
        return error.checkpoint
    raise AssertionError(f"{what} was written: {written}")


async def _elections_of(store: Store, name: str) -> list[str]:
    """Return what is listed as an election and has to do with this one."""
    return [found.name for found in await store.elections() if name in found.name]


def _noted(found: Checkpoint) -> tuple[str, str, bytes, int]:
    return (found.name, found.part, found.value, found.token)


async def what_was_never_noted_is_empty(h: Harness) -> None:
    made = await _keeping(h)
    if made is None:
        return
    one, other, name = made
    for store in (one, other, one):
        assert await store.checkpoint(name, PART) == Checkpoint(name, PART)
        assert await store.checkpoints(name) == []


async def a_checkpoint_is_read_as_it_was_written(h: Harness) -> None:
    made = await _keeping(h)
    if made is None:
        return
    one, other, name = made
    at = await one.checkpoint(name, PART)
    longest = (EVERY_BYTE * 256)[:MAX_CHECKPOINT_BYTES]
    versions = {at.version}
    for number, value in enumerate((b"x", EVERY_BYTE, b"", longest, b"\0", longest[::-1]), 1):
        at = await one.advance(at, value, number)
        assert _noted(at) == (name, PART, value, number)
        assert await other.checkpoint(name, PART) == at
        assert await other.checkpoints(name) == [at]
        versions.add(at.version)
    assert len(versions) == 7
    again = await other.advance(at, at.value, at.token)
    assert again.version not in versions, "the same value is another write"


async def a_write_over_what_is_not_there_any_more_is_refused(h: Harness) -> None:
    made = await _keeping(h)
    if made is None:
        return
    one, other, name = made
    nothing = await one.checkpoint(name, PART)
    first = await one.advance(nothing, b"first", 7)
    assert await _moved(other.advance(nothing, b"x", 9), "over nothing") == first
    second = await other.advance(first, b"second", 9)
    for late in (nothing, first):
        told = await _moved(one.advance(late, b"first", 7), "a late write")
        assert told == second
    assert await _moved(one.advance(first, b"third", 11), "a later term's") == second
    assert await one.checkpoint(name, PART) == second
    third = await one.advance(second, b"first", 9)
    assert await _moved(other.advance(first, b"x", 9), "over an equal value") == third


async def of_several_writers_at_once_one_succeeds(h: Harness) -> None:
    made = await _keeping(h)
    if made is None:
        return
    one, other, name = made
    at = await one.checkpoint(name, PART)
    for round_ in range(1, 4):
        results = await asyncio.gather(
            *(
                (one, other)[number % 2].advance(at, b"%d" % number, round_)
                for number in range(WRITERS)
            ),
            return_exceptions=True,
        )
        written = [found for found in results if isinstance(found, Checkpoint)]
        told = [error.checkpoint for error in results if isinstance(error, CheckpointMoved)]
        assert len(written) == 1, f"of {WRITERS} writers {len(written)} succeeded: {results}"
        assert told == written * (WRITERS - 1)
        at = written[0]
        assert await other.checkpoint(name, PART) == at


async def each_part_of_each_election_is_by_itself(h: Harness) -> None:
    made = await _keeping(h)
    if made is None:
        return
    one, other, name = made
    dot = "-" if one.capabilities.label_names else "."
    keys = [
        (name, "a"),
        (name, "a.b"),
        (name, "a-b"),
        (name, "a--b"),
        (f"{name}{dot}a", "b"),
        (f"{name}-a", "b"),
        (f"{name}--a", "b"),
    ]
    written = {}
    for number, (election, part) in enumerate(keys):
        at = await one.checkpoint(election, part)
        assert at == Checkpoint(election, part)
        written[election, part] = await one.advance(at, b"%d" % number, number + 1)
    for election, part in keys:
        assert await other.checkpoint(election, part) == written[election, part]
    listed = [found.part for found in await other.checkpoints(name)]
    assert listed == sorted(["a", "a.b", "a-b", "a--b"])
    assert await other.checkpoints(f"{name}-a") == [written[f"{name}-a", "b"]]


async def long_names_are_kept_apart(h: Harness) -> None:
    made = await _keeping(h)
    if made is None:
        return
    one, other, name = made
    length = 63 if one.capabilities.label_names else 200
    election = name + "e" * (length - len(name))
    parts = ["p" * 199 + last for last in "ab"]
    for number, part in enumerate(parts, 1):
        await one.advance(await one.checkpoint(election, part), b"%d" % number, number)
    found = await other.checkpoints(election)
    assert [_noted(at) for at in found] == [
        (election, part, b"%d" % number, number) for number, part in enumerate(parts, 1)
    ]


async def a_checkpoint_is_no_part_of_the_election(h: Harness) -> None:
    made = await _keeping(h)
    if made is None:
        return
    one, other, name = made
    first = await one.advance(await one.checkpoint(name, PART), b"x", 1)
    assert await _elections_of(one, name) == []
    a, b = await two(h)
    held = await a.take(name)
    assert await other.checkpoint(name, PART) == first
    with Watch(b.store, name) as watch:
        await watch.until(lambda s: s.term == held.term, "the holder")
        before = await b.read(name)
        at = await one.advance(first, b"y", held.token or 2)
        at = await one.advance(at, b"z", held.token or 2)
        assert same(await b.read(name), before)
        await a.renew(name)
        seen = await b.read(name)
        assert (seen.term, seen.token) == (held.term, held.token)
        await b.take(name, await expired(b, name))
        await watch.until(lambda s: s.holder == b.identity, "the next holder")
        assert all(s.name == name for s in watch.seen)
    assert await other.checkpoint(name, PART) == at
    assert await _elections_of(one, name) == [name]


async def a_checkpoint_outlives_its_writer(h: Harness) -> None:
    made = await _keeping(h)
    if made is None:
        return
    one, other, name = made
    a = Candidate(h, one, "alpha_1")
    held = await a.take(name)
    at = await one.advance(await one.checkpoint(name, PART), b"x", held.token or 1)
    await a.release(held)
    if a.session is not None:
        await one.close_session(a.session)
    assert await other.checkpoint(name, PART) == at
    if not one.capabilities.one_process:
        await one.close()
        await one.open()
    assert await one.checkpoint(name, PART) == at
    assert (await one.advance(at, b"y", at.token)).value == b"y"


async def who_only_looks_finds_no_checkpoint_and_makes_none(h: Harness) -> None:
    made = await _keeping(h)
    if made is None:
        return
    name = made[2]
    looking = await h.store(create=False)
    assert await looking.checkpoint(name, PART) == Checkpoint(name, PART)
    assert await looking.checkpoints(name) == []


async def what_is_not_kept_is_refused(h: Harness) -> None:
    kept = await _keeping(h)
    assert kept is None, "a queue that keeps checkpoints has no cases for them"


CHECKS = (
    what_was_never_noted_is_empty,
    a_checkpoint_is_read_as_it_was_written,
    a_write_over_what_is_not_there_any_more_is_refused,
    of_several_writers_at_once_one_succeeds,
    each_part_of_each_election_is_by_itself,
    long_names_are_kept_apart,
    a_checkpoint_is_no_part_of_the_election,
    a_checkpoint_outlives_its_writer,
    who_only_looks_finds_no_checkpoint_and_makes_none,
)
QUEUE_CHECKS = (what_is_not_kept_is_refused,)
