"""What is tried again alone, and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.whole import main

_PASSES_LATER = """
from pathlib import Path

def test_later():
    tried = Path("tried")
    before = tried.exists()
    tried.touch()
    assert before

def test_at_once():
    with open("runs", "a") as runs:
        runs.write("x")
"""

_NEVER_PASSES = """
import pytest

@pytest.mark.parametrize("number", range(NUMBER))
def test_never(number):
    with open("runs", "a") as runs:
        runs.write("x")
    assert False
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_what_failed_is_tried_once_more_and_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_a.py").write_text(_PASSES_LATER)
    assert main([]) == 0
    assert (tmp_path / "runs").read_text() == "x", "what passed is not tried again"
    told = capfd.readouterr().out
    assert "tried again alone:\n   test_a.py::test_later\n" in told
    assert "1 passed" in told.splitlines()[-1]


@pytest.mark.parametrize(("number", "runs"), [(3, 6), (4, 4)])
def test_what_fails_again_has_failed_and_many_are_no_coincidence(
    tmp_path: Path, number: int, runs: int
) -> None:
    (tmp_path / "test_a.py").write_text(_NEVER_PASSES.replace("NUMBER", str(number)))
    assert main([]) == 1
    assert (tmp_path / "runs").read_text() == "x" * runs


def test_what_cannot_be_collected_has_failed(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text("import no_such_module_anywhere")
    assert main([]) == 2
