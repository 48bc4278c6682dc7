"""Until when a certificate is good, and that it is said in time."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from incumbent.consent import certificates, server
from incumbent.consent.certificates import Validity, validity_of
from incumbent.errors import ConfigError

NOW = datetime(2026, 5, 4, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("days", "left", "near"),
    [
        (365, 31, False),
        (365, 29, True),
        (365, -1, True),
        (90, 30, False),  # cert-manager renews it here.
        (90, 23, False),
        (90, 22, True),
        (4, 2, False),
        (4, 0.9, True),
    ],
)
def test_the_end_is_near_a_month_before_or_in_the_last_quarter(
    days: int, left: float, near: bool
) -> None:
    ends = NOW + left * DAY
    assert Validity(ends - days * DAY, ends).is_near_its_end(NOW) is near


def test_a_chain_is_good_as_long_as_each_of_it() -> None:
    long, short = (certificates.made(("localhost",), days, NOW).certificate for days in (30, 3))
    assert validity_of(long).ends == NOW + 30 * DAY
    assert validity_of(long + short).ends == validity_of(short + long).ends == NOW + 3 * DAY


def written(folder: Path, days: float) -> tuple[Path, Path]:
    """A pair that is good for so many days from now, of which it was made for 60."""
    made = certificates.made(("localhost",), 60, datetime.now(UTC) - (60 - days) * DAY)
    paths = folder / "crt", folder / "key"
    for path, text in zip(paths, (made.certificate, made.key), strict=True):
        path.write_bytes(text)
    return paths


@pytest.mark.parametrize(
    ("days", "said"), [(16, ""), (14, "the certificate ends on"), (-1, "was good until")]
)
def test_it_is_said_once_a_day_and_again_of_the_next_one(
    days: int,
    said: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 1000.0
    monkeypatch.setattr(server, "boottime", lambda: now_s)
    in_use = server._InUse(*written(tmp_path, days))

    def warned() -> int:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            in_use.warn()
        assert said in caplog.text
        return len(caplog.records)

    expected = 1 if said else 0
    assert warned() == expected
    said_then, said = said, ""
    now_s += server.SAID_EVERY_S - 1
    assert warned() == 0
    said = said_then
    now_s += 1
    assert warned() == expected
    in_use.take(None)
    assert warned() == expected, "another one that ends soon is another one"
    written(tmp_path, 60)
    in_use.take(None)
    said = ""
    assert warned() == 0


def test_what_is_no_certificate_is_refused(tmp_path: Path) -> None:
    crt, key = written(tmp_path, 10)
    crt.write_text("none")
    with pytest.raises(ConfigError, match="are no certificate and key"):
        server._InUse(crt, key)
