"""What lines of cron do on the days on which clocks are put forward and back.

    python -m tests.work.dst

prints every run, in two zones. The table is what `docs/periodic.md` promises; a test holds the
schedules against it, however the search for the next tick is begun.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from incumbent.workloads.schedule import Cron, id_of, instant_of, zone_of

__all__ = ["DAYS", "LINES", "Day", "runs", "said"]


@dataclass(frozen=True)
class Day:
    """A day of change.

    Attributes:
        zone: where.
        change: when, in UTC.
        what: what becomes of the clocks.
        runs: for each of `LINES`, the local times at which it runs near the change.
    """

    zone: str
    change: datetime
    what: str
    runs: dict[str, str]


LINES = ("30 2 * * *", "30 1 * * *", "0,30 2 * * *", "0 * * * *", "*/30 * * * *", "*/30 2 * * *")
BEFORE, AFTER = timedelta(hours=2), timedelta(hours=2)

VIENNA, NEW_YORK = "Europe/Vienna", "America/New_York"
FORWARD, BACK = "2:00 becomes 3:00", "{} comes twice"

DAYS = (
    Day(
        VIENNA,
        datetime(2026, 3, 29, 1, tzinfo=UTC),
        FORWARD,
        {
            "30 2 * * *": "03:00+02",
            "30 1 * * *": "01:30+01",
            "0,30 2 * * *": "03:00+02",
            "0 * * * *": "00:00+01 01:00+01 03:00+02 04:00+02",
            "*/30 * * * *": "00:00+01 00:30+01 01:00+01 01:30+01 "
            "03:00+02 03:30+02 04:00+02 04:30+02",
            "*/30 2 * * *": "",
        },
    ),
    Day(
        VIENNA,
        datetime(2026, 10, 25, 1, tzinfo=UTC),
        BACK.format("2:00 to 3:00"),
        {
            "30 2 * * *": "02:30+02",
            "30 1 * * *": "01:30+02",
            "0,30 2 * * *": "02:00+02 02:30+02",
            "0 * * * *": "01:00+02 02:00+02 02:00+01 03:00+01",
            "*/30 * * * *": "01:00+02 01:30+02 02:00+02 02:30+02 "
            "02:00+01 02:30+01 03:00+01 03:30+01",
            "*/30 2 * * *": "02:00+02 02:30+02 02:00+01 02:30+01",
        },
    ),
    Day(
        NEW_YORK,
        datetime(2026, 3, 8, 7, tzinfo=UTC),
        FORWARD,
        {
            "30 2 * * *": "03:00-04",
            "30 1 * * *": "01:30-05",
            "0,30 2 * * *": "03:00-04",
            "0 * * * *": "00:00-05 01:00-05 03:00-04 04:00-04",
            "*/30 * * * *": "00:00-05 00:30-05 01:00-05 01:30-05 "
            "03:00-04 03:30-04 04:00-04 04:30-04",
            "*/30 2 * * *": "",
        },
    ),
    Day(
        NEW_YORK,
        datetime(2026, 11, 1, 6, tzinfo=UTC),
        BACK.format("1:00 to 2:00"),
        {
            "30 2 * * *": "02:30-05",
            "30 1 * * *": "01:30-04",
            "0,30 2 * * *": "02:00-05 02:30-05",
            "0 * * * *": "00:00-04 01:00-04 01:00-05 02:00-05",
            "*/30 * * * *": "00:00-04 00:30-04 01:00-04 01:30-04 "
            "01:00-05 01:30-05 02:00-05 02:30-05",
            "*/30 2 * * *": "02:00-05 02:30-05",
        },
    ),
)


def runs(line: str, day: Day) -> Iterator[int]:
    """Return the ticks of a line within two hours of the change."""
    schedule = Cron(line, zone_of(day.zone))
    tick = schedule.after(ms(day.change - BEFORE) - 1)
    while tick is not None and tick < ms(day.change + AFTER):
        yield tick
        tick = schedule.after(tick)


def ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)


def said(tick_ms: int, day: Day) -> str:
    """Return a tick as the clock on the wall shows it, with its offset."""
    return instant_of(tick_ms, zone_of(day.zone)).strftime("%H:%M%z")[:-2]


def main() -> None:
    for day in DAYS:
        print(f"{day.zone}, {day.change:%d %B %Y}: {day.what}")
        for line in LINES:
            found = list(runs(line, day))
            print(f"  {line:14} {' '.join(said(tick, day) for tick in found) or '(no run)'}")
            print(f"  {'':14} {' '.join(id_of(tick)[11:16] for tick in found)} UTC")


if __name__ == "__main__":
    main()
