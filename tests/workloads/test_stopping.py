"""How work is stopped: `run` returns, nothing more is begun; and what a cancellation means."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

import incumbent
from incumbent import aio, testing
from incumbent.stores.memory import MemoryStore
from incumbent.workloads.sources.api import Item
from incumbent.workloads.sources.memory import MemorySource, Shelf
from incumbent.workloads.standing import interpreter_ends
from tests.workloads.faces import LIMIT_S


def released(memory: MemoryStore, name: str) -> bool:
    return not memory.shelf.records[name].session


def test_stop_lets_run_return_in_another_thread(memory: MemoryStore) -> None:
    begun = threading.Event()

    @incumbent.every("50ms", name="w", store=memory, deadman=False)
    def job(tick: incumbent.Tick) -> None:
        begun.set()
        tick.lost.wait()

    results: SimpleQueue[Any] = SimpleQueue()
    thread = threading.Thread(target=lambda: results.put(job.run()), daemon=True)
    thread.start()
    assert begun.wait(LIMIT_S)
    job.stop()
    thread.join(LIMIT_S)
    assert not thread.is_alive()
    assert results.get_nowait() is None
    assert released(memory, "w")


def test_who_waits_to_be_elected_returns_too(memory: MemoryStore) -> None:
    """It is told once, and perhaps before it is a candidate at all."""
    with incumbent.Election("w", store=memory).hold():

        @incumbent.every("50ms", name="w", store=testing.memory_store(beside=memory))
        def job(tick: incumbent.Tick) -> None:
            raise AssertionError("somebody else holds")

        thread = threading.Thread(target=job.run, daemon=True)
        thread.start()
        while not job._here:
            threading.Event().wait(0.001)
        job.stop()
        thread.join(LIMIT_S)
        assert not thread.is_alive()


def test_a_job_may_stop_itself(memory: MemoryStore) -> None:
    @incumbent.every("50ms", name="w", store=memory, deadman=False)
    def job(tick: incumbent.Tick) -> None:
        job.stop()

    assert job.run() is None
    job.start()
    thread = job._thread
    assert thread is not None
    thread.join(LIMIT_S)
    assert not thread.is_alive()
    assert released(memory, "w")


def test_stop_lets_run_return_on_a_loop(memory: MemoryStore) -> None:
    async def main() -> Any:
        begun = asyncio.Event()

        @aio.every("50ms", name="w", store=memory, deadman=False)
        async def job(tick: incumbent.Tick) -> None:
            begun.set()
            await asyncio.Event().wait()

        running = asyncio.create_task(job.run())
        await begun.wait()
        await job.stop()
        return await asyncio.wait_for(running, LIMIT_S)

    assert asyncio.run(main()) is None
    assert released(memory, "w")


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("can't create new thread at interpreter shutdown", True),
        ("cannot schedule new futures after interpreter shutdown", True),
        ("can't start new thread", False),
    ],
)
def test_what_is_said_at_the_end_of_the_interpreter_is_no_failure(text: str, ends: bool) -> None:
    assert interpreter_ends(RuntimeError(text)) is ends
    assert not interpreter_ends(OSError(text))


def consumer(memory: MemoryStore, shelf: Shelf, path: Path, handle: Any) -> aio.Consumer:
    made = aio.Consumer(
        "orders",
        lambda: MemorySource(shelf),
        effects=f"sqlite://{path}/effects.db",
        store=memory,
        deadman=False,
        retries=1,
        backoff_s=0.0,
    )
    made.handler(handle)
    return made


@pytest.mark.parametrize("way", ["stop", "cancel"])
def test_a_handler_that_swallows_its_cancellation_is_the_last_one(
    memory: MemoryStore, tmp_path: Path, way: str
) -> None:
    shelf = Shelf([b"x"] * 6)
    calls: list[str] = []

    async def main() -> None:
        begun = asyncio.Event()

        async def handle(item: Item, db: Any) -> None:
            calls.append(item.id)
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0)

        work = consumer(memory, shelf, tmp_path, handle)
        if way == "stop":
            await work.start()
            await begun.wait()
            await asyncio.wait_for(work.stop(), LIMIT_S / 4)
            return
        running = asyncio.create_task(work.run())
        await begun.wait()
        running.cancel()
        await asyncio.wait([running], timeout=LIMIT_S / 4)
        assert running.cancelled()

    asyncio.run(main())
    assert calls == ["1"]
    assert shelf.told == ["1"], "it was handled to its end"
    assert released(memory, "orders")


def test_a_cancellation_by_the_handler_itself_is_a_failure_of_the_item(
    memory: MemoryStore, tmp_path: Path
) -> None:
    shelf = Shelf([b"a", b"poison", b"c"])
    calls: list[str] = []

    async def main() -> None:
        ended = asyncio.Event()

        async def handle(item: Item, db: Any) -> None:
            calls.append(item.id)
            if item.body == b"poison":
                task = asyncio.create_task(asyncio.Event().wait())
                task.cancel()
                await task
            if item.body == b"c":
                ended.set()

        async with consumer(memory, shelf, tmp_path, handle) as work:
            await asyncio.wait_for(ended.wait(), LIMIT_S)
            assert work.standing.role == "leader"

    asyncio.run(main())
    assert calls == ["1", "2", "2", "3"]


@pytest.mark.parametrize("kind", ["every", "poll", "consumer"])
def test_a_cancellation_in_an_ordinary_function_is_a_failure_of_it(
    memory: MemoryStore, kind: str, tmp_path: Path
) -> None:
    """As of one that runs a loop of its own, in which something was cancelled."""
    calls: list[object] = []
    again = threading.Event()

    def call(*args: object) -> None:
        calls.append(args)
        if len(calls) == 1:
            raise asyncio.CancelledError
        again.set()

    def work() -> Any:
        if kind == "every":
            return incumbent.every("20ms", name="w", store=memory, deadman=False)(call)
        if kind == "poll":
            return incumbent.poll("20ms", name="w", store=memory, deadman=False)(call)
        made = incumbent.Consumer(
            "w",
            lambda: MemorySource(Shelf([b"a"])),
            effects=f"sqlite://{tmp_path}/effects.db",
            store=memory,
            deadman=False,
            backoff_s=0.0,
        )
        made.handler(call)
        return made

    with work() as made:
        assert again.wait(LIMIT_S)
        assert made.standing.role == "leader"
        assert not made.standing.failure


def test_a_cancellation_by_the_function_itself_does_not_end_a_poller(memory: MemoryStore) -> None:
    async def main() -> None:
        polls = 0
        ended = asyncio.Event()

        @aio.poll("10ms", name="p", store=memory, deadman=False)
        async def look(poll: aio.Poll) -> None:
            nonlocal polls
            polls += 1
            if polls == 3:
                ended.set()
            task = asyncio.create_task(asyncio.Event().wait())
            task.cancel()
            await task

        async with look:
            await asyncio.wait_for(ended.wait(), LIMIT_S)
            assert look.standing.role == "leader"

    asyncio.run(main())
