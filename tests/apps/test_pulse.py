"""A liveness probe hears of a keeper that hangs, from either kind of application."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from incumbent.apps import asgi, pulse, wsgi
from incumbent.runtime.keeper import Keeper


def ask_wsgi() -> tuple[int, Any]:
    said: list[str] = []
    body = wsgi.alive()({"REQUEST_METHOD": "GET"}, lambda status, headers: said.append(status))
    return int(said[0].split()[0]), json.loads(b"".join(body))


def ask_asgi() -> tuple[int, Any]:
    said: list[Any] = []

    async def receive() -> dict[str, Any]:
        raise AssertionError("nothing is to be heard")

    async def send(message: Any) -> None:
        said.append(message)

    async def ask() -> None:
        await asgi.alive()({"type": "http", "method": "GET"}, receive, send)

    asyncio.run(ask())
    return said[0]["status"], json.loads(said[1]["body"])


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(pulse, "ANSWER_S", 0.05)
    go_on, hangs = threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        go_on.wait()

    Keeper.current().loop.call_soon_threadsafe(hang)
    hangs.wait()
    yield
    go_on.set()
    Keeper.current().submit(asyncio.sleep(0)).result()


@pytest.mark.parametrize("ask", [ask_wsgi, ask_asgi])
def test_a_keeper_that_turns_is_alive(ask: Any) -> None:
    assert ask() == (200, {"alive": True})


@pytest.mark.usefixtures("hanging")
@pytest.mark.parametrize("ask", [ask_wsgi, ask_asgi])
def test_a_keeper_that_hangs_is_not(ask: Any) -> None:
    status, answer = ask()
    assert (status, answer["alive"]) == (503, False)
