"""A holder that lives but is not well gives way, and somebody else is elected."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from incumbent import Election, NotElected, Term, aio, testing
from incumbent.runtime.health import Health, HealthMonitor
from incumbent.stores.memory import MemoryStore
from tests.faces.programs import LIMIT_S
from tests.faces.test_sync import Watch


def hang() -> bool:
    return threading.Event().wait()


def fail() -> bool:
    raise ZeroDivisionError("no connection")


def deny() -> bool:
    return False


def leave() -> bool:
    raise SystemExit


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (deny, "it said no"),
        (fail, "no connection"),
        (hang, r"no answer within 0\.02 s"),
        (leave, "SystemExit"),
    ],
)
def test_the_sick_is_stopped_then_released_and_another_follows(
    check: Callable[[], bool], said: str, memory: MemoryStore
) -> None:
    order: list[str] = []
    watch, follower = Watch(), Watch()
    store = testing.memory_store(beside=memory)
    health = Health(check, every_s=0.01, timeout_s=0.02, failures=3)

    def work(term: Term) -> str:
        if order:
            return "again"
        thread.start()
        follower.until("standby")
        assert term.lost.wait(LIMIT_S)
        term.check()
        order.append("end of the sick")
        return "told"

    def follow() -> None:
        with Election("e", store=store, ttl_s=60, observer=follower).hold(timeout_s=LIMIT_S):
            order.append("begin of the other")

    thread = threading.Thread(target=follow)
    sick = Election("e", store=memory, ttl_s=60, grace_s=10, observer=watch)
    assert sick.lead(work, deadman=False, health=health) == "again"
    thread.join(LIMIT_S)
    assert order == ["end of the sick", "begin of the other"]
    told = watch.until("stopping").text
    assert "the health check failed 3 times" in told
    assert re.search(said, told)


def test_only_failures_in_a_row_count() -> None:
    answers = iter([False, False, True, False, False, True])
    done, sick = threading.Event(), threading.Event()

    def check() -> bool:
        try:
            return next(answers)
        except StopIteration:
            done.set()
            return True

    monitor = HealthMonitor(
        Health(check, every_s=0.001, timeout_s=5, failures=3), lambda _: sick.set()
    )
    assert done.wait(LIMIT_S)
    monitor.stop()
    assert not sick.is_set()


def test_after_the_work_nobody_is_asked(memory: MemoryStore) -> None:
    asked = threading.Event()

    def check() -> bool:
        asked.set()
        return True

    health = Health(check, every_s=0.01)

    def work(term: Term) -> str:
        assert asked.wait(LIMIT_S)
        return "well"

    assert Election("e", store=memory).lead(work, deadman=False, health=health) == "well"
    for thread in threading.enumerate():
        if thread.name == "incumbent-health":
            thread.join(LIMIT_S)
            assert not thread.is_alive()


@pytest.mark.parametrize("answer", [False, ZeroDivisionError("no"), None])
def test_a_coroutine_is_asked_on_the_loop(answer: Any, memory: MemoryStore) -> None:
    threads: set[threading.Thread] = set()

    async def check() -> Any:
        threads.add(threading.current_thread())
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def work(term: aio.Term) -> str:
        if threads:
            raise NotElected("enough")
        await term.lost.wait()
        return "told"

    async def main() -> None:
        health = Health(check, every_s=0.01, timeout_s=0.05, failures=2)
        sick = aio.Election("e", store=memory, ttl_s=60)
        with pytest.raises(NotElected):
            await sick.lead(work, deadman=False, health=health)

    asyncio.run(asyncio.wait_for(main(), LIMIT_S))
    assert threads == {threading.main_thread()}
