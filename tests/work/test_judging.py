"""The judge of runs finds what is planted."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.work.judging import Line, judge, lines

EVERY = timedelta(seconds=1)
GOOD = [Line(f"2026-03-01T00:00:0{n}Z", 1, 1 + n // 5, "ab"[n // 5]) for n in range(10)]


def test_a_good_log_is_good(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text(
        "".join(f"{line.tick} {line.attempt} {line.token} {line.where}\n" for line in GOOD)
    )
    verdict = judge(lines(file), EVERY)
    assert verdict.good
    assert str(verdict) == "GOOD: 10 ticks (a: 5, b: 5), 0 missed, 0 twice"


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ([*GOOD, GOOD[3]], "twice: 2026-03-01T00:00:03Z"),
        ([*GOOD[:4], *GOOD[5:]], "missed: 2026-03-01T00:00:04+00:00"),
        ([*GOOD[:4], GOOD[6], GOOD[4], GOOD[5], *GOOD[7:]], "after a later one"),
        ([], "0 ticks"),
    ],
)
def test_a_planted_fault_is_found(found: list[Line], says: str) -> None:
    verdict = judge(found, EVERY)
    assert not verdict.good
    assert says in str(verdict)
