"""No former holder moves a checkpoint back, and what was confirmed is there: in every store."""

from __future__ import annotations

import pytest

from tests.simulator.notes import KINDS, play

HISTORIES = 12


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_goes_back_and_nothing_is_lost(kind: str) -> None:
    saves = followed = groups = 0
    for seed in range(HISTORIES):
        history = play(kind, seed)
        saves += history.saves
        followed += history.followed
        groups += history.groups
    assert saves > 15 * HISTORIES, "too little was noted to prove anything"
    assert followed > 6 * HISTORIES, "too few terms followed one another"
    assert groups > 10 * HISTORIES, "too little was noted together"


def test_a_seed_decides_everything() -> None:
    one, other = play("key-value", 7), play("key-value", 7)
    assert (one.found, one.confirmed) == (other.found, other.confirmed)
    assert one.confirmed != play("key-value", 8).confirmed
