"""Maintenance windows, and what is refused as one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from incumbent.consent.windows import closing, windows_of
from incumbent.errors import ConfigError


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


SUNDAY = "0 2 * * SUN 2h"


@pytest.mark.parametrize(
    ("text", "now", "closes"),
    [
        (SUNDAY, "2026-05-03T01:59:59", None),
        (SUNDAY, "2026-05-03T02:00:00", "2026-05-03T04:00:00"),
        (SUNDAY, "2026-05-03T03:59:59", "2026-05-03T04:00:00"),
        (SUNDAY, "2026-05-03T04:00:00", None),
        ("30 22 * * MON-FRI 90m Europe/Berlin", "2026-05-04T20:30:00", "2026-05-04T22:00:00"),
        ("30 22 * * MON-FRI 90m Europe/Berlin", "2026-01-05T20:30:00", None),
        ("30 22 * * MON-FRI 90m Europe/Berlin", "2026-01-05T21:30:00", "2026-01-05T23:00:00"),
        (f"{SUNDAY}; 0 3 * * * 3h", "2026-05-03T03:30:00", "2026-05-03T06:00:00"),
        ("0 0 * * * 1h30m", "2026-05-03T01:20:00", "2026-05-03T01:30:00"),
        ("0 0 1 1 * 168h", "2026-01-07T23:59:00", "2026-01-08T00:00:00"),
        ("0 2 29 2 * 2h", "2026-05-03T03:00:00", None),
        ("", "2026-05-03T03:00:00", None),
    ],
)
def test_a_window_is_open_from_its_hour_for_as_long_as_it_says(
    text: str, now: str, closes: str | None
) -> None:
    assert closing(text, at(now)) == (closes and at(closes))


def test_a_window_lasts_as_long_where_the_clocks_are_put_forward() -> None:
    text = "30 1 * * * 2h Europe/Berlin"
    assert closing(text, at("2026-03-29T02:29:00")) == at("2026-03-29T02:30:00")
    assert closing(text, at("2026-03-29T02:30:00")) is None


@pytest.mark.parametrize(
    "text",
    [
        "at night",
        "0 2 * * SUN",
        "0 2 * * SUN 0m",
        "0 2 * * SUN 169h",
        "0 2 * * SUN 2",
        "0 2 * * SUN h",
        "0 25 * * SUN 2h",
        "0 2 31 2 * 2h",
        "0 2 * * SUN 2h Europe/Atlantis",
        "0 2 * * SUN 2h ../etc/passwd",
        f"{SUNDAY}; nonsense",
        "0 2 * * SUN 2h x y",
        " ".join(["0"] * 300),
    ],
)
def test_nonsense_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r"2h|time zone"):
        windows_of(text)
