"""Whole histories of beats, decided by a seed, and a judge who knows only what the broker got.

Terms follow one another on hosts whose clocks differ. They end by plan or by death; answers of the
store are late or lost, and the broker refuses messages, or takes them and does not say so.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from incumbent.apps.celery.dispatch import PART, Dispatch
from incumbent.apps.celery.notes import Note, decode
from incumbent.workloads.schedule import Interval
from tests.workloads.periodic_world import EPOCH_S, NAME, Host, World
from tests.workloads.virtual import run

__all__ = ["Message", "Verdict", "play"]

EVERY_S = 10
SKEW_S = 3.0
ENTRIES = ("count", "mail")


@dataclass(frozen=True)
class Message:
    """One message that the broker got.

    Attributes:
        entry: whose it is.
        tick: the number of the entry's tick.
        instant: which instant of the schedule that was, by the clock of who claimed it.
        id: of the task.
        token: of the term.
        told: whether the sender was told that the broker has it.
        claimed: whether the store had the claim by then.
    """

    entry: str
    tick: int
    instant: int
    id: str
    token: int
    told: bool
    claimed: bool


@dataclass(frozen=True)
class Verdict:
    """What was found in one history."""

    messages: int
    faults: tuple[str, ...]


class _Beats(World):
    """Beats whose entries are due at each multiple of `EVERY_S`, and a broker."""

    def __init__(self, seed: int, latency_s: float, lost: float, broken: float) -> None:
        super().__init__(Interval(1000), seed=seed, latency_s=latency_s, lost=lost)
        self.broken = broken
        self.got: list[Message] = []
        self.caller = self._called

    def workload(self, host: Host) -> Dispatch:
        return Dispatch(_Entries(self, host))

    async def _called(self, func: Callable[..., Any], *args: Any) -> Any:
        await asyncio.sleep(self.latency())  # sleep: in virtual time
        result = func(*args)
        await asyncio.sleep(self.latency())  # sleep: in virtual time
        return result

    def notes(self) -> dict[str, Note]:
        found = self.store.shelf.checkpoints.get((NAME, PART))
        return decode(found.value if found else b"", "the test")


class _Entries:
    def __init__(self, world: _Beats, host: Host) -> None:
        self._world = world
        self._host = host
        self._notes: dict[str, Note] = {}

    def _wall(self) -> float:
        return EPOCH_S + self._world.now_s + self._host.offset_s

    def take_over(self, notes: dict[str, Note]) -> dict[str, Note]:
        fresh = Note(self._wall(), 0)
        self._notes = {name: notes.get(name, fresh) for name in ENTRIES}
        return dict(self._notes)

    def due(self) -> tuple[list[str], float]:
        waits = {name: _next(note) - self._wall() for name, note in self._notes.items()}
        return [name for name, wait_s in waits.items() if wait_s <= 0], min(5.0, *waits.values())

    def claim(self, name: str) -> Note:
        self._notes[name] = Note(self._wall(), self._notes[name].count + 1)
        return self._notes[name]

    def send(self, name: str, note: Note, token: int | None) -> bool:
        world = self._world
        taken = world.random.random() >= world.broken
        told = taken and world.random.random() >= world.broken
        if taken:
            claimed = world.notes().get(name) == note
            instant = int(note.last_run_at // EVERY_S)
            world.got.append(
                Message(name, note.count, instant, note.message, token or 0, told, claimed)
            )
        return told


def _next(note: Note) -> float:
    return (note.last_run_at // EVERY_S + 1) * EVERY_S


def play(seed: int) -> Verdict:
    """Play the history of `seed`, and judge it."""
    dice = random.Random(seed)
    world = _Beats(
        seed,
        latency_s=dice.choice([0.001, 0.1, 0.4]),
        lost=dice.choice([0.0, 0.2]),
        broken=dice.choice([0.0, 0.0, 0.3]),
    )
    killed: set[int] = set()

    async def story() -> None:
        hosts = [Host(world, name, dice.uniform(-SKEW_S, SKEW_S)) for name in "abc"]
        for _ in range(dice.randint(3, 9)):
            host = dice.choice(hosts)
            await host.elect()
            await world.until(world.now_s + dice.uniform(0.01, 45))
            if dice.random() < 0.5:
                killed.add(world.token)
                await host.die()
            else:
                await host.step_down()
            await world.until(world.now_s + dice.choice([0.0, 0.5, 12.0]))
        world.broken = 0.0
        await hosts[0].elect()
        await world.until(world.now_s + 60)
        await hosts[0].step_down()

    run(story())
    return Verdict(len(world.got), tuple(_faults(world.got, killed)))


def _faults(got: list[Message], killed: set[int]) -> list[str]:
    faults = [f"{message} was not claimed" for message in got if not message.claimed]
    if [message.token for message in got] != sorted(message.token for message in got):
        faults.append("a former holder has sent")
    by_entry: dict[str, list[Message]] = defaultdict(list)
    for message in got:
        by_entry[message.entry].append(message)
    if set(by_entry) != set(ENTRIES):
        faults.append(f"only {sorted(by_entry)} were sent")
    for entry, messages in by_entry.items():
        firsts = list({message.tick: message for message in reversed(messages)}.values())[::-1]
        ticks = [message.tick for message in firsts]
        if ticks != list(range(1, len(ticks) + 1)):
            faults.append(f"{entry}: the ticks {ticks}")
        instants = [message.instant for message in firsts]
        if instants != sorted(set(instants)):
            faults.append(f"{entry}: the instants {instants}")
        if len({(message.tick, message.id) for message in messages}) != len(ticks):
            faults.append(f"{entry}: a tick with two ids")
        last: dict[str, Message] = {}
        for message in messages:
            before = last.get(message.id)
            if before is not None and before.told and before.token not in killed:
                faults.append(f"{entry}: {message.tick} was sent again without need")
            last[message.id] = message
    return faults
