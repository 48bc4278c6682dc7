"""Trouble of a consumer: what is said of it, how often, and that it is no hot loop."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from incumbent.errors import SourceUnavailable
from incumbent.stores.memory import MemoryStore
from incumbent.workloads.consumer.machine import REMIND_S
from incumbent.workloads.env import Clock
from incumbent.workloads.reason import LONGEST
from incumbent.workloads.sources.api import Item
from incumbent.workloads.sources.memory import MemorySource, Shelf
from tests.workloads.consuming import consumer, until
from tests.workloads.faces import FACES, Face


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Face:
    return Face(request.param)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let waits pass at once, and note them; the clock stands as far as they say."""
    passed: list[float] = []

    async def sleep(clock: Clock, delay_s: float) -> None:
        passed.append(delay_s)
        await asyncio.sleep(0)

    monkeypatch.setattr(Clock, "sleep", sleep)
    monkeypatch.setattr(Clock, "now", lambda clock: sum(passed))
    return passed


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("error", [Mute(), ValueError("\udcff"), ValueError("x" * 200_000)])
def test_whatever_a_failure_says_it_is_buried_and_the_rest_goes_on(
    face: Face, memory: MemoryStore, error: Exception
) -> None:
    seen: list[str] = []
    shelf = Shelf([b"a", b"poison", b"c"])

    def handle(item: Item) -> None:
        seen.append(item.text)
        if item.text == "poison":
            raise error

    face.start(consumer(face, shelf, memory, handle, retries=1))
    until(lambda: not shelf.waiting, "all are settled")
    face.stop()
    assert seen == ["a", "poison", "poison", "c"]
    ((identity, _, reason),) = shelf.dead
    assert identity == "2"
    assert reason.encode()
    assert len(reason) <= LONGEST


def test_one_that_cannot_be_buried_is_no_hot_loop(
    face: Face, memory: MemoryStore, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like RabbitMQ, the source gives it as a new one each time that it is opened."""
    shelf, refused = Shelf([b"a", b"poison", b"c"]), 8

    async def bury(source: MemorySource, item: Item, place: str, reason: str) -> None:
        nonlocal refused
        if refused:
            refused -= 1
            shelf.handed.clear()
            raise SourceUnavailable("too large")
        shelf.dead.append((item.id, place, reason))

    monkeypatch.setattr(MemorySource, "bury", bury)

    def handle(item: Item) -> None:
        if item.text == "poison":
            raise ValueError("poison")

    face.start(consumer(face, shelf, memory, handle, retries=0))
    until(lambda: not shelf.waiting, "all are settled")
    face.stop()
    assert pauses == [0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0]


def test_trouble_that_lasts_is_said_again_once_in_a_while(
    face: Face, memory: MemoryStore, pauses: list[float], caplog: Any
) -> None:
    caplog.set_level(logging.WARNING, "incumbent")
    shelf = Shelf([b"a"])
    shelf.broken = True
    face.start(consumer(face, shelf, memory, lambda item: None))
    until(lambda: sum(pauses) > 2.5 * REMIND_S, "a long time has passed")
    shelf.broken = False
    until(lambda: not shelf.waiting, "it goes on")
    face.stop()
    told = [text for text in caplog.messages if "the shelf is broken" in text]
    assert sum(pauses) // (REMIND_S + 2.0) <= len(told) - 1 <= sum(pauses) // REMIND_S
