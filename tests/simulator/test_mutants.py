"""Mistakes on the list are found; see `hunt` for how one is made, and which are tried here."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulator.hunt import EVERYTHING, ForkServer, of_every_run
from tests.simulator.mutants import Mutant


@pytest.fixture(scope="module")
def fork_server() -> Iterator[ForkServer]:
    with contextlib.closing(ForkServer()) as fork_server:
        yield fork_server


def test_there_are_enough_and_no_two_are_the_same() -> None:
    assert len({mutant.name for mutant in EVERYTHING}) == len(EVERYTHING) >= 20
    assert len({(mutant.edits, mutant.test) for mutant in EVERYTHING}) == len(EVERYTHING)


def test_each_edit_is_of_something_that_is_there_once() -> None:
    for mutant in EVERYTHING:
        for edit in mutant.edits:
            spec = importlib.util.find_spec(edit.module)
            assert spec is not None
            assert spec.origin is not None
            assert Path(spec.origin).read_text(encoding="utf-8").count(edit.old) == 1, mutant.name


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", of_every_run(), ids=lambda mutant: mutant.name)
def test_the_mistake_is_found(mutant: Mutant, fork_server: ForkServer) -> None:
    verdict = fork_server.hunt(mutant)
    assert verdict.caught, verdict
