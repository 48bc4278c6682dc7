"""That workers are given all tests, each file once and as a whole, and which come first."""

from __future__ import annotations

from pathlib import PurePosixPath

from tests.style.project import paths
from tests.workers import LONGEST, SINGLY, in_turn, unit_of


def test_the_files_that_have_a_turn_of_their_own_are_there() -> None:
    assert {PurePosixPath(path) for path in (*LONGEST, SINGLY)} <= set(paths())


def test_long_files_come_first_then_the_single_tests_then_many_before_few() -> None:
    given = ["few", "many", SINGLY, LONGEST[1], "many", LONGEST[0], SINGLY]
    assert in_turn(given) == [LONGEST[0], LONGEST[1], SINGLY, "many", "few"]


def test_only_planted_mistakes_are_torn_apart() -> None:
    assert unit_of(f"{LONGEST[0]}::test_a[x::y]") == LONGEST[0]
    assert unit_of(f"{SINGLY}::test_a[x::y]") == f"{SINGLY}::test_a[x::y]"
