"""One process with many periodic tasks, or with bare timers of asyncio; how late each begins.

Events: `ready` when the first period may begin, `spread` and `aligned` with the delays in ms of all
tasks in one period. Spread: each task has an instant of its own. Aligned: all have the same.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from datetime import UTC, tzinfo

from benchmarks.programs.stamps import tell
from incumbent import Tick, aio

_AHEAD_MS = 2_000


class Instants:
    """One tick in each period, at an offset of its own."""

    zone: tzinfo = UTC

    def __init__(self, period_ms: int, offset_ms: int) -> None:
        self.text = f"every {period_ms} ms at {offset_ms}"
        self._period_ms, self._offset_ms = period_ms, offset_ms

    def after(self, instant_ms: int) -> int:
        period_ms, offset_ms = self._period_ms, self._offset_ms
        return ((instant_ms - offset_ms) // period_ms + 1) * period_ms + offset_ms


async def ours(options: argparse.Namespace, schedules: list[Instants], kind: str) -> list[float]:
    """Return the delay of one run of each task, when all of them have run before."""
    delays: dict[str, float] = {}
    warm: dict[str, float] = {}
    done = asyncio.Event()

    settled = 0.0

    async def work(tick: Tick) -> None:
        nonlocal settled
        now_s, due_s = time.time(), tick.due.timestamp()
        if len(warm) < len(schedules):
            warm[tick.job] = now_s
        elif due_s > (settled := settled or now_s + _AHEAD_MS / 1000):
            delays.setdefault(tick.job, (now_s - due_s) * 1000)
        if len(delays) == len(schedules):
            done.set()

    jobs = aio.Jobs(f"schedules-{kind}", store=options.store)
    for number, schedule in enumerate(schedules):
        jobs.add(work, schedule, name=f"task-{number}")
    async with jobs:
        await done.wait()
    return list(delays.values())


async def bare(schedules: list[Instants]) -> list[float]:
    """Return the delay of a timer at the first instant of each schedule."""
    loop = asyncio.get_running_loop()
    delays: list[float] = []
    done = asyncio.Event()

    def fire(due_ms: int) -> None:
        delays.append(time.time() * 1000 - due_ms)
        if len(delays) == len(schedules):
            done.set()

    now_s, now_ms = loop.time(), time.time() * 1000
    for schedule in schedules:
        due_ms = schedule.after(int(now_ms) + _AHEAD_MS)
        loop.call_at(now_s + (due_ms - now_ms) / 1000, fire, due_ms)
    await done.wait()
    return delays


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--store", default="", help="none for bare timers")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--period", type=float, default=60.0)
    options = parser.parse_args()
    period_ms = round(options.period * 1000)
    spread = [Instants(period_ms, period_ms * n // options.count) for n in range(options.count)]
    aligned = [Instants(period_ms // 2, 0)] * options.count
    tell("ready")
    for kind, schedules in (("spread", spread), ("aligned", aligned)):
        made = ours(options, schedules, kind) if options.store else bare(schedules)
        tell(kind, delays_ms=await made)


if __name__ == "__main__":
    asyncio.run(main())
