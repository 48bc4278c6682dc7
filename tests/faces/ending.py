"""What a program that has ended leaves in its store."""

from __future__ import annotations

import asyncio

from incumbent.core.records import Holding
from incumbent.stores import open_store
from incumbent.workloads.periodic.document import Document

__all__ = ["holding", "outcomes"]


def holding(url: str, name: str) -> Holding:
    """Return whether somebody holds it."""

    async def read() -> Holding:
        store = open_store(url)
        await store.open(create=False)
        try:
            return (await store.read(name)).holding
        finally:
            await store.close()

    return asyncio.run(read())


def outcomes(url: str, name: str, task: str = "main") -> list[str]:
    """Return how the noted runs of a job ended, those in which it still runs as "running"."""

    async def read() -> bytes:
        store = open_store(url)
        await store.open(create=False)
        try:
            return (await store.checkpoint(name, f"job.{task}")).value
        finally:
            await store.close()

    document = Document.decode(asyncio.run(read()), "the test")
    running = [] if document.run is None else ["running"]
    return [row.outcome for row in document.rows if row.outcome != "missed"] + running
