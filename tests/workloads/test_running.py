"""One workload in both faces: where its calls run, how it ends, and what comes out of it."""

from __future__ import annotations

import asyncio
import itertools
import signal
import threading
from queue import SimpleQueue
from typing import Any

import pytest

from incumbent import ConfigError, StaleToken, testing
from incumbent.aio import work as aio
from incumbent.errors import LeadershipLost, Withdrawn
from incumbent.stores.memory import MemoryStore
from incumbent.sync.work import Work
from incumbent.workloads import Env, standing
from tests.workloads.faces import FACES, LIMIT_S, Face


class Steps:
    """A workload made of one coroutine function."""

    def __init__(self, steps: Any, *, keeps: bool = False) -> None:
        self._steps = steps
        self.keeps = keeps

    async def run(self, env: Env) -> Any:
        return await self._steps(env)


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Face:
    return Face(request.param)


def test_the_result_of_the_work_is_the_result(face: Face, memory: MemoryStore) -> None:
    async def steps(env: Env) -> Any:
        return [await env.call(face.func(lambda n: n + 1), n) for n in range(3)]

    face.start(face.make("w", Steps(steps), store=memory, deadman=False))
    face.join()
    assert face.failure is None
    assert face.result == [1, 2, 3]


def test_an_exception_of_a_call_is_raised_where_it_was_called(
    face: Face, memory: MemoryStore
) -> None:
    def fail() -> None:
        raise KeyError("k")

    async def steps(env: Env) -> Any:
        with pytest.raises(KeyError):
            await env.call(face.func(fail))
        await env.call(face.func(fail))

    face.start(face.make("w", Steps(steps), store=memory, deadman=False))
    face.join()
    assert isinstance(face.failure, KeyError)


def test_it_is_cancelled_and_awaited_before_the_lease_goes(face: Face, memory: MemoryStore) -> None:
    """It gives back what it has under a term that nobody else can have yet."""
    tokens: SimpleQueue[int] = SimpleQueue()
    held_at_the_end: SimpleQueue[bool] = SimpleQueue()

    async def steps(env: Env) -> Any:
        tokens.put(env.term.token or 0)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            record = memory.shelf.records["w"]
            held_at_the_end.put(record.term == env.term.id and bool(record.session))

    face.start(face.make("w", Steps(steps), store=memory, deadman=False, ttl_s=2))
    first = tokens.get(timeout=LIMIT_S)
    face.step_down()
    assert held_at_the_end.get(timeout=LIMIT_S)
    assert tokens.get(timeout=LIMIT_S) > first
    face.stop()
    assert held_at_the_end.get(timeout=LIMIT_S)
    assert isinstance(face.failure, Withdrawn)


def test_nothing_is_called_after_the_term(face: Face, memory: MemoryStore) -> None:
    seen: SimpleQueue[str] = SimpleQueue()
    calls: list[int] = []

    async def steps(env: Env) -> Any:
        seen.put("begun")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            env.term.void("for the test")
            try:
                await env.call(face.func(calls.append), 1)
            except LeadershipLost:
                seen.put("refused")
            raise

    face.start(face.make("w", Steps(steps), store=memory, deadman=False))
    assert seen.get(timeout=LIMIT_S) == "begun"
    face.stop()
    assert seen.get(timeout=LIMIT_S) == "refused"
    assert not calls


def test_what_is_noted_is_there_for_the_next_term(face: Face, memory: MemoryStore) -> None:
    noted: SimpleQueue[bytes] = SimpleQueue()

    async def steps(env: Env) -> Any:
        progress = env.progress("part")
        value = await progress.open()
        await progress.save(value + b"x")
        noted.put(progress.value)
        await asyncio.Event().wait()

    face.start(face.make("w", Steps(steps, keeps=True), store=memory, deadman=False, ttl_s=2))
    assert noted.get(timeout=LIMIT_S) == b"x"
    face.step_down()
    assert noted.get(timeout=LIMIT_S) == b"xx"
    face.stop()


def test_a_later_term_ends_the_work_of_an_earlier_one(face: Face, memory: MemoryStore) -> None:
    """Whatever its clock says: the checkpoint has a greater token."""

    async def steps(env: Env) -> Any:
        progress = env.progress("part")
        await progress.open()
        store = testing.memory_store(beside=memory)
        now = await store.checkpoint("w", "part")
        await store.advance(now, b"theirs", (env.term.token or 0) + 1)
        await progress.save(b"ours")

    face.start(face.make("w", Steps(steps, keeps=True), store=memory, deadman=False))
    face.join()
    assert isinstance(face.failure, StaleToken)
    assert memory.shelf.checkpoints["w", "part"].value == b"theirs"


def test_a_store_without_tokens_or_checkpoints_is_refused_at_once(face: Face) -> None:
    async def steps(env: Env) -> Any:
        raise AssertionError("not to be run")

    with pytest.raises(ConfigError, match="no fencing token"):
        face.make("w", Steps(steps, keeps=True), store="dapr://127.0.0.1:3500/l", ttl_s=60)
    with pytest.raises(ConfigError, match="no checkpoints"):
        face.make(
            "w",
            Steps(steps, keeps=True),
            store="memory://a",
            state="dapr://127.0.0.1:3500/l",
            ttl_s=60,
        )


# -- threads ------------------------------------------------------------------------------------


def test_every_call_runs_in_the_thread_that_leads(memory: MemoryStore) -> None:
    async def steps(env: Env) -> Any:
        return {await env.call(threading.get_ident) for _ in range(20)}

    work = Work("w", Steps(steps), store=memory, deadman=False)
    assert work.run() == {threading.get_ident()}


def test_so_many_calls_run_at_a_time_as_there_are_threads(memory: MemoryStore) -> None:
    together = threading.Barrier(3)

    async def steps(env: Env) -> Any:
        return await asyncio.gather(*(env.call(together.wait, LIMIT_S) for _ in range(3)))

    work = Work("w", Steps(steps), store=memory, deadman=False, threads=3)
    assert sorted(work.run()) == [0, 1, 2]


def test_an_interrupt_ends_the_work_and_is_raised(memory: MemoryStore) -> None:
    ended: list[str] = []

    async def steps(env: Env) -> Any:
        try:
            await env.call(signal.raise_signal, signal.SIGINT)
            await asyncio.Event().wait()
        finally:
            ended.append("the workload")

    with pytest.raises(KeyboardInterrupt):
        Work("w", Steps(steps), store=memory, deadman=False).run()
    assert ended == ["the workload"]
    assert not memory.shelf.records["w"].session, "it was released"


def test_started_and_stopped_in_the_background(memory: MemoryStore) -> None:
    begun = threading.Event()

    async def steps(env: Env) -> Any:
        await env.call(begun.set)
        await asyncio.Event().wait()

    with Work("w", Steps(steps), store=memory, deadman=False):
        assert begun.wait(LIMIT_S)
    assert not memory.shelf.records["w"].session, "it was released"


def test_what_might_pass_is_begun_anew_in_the_background(
    memory: MemoryStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(standing, "FIRST_PAUSE_S", 0.01)
    tries: SimpleQueue[int] = SimpleQueue()
    count = itertools.count(1)

    async def steps(env: Env) -> Any:
        tries.put(number := next(count))
        if number < 3:
            raise OSError("the database is down")
        await asyncio.Event().wait()

    work = Work("w", Steps(steps), store=memory, deadman=False)
    assert work.standing == standing.Standing("w", "stopped")
    with work:
        assert [tries.get(timeout=LIMIT_S) for _ in range(3)] == [1, 2, 3]
        assert work.standing.role == "leader"
        assert work.standing.token
        assert not work.standing.failure
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "the work 'w' has failed, and is begun anew in 0.01 s",
        "the work 'w' has failed, and is begun anew in 0.02 s",
    ]


def test_what_cannot_pass_has_failed_for_good(memory: MemoryStore) -> None:
    async def steps(env: Env) -> Any:
        raise ConfigError("no such setting")

    work = Work("w", Steps(steps), store=memory, deadman=False)
    work.start()
    thread = work._thread
    assert thread is not None
    thread.join(LIMIT_S)
    assert work.standing == standing.Standing("w", "failed", None, "ConfigError: no such setting")
    with pytest.raises(ConfigError, match="no such setting"):
        work.stop()


def test_tasks_in_the_background_do_the_same(
    memory: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "FIRST_PAUSE_S", 0.01)
    count = itertools.count(1)

    async def main() -> None:
        begun = asyncio.Event()

        async def steps(env: Env) -> Any:
            if next(count) < 3:
                raise OSError("the database is down")
            begun.set()
            await asyncio.Event().wait()

        async with aio.Work("w", Steps(steps), store=memory, deadman=False) as work:
            await asyncio.wait_for(begun.wait(), LIMIT_S)
            assert work.standing.role == "leader"
        assert work.standing.role == "stopped"

    asyncio.run(main())
    assert not memory.shelf.records["w"].session, "it was released"


def double(env: Env) -> Any:
    """Work that can be imported by name."""

    async def steps() -> Any:
        progress = env.progress("part")
        value = await progress.open()
        await progress.save(value + b"x")
        return progress.value

    return steps()


def test_isolated_work_keeps_its_checkpoints_from_there(tmp_path: Any) -> None:
    url = f"sqlite://{tmp_path}/i.db"
    work = Work("w", Steps(double, keeps=True), store=url, isolate=True)
    assert work.run() == b"x"
    assert work.run() == b"xx"
