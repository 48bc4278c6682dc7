"""Mistakes on the list are found; see `mutants` for how one is made, and which are tried here."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.simulator.mutants import (
    MOST_HISTORIES,
    Mutant,
    everything,
    found,
    hunted,
    of_every_run,
)


def test_there_are_enough_and_no_two_are_the_same() -> None:
    mutants = everything()
    assert len({mutant.name for mutant in mutants}) == len(mutants) >= 20
    assert len({(mutant.edits, mutant.test) for mutant in mutants}) == len(mutants)


def test_each_edit_is_of_something_that_is_there_once() -> None:
    for mutant in everything():
        for edit in mutant.edits:
            spec = importlib.util.find_spec(edit.module)
            assert spec is not None
            assert spec.origin is not None
            assert Path(spec.origin).read_text(encoding="utf-8").count(edit.old) == 1, mutant.name


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", of_every_run(), ids=lambda mutant: mutant.name)
def test_the_mistake_is_found(mutant: Mutant) -> None:
    done = hunted(mutant)
    assert done.returncode == 0, done.stderr
    assert found(done), f"not found by {mutant.test or f'{MOST_HISTORIES} histories'}"
