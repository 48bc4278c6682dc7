"""A fixed slice of the simulator's histories, and that they are worth something."""

from __future__ import annotations

import json
import time

import pytest

from incumbent.testing.simulator import STORES, Outcome, simulate
from incumbent.testing.simulator import __main__ as command
from incumbent.testing.simulator.__main__ import Tally, main
from tests.simulator.hunt import MOST_HISTORIES

SLICE = {
    "beside": 150,
    "joined": 100,
    "kubernetes": 200,
    "kubernetes-evidence": 100,
    "kubernetes-session": 200,
    "kv": 200,
    "memory": 1000,
    "queue": 200,
    "sql": 200,
    "sqlite": 200,
}
"""Of the memory store, as many as the mutants are tried with, at least."""

MESSAGES = {
    "beside": {"answer lost", "request doubled", "request lost", "straggler"},
    "joined": {"answer lost", "request doubled", "request lost", "straggler"},
    # A watch is a stream with these two: it never goes back.
    "kubernetes": {"answer lost", "request doubled", "request lost", "straggler"},
    "kubernetes-evidence": {"answer lost", "request doubled", "request lost", "straggler"},
    "kubernetes-session": {"answer lost", "request doubled", "request lost", "straggler"},
    "kv": {"answer lost", "request doubled", "request lost", "straggler"},
    "memory": {
        "answer lost",
        "request doubled",
        "request lost",
        "stale notification",
        "straggler",
    },
    "queue": {
        "answer lost",
        "request doubled",
        "request lost",
        "stale notification",
        "straggler",
    },
    "sql": {"answer lost", "request doubled", "request lost", "straggler"},
    "sqlite": {"answer late", "outcome unknown", "request failed", "straggler"},
}


def test_a_record_of_which_nobody_was_told_ends_an_absence() -> None:
    """It came and went while its session was still asked for; then the absence was taken."""
    assert simulate(70002849, store="kv").rule == ""


def test_a_row_that_was_taken_away_is_no_old_news() -> None:
    """Nobody understood it; what is there without it has a lower serial."""
    assert simulate(8818, store="joined").rule == ""


def test_what_another_elector_made_is_followed_though_it_has_no_label() -> None:
    """It stood where there had been nothing, and no watch with a selector told that it went."""
    assert simulate(2038, store="kubernetes-session").rule == ""


@pytest.mark.parametrize("seed", [766, 1019])
def test_what_vanished_under_a_robbed_term_is_waited_out_for_that_alone(seed: int) -> None:
    """It was waited out for as long as the row of theirs had been given, which had grown."""
    assert simulate(seed, store="joined").rule == ""


@pytest.mark.parametrize("store", sorted(STORES))
def test_a_slice_of_the_histories_keeps_the_rules(store: str) -> None:
    tally = Tally()
    started = time.monotonic()
    for seed in range(SLICE[store]):
        tally.add(simulate(seed, store=store))
    summary = tally.summary(time.monotonic() - started)
    assert not tally.violations, json.dumps(summary["violations"][:5], indent=2)
    assert tally.void < 0.15 * tally.histories, "too few faults and takeovers to prove anything"
    assert tally.excused < 0.15 * tally.histories, "too many are excused from the rules"
    happened = {name.replace(" ", "_") for name in tally.faults}
    kind = STORES[store]
    known = {fault.__name__ for fault, _ in (*kind.faults, *kind.tampering)}
    assert happened == known | {"restore"}
    assert set(tally.messages) == MESSAGES[store]


PATIENT = {"kubernetes": 25, "kv": 25, "memory": 120}


@pytest.mark.parametrize("store", sorted(PATIENT))
def test_takes_that_are_held_back_keep_the_rules(store: str) -> None:
    """As a spread does, but for longer than it may, and for nothing."""
    tally = Tally()
    for seed in range(PATIENT[store]):
        tally.add(simulate(seed, store=store, patient=True))
    assert not tally.violations, json.dumps(tally.summary(0.0)["violations"][:5], indent=2)
    assert tally.void < 0.15 * tally.histories


def test_the_slice_is_what_the_mutants_are_tried_with() -> None:
    assert SLICE["memory"] >= MOST_HISTORIES


@pytest.mark.parametrize("store", sorted(STORES))
@pytest.mark.parametrize("seed", [3, 43, 342])
def test_a_seed_decides_everything(seed: int, store: str) -> None:
    first, second = (simulate(seed, store=store, transcript=True) for _ in range(2))
    assert first.transcript
    assert first.steps == second.steps
    assert _anonymous(first) == _anonymous(second)


def _anonymous(outcome: Outcome) -> list[str]:
    """Return a transcript without the numbers of sessions, which count on from run to run."""
    return [line.partition("#")[0] for line in outcome.transcript]


SEEDS_THAT_FAILED = {
    5: "the watchdog took two elections' first terms for one, and forgot the wrong one",
    31: "a session was closed while stuck work ran under it",
    43: "the same, for work that was told of being deposed",
    72: "a deposition that was heard of late prolonged the deadline of the kernel's timer",
    342: "deposed while stepping down, work was trusted for as long as the session was renewed",
    559: "an absence that was seen before a record came and went looked like the one after",
    1749: "a leftover was retaken under a new session, which freed another election at work",
    2901: "a leftover under a live session was never retaken",
    106830: "a record vanished before the take was confirmed; nobody heard of it",
    138233: "a process was started on a suspended host",
}


@pytest.mark.parametrize("seed", SEEDS_THAT_FAILED, ids=str)
def test_a_seed_that_failed_fails_no_more(seed: int) -> None:
    outcome = simulate(seed)
    assert not outcome.rule, outcome.text


SEEDS_OF_QUEUES_THAT_FAILED = {
    38: "a node that was held and not released stood for as long as its process lived",
    98: "so did one that waited, when its candidate withdrew while nothing got through",
    1489: "a node that came back with an older state of the server was asked for at once, for ever",
}


@pytest.mark.parametrize("seed", SEEDS_OF_QUEUES_THAT_FAILED, ids=str)
def test_a_seed_of_a_queue_that_failed_fails_no_more(seed: int) -> None:
    outcome = simulate(seed, store="queue")
    assert not outcome.rule, outcome.text


# -- the command ----------------------------------------------------------------------------------


def _failing(seed: int, *, store: str, transcript: bool = False) -> Outcome:
    del store, transcript
    outcome = Outcome(seed, transcript=("a line",))
    if seed == 4:
        outcome.rule, outcome.text = "two-valid", "two-valid: p and q"
    return outcome


def test_a_violation_is_printed_with_its_seed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "simulate", _failing)
    assert main(["--histories", "6"]) == 1
    out = capsys.readouterr().out
    assert "VIOLATION seed 4: two-valid: p and q" in out
    assert "--replay 4" in out
    assert main(["--histories", "6", "--json"]) == 1
    violations = json.loads(capsys.readouterr().out)["violations"]
    assert [violation["seed"] for violation in violations] == [4]
    assert main(["--histories", "4"]) == 0


@pytest.mark.parametrize(("seed", "code"), [(3, 0), (4, 1)])
def test_a_replay_prints_the_transcript(
    seed: int, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "simulate", _failing)
    assert main(["--replay", str(seed)]) == code
    assert capsys.readouterr().out.startswith("a line\n")


def test_several_processes_share_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--histories", "30", "--processes", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["histories"] == 30


def test_every_store_has_a_slice() -> None:
    assert set(SLICE) == set(STORES)
