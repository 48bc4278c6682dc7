"""Elections for asyncio: the work is cancelled and awaited, and only then does the lease go."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from incumbent import Election, IncumbentError, LeadershipLost, NotElected, aio, testing
from incumbent.runtime.keeper import Keeper
from incumbent.stores.memory import MemoryStore
from tests.faces.programs import LIMIT_S, Start
from tests.faces.test_sync import Watch

R = TypeVar("R")


def run(main: Callable[[], Awaitable[R]]) -> R:
    async def limited() -> R:
        async with asyncio.timeout(LIMIT_S):
            return await main()

    return asyncio.run(limited())


def election(store: Any, **more: Any) -> aio.Election:
    return aio.Election("e", store=store, **{"ttl_s": 5.0, **more})


def test_many_tasks_never_two_at_once(memory: MemoryStore) -> None:
    stores = [memory, testing.memory_store(beside=memory), testing.memory_store(beside=memory)]
    inside = 0
    tokens: list[int] = []

    async def work(number: int) -> None:
        nonlocal inside
        for _ in range(4):
            async with election(stores[number % 3], as_=f"c{number}").hold() as term:
                inside += 1
                assert inside == 1
                await asyncio.sleep(0)
                term.check()
                tokens.append(term.token or 0)
                inside -= 1

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(9):
                group.create_task(work(number))

    run(main)
    assert len(tokens) == 36
    assert tokens == sorted(set(tokens))


def test_who_does_not_wait_is_not_elected(memory: MemoryStore) -> None:
    async def main() -> None:
        other = election(testing.memory_store(beside=memory))
        async with election(memory).hold():
            for timeout_s in (0, 0.1):
                with pytest.raises(NotElected):
                    async with other.hold(timeout_s=timeout_s):
                        pytest.fail("two hold")
            with pytest.raises(NotElected, match="in this process already"):
                async with election(memory).hold(timeout_s=0):
                    pytest.fail("two hold")
        async with other.hold(timeout_s=0) as term:
            term.check()

    run(main)


def test_a_hold_is_entered_once_and_decorates(memory: MemoryStore) -> None:
    async def main() -> None:
        hold = election(memory).hold(timeout_s=LIMIT_S)
        async with hold:
            with pytest.raises(IncumbentError, match="make one for each"):
                await hold.__aenter__()

        @election(memory).hold(timeout_s=LIMIT_S)
        async def nightly() -> str:
            return "done"

        assert await nightly() == "done"
        assert await nightly() == "done"

    run(main)


def test_elected_in_the_very_moment_of_giving_up(memory: MemoryStore) -> None:
    async def main() -> None:
        for delay_s in (1e-6, 1e-4, 5e-4, 1e-3, 2e-3):
            for _ in range(15):
                try:
                    async with election(memory).hold(timeout_s=delay_s) as term:
                        term.check()
                except NotElected:
                    continue
        async with election(testing.memory_store(beside=memory)).hold() as term:
            term.check()

    run(main)


def test_elected_while_the_loop_stands_still_and_the_waiter_gives_up(memory: MemoryStore) -> None:
    """The keeper has begun the term; nobody here wants it any more."""
    watch = Watch()

    async def main() -> None:
        rival = Election("e", store=testing.memory_store(beside=memory), ttl_s=60)
        with rival.hold():
            waiting = asyncio.ensure_future(
                election(memory, observer=watch).hold(timeout_s=None).__aenter__()
            )
            await asyncio.to_thread(watch.until, "standby")
        watch.until("elected")  # This loop stands still: the term and the end arrive together.
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with rival.hold(timeout_s=LIMIT_S) as term:
            term.check()

    run(main)


def test_the_body_is_cancelled_when_the_term_is_lost(memory: MemoryStore) -> None:
    ended: list[bool] = []

    @election(memory, ttl_s=1.0).hold()
    async def body() -> None:
        memory.shelf.sessions.clear()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def main() -> None:
        with pytest.raises(LeadershipLost, match="was lost while the body ran"):
            await body()
        assert ended
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
        await asyncio.sleep(0)

    run(main)


def test_somebody_elses_cancellation_is_never_taken_for_ours(memory: MemoryStore) -> None:
    """Both at the same moment: what waits for the task to end must not wait for ever."""

    async def main() -> None:
        began, watch = asyncio.Event(), Watch()

        async def work() -> None:
            async with election(memory, ttl_s=1.0, observer=watch).hold():
                began.set()
                await asyncio.Event().wait()

        task = asyncio.ensure_future(work())
        await began.wait()
        memory.shelf.sessions.clear()
        watch.until("stopping")  # This loop stands still: both cancellations arrive together.
        asyncio.get_running_loop().call_soon(task.cancel)
        await asyncio.wait([task], timeout=LIMIT_S / 2)
        assert task.cancelled()

    run(main)


def test_a_body_that_has_ended_is_not_cancelled_afterwards(memory: MemoryStore) -> None:
    watch = Watch()

    async def main() -> None:
        rival = Election("e", store=testing.memory_store(beside=memory), ttl_s=60)
        hold = election(memory, observer=watch).hold()
        with rival.hold():
            entering = asyncio.ensure_future(_enter_and_leave(hold))
            await asyncio.to_thread(watch.until, "standby")
        watch.until("elected")
        memory.shelf.sessions.clear()
        watch.until("stopping")  # All of that while this loop stands still.
        with pytest.raises(LeadershipLost):
            await entering

    run(main)


async def _enter_and_leave(hold: aio.Hold) -> None:
    async with hold:
        pass


def test_the_result_is_returned_and_an_error_is_raised_after_the_release(
    memory: MemoryStore,
) -> None:
    async def good(term: aio.Term) -> str:
        term.check()
        return "done"

    async def bad(term: aio.Term) -> str:
        raise ZeroDivisionError

    async def main() -> None:
        assert await election(memory).lead(good, deadman=False) == "done"
        with pytest.raises(ZeroDivisionError):
            await election(memory).lead(bad, deadman=False)
        async with election(testing.memory_store(beside=memory)).hold(timeout_s=0):
            pass

    run(main)


def test_stepping_down_cancels_and_awaits_and_then_releases(memory: MemoryStore) -> None:
    order: list[str] = []

    async def main() -> None:
        leader = election(memory, as_="one", ttl_s=60, grace_s=20)
        began, go_on = asyncio.Event(), asyncio.Event()

        async def work(term: aio.Term) -> str:
            if order:
                return "again"
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                await go_on.wait()
                term.check()
                order.append("end of one")
            return "not reached"

        async def follow() -> None:
            store = testing.memory_store(beside=memory)
            async with election(store, as_="two", ttl_s=60).hold():
                order.append("begin of two")

        one = asyncio.ensure_future(leader.lead(work, deadman=False))
        await began.wait()
        two = asyncio.ensure_future(follow())
        leader.step_down()
        await asyncio.sleep(0.1)  # sleep: nothing may happen in this time
        assert order == []
        go_on.set()
        await two
        assert order == ["end of one", "begin of two"]
        assert await one == "again"

    run(main)


def test_lead_is_cancelled_from_outside(memory: MemoryStore) -> None:
    async def main() -> None:
        began, ended = asyncio.Event(), asyncio.Event()

        async def work(term: aio.Term) -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                term.check()
                ended.set()

        task = asyncio.ensure_future(election(memory).lead(work, deadman=False))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()
        async with election(testing.memory_store(beside=memory)).hold(timeout_s=0):
            pass

    run(main)


def test_lost_the_work_is_run_again(memory: MemoryStore) -> None:
    tokens: list[int | None] = []

    async def work(term: aio.Term) -> str:
        tokens.append(term.token)
        if len(tokens) == 1:
            memory.shelf.sessions.clear()
            await asyncio.Event().wait()
        if len(tokens) == 2:
            memory.shelf.sessions.clear()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                term.check()
        return "done"

    async def main() -> None:
        assert await election(memory, ttl_s=1.0).lead(work, deadman=False) == "done"

    run(main)
    assert len(tokens) == 3


def test_who_wakes_up_before_the_keeper_contends_again(memory: MemoryStore) -> None:
    attempts = 0

    async def work(term: aio.Term) -> str:
        nonlocal attempts
        attempts += 1
        if attempts > 1:
            return "done"
        go_on = threading.Event()
        Keeper.current().loop.call_soon_threadsafe(go_on.wait, LIMIT_S)
        try:
            while True:
                term.check()
                await asyncio.sleep(0.01)  # sleep: the trust runs out without an event
        finally:
            go_on.set()

    async def main() -> None:
        assert await election(memory, ttl_s=1.0).lead(work, deadman=False) == "done"

    run(main)
    assert attempts == 2


def test_the_event_of_the_loss_can_be_awaited_and_callbacks_run_on_the_loop(
    memory: MemoryStore,
) -> None:
    async def main() -> None:
        threads: list[threading.Thread] = []

        async def work(term: aio.Term) -> str:
            called = asyncio.Event()

            def hear(_: object) -> None:
                threads.append(threading.current_thread())
                called.set()

            term.on_lost(hear)
            leader.step_down()
            try:
                await term.lost.wait()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await called.wait()
            return "told"

        leader = election(memory)
        with pytest.raises(NotElected):
            await leader.lead(_first(work), deadman=False, timeout_s=0.01)
        assert threads == [threading.main_thread()]

    run(main)


def _first(work: Callable[[aio.Term], Awaitable[str]]) -> Callable[[aio.Term], Awaitable[str]]:
    """Only the first term has this work; in the next, leading is refused."""
    calls: list[int] = []

    async def once(term: aio.Term) -> str:
        if calls:
            raise NotElected("enough")
        calls.append(1)
        return await work(term)

    return once


def test_a_blocked_loop_does_not_lose_the_lease(start: Start, url: str) -> None:
    source = """
        async def work(term):
            say("began", term.token)
            time.sleep(10)
            term.check()
            return term.token

        async def main():
            say("result", await aio.Election("e", store=sys.argv[1], ttl_s=1).lead(work))

        asyncio.run(main())
    """
    program = start(source, url)
    _, token = program.expect("began").split()

    async def main() -> None:
        with pytest.raises(NotElected):
            async with aio.Election("e", store=url, ttl_s=1).hold(timeout_s=5):
                pytest.fail("two hold")

    run(main)
    assert program.expect("result").split()[1] == token


def test_a_task_that_will_not_be_cancelled_is_killed(start: Start, url: str) -> None:
    source = """
        async def work(term):
            say("began")
            while True:
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    say("ignored")

        async def main():
            election = aio.Election("e", store=sys.argv[1], ttl_s=1.5, observer=hear_of)
            leading = asyncio.ensure_future(election.lead(work))
            await asyncio.to_thread(hear)
            election.step_down()
            await leading

        def hear_of(sighting):
            if sighting.event == "stuck":
                sys.stderr.write(sighting.text + chr(10))

        asyncio.run(main())
    """
    program = start(source, url)
    program.expect("began")
    program.tell("go")
    program.expect("ignored")
    assert program.wait() == -9
    errors = program.errors()
    assert "STUCK" in errors
    assert "outlived its term" in errors
    with Election("e", store=url, ttl_s=1.5).hold(timeout_s=LIMIT_S) as term:
        term.check()
