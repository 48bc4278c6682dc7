"""Durations as people write them in settings: "30s", "5m", "1h30m", or a number of seconds."""

from __future__ import annotations

import re

from incumbent.errors import ConfigError

__all__ = ["seconds_of"]

_UNITS_S = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?", re.ASCII)
_HOW = "write it as in '30s', '5m' or '1h30m'"


def seconds_of(duration: str | float) -> float:
    """Return the seconds of a duration.

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
    parts = zip(match.groups(), _UNITS_S.values(), strict=True)
    return sum(int(number) * unit_s for number, unit_s in parts if number)
