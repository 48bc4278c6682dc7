"""The generic poller in both faces: when it looks, what it keeps, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import pytest

import incumbent
from incumbent import ConfigError, StaleToken, aio, testing
from incumbent.errors import LeadershipLost, Withdrawn
from incumbent.stores.memory import MemoryStore
from incumbent.workloads import tasks
from incumbent.workloads.polling.calling import called
from incumbent.workloads.polling.pace import Pace
from tests.workloads.faces import FACES, LIMIT_S, Face


class Looking:
    """A poller in one of the faces, whose functions are ordinary ones that may save."""

    def __init__(self, face: str, memory: MemoryStore) -> None:
        self.face = Face(face)
        self.memory = memory

    def start(self, look: Callable[[Any, Callable[[Any], Any]], Any], **settings: Any) -> None:
        """Start it; what `look` returns is awaited by the face that has to."""
        func: Any
        if self.face.name == "sync":
            func = look_sync(look)
        else:
            func = look_async(look)
        kind = incumbent.Poller if self.face.name == "sync" else aio.Poller
        every = settings.pop("every", 0.02)
        made = kind("p", func, every=every, store=self.memory, deadman=False, **settings)
        self.face.start(made)


def look_sync(look: Any) -> Any:
    def func(poll: Any) -> Any:
        values: list[Any] = []
        result = look(poll, values.append)
        for value in values:
            poll.save(value)
        return result

    return func


def look_async(look: Any) -> Any:
    async def func(poll: Any) -> Any:
        values: list[Any] = []
        result = look(poll, values.append)
        for value in values:
            await poll.save(value)
        return result

    return func


@pytest.fixture(params=FACES)
def looking(request: pytest.FixtureRequest, memory: MemoryStore) -> Looking:
    return Looking(request.param, memory)


def test_the_wait_grows_while_nothing_is_found_and_is_none_after_something() -> None:
    pace = Pace("1s", "5s", jitter=0.5)
    waits = [pace.wait_s(idle, lambda: 0.0) for idle in range(6)]
    assert waits == [0.0, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert pace.wait_s(2, lambda: 1.0) == 1.0
    assert Pace(3).wait_s(10_000, lambda: 0.0) == 3.0


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"every": 0}, "too often"),
        ({"every": "soon"}, "no duration"),
        ({"every": "5s", "max_every": "1s"}, "less than"),
        ({"every": 1, "jitter": 2}, "share"),
        ({"every": 1, "errors": "ignore"}, "'log' or 'raise'"),
        ({"every": 1, "threads": 2}, "one thread"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        incumbent.Poller("p", print, **settings)


def test_what_is_saved_is_there_for_the_next_term(looking: Looking) -> None:
    seen: SimpleQueue[tuple[Any, int]] = SimpleQueue()

    def look(poll: Any, save: Callable[[Any], Any]) -> bool:
        seen.put((poll.value, poll.token))
        save((poll.value or 0) + 1)
        return False

    looking.start(look, ttl_s=2)
    first, token = seen.get(timeout=LIMIT_S)
    assert first is None
    looking.face.step_down()
    found = seen.get(timeout=LIMIT_S)
    values = [0, found[0]]
    while found[1] == token:
        found = seen.get(timeout=LIMIT_S)
        values.append(found[0])
    looking.face.stop()
    assert values == list(range(len(values)))
    assert isinstance(looking.face.failure, Withdrawn)


def test_the_checkpoint_is_sealed_before_the_first_poll(looking: Looking) -> None:
    """A poll may act on what it reads without saving anything."""
    sealed: SimpleQueue[tuple[int, int]] = SimpleQueue()

    def look(poll: Any, save: Callable[[Any], Any]) -> None:
        sealed.put((looking.memory.shelf.checkpoints["p", "poll"].token, poll.token))

    looking.start(look)
    token, own = sealed.get(timeout=LIMIT_S)
    looking.face.stop()
    assert token == own


def test_bytes_are_kept_as_they_are_and_json_is_told_from_them(looking: Looking) -> None:
    results: SimpleQueue[Any] = SimpleQueue()

    def look(poll: Any, save: Callable[[Any], Any]) -> bool:
        results.put(poll.checkpoint)
        if poll.checkpoint is None:
            save(b"\xff")
            return True
        with pytest.raises(incumbent.StoreError, match="no JSON"):
            assert poll.value
        results.put("refused")
        return False

    looking.start(look)
    assert [results.get(timeout=LIMIT_S) for _ in range(3)] == [None, b"\xff", "refused"]
    looking.face.stop()


def test_after_something_it_looks_again_at_once(looking: Looking) -> None:
    """Were there a wait it would be an hour."""
    seen: SimpleQueue[int] = SimpleQueue()
    left = iter([1, 1, 1])

    def look(poll: Any, save: Callable[[Any], Any]) -> Any:
        found = next(left, None)
        seen.put(found or 0)
        return found

    looking.start(look, every="1h")
    assert [seen.get(timeout=LIMIT_S) for _ in range(4)] == [1, 1, 1, 0]
    looking.face.stop()


def test_an_exception_is_logged_and_the_next_poll_comes(
    looking: Looking, caplog: pytest.LogCaptureFixture
) -> None:
    attempts: SimpleQueue[int] = SimpleQueue()

    def look(poll: Any, save: Callable[[Any], Any]) -> None:
        attempts.put(poll.attempt)
        if poll.attempt < 3:
            raise OSError("the mail server is down")

    looking.start(look)
    assert [attempts.get(timeout=LIMIT_S) for _ in range(4)] == [1, 2, 3, 1]
    looking.face.stop()
    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert said[:2] == [
        "the poll of 'p' has failed (1 in a row)",
        "the poll of 'p' has failed (2 in a row)",
    ]


def test_an_exception_ends_the_work_if_that_was_asked_for(looking: Looking) -> None:
    def look(poll: Any, save: Callable[[Any], Any]) -> None:
        raise OSError("the mail server is down")

    looking.start(look, errors="raise")
    looking.face.join()
    assert isinstance(looking.face.failure, OSError)
    assert not looking.memory.shelf.records["p"].session, "it was released"


def test_a_later_holder_ends_the_run_whatever_the_function_catches(looking: Looking) -> None:
    def look(poll: Any, save: Callable[[Any], Any]) -> None:
        shelf = looking.memory.shelf
        now = shelf.checkpoints["p", "poll"]
        shelf.checkpoints["p", "poll"] = now.__class__(
            "p", "poll", b"theirs", poll.token + 1, f"{now.version}x"
        )
        save("ours")

    looking.start(look)
    looking.face.join()
    assert isinstance(looking.face.failure, StaleToken)
    assert looking.memory.shelf.checkpoints["p", "poll"].value == b"theirs"


def test_without_a_checkpoint_there_is_none(looking: Looking) -> None:
    said: SimpleQueue[str] = SimpleQueue()

    def look(poll: Any, save: Callable[[Any], Any]) -> None:
        try:
            assert poll.checkpoint
        except ConfigError as error:
            said.put(str(error))

    looking.start(look, keeps=False)
    assert "keeps no checkpoint" in said.get(timeout=LIMIT_S)
    looking.face.stop()
    assert not looking.memory.shelf.checkpoints


# -- threads ------------------------------------------------------------------------------------


def test_it_can_still_save_while_the_term_is_handed_over(
    memory: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking = Looking("sync", memory)
    begun, released = threading.Event(), threading.Event()
    release = memory.release

    async def released_now(*args: Any) -> Any:
        released.set()
        return await release(*args)

    monkeypatch.setattr(memory, "release", released_now)
    waited: list[bool] = []

    def look(poll: Any, save: Callable[[Any], Any]) -> None:
        begun.set()
        assert poll.lost.wait(LIMIT_S)
        waited.append(not released.wait(0.3))
        save("at the end")

    looking.start(look)
    assert begun.wait(LIMIT_S)
    looking.face._work.election.withdraw()
    looking.face.join()
    assert waited == [True], "the term was released while it was at work"
    assert released.is_set()
    assert memory.shelf.checkpoints["p", "poll"].value == b'"at the end"'


def test_an_interrupt_ends_it(memory: MemoryStore) -> None:
    def look(poll: incumbent.Poll) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        incumbent.Poller("p", look, every=60, store=memory, deadman=False).run()
    assert not memory.shelf.records["p"].session, "it was released"


def test_a_call_that_was_shut_out_never_begins() -> None:
    """The term ends while the call lies in the box: whoever waits for it would wait for ever."""
    term = testing.elected_term()
    calls: list[int] = []

    async def main() -> None:
        never = asyncio.Event()

        class Idle:
            term: Any
            gate: Any

            async def call(self, func: Any, *args: Any) -> Any:
                self.gate = func
                await never.wait()

        env: Any = Idle()
        env.term = term
        task = asyncio.ensure_future(called(env, calls.append, 1, awaits=False))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(LeadershipLost):
            env.gate(1)

    asyncio.run(main())
    assert not calls


@incumbent.poll("1h", name="in-another-process", keeps=False, store="memory://unused")
def in_another_process(poll: incumbent.Poll) -> None:
    """Say which process this is."""
    raise ValueError(f"pid {os.getpid()}")


def test_a_decorated_function_travels_to_another_process(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = f"sqlite://{tmp_path}/i.db"
    made = incumbent.Poller(
        "w",
        in_another_process.func,
        every="1h",
        keeps=False,
        errors="raise",
        isolate=True,
        store=store,
    )
    with pytest.raises(ValueError, match="pid") as end:
        made.run()
    assert str(end.value) != f"pid {os.getpid()}"


def test_a_decorated_function_can_still_be_called(memory: MemoryStore) -> None:
    @incumbent.poll("5s", store=memory)
    def Find_Mail(poll: Any) -> str:
        return f"called with {poll}"

    assert Find_Mail(1) == "called with 1"
    assert Find_Mail.election.name == "find-mail"


# -- asyncio ------------------------------------------------------------------------------------


def test_a_coroutine_is_cancelled_when_the_term_is_to_end() -> None:
    ended: list[str] = []

    async def main() -> None:
        begun = asyncio.Event()

        async def look(poll: aio.Poll) -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("the coroutine")

        poller = aio.Poller("p", look, every=1, keeps=False, store="memory://unused")
        run = asyncio.ensure_future(tasks.run(poller._plan.workload, testing.elected_term(), None))
        await asyncio.wait_for(begun.wait(), LIMIT_S)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(main())
    assert ended == ["the coroutine"]
