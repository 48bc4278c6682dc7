"""Which instants are ticks: intervals, lines of cron, and the days on which clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incumbent.errors import ConfigError
from incumbent.workloads.schedule import (
    Cron,
    Interval,
    Schedule,
    id_of,
    latest,
    parse,
    seconds_of,
    zone_of,
)
from tests.work.dst import AFTER, BEFORE, DAYS, LINES, Day, ms, runs, said

HOUR_MS = 3_600_000


def between(schedule: Schedule, after_ms: int, until_ms: int) -> list[int]:
    found = []
    tick = schedule.after(after_ms)
    while tick is not None and tick <= until_ms:
        found.append(tick)
        tick = schedule.after(tick)
    return found


# -- days of change


@pytest.mark.parametrize("day", DAYS, ids=lambda day: f"{day.zone}-{day.change:%m}")
@pytest.mark.parametrize("line", LINES)
def test_the_runs_on_a_day_of_change_are_those_of_the_table(line: str, day: Day) -> None:
    assert " ".join(said(tick, day) for tick in runs(line, day)) == day.runs[line]


@pytest.mark.parametrize("day", DAYS, ids=lambda day: f"{day.zone}-{day.change:%m}")
@pytest.mark.parametrize("line", LINES)
def test_a_search_that_begins_in_between_finds_the_same(line: str, day: Day) -> None:
    """As after a failover in the middle of the repeated hour."""
    schedule = Cron(line, zone_of(day.zone))
    ticks = between(
        schedule, ms(day.change - 2 * BEFORE), ms(day.change + 2 * AFTER) + 24 * HOUR_MS
    )
    for start in range(ms(day.change - BEFORE), ms(day.change + AFTER), 5 * 60_000):
        assert schedule.after(start) == next(tick for tick in ticks if tick > start)


def test_ids_are_unique_where_local_times_are_not() -> None:
    day = DAYS[1]
    ticks = list(runs("*/30 2 * * *", day))
    assert len({said(tick, day)[:5] for tick in ticks}) == 2
    assert len({id_of(tick) for tick in ticks}) == 4


def test_an_offset_of_half_an_hour_and_a_change_of_half_an_hour() -> None:
    zone = zone_of("Australia/Lord_Howe")
    back = datetime(2026, 4, 4, 15, tzinfo=UTC)
    found = between(Cron("45 1 * * *", zone), ms(back) - 4 * HOUR_MS, ms(back) + 4 * HOUR_MS)
    assert [id_of(tick) for tick in found] == ["2026-04-04T14:45:00Z"]
    moving = between(Cron("*/45 1 * * *", zone), ms(back) - 4 * HOUR_MS, ms(back) + 4 * HOUR_MS)
    assert [id_of(tick)[11:16] for tick in moving] == ["14:00", "14:45", "15:15"]


@given(
    start=st.integers(1_700_000_000, 1_900_000_000),
    line=st.sampled_from(["*/7 * * * *", "13 */5 * * *", "5 4 * * 1-5", "0 0 1 * *", "* * 29 2 *"]),
    zone=st.sampled_from(["UTC", "Europe/Vienna", "America/New_York", "Asia/Kolkata"]),
)
def test_a_tick_shows_a_time_that_the_line_names(start: int, line: str, zone: str) -> None:
    """But for one that a gap has moved; and nothing between the search's start and it does."""
    tick = Cron(line, zone_of(zone)).after(start * 1000)
    assert tick is not None
    assert tick > start * 1000
    shown = datetime.fromtimestamp(tick / 1000, UTC).astimezone(ZoneInfo(zone))
    minute, hour = line.split()[:2]
    if minute.isdigit() and hour.isdigit():
        moved = (
            shown.utcoffset()
            != (shown - timedelta(hours=3)).astimezone(UTC).astimezone(ZoneInfo(zone)).utcoffset()
        )
        assert moved or (shown.minute, shown.hour) == (int(minute), int(hour))
    if minute == "*/7":
        assert shown.minute % 7 == 0
        assert tick - start * 1000 <= 7 * 60_000


# -- looking back


@pytest.mark.parametrize("spec", ["0 * * * *", "*/5 * * * *", "@daily", "7s", "0 0 29 2 *"])
@pytest.mark.parametrize("most", [1, 3, 100])
def test_the_last_ticks_are_found_without_counting_all(spec: str, most: int) -> None:
    schedule = parse(spec)
    until = ms(datetime(2026, 5, 1, 12, 0, 1, tzinfo=UTC))
    for days in (0.001, 1, 40, 5000):
        after = until - int(days * 24 * HOUR_MS)
        found = latest(schedule, after, until, most)
        if days <= 1:
            assert found == between(schedule, after, until)[-most:]
        assert found == sorted(found)
        assert len(found) <= most
        assert all(after < tick <= until for tick in found)
        assert not found or (schedule.after(found[-1]) or until + 1) > until


# -- what is written


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("2d", 172_800),
        (1.5, 1.5),
        ("0.3s", 0.3),
        ("1.5h", 5400),
        ("1h0.5m", 3630),
    ],
)
def test_durations(text: str | float, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("30", "no duration"),
        ("", "no duration"),
        ("30 s", "2 fields"),
        ("0s", "10 ms to 400 days"),
        ("500d", "10 ms to 400 days"),
        ("61 * * * *", "Bad minute '61', which is a number from 0 to 59"),
        ("30 2 31 2 *", "Bad day-of-month '31', .* that its month has"),
        ("0 0 * * mun", "Bad day-of-week 'mun', .* sun to sat"),
        ("70 * * * * *", "Bad second '70'"),
        ("0 60 * * * *", "Bad minute '60'"),
        ("1.s", "no duration"),
        (".5s", "no duration"),
        ("* * * *", "4 fields"),
        ("0 0 30 2 *", "Bad day-of-month|never comes"),
        ("@reboot", "there is no '@reboot': there are @yearly, .* @hourly"),
        ("@dayly", "there is no '@dayly'"),
    ],
)
def test_what_cannot_be_understood_says_how_to_write_it(spec: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as raised:
        parse(spec)
    assert any(word in str(raised.value) for word in ("write", "must be", "there are"))


def test_a_zone_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="Europe/Wien"):
        zone_of("Europe/Wien")


def test_intervals_are_counted_from_the_epoch() -> None:
    schedule = Interval(30_000)
    assert schedule.after(1_000_001) == 1_020_000
    assert schedule.after(1_020_000) == 1_050_000
    assert schedule.text == "every 30s"
