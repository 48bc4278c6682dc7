"""What operators order from outside: run now, pause, resume.

A checkpoint of its own beside the election, `orders`, in which only operators write: by compare and
swap, each over what it has read. The holder only reads, and notes in the task's own document which
order it has served last. So neither ever overwrites the other, and no order is lost:

- An order to run now has a serial number and an id. It stays until the task's document says that
  its number was claimed, which is the same write as the claim. It is claimed once.
- Numbers grow past those that were served, also after this checkpoint was deleted. If a task's
  document was deleted, nobody knows which orders were served: none of before is.
- Whoever sends an order of an id that is there already sends nothing. So one whose answer was lost
  is sent again.
- Pause and resume are a state, and not a sequence: the last one counts. A pause has the times at
  which it was ordered and ended, for ticks that came before and after are none of its business.
  Those are an operator's clock, so the holder believes them no further than from its last look on.
- So is the order that ticks begin at the present again. It has an id, and the task's document says
  which id was obeyed last.

The token of this checkpoint stays 0: nobody who writes here has a term.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from incumbent.core.records import Checkpoint
from incumbent.errors import OutcomeUnknown, StoreUnavailable, StoreUnusable
from incumbent.runtime.checkpoints import Archive
from incumbent.runtime.term import Term
from incumbent.stores.api import MAX_CHECKPOINT_BYTES
from incumbent.workloads.env import Clock
from incumbent.workloads.periodic.agenda import Agenda

__all__ = ["MOST_WAITING", "PART", "Ask", "Desk", "Orders"]

PART = "orders"
MOST_WAITING = 100
FORMAT = 1
_KEPT = 200
_ROOM_BYTES = MAX_CHECKPOINT_BYTES - 2_000
_LOOK_EVERY_S = 2.0
_ALL = ""


@dataclass(frozen=True, slots=True)
class Ask:
    """An order to run a task now.

    Attributes:
        serial: grows with each order under this election.
        id: of the order; one that is there already is not given again.
        job: the task.
        at_ms: what the operator's clock showed, for people.
    """

    serial: int
    id: str
    job: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Orders:
    """All that was ordered under one election.

    Attributes:
        serial: of the last change.
        all_paused: whether all tasks are paused.
        paused: those that are paused singly.
        since: for each pause, what the operator's clock showed; "" is the one of all tasks.
        until: the same of the end of the last pause.
        asks: to run now; the served ones are dropped in time.
        fresh: for some tasks, the id of the last order to begin at the present again.
    """

    serial: int = 0
    all_paused: bool = False
    paused: frozenset[str] = frozenset()
    asks: tuple[Ask, ...] = ()
    fresh: Mapping[str, str] = field(default_factory=dict)
    since: Mapping[str, int] = field(default_factory=dict)
    until: Mapping[str, int] = field(default_factory=dict)

    def pauses(self, job: str) -> bool:
        """Tell whether a task is paused."""
        return self.all_paused or job in self.paused

    @property
    def pausing(self) -> frozenset[str]:
        """The tasks that are paused singly, and "" if all are."""
        return self.paused | ({_ALL} if self.all_paused else set())

    def next_ask(self, job: str, served: int) -> Ask | None:
        """Return the first order to run `job` now that comes after number `served`."""
        asks = (ask for ask in self.asks if ask.job == job and ask.serial > served)
        return min(asks, key=lambda ask: ask.serial, default=None)

    # -- for operators ----------------------------------------------------------------------------

    def with_ask(self, id: str, job: str, at_ms: int, served: dict[str, int]) -> Orders:
        """Return it with an order to run `job` now; as it is if there is one of that id.

        Args:
            id: of the order.
            job: the task.
            at_ms: the operator's time.
            served: for each task, the number of the last order that it has claimed.
        """
        if any(ask.id == id for ask in self.asks):
            return self
        waiting = [ask for ask in self.asks if ask.serial > served.get(ask.job, 0)]
        done = [ask for ask in self.asks if ask.serial <= served.get(ask.job, 0)]
        if len(waiting) >= MOST_WAITING:
            return self
        serial = max(self.serial, *served.values(), 0) + 1
        ask, done = Ask(serial, id, job, at_ms), done[-_KEPT:]
        while True:
            found = replace(self, serial=serial, asks=(*done, *waiting, ask))
            if not done or len(found.encode()) <= _ROOM_BYTES:
                return found
            done = done[len(done) // 8 + 1 :]

    def with_pause(self, job: str | None, at_ms: int = 0) -> Orders:
        """Return it with one task paused, or all of them.

        Args:
            job: the task; None for all of them.
            at_ms: the operator's time; 0 if nobody knows.
        """
        key = job or _ALL
        if key in self.pausing:
            return self
        since = {**self.since, key: at_ms}
        if job is None:
            return self._numbered(replace(self, all_paused=True, since=since))
        return self._numbered(replace(self, paused=self.paused | {job}, since=since))

    def without_pause(self, job: str | None, at_ms: int = 0) -> Orders:
        """Return it with one task resumed, or all of them.

        Args:
            job: the task; None for all of them.
            at_ms: the operator's time; 0 if nobody knows.
        """
        if not (self.pausing if job is None else job in self.paused):
            return self
        until = {**self.until, job or _ALL: at_ms}
        if job is None:
            free = replace(self, all_paused=False, paused=frozenset(), since={}, until=until)
            return self._numbered(free)
        since = {key: at_ms for key, at_ms in self.since.items() if key != job}
        return self._numbered(replace(self, paused=self.paused - {job}, since=since, until=until))

    def with_fresh(self, id: str, jobs: Iterable[str]) -> Orders:
        """Return it with the order, of that id, that ticks of these tasks begin at the present."""
        return self._numbered(replace(self, fresh={**self.fresh, **dict.fromkeys(jobs, id)}))

    def _numbered(self, changed: Orders) -> Orders:
        return self if changed == self else replace(changed, serial=self.serial + 1)

    def encode(self) -> bytes:
        """Return it as it is kept."""
        plain = {
            "v": FORMAT,
            "serial": self.serial,
            "all": self.all_paused,
            "paused": sorted(self.paused),
            "asks": [[ask.serial, ask.id, ask.job, ask.at_ms] for ask in self.asks],
            "fresh": dict(self.fresh),
            "since": dict(self.since),
            "until": dict(self.until),
        }
        return json.dumps(plain, separators=(",", ":")).encode()

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Orders:
        """Return what was ordered.

        Raises:
            StoreUnusable: it cannot be understood.
        """
        if not checkpoint.value:
            return cls()
        try:
            data = json.loads(checkpoint.value)
            if data["v"] != FORMAT:
                raise ValueError(f"its version is {data['v']!r}, and this one knows {FORMAT}")
            return cls(
                serial=int(data["serial"]),
                all_paused=bool(data["all"]),
                paused=frozenset(data["paused"]),
                asks=tuple(Ask(*ask) for ask in data["asks"]),
                fresh={str(job): str(id) for job, id in data.get("fresh", {}).items()},
                since={str(job): int(at) for job, at in data.get("since", {}).items()},
                until={str(job): int(at) for job, at in data.get("until", {}).items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreUnusable(
                f"the orders for {checkpoint.name!r} cannot be understood: {error}. Upgrade this "
                "program"
            ) from error


class Desk:
    """The holder's side: what is ordered now, for all tasks of one election.

    A thousand tasks that are due at once share one look.
    """

    def __init__(self, archive: Archive, term: Term, clock: Clock, agenda: Agenda) -> None:
        self._archive = archive
        self._term = term
        self._clock = clock
        self._agenda = agenda
        self._looking: asyncio.Task[Orders] | None = None
        self._next: asyncio.Task[Orders] | None = None
        self._looked_ms = 0
        self._since: dict[str, int] = {}
        self._until: dict[str, tuple[int, int]] = {}
        self.orders = Orders()

    async def fresh(self) -> Orders:
        """Return what is ordered, by a look that has begun after this call.

        Raises:
            LeadershipLost: the term ended.
            StoreError: the store refuses; what may pass is tried again.
        """
        if self._next is None:
            self._next = asyncio.create_task(self._look_after(self._looking))
        return await asyncio.shield(self._next)

    def paused_since_ms(self, job: str) -> int:
        """Return since when a task is paused, by this host's clock as near as that can be known."""
        found = (self._since[key] for key in (job, _ALL) if key in self._since)
        return min(found, default=self._agenda.now_ms())

    def paused_until_ms(self, job: str) -> int:
        """Return until when a task was paused, by this host's clock as near as can be known."""
        found = (self._until[key][1] for key in (job, _ALL) if key in self._until)
        return max(found, default=self._agenda.now_ms())

    async def watch(self) -> None:
        """Look every few seconds, for the orders that no tick would make us look for."""
        while True:
            await self.fresh()
            await self._clock.sleep(_LOOK_EVERY_S)

    async def close(self) -> None:
        """Leave no look behind."""
        tasks = [task for task in (self._looking, self._next) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_after(self, before: asyncio.Task[Orders] | None) -> Orders:
        if before is not None:
            await asyncio.wait([before])
        self._looking, self._next = self._next, None
        began_ms = self._agenda.now_ms()
        orders = await self._look()
        if orders != self.orders:
            self._since, self._until = self._begun(orders), self._over(orders)
            self.orders = orders
            self._agenda.wake_all()
        self._looked_ms = began_ms
        return orders

    def _begun(self, orders: Orders) -> dict[str, int]:
        """Return since when each pause is: a new one since the last look at the earliest."""
        return {
            key: self._since[key] if key in self._since else self._dated(orders.since.get(key, 0))
            for key in orders.pausing
        }

    def _over(self, orders: Orders) -> dict[str, tuple[int, int]]:
        """Return for each end of a pause what the operator's clock showed, and when it was."""
        known, now_ms = self._until, self._agenda.now_ms()
        return {
            key: known[key]
            if key in known and known[key][0] == at_ms
            else (at_ms, self._dated(at_ms or now_ms))
            for key, at_ms in orders.until.items()
        }

    def _dated(self, at_ms: int) -> int:
        return min(self._agenda.now_ms(), max(self._looked_ms, at_ms))

    async def _look(self) -> Orders:
        pause_s = self._archive.settings.timing.retry_every_s
        while True:
            try:
                found = await self._archive.read(self._term.name, PART, self._term.check)
                return Orders.of(found)
            except (OutcomeUnknown, StoreUnavailable):
                await asyncio.sleep(min(pause_s, self._term.remaining()))
