"""A checkpoint in the hands of a term, on a store that loses and delays what is written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from incumbent.core.records import Advance, Checkpoint
from incumbent.errors import (
    CheckpointMoved,
    ConfigError,
    LeadershipLost,
    OutcomeUnknown,
    StaleToken,
    StoreError,
    StoreUnavailable,
    StoreUnusable,
)
from incumbent.runtime.checkpoints import (
    MOST_BYTES,
    MOST_SINGLY,
    MOST_TOGETHER,
    Archive,
    Progress,
)
from incumbent.runtime.settings import Settings
from incumbent.stores.api import MAX_CHECKPOINT_BYTES
from incumbent.stores.memory import MemoryStore
from incumbent.testing import depose, elected_term

LIMIT_S = 20.0
TTL_S = 1.0

Write = Callable[[], Awaitable[Checkpoint]]
Turn = Callable[[Write], Awaitable[Checkpoint]]
"""What becomes of one write, in place of being carried out and answered."""


class Odd(MemoryStore):
    """Does with its next writes, and before its next reads, what the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: list[Turn] = []
        self.before_read: list[Callable[[], Awaitable[Any]]] = []
        self.late: list[Write] = []
        self.done: list[tuple[bytes, int]] = []

    async def checkpoint(self, name: str, part: str) -> Checkpoint:
        if self.before_read:
            await self.before_read.pop(0)()
        return await super().checkpoint(name, part)

    async def advance(self, over: Checkpoint, value: bytes, token: int) -> Checkpoint:
        async def write() -> Checkpoint:
            written = await MemoryStore.advance(self, over, value, token)
            self.done.append((value, token))
            return written

        return await (self.turns.pop(0)(write) if self.turns else write())

    async def arrive(self) -> None:
        """Have everything that was on its way arrive now; nobody waits for the answers."""
        for write in [self.late.pop(0) for _ in list(self.late)]:
            with pytest.raises(CheckpointMoved):
                await write()

    # -- what may become of a write

    async def unanswered(self, write: Write) -> Checkpoint:
        await write()
        raise OutcomeUnknown("the answer was lost")

    async def lost(self, _: Write) -> Checkpoint:
        raise OutcomeUnknown("the request was lost, which nobody knows")

    async def unsent(self, _: Write) -> Checkpoint:
        raise StoreUnavailable("it was not sent")

    async def delayed(self, write: Write) -> Checkpoint:
        self.late.append(write)
        raise OutcomeUnknown("it is on its way")

    async def overtaken(self, write: Write) -> Checkpoint:
        """What was on its way arrives just before this one."""
        await self.late.pop()()
        return await write()


def run(work: Callable[[Odd, Archive], Awaitable[None]]) -> None:
    async def main() -> None:
        store = Odd()
        settings = Settings.resolve("w", store=store, ttl_s=TTL_S)
        async with asyncio.timeout(LIMIT_S), Archive(settings) as archive:
            await work(store, archive)

    asyncio.run(main())


async def opened(archive: Archive, token: int = 5) -> Progress:
    progress = archive.progress(elected_term("w", token=token, ttl_s=60), "part")
    await progress.open()
    return progress


async def now(store: Odd) -> tuple[bytes, int]:
    found = await MemoryStore.checkpoint(store, "w", "part")
    return found.value, found.token


def test_what_one_term_notes_the_next_one_reads() -> None:
    async def work(store: Odd, archive: Archive) -> None:
        first = await opened(archive, 5)
        assert first.value == b""
        assert await now(store) == (b"", 5), "it was sealed before it was read"
        await first.save(b"one")
        await first.save(b"two")
        second = archive.progress(elected_term("w", token=9), "part")
        assert await second.open() == second.value == b"two"
        assert await now(store) == (b"two", 9)

    run(work)


@pytest.mark.parametrize("turn", ["unanswered", "lost", "unsent"])
@pytest.mark.parametrize("times", [1, 3])
def test_a_save_is_known_to_be_written_once(turn: str, times: int) -> None:
    async def work(store: Odd, archive: Archive) -> None:
        progress = await opened(archive)
        store.done.clear()
        store.turns = [getattr(store, turn)] * (1 if turn == "unanswered" else times)
        await progress.save(b"x")
        assert store.done == [(b"x", 5)]
        await progress.save(b"y")
        assert store.done == [(b"x", 5), (b"y", 5)]

    run(work)


def test_a_save_that_arrives_late_changes_nothing() -> None:
    async def work(store: Odd, archive: Archive) -> None:
        progress = await opened(archive)
        store.turns = [store.delayed, store.delayed]
        await progress.save(b"x")
        await store.arrive()
        store.turns = [store.delayed]
        await progress.save(b"y")
        await progress.save(b"z")
        await store.arrive()
        assert await now(store) == (b"z", 5)

    run(work)


def test_a_save_that_arrives_before_its_repetition_is_ones_own() -> None:
    async def work(store: Odd, archive: Archive) -> None:
        progress = await opened(archive)
        store.done.clear()
        store.turns = [store.delayed, store.overtaken]
        await progress.save(b"x")
        assert store.done == [(b"x", 5)]
        await progress.save(b"y")
        assert await now(store) == (b"y", 5)

    run(work)


def test_a_save_that_was_given_up_does_not_stand_for_the_next_one() -> None:
    """It was cancelled while it was on its way: what is found is ours, and not what is meant."""

    async def work(store: Odd, archive: Archive) -> None:
        progress = await opened(archive)
        on_its_way = asyncio.Event()

        async def never(write: Write) -> Checkpoint:
            store.late.append(write)
            main.call_soon_threadsafe(on_its_way.set)
            await asyncio.Event().wait()
            raise AssertionError

        main = asyncio.get_running_loop()
        store.turns = [never, store.overtaken]
        saving = asyncio.ensure_future(progress.save(b"given up"))
        await on_its_way.wait()
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
        await progress.save(b"meant")
        assert await now(store) == (b"meant", 5)

    run(work)


def test_what_a_former_holder_has_under_way_is_read_or_refused() -> None:
    """It arrives between what the next one reads and its seal, or after it."""

    async def work(store: Odd, archive: Archive) -> None:
        former = await opened(archive, 5)
        await former.save(b"before")
        before = await MemoryStore.checkpoint(store, "w", "part")

        async def former_writes(write: Write) -> Checkpoint:
            await MemoryStore.advance(store, before, b"just in time", 5)
            return await write()

        store.turns = [former_writes]
        later = archive.progress(elected_term("w", token=9), "part")
        assert await later.open() == b"just in time"
        assert await now(store) == (b"just in time", 9)
        for over in (before, Checkpoint("w", "part")):
            with pytest.raises(CheckpointMoved):
                await MemoryStore.advance(store, over, b"too late", 5)
        with pytest.raises(StaleToken):
            await former.save(b"too late")
        assert await now(store) == (b"just in time", 9)

    run(work)


def test_a_seal_alone_keeps_a_former_holder_out() -> None:
    """Nothing was saved yet by the one who leads now."""

    async def work(store: Odd, archive: Archive) -> None:
        former = await opened(archive, 5)
        await former.save(b"far")
        await opened(archive, 9)
        with pytest.raises(StaleToken, match="token 9, and this term has 5"):
            await former.save(b"back")
        with pytest.raises(StaleToken):
            await opened(archive, 7)
        assert await now(store) == (b"far", 9)

    run(work)


def test_a_save_that_was_overtaken_by_a_later_term_is_not_repeated() -> None:
    async def work(store: Odd, archive: Archive) -> None:
        former = await opened(archive, 5)

        async def deposed(_: Write) -> Checkpoint:
            current = await MemoryStore.checkpoint(store, "w", "part")
            await MemoryStore.advance(store, current, b"theirs", 9)
            raise OutcomeUnknown("and nobody told us")

        store.turns = [deposed]
        with pytest.raises(StaleToken):
            await former.save(b"ours")
        assert await now(store) == (b"theirs", 9)

    run(work)


def test_a_checkpoint_that_was_deleted_is_written_anew_by_who_leads() -> None:
    async def work(store: Odd, archive: Archive) -> None:
        progress = await opened(archive)
        await progress.save(b"x")
        del store.shelf.checkpoints["w", "part"]
        await progress.save(b"y")
        assert await now(store) == (b"y", 5)

    run(work)


@pytest.mark.parametrize("turn", ["unanswered", "lost"])
def test_what_is_unknown_when_the_term_ends_is_said_to_be_lost(turn: str) -> None:
    """Nothing is sent after the end of the term, also by who is in the middle of a save."""

    async def work(store: Odd, archive: Archive) -> None:
        term = elected_term("w", token=5, ttl_s=60)
        progress = archive.progress(term, "part")
        await progress.open()
        store.done.clear()

        async def ends(write: Write) -> Checkpoint:
            depose(term)
            return await meets(write)

        meets: Turn = getattr(store, turn)
        store.turns = [ends]
        with pytest.raises(LeadershipLost):
            await progress.save(b"x")
        assert store.done == ([(b"x", 5)] if turn == "unanswered" else [])
        store.done.clear()
        with pytest.raises(LeadershipLost):
            await progress.save(b"y")
        assert not store.done

    run(work)


def test_two_saves_at_once_are_written_one_after_the_other() -> None:
    async def work(store: Odd, archive: Archive) -> None:
        progress = await opened(archive)
        store.done.clear()
        store.turns = [store.unanswered, store.lost, store.delayed]
        await asyncio.gather(*(progress.save(b"%d" % number) for number in range(4)))
        assert store.done == [(b"%d" % number, 5) for number in range(4)]
        assert progress.value == b"3"

    run(work)


def test_what_is_too_long_is_refused_before_it_is_sent() -> None:
    async def work(store: Odd, archive: Archive) -> None:
        progress = await opened(archive)
        await progress.save(bytes(MAX_CHECKPOINT_BYTES))
        store.done.clear()
        with pytest.raises(ConfigError, match="65537 bytes, and 65536 is the most"):
            await progress.save(bytes(MAX_CHECKPOINT_BYTES + 1))
        assert not store.done
        assert len(progress.value) == MAX_CHECKPOINT_BYTES

    run(work)


def test_a_part_has_a_name_and_its_own_checkpoint() -> None:
    async def work(store: Odd, archive: Archive) -> None:
        term = elected_term("w", token=5, ttl_s=60)
        one, other = archive.progress(term, "one"), archive.progress(term, "other")
        await one.open()
        await one.save(b"1")
        assert await other.open() == b""
        assert [(at.part, at.value) for at in await archive.list("w")] == [
            ("one", b"1"),
            ("other", b""),
        ]
        with pytest.raises(ConfigError):
            archive.progress(term, "Not a name")

    run(work)


def test_without_a_token_there_is_nothing_to_keep_others_out_with() -> None:
    async def work(_: Odd, archive: Archive) -> None:
        with pytest.raises(ConfigError, match="has no fencing tokens"):
            archive.progress(elected_term("w", token=None), "part")

    run(work)


# -- together -------------------------------------------------------------------------------------


class Counting(Odd):
    """Says how it was asked, and does with its next groups what the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[int] = []
        self.lists = 0
        self.reads = 0
        self.late_groups: list[Sequence[Advance]] = []
        self.of_group: list[Callable[[Sequence[Advance]], Awaitable[Any]]] = []
        self.list_fails = False

    async def checkpoint(self, name: str, part: str) -> Checkpoint:
        self.reads += 1
        return await super().checkpoint(name, part)

    async def checkpoints(self, name: str) -> list[Checkpoint]:
        self.lists += 1
        if self.list_fails:
            raise StoreUnusable("one of them is none")
        return await super().checkpoints(name)

    async def advance(self, over: Checkpoint, value: bytes, token: int) -> Checkpoint:
        self.reads -= 1  # It looks itself at what it compares.
        return await super().advance(over, value, token)

    async def advance_all(self, advances: Sequence[Advance]) -> list[Checkpoint | StoreError]:
        self.groups.append(len(advances))
        if self.of_group:
            await self.of_group.pop(0)(advances)
        return await super().advance_all(advances)

    # -- what may become of a group

    async def group_unanswered(self, advances: Sequence[Advance]) -> None:
        await super().advance_all(advances)
        raise OutcomeUnknown("the answer was lost")

    async def group_delayed(self, advances: Sequence[Advance]) -> None:
        self.late_groups.append(advances)
        raise OutcomeUnknown("it is on its way")

    async def group_overtaken(self, _: Sequence[Advance]) -> None:
        """What was on its way arrives just before this one."""
        await super().advance_all(self.late_groups.pop())


def run_counting(work: Callable[[Counting, Archive], Awaitable[None]]) -> None:
    async def main() -> None:
        store = Counting()
        settings = Settings.resolve("w", store=store, ttl_s=TTL_S)
        async with asyncio.timeout(LIMIT_S), Archive(settings) as archive:
            await work(store, archive)

    asyncio.run(main())


async def all_opened(archive: Archive, count: int, token: int = 5) -> list[Progress]:
    term = elected_term("w", token=token, ttl_s=60)
    made = [archive.progress(term, f"part-{number:03}") for number in range(count)]
    await asyncio.gather(*(progress.open() for progress in made))
    return made


async def there(store: Counting) -> list[tuple[bytes, int]]:
    found = await MemoryStore.checkpoints(store, "w")
    return [(at.value, at.token) for at in found]


def test_many_are_opened_and_saved_by_few_requests() -> None:
    count = 2 * MOST_TOGETHER + 10

    async def work(store: Counting, archive: Archive) -> None:
        made = await all_opened(archive, count)
        assert (store.lists, store.reads) == (1, 0)
        assert sum(store.groups) == count
        assert len(store.groups) == 3
        store.groups.clear()
        await asyncio.gather(*(one.save(b"%d" % n) for n, one in enumerate(made)))
        assert len(store.groups) == 3
        assert await there(store) == [(b"%d" % n, 5) for n in range(count)]
        again = await all_opened(archive, count, token=6)
        assert [one.value for one in again] == [b"%d" % n for n in range(count)]

    run_counting(work)


def test_long_ones_go_by_few() -> None:
    most = MOST_BYTES // MAX_CHECKPOINT_BYTES

    async def work(store: Counting, archive: Archive) -> None:
        made = await all_opened(archive, 2 * most + 1)
        store.groups.clear()
        await asyncio.gather(*(one.save(bytes(MAX_CHECKPOINT_BYTES)) for one in made))
        assert store.groups == [most, most], "and one alone"

    run_counting(work)


def test_where_no_list_can_be_had_they_are_read_singly() -> None:
    async def work(store: Counting, archive: Archive) -> None:
        store.list_fails = True
        for token in (5, 6):
            made = await all_opened(archive, MOST_SINGLY + 1, token)
            await asyncio.gather(*(one.save(one.value + b"x") for one in made))
        assert store.lists == 1, "it is not asked for again"
        assert store.reads == 2 * (MOST_SINGLY + 1)
        assert await there(store) == [(b"xx", 6)] * (MOST_SINGLY + 1)

    run_counting(work)


@pytest.mark.parametrize("fates", [["unanswered"], ["delayed", "overtaken"], ["delayed"]])
def test_what_is_unknown_of_a_group_is_found_out_for_each(fates: list[str]) -> None:
    async def work(store: Counting, archive: Archive) -> None:
        made = await all_opened(archive, 6)
        store.done.clear()
        store.of_group = [getattr(store, f"group_{fate}") for fate in fates]
        await asyncio.gather(*(one.save(b"%d" % n) for n, one in enumerate(made)))
        assert sorted(store.done) == [(b"%d" % n, 5) for n in range(6)], "each is written once"
        await asyncio.gather(*(one.save(b"then") for one in made))
        for late in store.late_groups:
            outcomes = await MemoryStore.advance_all(store, late)
            assert all(isinstance(outcome, CheckpointMoved) for outcome in outcomes)
        assert await there(store) == [(b"then", 5)] * 6

    run_counting(work)


def test_of_a_group_only_those_are_stale_that_were_sealed_since() -> None:
    """And a group that comes late changes what was not sealed yet, which the seal then finds."""

    async def work(store: Counting, archive: Archive) -> None:
        made = await all_opened(archive, 4)
        later = elected_term("w", token=9, ttl_s=60)
        for number in (0, 2):
            await archive.progress(later, f"part-{number:03}").open()
        saves = await asyncio.gather(
            *(one.save(b"%d" % n) for n, one in enumerate(made)), return_exceptions=True
        )
        assert [type(outcome) for outcome in saves] == [
            StaleToken,
            type(None),
            StaleToken,
            type(None),
        ]
        assert await there(store) == [(b"", 9), (b"1", 5), (b"", 9), (b"3", 5)]
        assert await archive.progress(later, "part-001").open() == b"1"

    run_counting(work)


def test_what_waits_for_its_turn_when_the_term_ends_is_not_sent() -> None:
    async def work(store: Counting, archive: Archive) -> None:
        term = elected_term("w", token=5, ttl_s=60)
        one, other = archive.progress(term, "one"), archive.progress(term, "other")
        await one.open()
        await other.open()
        store.done.clear()
        saving: list[asyncio.Task[None]] = []
        keepers: list[asyncio.AbstractEventLoop] = []
        begun, ended = asyncio.Event(), asyncio.Event()
        main = asyncio.get_running_loop()

        async def meanwhile(write: Write) -> Checkpoint:
            keepers.append(asyncio.get_running_loop())
            main.call_soon_threadsafe(begun.set)
            await ended.wait()
            return await write()

        store.turns = [meanwhile]
        saving.append(asyncio.ensure_future(one.save(b"x")))
        await begun.wait()
        saving.append(asyncio.ensure_future(other.save(b"y")))
        await asyncio.sleep(0)
        depose(term)
        keepers[0].call_soon_threadsafe(ended.set)
        with pytest.raises(LeadershipLost):
            await saving[1]
        await saving[0]
        assert store.done == [(b"x", 5)]

    run_counting(work)
