"""Whole histories of one periodic task, decided by a seed, and a judge who knows only the log.

Terms follow one another on hosts whose clocks differ, and step. They end by plan or by death;
answers are late or lost; the function takes its time, and fails. The judge looks at what the
function has seen, and at what is noted in the end.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass

from incumbent.workloads.periodic import Choices
from incumbent.workloads.periodic.document import PENDING, RETRY
from incumbent.workloads.schedule import Interval
from tests.workloads.periodic_world import EPOCH_S, Event, Host, World
from tests.workloads.virtual import run

__all__ = ["Verdict", "play"]

EVERY_S = 10
SKEW_S = 3.0


@dataclass(frozen=True)
class Verdict:
    """What was found in one history.

    Attributes:
        ticks: how many were begun.
        faults: what must not be.
    """

    ticks: int
    faults: tuple[str, ...]


def play(seed: int) -> Verdict:
    """Play the history of `seed`, and judge it."""
    dice = random.Random(seed)
    choices = Choices(
        missed=dice.choice(["all", "all", "latest", "skip"]),
        on_overrun=dice.choice(["skip", "latest", "all"]),
        on_interrupted=dice.choice(["rerun", "skip"]),
        retries=dice.choice([0, 0, 2]),
        reruns=100,
        backoff_s=1.5,
        jitter_s=dice.choice([0, 0, 4]),
    )
    world = World(
        Interval(EVERY_S * 1000),
        choices,
        seed=seed,
        latency_s=dice.choice([0.001, 0.1, 0.4]),
        lost=dice.choice([0.0, 0.2]),
    )
    lasts = dice.choice([0.5, 4.0, 14.0])
    world.lasts_s = lambda tick: random.Random(f"{tick.id}{tick.token}").uniform(0, lasts)
    broken = dice.choice([0.0, 0.3]) if choices.retries else 0.0

    def fails(tick: object) -> BaseException | None:
        wrong = world.random.random() < broken
        return ValueError("on purpose") if wrong else None

    world.fails = fails
    killed: set[int] = set()

    async def story() -> None:
        hosts = [Host(world, name, dice.uniform(-SKEW_S, SKEW_S)) for name in "abc"]
        for _ in range(dice.randint(3, 9)):
            host = dice.choice(hosts)
            await host.elect()
            token = world.token
            await world.until(world.now_s + dice.uniform(0.01, 45))
            if dice.random() < 0.3:
                host.offset_s = dice.uniform(-SKEW_S, SKEW_S)
            await world.until(world.now_s + dice.uniform(0, 3))
            if dice.random() < 0.5:
                killed.add(token)
                await host.die()
            else:
                await host.step_down()
            await world.until(world.now_s + dice.choice([0.0, 0.5, 12.0]))

    run(story())
    return Verdict(len(set(world.begun())), tuple(_faults(world, choices, killed)))


def _faults(world: World, choices: Choices, killed: set[int]) -> list[str]:
    faults = []
    begins: dict[str, list[Event]] = defaultdict(list)
    ends: dict[str, list[Event]] = defaultdict(list)
    for event in world.log:
        (begins if event.what == "begin" else ends)[event.tick].append(event)
    for tick, runs in begins.items():
        attempts = [event.attempt for event in runs]
        if attempts != sorted(set(attempts)):
            faults.append(f"{tick} has the attempts {attempts}")
        if [event.token for event in runs] != sorted(event.token for event in runs):
            faults.append(f"{tick} went back to an earlier term")
        for end in ends[tick]:
            later = [event for event in runs if event.at_s > end.at_s]
            if end.what == "end" and later and end.token not in killed:
                faults.append(f"{tick} was run again after it had ended")
    faults += [f"{e.tick} was begun, and not claimed" for e in world.log if e.what == "unclaimed"]
    order = list(begins)
    if order != sorted(order):
        faults.append("ticks came out of order")
    for event in world.log:
        due_s = _due_s(event.tick)
        if event.what == "begin" and event.at_s < due_s - SKEW_S - 0.01:
            faults.append(f"{event.tick} began {due_s - event.at_s:.1f} s before it was due")
    faults += _missing(world, choices, order)
    return faults


def _missing(world: World, choices: Choices, order: list[str]) -> list[str]:
    """Every tick between the first and the last known one was begun, or is noted as dropped."""
    if not order:
        return []
    noted = world.noted()
    run_ids = {*order, *(row.id for row in noted.rows)}
    if noted.run is not None and noted.run.state in (PENDING, RETRY):
        run_ids.add(noted.run.id)
    first, last = round(_due_s(order[0])), round(_due_s(order[-1]))
    missing = [
        World.tick(at) for at in range(first, last, EVERY_S) if World.tick(at) not in run_ids
    ]
    dropped = sum(row.count for row in noted.rows if row.outcome in ("missed", "overrun"))
    rows = sum(row.outcome in ("missed", "overrun") for row in noted.rows)
    if choices.missed == "all" and any(row.outcome == "missed" for row in noted.rows):
        return ["a tick was dropped as missed, under 'all'"]
    if len(missing) > dropped - rows:
        return [f"{missing} were neither begun nor noted as dropped"]
    return []


def _due_s(tick: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(tick).timestamp() - EPOCH_S
