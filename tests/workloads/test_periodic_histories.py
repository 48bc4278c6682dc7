"""Histories of periodic tasks, by the hundred; a seed that fails is printed."""

from __future__ import annotations

from tests.workloads.periodic_histories import play

HISTORIES = 60


def test_no_history_has_a_tick_twice_or_loses_one() -> None:
    verdicts = {seed: play(seed) for seed in range(HISTORIES)}
    found = {seed: verdict.faults for seed, verdict in verdicts.items() if verdict.faults}
    assert not found
    assert sum(verdict.ticks for verdict in verdicts.values()) > 10 * HISTORIES
