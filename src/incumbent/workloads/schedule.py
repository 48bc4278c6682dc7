"""When a periodic task is due: intervals, and lines of cron in a time zone.

A *tick* is an instant, kept in whole milliseconds since the epoch. A schedule is a rule that says
which instants are ticks; it has no memory and no beginning, so that every replica, at every time,
finds the same ones. Intervals are counted from the epoch: `every("30s")` is at :00 and :30.

Cron, and when clocks are put forward or back
---------------------------------------------
The fields are read by `cronsim`, a small and kept library that follows Debian's cron. What becomes
of them on the days of a change is decided here, in the way of Debian's cron too:

- A line at **fixed times** (neither its minute nor its hour begins with `*`) runs once for every
  local time that it names. A time that is left out comes at the end of the gap. Of a time that
  comes twice, only the first is a tick. Several times in one gap are one tick.
- A line that begins its minute or its hour with `*`, and one with a field for seconds, follows the
  clock on the wall: every instant at which that shows a time that it names is a tick. So nothing
  comes in a gap, and what is repeated comes again.

Both are worked out from naive local times, and not left to arithmetic on aware ones: a search that
begins in the middle of a repeated hour must find what one that began a week earlier finds.

The identity of a tick is its instant in UTC, which no change of clocks makes twice.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Protocol

from incumbent.errors import ConfigError, MissingExtra

__all__ = [
    "Cron",
    "Interval",
    "Schedule",
    "id_of",
    "instant_of",
    "latest",
    "parse",
    "seconds_of",
    "zone_of",
]

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(
    "".join(rf"(?:(\d+(?:\.\d+)?){unit})?" for unit in ("d", "h", "m", "s", "ms")), re.ASCII
)
_LEAST_MS = 10
_LONGEST_MS = 400 * _UNITS_MS["d"]
_HOW = "write it as in '30s', '0.5s', '5m' or '1h30m'"
_CRON = "write five fields of cron as in '*/5 * * * *', or '@daily'"
_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS = {
    "second": "from 0 to 59",
    "minute": "from 0 to 59",
    "hour": "from 0 to 23",
    "day-of-month": "from 1 to 31, L or LW, and a day that its month has",
    "month": "from 1 to 12, or jan to dec",
    "day-of-week": "from 0 to 7, or sun to sat",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime(9000, 1, 1)  # noqa: DTZ001  local to whatever zone; later ones overflow
_STEP = timedelta(days=1)
_WINDOWS_MS = tuple(int(days * 86_400_000) for days in (0.002, 0.1, 2, 35, 400, 4_000))


class Schedule(Protocol):
    """A rule that says which instants are ticks.

    Attributes:
        text: the rule, for people; two that differ in it are different rules.
        zone: in which its ticks are shown.
    """

    @property
    def text(self) -> str:
        """The rule, for people."""
        ...

    @property
    def zone(self) -> tzinfo:
        """The time zone in which its ticks are shown."""
        ...

    def after(self, instant_ms: int) -> int | None:
        """Return the first tick that is later; None if there is none any more."""
        ...


class Interval:
    """A tick every so many milliseconds, counted from the epoch."""

    def __init__(self, every_ms: int, zone: tzinfo = UTC) -> None:
        if not _LEAST_MS <= every_ms <= _LONGEST_MS:
            raise ConfigError(
                f"an interval of {every_ms / 1000:g} s: it must be from {_LEAST_MS} ms to 400 days"
            )
        self.every_ms = every_ms
        self.zone = zone
        self.text = f"every {_spell(every_ms)}"

    def after(self, instant_ms: int) -> int:
        """Return the first tick that is later."""
        return (instant_ms // self.every_ms + 1) * self.every_ms


class Cron:
    """The ticks of a line of cron in a time zone."""

    def __init__(self, line: str, zone: tzinfo = UTC) -> None:
        fields = _NICKNAMES.get(line.strip().lower(), line).split()
        if line.strip().startswith("@") and len(fields) == 1:
            raise ConfigError(f"there is no {line!r}: there are {', '.join(_NICKNAMES)}")
        self._line = " ".join(fields)
        self.zone = zone
        self.text = f"cron {self._line} {zone}"
        if len(fields) not in (5, 6):
            raise ConfigError(f"{line!r} has {len(fields)} fields: {_CRON}")
        self.fixed = len(fields) == 5 and not any(field.startswith("*") for field in fields[:2])
        if self._next_local(_EPOCH.replace(tzinfo=None)) is None:
            raise ConfigError(f"{line!r} names a day that never comes: {_CRON}")

    def after(self, instant_ms: int) -> int | None:
        """Return the first tick that is later."""
        instant = _EPOCH + timedelta(milliseconds=instant_ms)
        found = self._after_fixed(instant) if self.fixed else self._after_moving(instant)
        return None if found is None else _ms(found)

    def _after_fixed(self, instant: datetime) -> datetime | None:
        """Go through the local times: their instants never decrease, so the first later one is it.

        Where the search begins in a repeated hour, those that it finds are not later, if they came
        the first time.
        """
        local: datetime | None = self._local(instant)
        while local is not None and (local := self._next_local(local)) is not None:
            found = self._instant(local)
            if found > instant:
                return found
        return None

    def _after_moving(self, instant: datetime) -> datetime | None:
        """Go from one change of the offset to the next; between two, local time runs evenly."""
        offset = self._offset(instant)
        local = self._next_local(self._local(instant))
        while local is not None:
            found = (local - offset).replace(tzinfo=UTC)
            change = self._change(instant, found)
            if change is None:
                return found
            instant, offset = change, self._offset(change)
            # The instant of the change itself may be a tick.
            local = self._next_local(self._local(change) - timedelta(seconds=1))
        return None

    def _change(self, start: datetime, end: datetime) -> datetime | None:
        """Return the first instant in (start, end] at which the offset is another; None if none."""
        before, offset = start, self._offset(start)
        while before < end:
            after = min(before + _STEP, end)
            if self._offset(after) != offset:
                while after - before > timedelta(seconds=1):
                    middle = before + (after - before) // 2
                    middle = middle.replace(microsecond=0)
                    if middle <= before:
                        break
                    if self._offset(middle) == offset:
                        before = middle
                    else:
                        after = middle
                return after.replace(microsecond=0)
            before = after
        return None

    def _instant(self, local: datetime) -> datetime:
        """Return the first instant at which the clock on the wall shows `local`, or has passed it.

        A time in a gap, read with the offset of before the gap, lies as far behind its end as it
        lies behind its beginning; what is wanted is the end.
        """
        found = local.replace(tzinfo=self.zone, fold=0).astimezone(UTC)
        if self._local(found) == local:
            return found
        early = local.replace(tzinfo=self.zone, fold=1).astimezone(UTC)
        change = self._change(min(early, found) - timedelta(seconds=1), max(early, found))
        return found if change is None else change

    def _local(self, instant: datetime) -> datetime:
        return instant.astimezone(self.zone).replace(tzinfo=None, fold=0)

    def _offset(self, instant: datetime) -> timedelta:
        return instant.astimezone(self.zone).utcoffset() or timedelta()

    def _next_local(self, local: datetime) -> datetime | None:
        try:
            from cronsim import CronSim, CronSimError
        except ModuleNotFoundError as missing:
            raise MissingExtra(
                "lines of cron are read with the package 'cronsim', which is not installed: "
                "pip install 'incumbent[cron]'; intervals need nothing"
            ) from missing
        if local > _LAST:
            return None
        try:
            return next(CronSim(self._line, local), None)
        except CronSimError as error:
            raise ConfigError(f"{self._line!r}: {self._explained(str(error))}: {_CRON}") from error

    def _explained(self, text: str) -> str:
        """Return what the library says of a field, with what the field is and may be."""
        fields = self._line.split()
        for name, value in zip(list(_FIELDS)[-len(fields) :], fields, strict=True):
            if text == f"Bad {name}":
                return f"{text} {value!r}, which is a number {_FIELDS[name]}"
        return text


def latest(schedule: Schedule, after_ms: int, until_ms: int, most: int) -> list[int]:
    """Return the last ticks in (after, until], `most` of them at most, the earliest first.

    The search begins near the end and looks further back while it has found too few, so that a
    year in which nobody led costs no more than a minute.
    """
    if isinstance(schedule, Interval):
        after_ms = max(after_ms, until_ms - (most + 1) * schedule.every_ms)
        return list(deque(_between(schedule, after_ms, until_ms), most))
    found: deque[int] = deque(maxlen=most)
    for window_ms in _WINDOWS_MS:
        start_ms = max(after_ms, until_ms - window_ms)
        found = deque(_between(schedule, start_ms, until_ms), most)
        if len(found) == most or start_ms == after_ms:
            break
    return list(found)


def _between(schedule: Schedule, after_ms: int, until_ms: int) -> Iterator[int]:
    tick = schedule.after(after_ms)
    while tick is not None and tick <= until_ms:
        yield tick
        tick = schedule.after(tick)


def parse(spec: str, zone: tzinfo = UTC) -> Schedule:
    """Return the schedule that `spec` means: a line of cron, or an interval.

    Raises:
        ConfigError: it cannot be understood.
    """
    if spec.startswith("@") or " " in spec.strip():
        return Cron(spec, zone)
    return Interval(round(seconds_of(spec) * 1000), zone)


def seconds_of(duration: str | float) -> float:
    """Return the seconds of a duration such as "30s" or "1h30m"; a number is one of seconds.

    Raises:
        ConfigError: it is none.
    """
    if isinstance(duration, int | float) and not isinstance(duration, bool):
        if not 0 <= duration < 1e9:
            raise ConfigError(f"{duration!r} is no number of seconds: {_HOW}")
        return float(duration)
    match = _DURATION.fullmatch(duration.strip()) if isinstance(duration, str) else None
    if match is None or not any(match.groups()):
        raise ConfigError(f"{duration!r} is no duration: {_HOW}")
    numbers = zip(match.groups(), ("d", "h", "m", "s", "ms"), strict=True)
    return sum(float(number) * _UNITS_MS[unit] for number, unit in numbers if number) / 1000


def zone_of(name: str) -> tzinfo:
    """Return the time zone called `name`.

    Raises:
        ConfigError: there is none of that name.
    """
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            f"there is no time zone {name!r} here: name one as in 'Europe/Vienna'; if it exists, "
            "pip install tzdata"
        ) from error


def id_of(tick_ms: int) -> str:
    """Return the identity of a tick: its instant in UTC."""
    instant = _EPOCH + timedelta(milliseconds=tick_ms)
    return instant.isoformat(timespec="milliseconds" if tick_ms % 1000 else "seconds").replace(
        "+00:00", "Z"
    )


def instant_of(tick_ms: int, zone: tzinfo) -> datetime:
    """Return a tick as an aware datetime."""
    return (_EPOCH + timedelta(milliseconds=tick_ms)).astimezone(zone)


def _ms(instant: datetime) -> int:
    return (instant - _EPOCH) // timedelta(milliseconds=1)


def _spell(duration_ms: int) -> str:
    parts = []
    for unit in ("d", "h", "m", "s", "ms"):
        number, duration_ms = divmod(duration_ms, _UNITS_MS[unit])
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts)
