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

Told = Callable[[Dialogue], object]

STORIES: dict[str, Callable[[], Dialogue]] = {}


def story(begin: Told, *, absent_is_vacant: bool = False) -> Callable[[Told], Told]:
    """Add a story; it is told what comes after a beginning that it shares with others."""

    def add(tell: Told) -> Told:
        def whole() -> Dialogue:
            dialogue = Dialogue(absent_is_vacant=absent_is_vacant)
            begin(dialogue)
            tell(dialogue)
            return dialogue

        STORIES[tell.__name__] = whole
        return tell

    return add


def following(dialogue: Dialogue) -> None:
    dialogue.say(ev.Start())


leading = Dialogue.lead


@story(following, absent_is_vacant=True)
def first_start(d: Dialogue) -> None:
    d.heading("there never was a record, and this store is sure of that")
    d.seen(gone())
    d.win(1)


@story(following)
def first_start_where_absence_proves_nothing(d: Dialogue) -> None:
    d.heading("somebody may have deleted it under a live holder: wait a whole TTL")
    d.seen(gone())
    d.tick()
    d.win(1)


@story(following)
def takeover_after_the_ttl(d: Dialogue) -> None:
    d.seen(held(5))
    d.heading("the holder renews, so that the wait begins anew")
    d.seen(held(5, beat=1), at=4.0)
    d.say(ev.Tick(), at=10.0)
    d.heading("then it is silent; its own TTL counts")
    d.seen(held(5, beat=2, ttl_s=6.0), at=12.0)
    d.tick()
    d.win(6)


@story(following)
def refused_take(d: Dialogue) -> None:
    d.seen(held(5))
    d.tick()
    d.heading("somebody was faster")
    d.say(ev.TakeRefused(1, held(6, "r_3")))
    d.heading("a record that is refused and looks the same is not hurried")
    d.tick()
    d.say(ev.TakeRefused(2, held(6, "r_3")))


@story(following)
def unknown_outcome_it_happened(d: Dialogue) -> None:
    d.seen(vacant(5))
    d.say(ev.TakeUnknown(1, "no answer within 3.000 s"), at=3.0)
    d.say(ev.ReadBackFailed(1, "connection refused"))
    d.tick()
    confirmed = d.taken(6)
    d.say(ev.ReadBackDone(1, confirmed.snapshot, confirmed, TIMING.validity_s))


@story(following)
def unknown_outcome_it_did_not(d: Dialogue) -> None:
    d.seen(vacant(5))
    d.say(ev.TakeUnknown(1, "connection reset"), at=1.0)
    d.heading("a new attempt compares the same version, so that at most one can succeed")
    d.say(ev.ReadBackDone(1, vacant(5), None, 0.0))
    d.heading("the answer of the first attempt, late, means nothing")
    d.say(ev.TakeDone(1, d.taken(6), 20.0))
    d.win(7)


@story(leading)
def step_down_to_a_successor(d: Dialogue) -> None:
    d.heading("a request names the term")
    d.seen(held(3, "p_1", "p_1/i.1", asked=request("p_1/i.9", "r")), at=1.0)
    d.seen(held(4, "p_1", "p_1/i.1", asked=request("p_1/i.1", "r")), at=2.0)
    d.heading("stop, then release")
    d.say(ev.WorkEnded(2.0 + TIMING.validity_s), at=3.0)
    d.say(ev.ReleaseDone(2, vacant(5, "r")))
    d.heading("the vacancy is left to the successor for a while")
    d.tick()
    d.say(ev.TakeRefused(3, held(6, "r_3")))


@story(leading)
def release_fails(d: Dialogue) -> None:
    d.say(ev.StepDown(), at=1.0)
    d.say(ev.WorkEnded(4.0), at=2.0)
    d.say(ev.ReleaseFailed(2, "no answer"), at=3.0)
    d.tick()
    d.heading("when the trust is over nothing is released any more")
    d.say(ev.ReleaseFailed(3, "no answer"), at=3.9)


@story(leading)
def deposed(d: Dialogue) -> None:
    d.heading("old news deposes nobody")
    d.seen(vacant(1), at=1.0)
    d.heading("the term is void before anything else")
    d.seen(held(9, "r_3"), at=2.0)
    d.say(ev.WorkEnded(0.0), at=3.0)
    d.say(ev.Seen(held(9, "r_3"), fresh=True))


@story(following)
def deposed_before_it_began(d: Dialogue) -> None:
    d.seen(vacant(1))
    d.heading("the record is gone again before the confirmation comes; this is told only once")
    d.seen(gone(3), at=1.0)
    d.win(2)


@story(leading)
def lost(d: Dialogue) -> None:
    d.say(ev.LeaseFailing("no answer within 3.000 s"), at=5.0)
    d.heading("never released: it is left to the observers' clocks")
    d.say(ev.WorkEnded(TIMING.validity_s), at=6.0)
    d.say(ev.Seen(held(2, "p_1", "p_1/i.1", lease_key="p_1#1"), fresh=True), at=7.0)


@story(leading)
def lost_while_stepping_down(d: Dialogue) -> None:
    d.say(ev.StepDown("r"), at=4.0)
    d.say(ev.LeaseFailing("no answer within 3.000 s"), at=5.0)
    d.say(ev.WorkEnded(TIMING.validity_s), at=6.0)


@story(leading)
def expired(d: Dialogue) -> None:
    d.say(ev.LeaseExpiring("nothing is renewed here"), at=5.0)
    d.heading("the work has ended in time: the rest of the TTL need not be waited out")
    d.say(ev.WorkEnded(TIMING.validity_s), at=6.0)
    d.heading("and the election is as open to us as to anybody")
    d.say(ev.ReleaseDone(d.elector.attempts, vacant(3)))


@story(leading)
def expired_with_no_time_left(d: Dialogue) -> None:
    d.say(ev.LeaseExpiring("nothing is renewed here"), at=TIMING.patience_s)
    d.heading("the trust has run out before the work had ended: left to expire")
    d.say(ev.WorkEnded(TIMING.validity_s), at=TIMING.validity_s)
    d.say(ev.Seen(held(2, "p_1", "p_1/i.1", lease_key="p_1#1"), fresh=True))


@story(leading)
def expired_while_stepping_down(d: Dialogue) -> None:
    d.say(ev.StepDown("r"), at=4.0)
    d.heading("the stop that is under way is the earlier one")
    d.say(ev.LeaseExpiring("nothing is renewed here"), at=5.0)
    d.say(ev.WorkEnded(TIMING.validity_s), at=6.0)


@story(leading)
def stuck(d: Dialogue) -> None:
    d.say(ev.StepDown(), at=1.0)
    d.heading("renewed no more, and never released")
    d.tick()
    d.say(ev.LeaseFailing("no renewal was answered"), at=4.0)
    d.say(ev.Close(), at=5.0)
    d.say(ev.WorkEnded(TIMING.validity_s), at=60.0)


@story(leading)
def stuck_and_deposed(d: Dialogue) -> None:
    """Found by the simulator: the work that would not stop still asks whether to trust."""
    d.say(ev.StepDown(), at=1.0)
    d.tick()
    d.heading("somebody deleted the record")
    d.seen(gone(9), at=4.0)
    d.heading("and another took it")
    d.seen(held(10, "q_1"), at=5.0)
    d.say(ev.WorkEnded(TIMING.validity_s), at=60.0)


@story(following)
def foreign_record(d: Dialogue) -> None:
    d.heading("left alone, for ever if need be")
    d.seen(foreign(3))
    d.say(ev.Tick(), at=1000.0)
    d.seen(foreign(4))
    d.heading("what is behind it, when it is gone, is waited out")
    d.seen(gone(5), at=1001.0)
    d.tick()


@story(following, absent_is_vacant=True)
def vanished_record(d: Dialogue) -> None:
    d.seen(held(5, ttl_s=30.0))
    d.heading("the holder's TTL, which is longer than ours")
    d.seen(gone(6), at=1.0)
    d.tick()


@story(following)
def rollback(d: Dialogue) -> None:
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


@story(following)
def evidence_of_death(d: Dialogue) -> None:
    d.seen(held(5))
    d.heading("of somebody else's")
    d.say(ev.Evidence("r_3#1", "its file lock is free"), at=1.0)
    d.heading("of the holder's")
    d.say(ev.Evidence("q_2#1", "its file lock is free"), at=2.0)
    d.win(6)


@story(following)
def evidence_after_rollback(d: Dialogue) -> None:
    d.seen(held(50, token=50))
    d.heading("an old record is put back: who it names is dead, and who came later may be alive")
    d.seen(held(60, "r_3", token=40), at=1.0)
    d.say(ev.Evidence("r_3#1", "its file lock is free"), at=1.1)
    d.tick()


@story(following)
def duplicate_identity(d: Dialogue) -> None:
    d.heading("our name, and a nonce that is not ours")
    d.seen(held(5, "p_1", "p_1/other.1"))
    d.seen(held(5, "p_1", "p_1/other.1", beat=1), at=5.0)
    d.tick()


@story(following)
def own_leftover(d: Dialogue) -> None:
    d.seen(vacant(1))
    d.say(ev.TakeFailed(1, "connection refused"), at=1.0)
    d.heading("it had its effect after all: taken at once, with another nonce")
    d.seen(held(2, "p_1", "p_1/i.1", lease_key="p_1#1"))
    d.tick()
    d.win(3)


@story(leading)
def withdrawn(d: Dialogue) -> None:
    d.say(ev.Close(), at=1.0)
    d.say(ev.WorkEnded(TIMING.validity_s), at=2.0)
    d.say(ev.ReleaseDone(2, vacant(3)))
    d.say(ev.Tick(), at=100.0)


@story(leading)
def work_ends_by_itself(d: Dialogue) -> None:
    d.say(ev.WorkEnded(TIMING.validity_s), at=2.0)
    d.heading("and it is a candidate again")
    d.say(ev.ReleaseDone(2, vacant(3)))


@story(following)
def late_confirmation(d: Dialogue) -> None:
    d.seen(vacant(1))
    d.say(ev.TakeDone(1, d.taken(2), 2.0 + TIMING.stop_s), at=2.0)
    d.say(ev.ReleaseDone(2, vacant(3)))
    d.tick()


@pytest.mark.parametrize("name", STORIES)
def test_the_dialogue_is_as_it_was(name: str) -> None:
    path = FOLDER / f"{name}.txt"
    text = "\n".join([f"# {name.replace('_', ' ')}", *STORIES[name]().lines]) + "\n"
    if os.environ.get("INCUMBENT_UPDATE"):
        FOLDER.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_every_file_has_its_dialogue() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(STORIES)


def test_the_dialogues_visit_every_state() -> None:
    text = "\n".join(line for whole in STORIES.values() for line in whole().lines)
    assert not [state for state in State if f"{state.value}" not in text]
