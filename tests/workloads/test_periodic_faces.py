"""Periodic tasks in both faces, on real threads and loops: who calls what, and how a run ends."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import pytest

import incumbent
from incumbent import ConfigError, Tick, aio
from incumbent.aio.periodic import Jobs as AioJobs
from incumbent.errors import LeadershipLost, Withdrawn
from incumbent.stores.memory import MemoryStore
from incumbent.sync.periodic import Jobs
from incumbent.workloads.periodic.document import PENDING, Document
from tests.workloads.faces import FACES, LIMIT_S, Face


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Face:
    return Face(request.param)


def job(face: Face, call: Any, **settings: Any) -> Any:
    """Return `call` as a job of this face, every 50 ms."""

    def timer(tick: Tick) -> Any:
        return call(tick)

    async def awaited(tick: Tick) -> Any:
        return call(tick)

    every = incumbent.every if face.name == "sync" else aio.every
    func = timer if face.name == "sync" else awaited
    return every("50ms", name="w", deadman=False, ttl_s=1, **settings)(func)


def noted(memory: MemoryStore, name: str = "w", task: str = "main") -> Document:
    value = memory.shelf.checkpoints[name, f"job.{task}"].value
    return Document.decode(value, "the test")


def test_it_runs_at_each_tick_with_what_the_tick_says(face: Face, memory: MemoryStore) -> None:
    seen: SimpleQueue[Tick] = SimpleQueue()
    work = job(face, seen.put, store=memory, tz="Europe/Vienna")
    face.start(work)
    ticks = [seen.get(timeout=LIMIT_S) for _ in range(4)]
    face.stop()
    assert isinstance(face.failure, Withdrawn)
    assert len({tick.id for tick in ticks}) == 4
    assert all(tick.due.timestamp() * 1000 % 50 == 0 for tick in ticks)
    assert {tick.due.tzname() for tick in ticks} <= {"CET", "CEST"}
    assert {(tick.attempt, tick.manual, tick.job) for tick in ticks} == {(1, False, "main")}
    assert {tick.token for tick in ticks} == {memory.shelf.records["w"].token}
    assert {row.outcome for row in noted(memory).rows} <= {"done", "missed", "overrun"}
    assert noted(memory).run is None


def test_it_is_still_the_function(memory: MemoryStore) -> None:
    @incumbent.cron("0 0 1 1 *", store=memory)
    def yearly_report(tick: Tick | None = None) -> str:
        """What it says."""
        return "called"

    assert yearly_report() == "called"
    assert yearly_report.__doc__ == "What it says."
    assert yearly_report.election.name == "yearly-report"


def test_many_tasks_under_one_election(memory: MemoryStore) -> None:
    """As many at a time as there are threads; each has a note of its own."""
    jobs = Jobs("many", store=memory, threads=2, deadman=False, ttl_s=1)
    together = threading.Barrier(2)

    @jobs.every("50ms")
    def one() -> None:
        together.wait(LIMIT_S)

    @jobs.every("50ms")
    def other() -> None:
        together.wait(LIMIT_S)

    assert callable(one)
    jobs.start()
    deadline = time.monotonic() + LIMIT_S
    while "done" not in {
        row.outcome
        for part in memory.shelf.checkpoints
        if part[1] == "job.other"
        for row in noted(memory, "many", "other").rows
    }:
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)
    together.abort()
    jobs.stop()


def test_an_exception_is_noted_and_the_next_tick_comes(
    face: Face, memory: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    seen: SimpleQueue[str] = SimpleQueue()

    def fail(tick: Tick) -> None:
        seen.put(tick.id)
        raise OSError("disk")

    caplog.set_level(logging.ERROR, "incumbent")
    face.start(job(face, fail, store=memory))
    first, second = (seen.get(timeout=LIMIT_S) for _ in range(2))
    face.stop()
    assert first != second
    rows = {row.id: row for row in noted(memory).rows}
    assert (rows[first].outcome, rows[first].text) == ("failed", "OSError: disk")
    told = caplog.text
    assert f"w: {first} has failed: OSError: disk" in told
    assert "raise OSError" in told
    assert "incumbent/workloads" not in told, "none of our frames"


def test_an_iterator_that_has_ended_is_an_error_as_any_other(
    face: Face, memory: MemoryStore
) -> None:
    """No future takes a StopIteration: whoever waits for one would wait for ever."""
    seen: SimpleQueue[str] = SimpleQueue()

    def fail(tick: Tick) -> None:
        seen.put(tick.id)
        next(iter(()))

    face.start(job(face, fail, store=memory))
    first, _ = (seen.get(timeout=LIMIT_S) for _ in range(2))
    face.stop()
    rows = {row.id: row for row in noted(memory).rows}
    assert rows[first].outcome == "failed"
    assert "StopIteration" in rows[first].text


def test_or_it_ends_the_work_after_the_release(face: Face, memory: MemoryStore) -> None:
    def fail(tick: Tick) -> None:
        raise KeyError("k")

    face.start(job(face, fail, store=memory, errors="raise"))
    face.join()
    assert isinstance(face.failure, KeyError)
    assert not memory.shelf.records["w"].session


# -- the end of a term


def test_a_run_in_a_thread_that_returns_in_time_is_noted_as_done(memory: MemoryStore) -> None:
    """At a planned end: else the successor would have to take it for interrupted."""
    begun, go_on = threading.Event(), threading.Event()
    runs: list[tuple[str, int]] = []

    @incumbent.every("50ms", name="w", store=memory, deadman=False, ttl_s=1)
    def work(tick: Tick) -> None:
        runs.append((tick.id, tick.attempt))
        if len(runs) == 1:
            begun.set()
            assert tick.lost.wait(LIMIT_S)
            go_on.set()

    work.start()
    assert begun.wait(LIMIT_S)
    work.election.step_down()
    assert go_on.wait(LIMIT_S)
    deadline = time.monotonic() + LIMIT_S
    while len(runs) < 2:
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)
    work.stop()
    assert [attempt for tick, attempt in runs if tick == runs[0][0]] == [1]
    assert {row.outcome for row in noted(memory).rows if row.id == runs[0][0]} == {"done"}


def test_a_run_that_is_cut_short_is_begun_again_by_the_next_term(
    face: Face, memory: MemoryStore
) -> None:
    begun: SimpleQueue[tuple[str, int]] = SimpleQueue()

    async def awaited(tick: Tick) -> None:
        begun.put((tick.id, tick.attempt))
        if tick.attempt == 1:
            await asyncio.Event().wait()

    def called(tick: Tick) -> None:
        begun.put((tick.id, tick.attempt))
        if tick.attempt == 1:
            tick.lost.wait(LIMIT_S)
            raise LeadershipLost("seen")

    work: Any
    if face.name == "sync":
        work = incumbent.every("50ms", name="w", store=memory, deadman=False, ttl_s=1)(called)
    else:
        work = aio.every("50ms", name="w", store=memory, deadman=False, ttl_s=1)(awaited)
    face.start(work)
    tick, attempt = begun.get(timeout=LIMIT_S)
    assert attempt == 1
    face.step_down()
    assert begun.get(timeout=LIMIT_S) == (tick, 2)
    face.stop()
    outcomes = [row.outcome for row in noted(memory).rows if row.id == tick]
    assert outcomes[0] == "interrupted"


def test_an_interrupt_during_a_run_ends_the_work_and_is_raised(memory: MemoryStore) -> None:
    @incumbent.every("50ms", name="w", store=memory, deadman=False, ttl_s=1)
    def work() -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        work.run()
    assert not memory.shelf.records["w"].session, "it was released"
    run = noted(memory).run
    assert run is not None
    assert run.state != PENDING, "it had begun"


# -- timeouts


def test_a_thread_learns_from_the_tick_that_its_time_is_over(
    memory: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    """And the log says that it goes on."""
    ended = threading.Event()
    caplog.set_level(logging.WARNING, "incumbent")

    @incumbent.every("50ms", name="w", store=memory, deadman=False, ttl_s=1, timeout_s=0.05)
    def work(tick: Tick) -> None:
        try:
            while True:
                if "has had its 0.05 s; a thread ends by itself" in caplog.text:
                    tick.check()
        finally:
            ended.set()

    work.start()
    assert ended.wait(LIMIT_S)
    deadline = time.monotonic() + LIMIT_S
    while not noted(memory).rows:
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)
    work.stop()
    assert noted(memory).rows[0].outcome == "timed out"


# -- what is refused


async def asynchronous() -> None:
    await asyncio.sleep(0)


def synchronous() -> None:
    raise AssertionError


def test_the_wrong_kind_of_function_is_refused_at_once(memory: MemoryStore) -> None:
    with pytest.raises(TypeError, match=r"use incumbent\.aio\.every"):
        incumbent.every("1s", store=memory)(asynchronous)
    for decorate in (incumbent.every, incumbent.cron, aio.every, aio.cron):
        with pytest.raises(ConfigError, match=r"synchronous is decorated without saying when"):
            decorate(synchronous)  # type: ignore[arg-type]  # as one forgets the brackets
    with pytest.raises(TypeError, match="async def"):
        aio.every("1s", store=memory)(synchronous)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="makes no name"):
        incumbent.every("1s", store=memory)(lambda: None)
    jobs = AioJobs("w", store=memory)
    with pytest.raises(TypeError, match="async def"):
        jobs.every("1s")(synchronous)
    with pytest.raises(ConfigError, match="no checkpoints"):
        incumbent.every("1s", store="memory://", state="dapr://127.0.0.1:1/l", ttl_s=60)(
            synchronous
        )


# -- in the background


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_in_the_background_it_is_there_again_after_a_fork(
    pipe: tuple[int, int], tmp_path: Any
) -> None:
    """The child's has a candidate of its own; the parent's goes on."""
    read, write = pipe

    def tell() -> None:
        os.write(write, f"{os.getpid()}\n".encode())

    work = incumbent.every(
        "50ms", name="w", store="memory://b", deadman=False, ttl_s=1, background=True
    )(tell)
    assert work.background is not None
    try:
        child = os.fork()
        if child == 0:
            threading.Event().wait(LIMIT_S)
            os._exit(0)
        seen: set[int] = set()
        deadline = time.monotonic() + LIMIT_S
        while seen != {os.getpid(), child}:
            assert time.monotonic() < deadline
            seen |= {int(line) for line in os.read(read, 4096).split()}
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    finally:
        work.background.stop()
