"""Stretches of time: in which no tick was claimed, and in which no tick may be claimed again. Pure.

A host whose clock is far ahead runs ticks of the future, and its successors wait until their own
clocks have got there. On an operator's word the ticks begin at the present again. What was claimed
must not be claimed a second time, and the history is too short to say what was. So there is a note
of what certainly was not:

1. **Ticks that were dropped were never claimed.** A clock that leaps passes over ticks, and a term
   that drops some knows from where to where. That is a *free* stretch.
2. **Who goes back goes back into a free stretch, and runs on to its end.** From there up to what
   was done with before, nothing is run any more: that stretch is *barred*, for some of its ticks
   were claimed, and nobody knows which. It is as long as the wrong host led.
3. **A barred stretch is no free one**, also if a later leap passes over it.

What was dropped because a run took too long is not noted: that is no leap, and would put the others
out. Only the last few leaps are remembered. If the present is in none of them, nothing changes.
"""

from __future__ import annotations

from datetime import tzinfo

from incumbent.workloads.schedule import Schedule

__all__ = ["LEAP_MS", "Stretch", "leapt", "rewound", "without"]

Stretch = tuple[int, int]
"""The ticks that are later than the first number, and not later than the second."""

LEAP_MS = 60_000
"""What is shorter is not noted."""
_REMEMBERED = 8


def without(schedule: Schedule, barred: tuple[Stretch, ...]) -> Schedule:
    """Return a schedule without the ticks of barred stretches."""
    return _Without(schedule, barred) if barred else schedule


class _Without:
    """A schedule without the ticks of barred stretches."""

    def __init__(self, schedule: Schedule, barred: tuple[Stretch, ...]) -> None:
        self._schedule = schedule
        self._barred = barred

    @property
    def text(self) -> str:
        """The rule, for people."""
        return self._schedule.text

    @property
    def zone(self) -> tzinfo:
        """The time zone in which its ticks are shown."""
        return self._schedule.zone

    def after(self, instant_ms: int) -> int | None:
        """Return the first tick that is later."""
        tick = self._schedule.after(instant_ms)
        for begin_ms, end_ms in self._barred:
            if tick is not None and begin_ms < tick <= end_ms:
                tick = self._schedule.after(end_ms)
        return tick


def leapt(
    free: tuple[Stretch, ...], passed: Stretch, barred: tuple[Stretch, ...]
) -> tuple[Stretch, ...]:
    """Return the free stretches after ticks were passed over, the latest of them last."""
    parts = [passed]
    for begin_ms, end_ms in barred:
        parts = [
            part
            for first, last in parts
            for part in ((first, min(last, begin_ms)), (max(first, end_ms), last))
        ]
    more = (part for part in parts if part[1] - part[0] > LEAP_MS)
    return (*free, *more)[-_REMEMBERED:]


def rewound(
    free: tuple[Stretch, ...], barred: tuple[Stretch, ...], now_ms: int, through_ms: int
) -> tuple[tuple[Stretch, ...], tuple[Stretch, ...]] | None:
    """Return what is free and what is barred if ticks go on after `now_ms`; None if they cannot.

    Args:
        free: what is free now.
        barred: what is barred now.
        now_ms: the present.
        through_ms: the ticks up to here are done with.
    """
    found = [stretch for stretch in free if stretch[0] <= now_ms < stretch[1]]
    if not found or now_ms >= through_ms:
        return None
    begin_ms, end_ms = found[-1]
    kept = (stretch for stretch in free if stretch[1] <= now_ms)
    claimed = ((end_ms, through_ms),) if end_ms < through_ms else ()
    return (*kept, (begin_ms, now_ms)), tuple(sorted({*barred, *claimed}))
