"""Replicas of a spread, all in this process, each with a store object of its own beside the others.

Every work that begins or ends is written down in one place, so that it is seen at once if two work
on one election. What is asked of the store is counted.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import incumbent
from incumbent import aio
from incumbent.core.records import Claim, Held, Lease, Snapshot, StepDownRequest
from incumbent.runtime.keeper import Keeper
from incumbent.stores.memory import MemoryStore, Shelf

LIMIT_S = float(os.environ.get("LIMIT_OF_TESTS_S", "30"))
GROUP = "group"
TTL_S = 10.0
FACES = ("threads", "asyncio")


class Stage:
    """What all replicas of a test share."""

    def __init__(self) -> None:
        self.shelf = Shelf()
        self.calls: Counter[str] = Counter()
        self.mistakes: list[str] = []
        self.works: dict[str, list[str]] = {}
        self.begun: list[tuple[str, str]] = []
        self.most: Counter[str] = Counter()
        self._changed = threading.Condition()

    def store(self, label: str) -> Counting:
        return Counting(self, label)

    def note(self, what: str) -> None:
        with self._changed:
            self.calls[what] += 1
            self._changed.notify_all()

    def begin(self, replica: str, name: str) -> None:
        with self._changed:
            others = self.works.setdefault(name, [])
            if others:
                self.mistakes.append(f"{replica} works on {name} beside {others}")
            others.append(replica)
            self.begun.append((replica, name))
            self.most[replica] = max(self.most[replica], self.loads[replica])
            self._changed.notify_all()

    def end(self, replica: str, name: str) -> None:
        with self._changed:
            self.works[name].remove(replica)
            self._changed.notify_all()

    @property
    def loads(self) -> dict[str, int]:
        loads = Counter(replica for working in self.works.values() for replica in working)
        return dict(sorted(loads.items()))

    def until(self, holds: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(holds, LIMIT_S), (self.loads, self.calls, self.mistakes)

    def until_even(self, elections: int, replicas: int, *, idle: bool = True) -> None:
        """Wait until they are even, and, unless not `idle`, nobody has the turn."""

        def even() -> bool:
            loads = self.loads.values()
            return (
                sum(loads) == elections
                and len(loads) == min(elections, replicas)
                and max(loads) - min(loads) <= 1
                and not (idle and self.turn.lease_key)
            )

        self.until(even)

    @property
    def turn(self) -> Snapshot:
        return MemoryStore(self.shelf)._snapshot(GROUP)

    def followers(self, name: str) -> int:
        return len(self.shelf.sinks.get(name, ()))


class Counting(MemoryStore):
    """Counts what it is asked for, and sees whether two handovers are under way at once."""

    def __init__(self, stage: Stage, label: str) -> None:
        super().__init__(stage.shelf, label)
        self._stage = stage
        self._label = label

    async def read(self, name: str) -> Snapshot:
        self._stage.note("read")
        return await super().read(name)

    async def take(self, name: str, claim: Claim, over: Snapshot) -> Held:
        self._stage.note("take")
        return await super().take(name, claim, over)

    async def renew(self, lease: Lease) -> Lease:
        self._stage.note("renew")
        return await super().renew(lease)

    async def release(self, held: Held, lease: Lease, successor: str) -> Snapshot:
        done = await super().release(held, lease, successor)
        self._stage.note("release")
        return done

    async def ask(self, name: str, request: StepDownRequest) -> Snapshot:
        under_way = [
            each
            for each, record in self.shelf.records.items()
            if record.request is not None and record.session in self.shelf.sessions
        ]
        if under_way:
            self._stage.mistakes.append(f"{self._label} asks for {name} beside {under_way}")
        done = await super().ask(name, request)
        self._stage.note("ask")
        return done

    def follow(self, name: str, sink: Any) -> None:
        super().follow(name, sink)
        self._stage.note(f"follow {name}")


Work = Callable[[incumbent.Term], None]


class Replica:
    """One of them; its work lasts until its term is to end, unless it is told otherwise."""

    def __init__(
        self,
        stage: Stage,
        label: str,
        names: Sequence[str],
        face: str = "threads",
        work: Work | None = None,
        **options: Any,
    ) -> None:
        self.label = label
        self.failure: BaseException | None = None
        self._stage = stage
        self._work = work
        options = {
            "store": stage.store(label),
            "as_": label,
            "ttl_s": TTL_S,
            "pause_s": 0.02,
            **options,
        }
        self.spread: incumbent.Spread | aio.Spread
        run: Callable[[], None]
        if face == "threads":
            spread = self.spread = incumbent.Spread(GROUP, names, self._in_thread, **options)
            run = lambda: spread.run(deadman=False)  # noqa: E731
        else:
            tasks = self.spread = aio.Spread(GROUP, names, self._in_task, **options)
            run = lambda: asyncio.run(tasks.run(deadman=False))  # noqa: E731
        self._thread = threading.Thread(target=self._run, args=(run,))

    def start(self) -> Replica:
        self._thread.start()
        return self

    def _run(self, run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:
            self.failure = error
        self._stage.note(f"{self.label} is gone")

    def _in_thread(self, term: incumbent.Term) -> None:
        self._stage.begin(self.label, term.name)
        try:
            if self._work is not None:
                self._work(term)
            else:
                term.lost.wait(LIMIT_S)
        finally:
            self._stage.end(self.label, term.name)

    async def _in_task(self, term: aio.Term) -> None:
        self._stage.begin(self.label, term.name)
        try:
            if self._work is not None:
                self._work(term)
            else:
                await asyncio.sleep(LIMIT_S)  # sleep: until it is cancelled
        finally:
            self._stage.end(self.label, term.name)

    def join(self) -> None:
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive()

    def stop(self) -> None:
        self.spread.stop()
        self.join()


class Outsider:
    """A holder that is no replica: it has what it takes until it dies, and answers to nobody."""

    def __init__(self, stage: Stage, names: Sequence[str], label: str = "z_1") -> None:
        self.names = list(names)
        self.label = label
        self._stage = stage
        self._store = MemoryStore(stage.shelf)
        self._session: Lease | None = None

    def take(self) -> Outsider:
        """Hold them all."""
        on_keeper(self._take())
        return self

    def die(self) -> None:
        """Leave all of them vacant at one instant."""
        on_keeper(self._die())

    async def _take(self) -> None:
        session = self._session = await self._store.open_session(self.label, 600.0)
        for name in self.names:
            claim = Claim(self.label, f"{self.label}/{name}", 600.0, session)
            await self._store.take(name, claim, await self._store.read(name))

    async def _die(self) -> None:
        assert self._session is not None
        del self._stage.shelf.sessions[self._session.key]
        for name in self.names:
            self._store._tell(name)


def on_keeper(work: Coroutine[Any, Any, Any]) -> Any:
    return Keeper.current().submit(work).result(LIMIT_S)
