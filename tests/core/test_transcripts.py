"""Whole dialogues with one elector, as they are written in `transcripts/`.

Each file is what the elector was told and what it wanted done, line by line, for people to read. A
change in behaviour shows as a change in a file; write them anew, and read the difference, with

    INCUMBENT_UPDATE=1 python -m pytest tests/core/test_transcripts.py
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from incumbent.core import events as ev
from incumbent.core.elector import State
from tests.core.elections import TIMING, Dialogue, foreign, gone, held, request, vacant

FOLDER = Path(__file__).parent / "transcripts"


def first_start() -> Dialogue:
    d = Dialogue(absent_is_vacant=True)
    d.say(ev.Start())
    d.heading("there never was a record, and this store is sure of that")
    d.seen(gone())
    d.win(1)
    return d


def first_start_where_absence_proves_nothing() -> Dialogue:
    d = Dialogue()
    d.say(ev.Start())
    d.heading("somebody may have deleted it under a live holder: wait a whole TTL")
    d.seen(gone())
    d.tick()
    d.win(1)
    return d


def takeover_after_the_ttl() -> Dialogue:
    d = Dialogue()
    d.say(ev.Start())
    d.seen(held(5))
    d.heading("the holder renews, so that the wait begins anew")
    d.seen(held(5, beat=1), at=4.0)
    d.say(ev.Tick(), at=10.0)
    d.heading("then it is silent; its own TTL counts")
    d.seen(held(5, beat=2, ttl_s=6.0), at=12.0)
    d.tick()
    d.win(6)
    return d


def refused_take() -> Dialogue:
    d = Dialogue()
    d.say(ev.Start())
    d.seen(held(5))
    d.tick()
    d.heading("somebody was faster")
    d.say(ev.TakeRefused(1, held(6, "r_3")))
    d.heading("a record that is refused and looks the same is not hurried")
    d.tick()
    d.say(ev.TakeRefused(2, held(6, "r_3")))
    return d


def unknown_outcome_it_happened() -> Dialogue:
    d = Dialogue()
    d.say(ev.Start())
    d.seen(vacant(5))
    d.say(ev.TakeUnknown(1, "no answer within 3.000 s"), at=3.0)
    d.say(ev.ReadBackFailed(1, "connection refused"))
    d.tick()
    confirmed = d.taken(6)
    d.say(ev.ReadBackDone(1, confirmed.snapshot, confirmed, TIMING.validity_s))
    return d


def unknown_outcome_it_did_not() -> Dialogue:
    d = Dialogue()
    d.say(ev.Start())
    d.seen(vacant(5))
    d.say(ev.TakeUnknown(1, "connection reset"), at=1.0)
    d.heading("a new attempt compares the same version, so that at most one can succeed")
    d.say(ev.ReadBackDone(1, vacant(5), None, 0.0))
    d.heading("the answer of the first attempt, late, means nothing")
    d.say(ev.TakeDone(1, d.taken(6), 20.0))
    d.win(7)
    return d


def step_down_to_a_successor() -> Dialogue:
    d = Dialogue()
    d.lead()
    d.heading("a request names the term")
    d.seen(held(3, "p_1", "p_1/i.1", asked=request("p_1/i.9", "r")), at=1.0)
    d.seen(held(4, "p_1", "p_1/i.1", asked=request("p_1/i.1", "r")), at=2.0)
    d.heading("stop, then release")
    d.say(ev.WorkEnded(2.0 + TIMING.validity_s), at=3.0)
    d.say(ev.ReleaseDone(2, vacant(5, "r")))
    d.heading("the vacancy is left to the successor for a while")
    d.tick()
    d.say(ev.TakeRefused(3, held(6, "r_3")))
    return d


def release_fails() -> Dialogue:
    d = Dialogue()
    d.lead()
    d.say(ev.StepDown(), at=1.0)
    d.say(ev.WorkEnded(4.0), at=2.0)
    d.say(ev.ReleaseFailed(2, "no answer"), at=3.0)
    d.tick()
    d.heading("when the trust is over nothing is released any more")
    d.say(ev.ReleaseFailed(3, "no answer"), at=3.9)
    return d


def deposed() -> Dialogue:
    d = Dialogue()
    d.lead()
    d.heading("old news deposes nobody")
    d.seen(vacant(1), at=1.0)
    d.heading("the term is void before anything else")
    d.seen(held(9, "r_3"), at=2.0)
    d.say(ev.WorkEnded(0.0), at=3.0)
    d.say(ev.Seen(held(9, "r_3"), fresh=True))
    return d


def deposed_before_it_began() -> Dialogue:
    d = Dialogue()
    d.say(ev.Start())
    d.seen(vacant(1))
    d.heading("the record is gone again before the confirmation comes; this is told only once")
    d.seen(gone(3), at=1.0)
    d.win(2)
    return d


def lost() -> Dialogue:
    d = Dialogue()
    d.lead()
    d.say(ev.LeaseFailing("no answer within 3.000 s"), at=5.0)
    d.heading("never released: it is left to the observers' clocks")
    d.say(ev.WorkEnded(TIMING.validity_s), at=6.0)
    d.say(ev.Seen(held(2, "p_1", "p_1/i.1", lease_key="p_1#1"), fresh=True), at=7.0)
    return d


def lost_while_stepping_down() -> Dialogue:
    d = Dialogue()
    d.lead()
    d.say(ev.StepDown("r"), at=4.0)
    d.say(ev.LeaseFailing("no answer within 3.000 s"), at=5.0)
    d.say(ev.WorkEnded(TIMING.validity_s), at=6.0)
    return d


def stuck() -> Dialogue:
    d = Dialogue()
    d.lead()
    d.say(ev.StepDown(), at=1.0)
    d.heading("renewed no more, and never released")
    d.tick()
    d.say(ev.LeaseFailing("no renewal was answered"), at=4.0)
    d.say(ev.Close(), at=5.0)
    d.say(ev.WorkEnded(TIMING.validity_s), at=60.0)
    return d


def foreign_record() -> Dialogue:
    d = Dialogue()
    d.say(ev.Start())
    d.heading("left alone, for ever if need be")
    d.seen(foreign(3))
    d.say(ev.Tick(), at=1000.0)
    d.seen(foreign(4))
    d.heading("what is behind it, when it is gone, is waited out")
    d.seen(gone(5), at=1001.0)
    d.tick()
    return d


def vanished_record() -> Dialogue:
    d = Dialogue(absent_is_vacant=True)
    d.say(ev.Start())
    d.seen(held(5, ttl_s=30.0))
    d.heading("the holder's TTL, which is longer than ours")
    d.seen(gone(6), at=1.0)
    d.tick()
    return d


def rollback() -> Dialogue:
    d = Dialogue()
    d.say(ev.Start())
    d.seen(held(50, token=50))
    d.heading("a watch may be late")
    d.seen(held(40, "r_3", token=40), at=1.0)
    d.tick()
    d.heading("the store itself is never late: it has lost its memory")
    d.say(ev.TakeRefused(1, vacant(30)))
    d.tick()
    d.heading("resources remember token 50, so that a lesser one is of no use")
    d.win(31, token=31)
    d.say(ev.ReleaseDone(3, vacant(32)))
    return d


def evidence_of_death() -> Dialogue:
    d = Dialogue()
    d.say(ev.Start())
    d.seen(held(5))
    d.heading("of somebody else's")
    d.say(ev.Evidence("r_3#1", "its file lock is free"), at=1.0)
    d.heading("of the holder's")
    d.say(ev.Evidence("q_2#1", "its file lock is free"), at=2.0)
    d.win(6)
    return d


def duplicate_identity() -> Dialogue:
    d = Dialogue()
    d.say(ev.Start())
    d.heading("our name, and a nonce that is not ours")
    d.seen(held(5, "p_1", "p_1/other.1"))
    d.seen(held(5, "p_1", "p_1/other.1", beat=1), at=5.0)
    d.tick()
    return d


def own_leftover() -> Dialogue:
    d = Dialogue()
    d.say(ev.Start())
    d.seen(vacant(1))
    d.say(ev.TakeFailed(1, "connection refused"), at=1.0)
    d.heading("it had its effect after all: taken at once, with another nonce")
    d.seen(held(2, "p_1", "p_1/i.1", lease_key="p_1#1"))
    d.tick()
    d.win(3)
    return d


def withdrawn() -> Dialogue:
    d = Dialogue()
    d.lead()
    d.say(ev.Close(), at=1.0)
    d.say(ev.WorkEnded(TIMING.validity_s), at=2.0)
    d.say(ev.ReleaseDone(2, vacant(3)))
    d.say(ev.Tick(), at=100.0)
    return d


def work_ends_by_itself() -> Dialogue:
    d = Dialogue()
    d.lead()
    d.say(ev.WorkEnded(TIMING.validity_s), at=2.0)
    d.heading("and it is a candidate again")
    d.say(ev.ReleaseDone(2, vacant(3)))
    return d


def late_confirmation() -> Dialogue:
    d = Dialogue()
    d.say(ev.Start())
    d.seen(vacant(1))
    d.say(ev.TakeDone(1, d.taken(2), 2.0 + TIMING.stop_s), at=2.0)
    d.say(ev.ReleaseDone(2, vacant(3)))
    d.tick()
    return d


STORIES: tuple[Callable[[], Dialogue], ...] = (
    first_start,
    first_start_where_absence_proves_nothing,
    takeover_after_the_ttl,
    refused_take,
    unknown_outcome_it_happened,
    unknown_outcome_it_did_not,
    step_down_to_a_successor,
    release_fails,
    deposed,
    deposed_before_it_began,
    lost,
    lost_while_stepping_down,
    stuck,
    foreign_record,
    vanished_record,
    rollback,
    evidence_of_death,
    duplicate_identity,
    own_leftover,
    withdrawn,
    work_ends_by_itself,
    late_confirmation,
)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_the_dialogue_is_as_it_was(story: Callable[[], Dialogue]) -> None:
    path = FOLDER / f"{story.__name__}.txt"
    text = "\n".join([f"# {story.__name__.replace('_', ' ')}", *story().lines]) + "\n"
    if os.environ.get("INCUMBENT_UPDATE"):
        FOLDER.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_every_file_has_its_dialogue() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == {story.__name__ for story in STORIES}


def test_the_dialogues_visit_every_state() -> None:
    text = "\n".join(line for story in STORIES for line in story().lines)
    assert not [state for state in State if f"{state.value}" not in text]
