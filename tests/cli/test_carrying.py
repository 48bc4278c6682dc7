"""The checkpoints of an election that is moved: taken along between two bars, and never back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from incumbent.cli import carrying
from incumbent.cli.app import main as command_line
from incumbent.cli.migration import Step
from incumbent.core.records import Checkpoint
from incumbent.errors import (
    CheckpointMoved,
    ConfigError,
    IncumbentError,
    OutcomeUnknown,
    StoreUnavailable,
)
from incumbent.stores import open_store
from incumbent.stores.api import Store
from incumbent.stores.memory import MemoryStore
from incumbent.sync.work import Work
from incumbent.workloads import Env
from tests.cli.test_migration import NAME, Pair, broken, hold, run


async def note(url: str, part: str, value: bytes, token: int) -> Checkpoint:
    """Write as a holder does that has read before."""
    store = open_store(url)
    return await store.advance(await store.checkpoint(NAME, part), value, token)


async def noted(url: str) -> dict[str, tuple[bytes, int]]:
    return {at.part: (at.value, at.token) for at in await open_store(url).checkpoints(NAME)}


def test_they_are_moved_and_sealed_on_both_sides() -> None:
    said: list[tuple[Step, str]] = []
    pair = Pair()

    async def main() -> None:
        store, held = await hold(pair.source, "migration-nobody_1")
        last = await note(pair.source, "orders", b"far", held.token or 0)
        await note(pair.source, "mail", b"\0\xff", held.token or 0)
        await note(pair.target, "orders", b"of an earlier life", 1)
        await note(pair.target, "gone", b"of an earlier life", 1)
        await store.release(held, held.lease, "")
        moved = await run(pair, say=lambda step, text: said.append((step, text)))
        here, there = moved.source.seen.token or 0, moved.target.seen.token or 0
        assert await noted(pair.target) == {
            "gone": (b"", there),
            "mail": (b"\0\xff", there),
            "orders": (b"far", there),
        }
        assert await noted(pair.source) == {"mail": (b"\0\xff", here), "orders": (b"far", here)}
        assert here >= (held.token or 0)
        with pytest.raises(CheckpointMoved):
            await store.advance(last, b"late", held.token or 0)
        _, later = await hold(pair.target)
        assert (later.token or 0) > there, "whoever leads there may write"

    asyncio.run(main())
    assert (Step.CARRIED, "TO has the checkpoints, mail, orders") in said
    pair.assert_never_both_open()


@pytest.mark.parametrize("step", [Step.SOURCE_BARRED, Step.CARRIED, Step.RENEWED])
def test_undone_and_done_again_it_takes_what_was_noted_last(step: Step) -> None:
    pair = Pair()

    async def main() -> None:
        await note(pair.source, "orders", b"first", 1)
        await broken(pair, step)
        await run(pair, "undo")
        store, held = await hold(pair.source, "b_2")
        await note(pair.source, "orders", b"further", held.token or 0)
        await store.release(held, held.lease, "")
        moved = await run(pair)
        assert await noted(pair.target) == {"orders": (b"further", moved.target.seen.token or 0)}

    asyncio.run(main())


def test_one_that_goes_on_late_moves_nothing_back() -> None:
    """It was stopped before it wrote to TO; another one has finished, and TO's holder goes on."""
    pair = Pair()

    async def main() -> None:
        await note(pair.source, "orders", b"old", 1)
        moved = await run(pair)
        tokens = moved.source.seen.token or 0, moved.target.seen.token or 0
        _, held = await hold(pair.target)
        await note(pair.target, "orders", b"new", held.token or 0)
        source, target = open_store(pair.source), open_store(pair.target)
        with pytest.raises(IncumbentError, match="somebody has led since"):
            await carrying.carried(source, tokens[0], target, tokens[1], NAME)
        assert await noted(pair.target) == {"orders": (b"new", held.token or 0)}

    asyncio.run(main())


def test_one_that_goes_on_after_an_undo_does_not_seal_out_who_leads() -> None:
    pair = Pair()

    async def main() -> None:
        await note(pair.source, "orders", b"old", 1)
        await broken(pair, Step.CARRIED)
        await run(pair, "undo")
        store, held = await hold(pair.source, "b_2")
        written = await note(pair.source, "orders", b"new", held.token or 0)
        with pytest.raises(IncumbentError, match="somebody has led since"):
            await carrying.carried(
                open_store(pair.source), (held.token or 0) - 1, open_store(pair.target), 10**9, NAME
            )
        assert await store.checkpoint(NAME, "orders") == written

    asyncio.run(main())


def test_what_is_under_way_is_taken_along_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It arrives after FROM's checkpoints were listed, and before they are sealed."""
    pair = Pair()
    real = MemoryStore.checkpoints
    over: list[Checkpoint] = []

    async def listed(self: MemoryStore, name: str) -> list[Checkpoint]:
        found = await real(self, name)
        if over and found:
            await MemoryStore.advance(self, over.pop(), b"just in time", 1)
        return found

    async def main() -> None:
        over.append(await note(pair.source, "orders", b"before", 1))
        late = over[0]
        monkeypatch.setattr(MemoryStore, "checkpoints", listed)
        await run(pair)
        assert (await noted(pair.target))["orders"][0] == b"just in time"
        with pytest.raises(CheckpointMoved):
            await open_store(pair.source).advance(late, b"too late", 1)

    asyncio.run(main())


@pytest.mark.parametrize("error", [OutcomeUnknown, StoreUnavailable])
@pytest.mark.parametrize("done", [True, False])
def test_an_answer_that_is_lost(
    error: type[Exception], done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("incumbent.cli.carrying._PAUSE_S", 0.0)
    pair = Pair()
    real = MemoryStore.advance
    lost: list[Callable[[], Awaitable[Any]]] = []

    async def answer_lost(
        self: MemoryStore, over: Checkpoint, value: bytes, token: int
    ) -> Checkpoint:
        if len(lost) % 2 == 0:
            lost.append(lambda: real(self, over, value, token))
            if done:
                await lost[-1]()
            raise error("no answer")
        lost.append(lost[-1])
        return await real(self, over, value, token)

    async def main() -> None:
        await note(pair.source, "orders", b"far", 1)
        monkeypatch.setattr(MemoryStore, "advance", answer_lost)
        await run(pair)
        assert (await noted(pair.target))["orders"][0] == b"far"
        for late in lost:
            with pytest.raises(CheckpointMoved):
                await late()

    asyncio.run(main())


def test_a_target_that_keeps_none_is_refused_before_anything_is_changed() -> None:
    pair = Pair()

    def deprived(migration: Any) -> Any:
        store: Store = migration.target.store
        without = replace(store.capabilities, checkpoints=False)

        class Without(MemoryStore):
            capabilities = without

        migration.target.store = Without(store._store.shelf)  # type: ignore[attr-defined]
        return migration

    async def main() -> None:
        await note(pair.source, "orders", b"far", 1)
        for what in ("prepare", "run"):
            migration = deprived(pair.migration())
            async with migration.connected():
                with pytest.raises(ConfigError, match=r"\(orders\).*state=FROM.*--leave-checkp"):
                    await getattr(migration, what)()
        assert pair.now == ["absent", "absent"]
        migration = deprived(pair.migration(leave_checkpoints=True))
        async with migration.connected():
            await migration._find_room()
            await migration._carry()
        assert await noted(pair.source) == {"orders": (b"far", 1)}

    asyncio.run(main())


def test_work_goes_on_where_it_was_in_another_store(tmp_path: Path) -> None:
    """From a database to a folder, and back, by the command."""
    database, folder = f"sqlite://{tmp_path}/a.db", f"file://{tmp_path}/b?tokens_from={10**11}"

    class Counting:
        keeps = True

        async def run(self, env: Env) -> bytes:
            progress = env.progress("count")
            await progress.save(await progress.open() + b"x")
            return progress.value

    def work(url: str) -> object:
        return Work("e", Counting(), store=url, deadman=False).run()

    assert work(database) == b"x"
    for where in (("--prepare",), ()):
        assert command_line(["migrate", database, folder, "e", *where]) == 0
    assert work(folder) == b"xx"
    way_back = f"{database}?tokens_from={10**13}"
    for where in (("--prepare",), ()):
        assert command_line(["migrate", folder, way_back, "e", *where]) == 0
    assert work(way_back) == b"xxx"
