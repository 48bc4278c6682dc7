"""A connection to a store for the length of one command.

Commands only look, and leave requests: none of them is ever a candidate, so there is no keeper and
no thread, and none of them creates a store; each runs an event loop of its own.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

from incumbent.cli.logs import show_log
from incumbent.cli.options import Options
from incumbent.cli.progress import Progress
from incumbent.core.events import Evidence, Seen
from incumbent.core.records import Snapshot
from incumbent.errors import OutcomeUnknown, StoreError, StoreUnavailable
from incumbent.stores import open_store
from incumbent.stores.api import Sink, Store

__all__ = [
    "REQUEST_S",
    "Reports",
    "connected",
    "followed",
    "following",
    "requested",
    "with_store",
    "written",
]

T = TypeVar("T")

Reports = asyncio.Queue[tuple[str, Snapshot | Evidence]]
"""What a store reports: the name of an election, and its record or the proof of a death."""

REQUEST_S = 10.0
"""The time limit of one request. Nobody is renewed here, so it can be generous."""


def with_store(options: Options, work: Callable[[Store], Awaitable[T]]) -> T:
    """Run `work` with the store that was asked for."""
    store = open_store(options.url())

    async def main() -> T:
        async with connected(store, quiet=options.quiet):
            return await work(store)

    return asyncio.run(main())


@asynccontextmanager
async def connected(store: Store, *, quiet: bool = False) -> AsyncIterator[None]:
    """Open `store` as one who only looks, and close it in the end; show what it warns of.

    Raises:
        StoreAbsent: it does not exist yet.
        StoreError: it cannot be used.
    """

    def write(text: str) -> None:
        if not quiet:
            print(f"incumbent: {text}", file=sys.stderr, flush=True)

    show_log(write)
    try:
        async with Progress(f"connecting to {store.url}", quiet=quiet):
            await requested(store, store.open(create=False))
        yield
    finally:
        # Also after a failed open: a thread may have been started.
        await store.close()


async def requested(store: Store, request: Awaitable[T]) -> T:
    """Await one request that changes nothing, but not for ever.

    Raises:
        StoreUnavailable: there was no answer in time.
    """
    silent = f"{store.url} gave no answer within {REQUEST_S:g} s"
    return await _answered(request, StoreUnavailable(silent))


async def written(store: Store, request: Awaitable[T]) -> T:
    """Await one request that writes, but not for ever.

    Raises:
        OutcomeUnknown: there was no answer in time, and it may have had its effect.
    """
    unknown = (
        f"{store.url} gave no answer within {REQUEST_S:g} s: it is not known whether it was "
        "done; look, and run this again if it was not"
    )
    return await _answered(request, OutcomeUnknown(unknown))


async def _answered(request: Awaitable[T], otherwise: StoreError) -> T:
    try:
        async with asyncio.timeout(REQUEST_S):
            return await request
    except TimeoutError:
        raise otherwise from None


@asynccontextmanager
async def following(store: Store, names: Iterable[str]) -> AsyncIterator[Reports]:
    """Follow elections; yields a queue of what the store reports of them."""
    queue: Reports = asyncio.Queue()
    with followed(store, names, lambda name, report: queue.put_nowait((name, report))):
        yield queue


@contextmanager
def followed(
    store: Store, names: Iterable[str], tell: Callable[[str, Snapshot | Evidence], None]
) -> Iterator[None]:
    """Follow elections; what the store reports of them is told to `tell`."""

    def sink_for(name: str) -> Sink:
        def sink(event: Seen | Evidence) -> None:
            tell(name, event.snapshot if isinstance(event, Seen) else event)

        return sink

    sinks = {name: sink_for(name) for name in names}
    for name, sink in sinks.items():
        store.follow(name, sink)
    try:
        yield
    finally:
        for name, sink in sinks.items():
            store.unfollow(name, sink)
