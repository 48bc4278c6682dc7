"""Cases about checkpoints: how far the work has come, kept beside an election."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from incumbent.core.records import Advance, Checkpoint
from incumbent.errors import CheckpointMoved, StoreError, StoreUnusable
from incumbent.stores.api import MAX_CHECKPOINT_BYTES, Store
from incumbent.testing.conformance.kit import Candidate, Harness, Watch, expired, same, two

__all__ = ["CHECKS", "QUEUE_CHECKS"]

PART = "orders"
EVERY_BYTE = bytes(range(256))
WRITERS = 5
PARTS = ("a", "b", "c", "d", "e")


async def _keeping(h: Harness) -> tuple[Store, Store, str] | None:
    """Return two stores and an unused name; None if it declares to keep none, and says so."""
    one, other = await h.store(), await h.store()
    name = h.name()
    if one.capabilities.checkpoints:
        return one, other, name
    nothing = Checkpoint(name, PART)
    for asked in (
        one.checkpoint(name, PART),
        one.checkpoints(name),
        one.advance(nothing, b"x", 1),
        _first_of(one.advance_all([Advance(nothing, b"x", 1), Advance(nothing, b"y", 1)])),
    ):
        try:
            await asked
        except StoreUnusable:
            continue
        raise AssertionError("kept, in a store that declares to keep no checkpoints")
    return None


async def _first_of(asked: Awaitable[list[Checkpoint | StoreError]]) -> Checkpoint:
    """Return what the first of several came to, or raise that."""
    outcome, *_ = await asked
    if isinstance(outcome, StoreError):
        raise outcome
    return outcome


async def _together(store: Store, *advances: Advance) -> tuple[list[Checkpoint], list[Checkpoint]]:
    """Return what was written of several, and what the refused ones found; in their order."""
    written, told = [], []
    outcomes = await store.advance_all(advances)
    assert len(outcomes) == len(advances), "not every one has an outcome"
    for one, outcome in zip(advances, outcomes, strict=True):
        if isinstance(outcome, CheckpointMoved):
            assert outcome.checkpoint.part == one.over.part, "told of another's"
            told.append(outcome.checkpoint)
        else:
            assert isinstance(outcome, Checkpoint), f"{outcome!r}"
            assert _noted(outcome) == (one.over.name, one.over.part, one.value, one.token)
            written.append(outcome)
    return written, told


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


async def several_are_written_together(h: Harness) -> None:
    made = await _keeping(h)
    if made is None:
        return
    one, other, name = made
    at = {part: Checkpoint(name, part) for part in PARTS}
    versions = set()
    longest = EVERY_BYTE * (MAX_CHECKPOINT_BYTES // len(EVERY_BYTE))
    for round_, values in enumerate(((b"x", EVERY_BYTE, b"", longest, b"y"), [longest] * 5), 1):
        writes = [
            Advance(at[part], value, round_) for part, value in zip(PARTS, values, strict=True)
        ]
        written, told = await _together(one, *reversed(writes))
        assert told == []
        at = {checkpoint.part: checkpoint for checkpoint in written}
        for part in PARTS:
            assert await other.checkpoint(name, part) == at[part]
        assert await other.checkpoints(name) == [at[part] for part in PARTS]
        versions |= {(checkpoint.part, checkpoint.version) for checkpoint in written}
    assert len(versions) == 2 * len(PARTS), "a version was used again"
    assert await one.advance_all([Advance(at["a"], b"alone", 3)]) == [
        await other.checkpoint(name, "a")
    ]


async def of_several_together_each_is_compared_by_itself(h: Harness) -> None:
    made = await _keeping(h)
    if made is None:
        return
    one, other, name = made
    nothing = [Checkpoint(name, part) for part in PARTS]
    first, _ = await _together(one, *(Advance(at, b"first", 7) for at in nothing))
    b, d = [await other.advance(first[number], b"theirs", 9) for number in (1, 3)]
    written, told = await _together(one, *(Advance(at, b"second", 7) for at in first))
    assert told == [b, d], "what had moved was written, or another one was refused for it"
    assert [at.part for at in written] == ["a", "c", "e"]
    now = sorted([b, d, *written], key=lambda at: at.part)
    assert await other.checkpoints(name) == now
    for late in (nothing, first):
        written, told = await _together(one, *(Advance(at, b"late", 7) for at in late))
        assert (written, told) == ([], now)
    assert await other.checkpoints(name) == now
    written, told = await _together(
        one, Advance(nothing[0], b"late", 7), Advance(Checkpoint(name, "f"), b"new", 9)
    )
    assert ([at.part for at in written], told) == (["f"], now[:1])


async def of_several_together_for_one_part_one_is_written(h: Harness) -> None:
    made = await _keeping(h)
    if made is None:
        return
    one, other, name = made
    for round_ in range(1, 3):
        at, beside = await one.checkpoint(name, "a"), await one.checkpoint(name, "b")
        written, told = await _together(
            one,
            Advance(at, b"1", round_),
            Advance(beside, b"2", round_),
            Advance(at, b"3", round_),
            Advance(at, b"4", round_),
        )
        now = await other.checkpoint(name, "a")
        assert sorted(found.part for found in written) == ["a", "b"]
        assert now in written
        assert told == [now, now]


async def of_several_groups_at_once_one_writes_each_part(h: Harness) -> None:
    made = await _keeping(h)
    if made is None:
        return
    one, other, name = made
    at = [Checkpoint(name, part) for part in PARTS]
    for round_ in range(1, 4):
        mine = _together(one, *(Advance(over, b"mine", round_) for over in at))
        theirs = _together(other, *(Advance(over, b"theirs", round_) for over in reversed(at)))
        outcomes = await asyncio.gather(mine, theirs)
        at = sorted((found for written, _ in outcomes for found in written), key=lambda at: at.part)
        assert [found.part for found in at] == list(PARTS), "each part is written once"
        told = sorted((found for _, told in outcomes for found in told), key=lambda at: at.part)
        assert told == at
        assert await other.checkpoints(name) == at


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
    several_are_written_together,
    of_several_together_each_is_compared_by_itself,
    of_several_together_for_one_part_one_is_written,
    of_several_groups_at_once_one_writes_each_part,
    each_part_of_each_election_is_by_itself,
    long_names_are_kept_apart,
    a_checkpoint_is_no_part_of_the_election,
    a_checkpoint_outlives_its_writer,
    who_only_looks_finds_no_checkpoint_and_makes_none,
)
QUEUE_CHECKS = (what_is_not_kept_is_refused,)
