"""A shop: orders are taken by every replica, and counted by one of them.

Its settings are environment variables: LEDGER is a sqlite file for what the work has done.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

from fastapi import FastAPI

import incumbent
from incumbent import aio
from incumbent.apps.asgi import lifespan, status

LEDGER = os.environ["LEDGER"]


def note(kind: str, tick: str, token: int) -> None:
    """Write down what was done, by whom, and under which token."""
    with closing(sqlite3.connect(LEDGER, timeout=30)) as db, db:
        db.execute("INSERT INTO done VALUES (?, ?, ?, ?)", (kind, tick, token, os.getpid()))


@incumbent.every("1s", ttl_s=2, missed="all")
def count(tick: incumbent.Tick) -> None:
    """Count the orders, in a thread."""
    note("count", tick.id, tick.token)


@aio.every("1s", ttl_s=2, missed="all")
async def mail(tick: incumbent.Tick) -> None:
    """Send mail, on the event loop."""
    note("mail", tick.id, tick.token)


@asynccontextmanager
async def provide(app: FastAPI) -> AsyncIterator[dict[str, str]]:
    """Provide what the application needs."""
    yield {"provided": "yes"}


app = FastAPI(lifespan=lifespan(count, mail, around=provide))
app.mount("/work", status(count, mail))


@app.get("/orders")
def orders() -> dict[str, int]:
    """Answer, on every replica."""
    return {"worker": os.getpid()}
