"""Every mistake on the list is found; see `mutants` for how one is made and tried by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.simulator.mutants import MOST_HISTORIES, ROOT, Mutant, everything

MUTANTS = everything()


def test_there_are_enough_and_no_two_are_the_same() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 20
    assert len({(mutant.edits, mutant.test) for mutant in MUTANTS}) == len(MUTANTS)


def _hunt(mutant: Mutant) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.simulator.mutants", mutant.name],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT / "src", ROOT)))},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_mistake_is_found(mutant: Mutant) -> None:
    done = _hunt(mutant)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["caught"], f"not found by {mutant.test or f'{MOST_HISTORIES} histories'}"
