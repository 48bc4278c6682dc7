"""Maintenance windows: when an only replica may be moved without anybody being asked.

    incumbent.dev/maintenance-window: "0 2 * * SUN 2h"
    incumbent.dev/maintenance-window: "30 22 * * MON-FRI 90m Europe/Berlin; 0 2 * * SUN 4h"

Five fields of cron say when it opens, then for how long it is open, and the time zone if it is not
UTC. Several windows are separated by `;`. Cron itself, and what becomes of it when clocks are put
forward, is the library's (`cronsim`); a window that lasts 2 h lasts 2 h of real time then, too.

Whatever cannot be understood is an error, and an error is no open window: to be asked once too
often does no harm.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from incumbent.errors import ConfigError, MissingExtra

try:
    from cronsim import CronSim, CronSimError
except ModuleNotFoundError as missing:
    raise MissingExtra(
        "maintenance windows are read with the package 'cronsim', which is not installed: "
        "pip install 'incumbent[cli,webhook]'"
    ) from missing

__all__ = ["Window", "closing", "windows_of"]

_LONGEST = timedelta(days=7)
_LONGEST_TEXT = 500
_DURATION = re.compile(r"(?=\d)(?:(\d{1,3})h)?(?:(\d{1,4})m)?", re.ASCII)
_HOW = "write it as in '0 2 * * SUN 2h' or '0 2 * * SUN 2h Europe/Berlin'"


@dataclass(frozen=True, slots=True)
class Window:
    """One window.

    Attributes:
        opens: five fields of cron.
        lasts: for how long it is open.
        zone: where the fields are local time.
    """

    opens: str
    lasts: timedelta
    zone: ZoneInfo

    def closing(self, now: datetime) -> datetime | None:
        """Return when it closes if it is open, else None."""
        # The opening itself is in the window, and what is searched backwards begins before `now`.
        search = (now + timedelta(minutes=1)).astimezone(self.zone)
        for opened in CronSim(self.opens, search, reverse=True):
            if opened <= now:
                closes = opened.astimezone(UTC) + self.lasts
                return closes if now < closes else None
        return None


def closing(text: str, now: datetime) -> datetime | None:
    """Return when the last of the open windows closes, or None if none is open at `now`.

    Raises:
        ConfigError: some of it cannot be understood.
    """
    return max(filter(None, (window.closing(now) for window in windows_of(text))), default=None)


def windows_of(text: str) -> list[Window]:
    """Return the windows that the annotation names.

    Raises:
        ConfigError: some of it cannot be understood.
    """
    if len(text) > _LONGEST_TEXT:
        raise ConfigError(f"a maintenance window of {len(text)} characters: {_HOW}")
    return [_window(part.strip()) for part in text.split(";") if part.strip()]


def _window(text: str) -> Window:
    words = text.split()
    if len(words) not in (6, 7):
        raise ConfigError(f"maintenance window {text!r}: {_HOW}")
    opens, lasts = " ".join(words[:5]), _lasts(text, words[5])
    try:
        zone = ZoneInfo(words[6] if len(words) == 7 else "UTC")
    except (KeyError, ValueError, OSError):
        raise ConfigError(f"maintenance window {text!r}: no time zone {words[6]!r}") from None
    try:
        CronSim(opens, datetime.now(UTC))
    except CronSimError as error:
        raise ConfigError(f"maintenance window {text!r}: {error}: {_HOW}") from None
    return Window(opens, lasts, zone)


def _lasts(text: str, word: str) -> timedelta:
    found = _DURATION.fullmatch(word)
    lasts = timedelta(hours=int(found[1] or 0), minutes=int(found[2] or 0)) if found else None
    if not lasts or lasts > _LONGEST:
        raise ConfigError(
            f"maintenance window {text!r}: {word!r} is no time from 1m to 168h, as in 90m or 2h"
        )
    return lasts
