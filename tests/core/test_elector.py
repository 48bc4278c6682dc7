"""The elector against its table, and against any order of events.

The stateful test is a store, a process and a world in one, which answers requests late or never,
reports old and new records, and lets time pass. What must hold is checked at every effect.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from incumbent.core import events as ev
from incumbent.core.elector import _HANDLERS, Elector, State
from incumbent.core.records import Held, Holding, Lease, Snapshot, absent
from incumbent.core.table import TABLE
from incumbent.core.watch import RESERVE_S
from tests.core.elections import NAME, TIMING, Dialogue, foreign, gone, held, request, vacant
from tests.core.test_transcripts import STORIES

EVENTS: tuple[type[Any], ...] = get_args(ev.Event)
ENTRIES = [(state, event) for state, row in TABLE.items() for event in row]

SAMPLES: dict[type[Any], ev.Event] = {
    type(event): event
    for event in (
        ev.Start(),
        ev.Tick(),
        ev.Seen(held(99, "r_3")),
        ev.LookFailed(),
        ev.Evidence("q_2#1", "dead"),
        ev.TakeDone(1, Held(NAME, "t", 1, Lease("k", 0, 10.0, "p"), vacant(1)), 8.0),
        ev.TakeRefused(1, held(99, "r_3")),
        ev.TakeFailed(1, "no"),
        ev.TakeNotSent(1),
        ev.TakeUnknown(1, "perhaps"),
        ev.ReadBackDone(1, vacant(1), None, 0.0),
        ev.ReadBackFailed(1, "no"),
        ev.LeaseExpiring("time"),
        ev.LeaseFailing("no"),
        ev.LeaseRevoked("no"),
        ev.StepDown(),
        ev.WorkEnded(8.0),
        ev.ReleaseDone(1, vacant(1)),
        ev.ReleaseFailed(1, "no"),
        ev.Close(),
    )
}


def in_state(state: State) -> Dialogue:
    """Return an elector that has come to a state in an ordinary way."""
    d = Dialogue()
    if state is State.NEW:
        return d
    d.say(ev.Start())
    if state is State.STANDBY:
        d.seen(held(5))
    elif state in (State.TAKING, State.DOUBT):
        d.seen(vacant(1))
        if state is State.DOUBT:
            d.say(ev.TakeUnknown(1, "perhaps"))
    elif state is not State.LOOKING:
        d.seen(vacant(1))
        d.win(2)
        if state is not State.LEADING:
            d.say(ev.StepDown(), at=1.0)
        if state is State.STUCK:
            d.tick()
        elif state in (State.RELEASING, State.CLOSED):
            d.say(ev.WorkEnded(8.0))
        if state is State.CLOSED:
            d.say(ev.Close())
            d.say(ev.ReleaseDone(2, vacant(3)))
    assert d.state is state
    return d


# -- the table ------------------------------------------------------------------------------------


def test_every_entry_has_a_handler_and_every_handler_an_entry() -> None:
    assert set(ENTRIES) == set(_HANDLERS)


def test_every_state_has_a_row_and_can_be_reached() -> None:
    assert set(TABLE) == set(State)
    following = {after for row in TABLE.values() for states in row.values() for after in states}
    assert following == set(State) - {State.NEW}


def test_every_event_means_something_somewhere() -> None:
    assert {event for _, event in ENTRIES} == set(EVENTS) == set(SAMPLES)


def test_only_the_end_has_no_way_out() -> None:
    assert [state for state, row in TABLE.items() if not row] == [State.CLOSED]


@pytest.mark.parametrize("state", State, ids=lambda state: state.value)
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_what_the_table_does_not_list_is_ignored(state: State, event: type[Any]) -> None:
    d = in_state(state)
    wake_at = d.elector.wake_at
    effects = d.say(SAMPLES[event])
    if event not in TABLE[state]:
        assert effects == []
        assert (d.state, d.elector.wake_at) == (state, wake_at)
    else:
        assert d.state in TABLE[state][event]


def test_a_transition_that_the_table_forbids_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLE[State.NEW], ev.Start, (State.CLOSED,))
    with pytest.raises(AssertionError, match="may not lead to"):
        Elector(NAME, "p_1", "i", TIMING).handle(ev.Start(), 0.0)


def test_every_entry_of_the_table_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    used: Counter[tuple[State, type[Any]]] = Counter()
    handle = Elector.handle

    def counting(self: Elector, event: ev.Event, now: float) -> list[ev.Effect]:
        used[self.state, type(event)] += 1
        return handle(self, event, now)

    monkeypatch.setattr(Elector, "handle", counting)
    for tell in STORIES.values():
        tell()
    for state in State:
        for event in TABLE[state]:
            in_state(state).say(SAMPLES[event])
    assert set(ENTRIES) <= set(used)


# -- single rules ---------------------------------------------------------------------------------


def test_a_take_compares_what_was_watched_and_nothing_fresher() -> None:
    d = in_state(State.STANDBY)
    d.seen(held(5, beat=3), at=2.0)
    effects = d.tick()
    assert d.now == 12.0
    assert ev.Take(1, "p_1/i.1", held(5, beat=3)) in effects


@pytest.mark.parametrize("ttl_s", [1.0, 60.0])
def test_an_observer_waits_the_ttl_of_the_record(ttl_s: float) -> None:
    d = in_state(State.LOOKING)
    d.seen(held(5, ttl_s=ttl_s), at=1.0)
    assert d.elector.wake_at == 1.0 + ttl_s


@pytest.mark.parametrize("ttl_s", [1.0, 30.0])
def test_a_newcomer_waits_out_what_was_deleted_as_the_store_knows(ttl_s: float) -> None:
    d = Dialogue(absent_is_vacant=True)
    d.say(ev.Start())
    d.seen(absent(NAME, 7, ttl_s))
    assert (d.state, d.elector.wake_at) == (State.STANDBY, max(ttl_s, TIMING.ttl_s))


def test_nonces_never_come_twice() -> None:
    d = in_state(State.TAKING)
    terms = set()
    for attempt in range(1, 20):
        terms.add(d.taken(2).term)
        d.say(ev.TakeFailed(attempt, "no"))
        d.tick()
    assert len(terms) == 19


@pytest.mark.parametrize("successor", ["p", "p_1"])
def test_a_vacancy_for_us_is_taken_at_once(successor: str) -> None:
    d = in_state(State.STANDBY)
    d.seen(vacant(6, successor))
    assert d.state is State.TAKING


@pytest.mark.parametrize("successor", ["r", "p_10", "p_1_2"])
def test_a_vacancy_for_somebody_else_is_left_to_them(successor: str) -> None:
    d = in_state(State.STANDBY)
    d.seen(vacant(6, successor), at=1.0)
    assert d.elector.wake_at == 1.0 + RESERVE_S


def test_a_request_that_came_during_the_take_is_obeyed() -> None:
    d = in_state(State.TAKING)
    d.seen(held(3, "p_1", "p_1/i.1", asked=request("p_1/i.1", "r")))
    d.win(2)
    assert d.state is State.RELEASING


def test_news_of_the_time_before_the_take_deposes_nobody() -> None:
    d = in_state(State.TAKING)
    d.seen(vacant(1), at=1.0)
    d.win(2)
    assert d.state is State.LEADING


def test_a_record_that_came_and_went_during_a_failed_take_is_waited_out() -> None:
    d = in_state(State.LOOKING)
    d.seen(gone(0))
    d.tick()
    d.seen(held(3, "r_3"))
    d.seen(gone(4), at=11.0)
    d.say(ev.TakeFailed(1, "no session"), at=12.0)
    assert d.state is State.STANDBY
    assert d.elector.wake_at == 22.0


def test_a_take_that_was_not_sent_is_decided_anew_and_has_another_nonce() -> None:
    d = in_state(State.TAKING)
    (take,) = [e for e in d.say(ev.TakeNotSent(d.elector.attempts)) if isinstance(e, ev.Take)]
    assert (d.state, take.attempt) == (State.TAKING, d.elector.attempts)
    assert take.term.endswith(f".{take.attempt}")


def test_a_take_that_was_not_sent_withdraws_with_the_candidate() -> None:
    d = in_state(State.TAKING)
    stood = d.elector.take_stands(d.now)
    d.say(ev.Close())
    assert (stood, d.elector.take_stands(d.now)) == (True, False)
    d.say(ev.TakeNotSent(1))
    assert d.state is State.CLOSED


def test_a_record_that_came_and_went_before_a_take_was_sent_is_waited_out() -> None:
    d = in_state(State.LOOKING)
    d.seen(gone(0))
    d.tick()
    stood = d.elector.take_stands(d.now)
    d.seen(held(3, "r_3"))
    d.seen(gone(4), at=11.0)
    assert (stood, d.elector.take_stands(d.now)) == (True, False)
    d.say(ev.TakeNotSent(1), at=12.0)
    assert (d.state, d.elector.wake_at) == (State.STANDBY, 22.0)


@pytest.mark.parametrize("seen", [True, False])
def test_an_absence_that_we_slept_through_before_a_take_was_sent_is_waited_out(seen: bool) -> None:
    """In one attempt's time a turn comes or not; what takes longer is a pause of the process."""
    d = in_state(State.LOOKING)
    d.seen(gone(0))
    d.tick()
    d.say(ev.TakeNotSent(1), at=d.now + TIMING.attempt_s)
    assert d.state is State.TAKING
    if seen:
        d.seen(gone(0), at=d.now)
    d.say(ev.TakeNotSent(2), at=d.now + 2.1 * TIMING.attempt_s)
    assert (d.state, d.elector.wake_at) == (State.STANDBY, d.now + TIMING.ttl_s)


def test_a_take_may_be_sent_for_one_attempt() -> None:
    d = in_state(State.TAKING)
    late = (TIMING.attempt_s, 1.01 * TIMING.attempt_s)
    assert [d.elector.take_stands(d.now + late_s) for late_s in late] == [True, False]


def in_doubt_or_refused(refused: bool, snapshot: Snapshot) -> ev.Event:
    return ev.TakeRefused(1, snapshot) if refused else ev.ReadBackDone(1, snapshot, None, -math.inf)


@pytest.mark.parametrize("refused", [True, False])
@pytest.mark.parametrize("found", [gone(4), gone(0)])
def test_a_record_that_came_and_went_during_a_take_is_waited_out(
    refused: bool, found: Snapshot
) -> None:
    """Its holder may be at work; what was found looks like the absence that was watched."""
    d = in_state(State.LOOKING)
    d.seen(gone(0))
    d.tick()
    if not refused:
        d.say(ev.TakeUnknown(1, "no answer"))
    d.seen(held(3, "r_3"), at=10.2)
    d.say(in_doubt_or_refused(refused, found), at=10.5)
    assert (d.state, d.elector.wake_at) == (State.STANDBY, 20.5)


def test_an_absence_is_not_counted_anew_for_a_take_that_was_only_refused_or_unknown() -> None:
    d = in_state(State.LOOKING)
    d.seen(gone(0))
    d.tick()
    d.say(ev.TakeRefused(1, gone(7)), at=10.5)
    assert (d.state, d.elector.wake_at) == (State.STANDBY, 10.5 + TIMING.retry_every_s)
    d.tick()
    d.say(ev.TakeUnknown(2, "no answer"))
    d.say(ev.ReadBackDone(2, gone(8), None, -math.inf), at=d.now + TIMING.attempt_s)
    assert d.state is State.TAKING


@pytest.mark.parametrize("outcome", ["refused", "failed", "unknown"])
def test_an_absence_that_we_slept_through_during_a_take_is_waited_out(outcome: str) -> None:
    d = in_state(State.LOOKING)
    d.seen(gone(0))
    d.tick()
    if outcome == "unknown":
        d.say(ev.TakeUnknown(1, "no answer"))
    said = (
        ev.TakeFailed(1, "no session")
        if outcome == "failed"
        else in_doubt_or_refused(outcome == "refused", gone(0))
    )
    d.say(said, at=d.now + 2.1 * TIMING.attempt_s)
    assert (d.state, d.elector.wake_at) == (State.STANDBY, d.now + TIMING.ttl_s)


def test_an_absence_that_a_record_has_left_is_waited_out_by_newcomers_too() -> None:
    d = Dialogue(absent_is_vacant=True)
    d.say(ev.Start())
    d.seen(replace(gone(5), ttl_s=30.0))
    assert (d.state, d.elector.wake_at) == (State.STANDBY, 30.0)


def test_an_absence_that_we_slept_through_is_waited_out_anew() -> None:
    d = in_state(State.LOOKING)
    d.seen(gone(0))
    due_at = d.elector.wake_at
    d.say(ev.Tick(), at=due_at + 2 * TIMING.attempt_s)
    assert d.state is State.STANDBY
    assert d.elector.wake_at == d.now + TIMING.ttl_s
    assert any(isinstance(effect, ev.Take) for effect in d.tick())


def test_who_gave_way_yields_only_until_somebody_has_followed() -> None:
    d = in_state(State.LEADING)
    d.say(ev.StepDown())
    d.say(ev.WorkEnded(d.now + 5.0))
    d.seen(vacant(8), at=d.now)
    d.seen(held(9, "r_3"), at=d.now)
    d.say(ev.ReleaseDone(d.elector.attempts, held(9, "r_3")))
    d.seen(vacant(10), at=d.now)
    assert d.state is State.TAKING


# -- any order ------------------------------------------------------------------------------------


@dataclass
class _Open:
    """A request that was sent."""

    effect: ev.Take | ev.ReadBack | ev.Release
    sent_at: float


class Elections(RuleBasedStateMachine):
    """Anything may happen to an elector, at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.serial = 10
        self.elector = Elector(NAME, "p_1", "i", TIMING)
        self.open: _Open | None = None
        self.over: list[_Open] = []
        self.working = ""
        self.keepalive = False
        self.told = False
        self.lost = False
        self.nonces: set[str] = set()
        self.following = 0
        self.send(ev.Start())

    # -- effects

    def send(self, event: ev.Event) -> None:
        for effect in self.elector.handle(event, self.now):
            self.perform(effect)

    def perform(self, effect: ev.Effect) -> None:
        match effect:
            case ev.Take() | ev.ReadBack() | ev.Release():
                assert self.open is None, "one request in flight"
                self.open = _Open(effect, self.now)
        match effect:
            case ev.Take(_, term, over):
                assert not self.working
                assert over.holding is not Holding.FOREIGN
                assert term not in self.nonces
                self.nonces.add(term)
                self.lost = False
            case ev.Release(_, term, _):
                assert not self.working, "stop, then release"
                assert not self.keepalive, "renewed no more"
                assert not self.lost, "a lost term is never released"
                assert term in self.nonces
            case ev.BeginTerm(confirmed):
                assert not self.working
                self.working = confirmed.term
                self.keepalive = True
                self.told = self.lost = False
            case ev.StopWork(why, _, deadline):
                assert self.working
                assert not self.told, "once"
                self.told = True
                self.lost = not why.planned
                assert deadline == self.now + TIMING.stop_s
            case ev.VoidTerm():
                self.lost = True
            case ev.EndKeepalive():
                self.keepalive = False
            case ev.Stuck():
                assert self.working
                assert self.told
                assert not self.keepalive
                self.lost = True
            case ev.Follow():
                self.following += 1
            case ev.Unfollow():
                self.following -= 1
            case ev.Closed():
                assert not self.working
                assert not self.following

    # -- events

    @rule(after_s=st.sampled_from((0.0, 0.01, 1.0, 3.0, 11.0)))
    def time_passes(self, after_s: float) -> None:
        self.now += after_s
        self.send(ev.Tick())

    @rule()
    def its_time_comes(self) -> None:
        if self.elector.wake_at != math.inf:
            self.now = max(self.now, self.elector.wake_at)
            self.send(ev.Tick())

    def some_record(self, data: st.DataObject) -> Snapshot:
        self.serial += data.draw(st.sampled_from((1, 1, 0, -3, -9)))
        serial = max(1, self.serial)
        own = self.elector.term or (sorted(self.nonces) or ["p_1/i.1"])[-1]
        return data.draw(
            st.sampled_from(
                (
                    vacant(serial),
                    vacant(serial, "r"),
                    held(serial),
                    held(serial, beat=serial % 5),
                    held(serial, "p_1", "p_1/other.1"),
                    held(serial, "p_1", own),
                    held(serial, "p_1", own, asked=request(own, "r")),
                    foreign(serial),
                    gone(serial),
                )
            )
        )

    @rule(data=st.data(), fresh=st.booleans())
    def seen(self, data: st.DataObject, fresh: bool) -> None:
        self.send(ev.Seen(self.some_record(data), fresh=fresh and self.open is None))

    @rule(key=st.sampled_from(("q_2#1", "r_3#1")))
    def evidence(self, key: str) -> None:
        self.send(ev.Evidence(key, "dead"))

    @rule(
        event=st.sampled_from(
            (
                ev.LookFailed(),
                ev.StepDown("r"),
                ev.LeaseExpiring("time"),
                ev.LeaseFailing("no answer"),
                ev.LeaseRevoked("refused"),
            )
        )
    )
    def told_something(self, event: ev.Event) -> None:
        if isinstance(event, ev.LeaseFailing | ev.LeaseRevoked):
            if not self.keepalive:
                return
            self.lost = True
        self.send(event)

    @precondition(lambda self: self.working)
    @rule(left_s=st.sampled_from((-1.0, 0.0, 0.05, 5.0)))
    def work_ends(self, left_s: float) -> None:
        self.working = ""
        self.send(ev.WorkEnded(self.now + left_s))

    @precondition(lambda self: self.open is not None)
    @rule(data=st.data(), late=st.booleans(), left_s=st.sampled_from((-1.0, 1.0, 8.0)))
    def answer(self, data: st.DataObject, late: bool, left_s: float) -> None:
        request_ = self.open
        # The driver reports each request once, so only an older attempt can be answered late.
        older = [sent for sent in self.over if sent.effect.attempt < self.elector.attempts]
        if late and older:
            request_ = data.draw(st.sampled_from(older))
        assert request_ is not None
        if request_ is self.open:
            self.over.append(request_)
            self.open = None
            kinds: tuple[str, ...] = ("done", "not", "failed", "unsent", "unknown")
        else:
            kinds = ("done", "not", "failed")
        self.send(self.an_answer(data, request_.effect, data.draw(st.sampled_from(kinds)), left_s))

    def an_answer(
        self,
        data: st.DataObject,
        effect: ev.Take | ev.ReadBack | ev.Release,
        kind: str,
        left_s: float,
    ) -> ev.Event:
        attempt, valid_until = effect.attempt, self.now + left_s
        if isinstance(effect, ev.Release):
            if kind in ("done", "not"):
                return ev.ReleaseDone(attempt, self.some_record(data))
            return ev.ReleaseFailed(attempt, kind)
        self.serial += 1
        record = held(self.serial, "p_1", effect.term, lease_key="p_1#1")
        confirmed = Held(
            NAME, effect.term, self.serial, Lease("p_1#1", 0, TIMING.ttl_s, "p_1"), record
        )
        if isinstance(effect, ev.ReadBack):
            if kind == "done":
                return ev.ReadBackDone(attempt, record, confirmed, valid_until)
            if kind == "not":
                return ev.ReadBackDone(attempt, self.some_record(data), None, -math.inf)
            return ev.ReadBackFailed(attempt, kind)
        match kind:
            case "done":
                return ev.TakeDone(attempt, confirmed, valid_until)
            case "not":
                return ev.TakeRefused(attempt, self.some_record(data))
            case "failed":
                return ev.TakeFailed(attempt, kind)
            case "unsent":
                return ev.TakeNotSent(attempt)
        return ev.TakeUnknown(attempt, kind)

    @rule()
    @precondition(lambda self: self.now > 50)
    def withdraw(self) -> None:
        self.send(ev.Close())

    # -- what always holds

    @invariant()
    def the_state_says_what_is_going_on(self) -> None:
        state = self.elector.state
        busy = (State.TAKING, State.DOUBT, State.RELEASING)
        assert bool(self.working) == (state in (State.LEADING, State.STOPPING, State.STUCK))
        assert not (self.open is not None and state not in busy)
        assert bool(self.elector.term) == (bool(self.working) or state is State.RELEASING)

    @invariant()
    def it_never_waits_for_nothing(self) -> None:
        """Something will happen in every state: a request, work, a watch, or a time that comes."""
        elector = self.elector
        match elector.state:
            case State.TAKING:
                assert self.open is not None
            case State.DOUBT | State.RELEASING:
                assert self.open is not None or elector.wake_at != math.inf
            case State.STANDBY:
                watched = elector.watched
                assert watched is not None
                assert elector.wake_at != math.inf or watched.holding is Holding.FOREIGN
            case State.STOPPING:
                assert elector.wake_at != math.inf
            case State.LEADING:
                assert self.keepalive


TestElections = settings(max_examples=200, stateful_step_count=50)(Elections).TestCase
