"""Which of the ticks that have come are run, and which are dropped. Pure: the time goes in."""

from __future__ import annotations

from dataclasses import dataclass

from incumbent.workloads.periodic.choices import Choices
from incumbent.workloads.schedule import Schedule, latest

__all__ = ["Judgement", "judge", "ripe_ms"]

COUNTED = 200
"""Of more ticks than this that were dropped it is only said that they were many."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of the ticks of a stretch of time.

    Attributes:
        chosen: those to run, in order.
        dropped: those that are not; the last `COUNTED` of them.
        many: whether there were more.
        through_ms: the last of all of them, or where the stretch began.
    """

    chosen: tuple[int, ...]
    dropped: tuple[int, ...]
    many: bool
    through_ms: int


def ripe_ms(job: str, choices: Choices, tick_ms: int) -> int:
    """Return when a tick may begin."""
    return tick_ms + choices.jitter_ms(job, tick_ms)


def judge(
    job: str,
    schedule: Schedule,
    choices: Choices,
    *,
    after_ms: int,
    now_ms: int,
    overrun: bool = False,
) -> Judgement:
    """Judge the ticks after `after_ms` that may begin by now.

    A tick that jitter holds back holds back all that are later, so that they stay in order.
    """
    word = choices.on_overrun if overrun else choices.missed
    limit = choices.missed_limit if word == "all" else 1
    found = latest(schedule, after_ms, now_ms, limit + COUNTED + 1)
    if choices.jitter_s:
        unripe = next(
            (n for n, tick in enumerate(found) if ripe_ms(job, choices, tick) > now_ms), len(found)
        )
        found = found[:unripe]
    many = len(found) > limit + COUNTED
    if many:
        found = found[1:]
    through_ms = found[-1] if found else after_ms
    kept = limit
    if word == "skip" and found:
        late_ms = now_ms - ripe_ms(job, choices, found[-1])
        if overrun or late_ms > choices.late_s * 1000:
            kept = 0
    split = max(0, len(found) - kept)
    return Judgement(tuple(found[split:]), tuple(found[:split]), many, through_ms)
