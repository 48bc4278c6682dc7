"""An application whose work begins at its import, and takes a while to end.

LEDGER is a sqlite file for what the work has done. Started as a program it serves by `uvicorn.run`.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import uvicorn

import incumbent

__all__ = ["app", "linger"]


def note(kind: str, tick: incumbent.Tick) -> None:
    """Write down what has happened."""
    with closing(sqlite3.connect(os.environ["LEDGER"], timeout=30)) as db, db:
        db.execute("INSERT INTO done VALUES (?, ?, ?, ?)", (kind, tick.id, tick.token, os.getpid()))


@incumbent.every("100ms", ttl_s=15, background=True)
def linger(tick: incumbent.Tick) -> None:
    """Go on for a while after the term is to end."""
    note("begin", tick)
    tick.lost.wait()
    threading.Event().wait(0.5)
    note("end", tick)


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer everything with an empty list."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"[]"})


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]))
