"""A candidate of ours on a real store: the driver, with a listener that writes down what it hears.

As a program (`python -m tests.stores.candidate URL NAME IDENTITY TTL_S`) it prints one JSON line an
event, so that it can be killed like client-go's.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

from incumbent.clock import boottime
from incumbent.core import events as ev
from incumbent.core.records import Snapshot
from incumbent.core.timing import Timing
from incumbent.runtime.driver import Driver
from incumbent.runtime.hub import Hub
from incumbent.runtime.term import Term
from incumbent.stores.api import Store, StoreURL
from incumbent.stores.kubernetes import open as open_kubernetes

Event = dict[str, Any]


class Recorder:
    """Hears the driver. The work of a term ends at once when it is told to stop."""

    def __init__(self, on_event: Callable[[Event], None] = lambda event: None) -> None:
        self.events: list[Event] = []
        self.driver: Driver | None = None
        self._on_event = on_event
        self._came = asyncio.Event()

    def note_down(self, kind: str, **more: Any) -> None:
        event = {"event": kind, "at": boottime(), **more}
        self.events.append(event)
        self._on_event(event)
        self._came.set()

    def begun(self, term: Term) -> None:
        self.note_down("begun", token=term.token, term=term)

    def stop(self, term: Term, why: ev.Why, cause: str, deadline: float) -> None:
        assert self.driver is not None
        driver = self.driver
        asyncio.get_running_loop().call_soon(driver.work_ended, term)
        self.note_down("stopped", why=why, cause=cause, term=term)

    def stuck(self, term: Term, cause: str) -> None:
        self.note_down("stuck", cause=cause)

    def waiting(self, snapshot: Snapshot, until: float) -> None:
        self.note_down("waiting", holder=snapshot.holder, holding=snapshot.holding, until=until)

    def note(self, code: str, text: str) -> None:
        self.note_down("note", code=code, text=text)

    def closed(self) -> None:
        self.note_down("closed")

    def all(self, kind: str) -> list[Event]:
        return [event for event in self.events if event["event"] == kind]

    async def until(
        self,
        kind: str,
        limit_s: float,
        where: Callable[[Event], bool] = lambda event: True,
        count: int = 1,
    ) -> Event:
        """Return the `count`th event of this kind, waiting until there is one."""
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    found = [event for event in self.all(kind) if where(event)]
                    if len(found) >= count:
                        return found[count - 1]
                    self._came.clear()
                    await self._came.wait()
        except TimeoutError:
            raise AssertionError(f"no {kind!r} within {limit_s} s: {self.events}") from None


def candidate(store: Store, name: str, identity: str, timing: Timing) -> Recorder:
    """Start a candidate; its driver is in the recorder."""
    recorder = Recorder()
    hub = Hub(store, identity, None)
    recorder.driver = Driver(
        hub, name, identity, f"r{id(recorder):x}", timing, recorder, armed=False
    )
    recorder.driver.start()
    return recorder


def plan(ttl_s: float) -> Timing:
    return Timing.plan(ttl_s, whole_seconds=True)


async def _main(url: str, name: str, identity: str, ttl_s: float) -> None:
    def tell(event: Event) -> None:
        sys.stdout.write(json.dumps(event, default=str) + "\n")
        sys.stdout.flush()

    store = open_kubernetes(StoreURL.parse(url))
    await store.open()
    recorder = candidate(store, name, identity, plan(ttl_s))
    recorder._on_event = tell
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])))
