"""A face that is used as if it were the other one says so; no body runs without the lease."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest

from incumbent import ConfigError, Election, Health, NotElected, Term, aio
from incumbent.stores.memory import MemoryStore
from incumbent.testing import memory_store
from tests.faces import works
from tests.faces.programs import LIMIT_S

ran: list[str] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> Iterator[None]:
    ran.clear()
    yield
    assert ran == []


async def later(*_: object) -> None:
    ran.append("later")


async def stream(*_: object) -> AsyncIterator[int]:
    ran.append("stream")
    yield 1


def steps(*_: object) -> Iterator[int]:
    ran.append("steps")
    yield 1


class Later:
    async def __call__(self, term: object) -> None:
        ran.append("Later")


def _free(memory: MemoryStore) -> None:
    with Election("e", store=memory_store(beside=memory), ttl_s=60).hold(timeout_s=0):
        pass


@pytest.mark.parametrize("work", [later, stream, Later(), partial(later, 1), lambda _: later(1)])
def test_lead_cannot_run_what_is_asynchronous(work: Any, memory: MemoryStore) -> None:
    with pytest.raises(TypeError, match=r"asynchronous: use incumbent\.aio\.Election"):
        Election("e", store=memory, ttl_s=60).lead(work, deadman=False)
    _free(memory)


def test_generators_would_work_after_their_term(memory: MemoryStore) -> None:
    election = Election("e", store=memory)
    with pytest.raises(TypeError, match="generator function steps"):
        election.lead(steps, deadman=False)
    with pytest.raises(TypeError, match="generator function steps"):
        election.hold()(steps)


def test_hold_cannot_decorate_what_is_asynchronous(memory: MemoryStore) -> None:
    for function in (later, stream):
        with pytest.raises(TypeError, match=r"asynchronous: use incumbent\.aio\.Election"):
            Election("e", store=memory).hold()(function)
    hidden: Any = Election("e", store=memory, ttl_s=60).hold()(lambda number: later(0, number))
    with pytest.raises(TypeError, match=r"asynchronous: use incumbent\.aio\.Election"):
        hidden(1)
    _free(memory)


def test_each_hold_is_entered_in_its_own_way(memory: MemoryStore) -> None:
    plain: Any = Election("e", store=memory).hold()

    async def wrong() -> None:
        async with plain:
            ran.append("body")

    with pytest.raises(TypeError, match=r"`async with` needs incumbent\.aio\.Election"):
        asyncio.run(wrong())
    asynchronous: Any = aio.Election("e", store=memory).hold()
    with pytest.raises(TypeError, match="is entered by `async with`"), asynchronous:
        ran.append("body")


@pytest.mark.parametrize("work", [lambda term: None, stream])
def test_lead_of_asyncio_needs_something_to_await(work: Any, memory: MemoryStore) -> None:
    with pytest.raises(TypeError, match=r"cannot be awaited: lead\(\) of incumbent\.aio"):
        asyncio.run(aio.Election("e", store=memory, ttl_s=60).lead(work, deadman=False))
    _free(memory)


def test_what_returns_an_awaitable_is_good_enough(memory: MemoryStore) -> None:
    async def answer(term: aio.Term, number: int) -> int:
        return number

    election = aio.Election("e", store=memory, ttl_s=60)
    assert asyncio.run(election.lead(lambda term: answer(term, 7), deadman=False)) == 7


def test_hold_of_asyncio_decorates_something_to_await(memory: MemoryStore) -> None:
    nothing: Any = lambda: None  # noqa: E731  a type checker would refuse it
    function = aio.Election("e", store=memory, ttl_s=60).hold()(nothing)
    with pytest.raises(TypeError, match=r"cannot be awaited: hold\(\) of incumbent\.aio"):
        asyncio.run(function())
    _free(memory)


def test_a_health_check_that_nobody_awaits_is_no_yes(memory: MemoryStore) -> None:
    with pytest.raises(TypeError, match="the health check of lead"):
        Election("e", store=memory).lead(lambda term: None, health=Health(later), deadman=False)
    calls: list[Term] = []

    def work(term: Term) -> str:
        calls.append(term)
        if len(calls) == 1:
            assert term.lost.wait(LIMIT_S)
        return term.cause

    hidden = Health(lambda: later(0), every_s=0.01, failures=2)
    election = Election("e", store=memory, ttl_s=1)
    assert election.lead(work, health=hidden, deadman=False, timeout_s=LIMIT_S) == ""
    assert "failed 2 times" in calls[0].cause
    assert "incumbent.aio.Election" in calls[0].cause


@pytest.mark.parametrize(
    "wrong",
    [
        {"check": True},
        {"every_s": "5"},
        {"timeout_s": float("nan")},
        {"every_s": -1},
        {"failures": 0},
        {"failures": True},
    ],
)
def test_health_that_cannot_work(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}="):
        Health(**{"check": list, **wrong})


def test_isolated_work_that_cannot_travel_is_refused_before_anybody_is_elected(
    memory: MemoryStore,
) -> None:
    with Election("e", store=memory_store(beside=memory), ttl_s=60).hold():
        for lead in (
            Election("e", store=memory).lead,
            lambda work, **more: asyncio.run(aio.Election("e", store=memory).lead(work, **more)),
        ):
            with pytest.raises(ConfigError, match="can be imported by name"):
                lead(lambda term: None, isolate=True, timeout_s=0)
            with pytest.raises(NotElected):
                lead(works.answer, isolate=True, timeout_s=0)
