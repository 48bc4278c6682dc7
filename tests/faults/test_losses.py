"""Servers that forget, and fences that do not: a small slice of `losses`, and a planted mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.fleet import PROJECT


def losses(folder: Path, *arguments: str) -> tuple[int, list[dict[str, Any]], str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.losses", "--json", "--rounds", "1", *arguments],
        cwd=PROJECT,
        # What it keeps of a run that failed goes with the test.
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    return done.returncode, json.loads(done.stdout or "[]"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("store", "loss"),
    [("redis", "outdated"), ("redis", "promoted"), ("postgresql", "promoted")],
)
def test_two_may_believe_and_the_fence_lets_one_write(
    store: str, loss: str, tmp_path: Path
) -> None:
    status, (outcome,), text = losses(tmp_path, "--store", store, "--loss", loss)
    assert status == 0, text
    # The old primary lives on and confirms its holder.
    assert loss != "promoted" or outcome["overlaps"] > 0, text
    assert outcome["refused"] > 0, text
    assert outcome["let_through"] == 0, text


@pytest.mark.slow
def test_a_fence_with_another_name_for_each_term_is_found(tmp_path: Path) -> None:
    status, (outcome,), text = losses(tmp_path, "--store", "redis", "--loss", "promoted", "--apart")
    assert status == 1, text
    assert outcome["let_through"] > 0, text
    assert outcome["refused"] == 0, text
