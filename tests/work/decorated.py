"""An application of a web server, with one decorated function. What it does is a line in a file."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import incumbent

__all__ = ["app", "beat"]


@incumbent.every("1s", name="beat", missed="all", background=True)
def beat(tick: incumbent.Tick) -> None:
    tick.check()
    line = f"{tick.id} {tick.attempt} {tick.token} {os.getpid()}\n"
    file = os.open(os.environ["RUNS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())
    os.close(file)


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer everything with an empty list."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"[]"})
