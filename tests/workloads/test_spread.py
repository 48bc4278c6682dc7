"""Replicas of a spread: who ends up with what, after how many requests; what the work may do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

import incumbent
from incumbent import ConfigError, aio
from incumbent.errors import InvalidName, StoreUnavailable
from incumbent.stores.memory import MemoryStore
from tests.workloads.replicas import FACES, GROUP, LIMIT_S, Outsider, Replica, Stage, on_keeper

NEVER_S = 3600.0


@pytest.fixture
def stage() -> Stage:
    return Stage()


Start = Callable[..., Replica]


@pytest.fixture(params=FACES)
def start(request: pytest.FixtureRequest, stage: Stage) -> Iterator[Start]:
    replicas: list[Replica] = []

    def starting(label: str, names: Any, **options: Any) -> Replica:
        replicas.append(Replica(stage, label, names, request.param, **options).start())
        return replicas[-1]

    yield starting
    for replica in replicas:
        replica.spread.stop()
    for replica in replicas:
        replica.join()
    assert not stage.mistakes


def names(count: int) -> list[str]:
    return [f"e{number}" for number in range(count)]


def test_each_has_its_share_after_joins_and_leaves_and_as_few_moves_as_can_be(
    start: Start, stage: Stage
) -> None:
    start("a", names(12))
    stage.until_even(12, 1)
    b, _ = start("b", names(12)), start("c", names(12))
    stage.until_even(12, 3)
    assert stage.loads == {"a": 4, "b": 4, "c": 4}
    assert stage.calls["ask"] == 8
    b.stop()
    stage.until_even(12, 2)
    assert b.failure is None
    start("d", names(12))
    stage.until_even(12, 3)
    assert stage.loads == {"a": 4, "c": 4, "d": 4}


def _renewed(stage: Stage, times: int) -> bool:
    return stage.calls["renew"] >= times


def test_nothing_is_asked_of_the_store_once_it_is_even_but_renewals(
    start: Start, stage: Stage
) -> None:
    for label in "abc":
        start(label, names(7), ttl_s=2.0)
    stage.until_even(7, 3)
    others = 0
    for _ in range(5):
        # Whoever had set out before it was even may come too late, in the first of these.
        before = stage.calls.copy()
        enough = before["renew"] + 9
        stage.until(partial(_renewed, stage, enough))
        others = (stage.calls - before).total() - (stage.calls["renew"] - before["renew"])
        if not others:
            break
    assert not others


def test_only_who_has_the_turn_asks(start: Start, stage: Stage) -> None:
    may_end = threading.Event()

    def linger(term: incumbent.Term) -> None:
        term.lost.wait(LIMIT_S)
        may_end.wait(LIMIT_S)

    a = Replica(stage, "a", names(6), work=linger).start()
    stage.until_even(6, 1)
    start("b", names(6)), start("c", names(6))
    stage.until(lambda: stage.followers(GROUP) == 2 and stage.calls["ask"] == 1)
    assert stage.turn.lease_key
    assert stage.calls["ask"] == 1
    may_end.set()
    stage.until_even(6, 3)
    a.stop()


def test_who_has_less_and_wants_no_more_is_not_waited_for_for_ever(
    start: Start, stage: Stage
) -> None:
    start("a", names(9))
    stage.until_even(9, 1)
    start("b", names(9), at_most=1)
    stage.until(lambda: stage.loads == {"a": 8, "b": 1})
    start("c", names(9))
    stage.until(lambda: stage.loads == {"a": 4, "b": 1, "c": 4})


def test_a_turn_is_given_back_as_soon_as_what_was_asked_for_has_come(
    start: Start, stage: Stage
) -> None:
    start("a", names(2), ttl_s=3600.0)
    stage.until_even(2, 1)
    start("b", names(2), ttl_s=3600.0)
    stage.until_even(2, 2)


def test_a_turn_ends_after_a_ttl_if_the_holder_does_not_answer(start: Start, stage: Stage) -> None:
    outsider = Outsider(stage, names(4)).take()
    start("a", [*names(4), "x"], ttl_s=1.5)
    stage.until(lambda: stage.calls["ask"] == 1)
    stage.until(lambda: not stage.turn.lease_key)
    asked = [each for each in names(4) if stage.shelf.records[each].request is not None]
    assert len(asked) == 1
    # What is asked for counts as moved: 3 and 2, which is even.
    outsider.die()
    stage.until_even(5, 1)
    assert stage.calls["ask"] == 1


def test_a_turn_that_somebody_else_has_is_waited_for(start: Start, stage: Stage) -> None:
    busy = Outsider(stage, [GROUP]).take()
    start("a", names(2))
    stage.until_even(2, 1, idle=False)
    start("b", names(2))
    stage.until(lambda: stage.followers(GROUP) == 1)
    assert stage.calls["ask"] == 0
    busy.die()
    stage.until_even(2, 2)


def test_it_comes_home_once_and_stays(start: Start, stage: Stage) -> None:
    homes = {"e0": "b", "e1": "b", "e2": "b"}
    start("a", names(4), preferred=homes)
    stage.until_even(4, 1)
    b = start("b", names(4), preferred=homes)
    stage.until(lambda: stage.loads == {"a": 1, "b": 3} and not stage.turn.lease_key)
    assert stage.works == {"e0": ["b"], "e1": ["b"], "e2": ["b"], "e3": ["a"]}
    assert stage.calls["ask"] == 3
    b.stop()
    stage.until_even(4, 1)


def _after_renewals(stage: Stage, times: int) -> None:
    """Wait for longer than who wants something takes to ask for it."""
    stage.until(partial(_renewed, stage, stage.calls["renew"] + times))


def test_homes_that_contradict_one_another_come_to_rest(
    start: Start, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("incumbent.workloads.spread.member.FIRST_ABSENCE_S", NEVER_S)
    start("a", ["e0"], preferred={"e0": "a"}, ttl_s=1.5)
    stage.until_even(1, 1)
    start("b", ["e0"], preferred={"e0": "b"}, ttl_s=1.5)
    stage.until(lambda: stage.loads == {"b": 1} and not stage.turn.lease_key)
    _after_renewals(stage, 2)
    assert stage.begun == [("a", "e0"), ("b", "e0")]


def test_what_was_asked_away_is_asked_home_after_a_pause(
    start: Start, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("incumbent.workloads.spread.member.FIRST_ABSENCE_S", 0.01)
    start("a", ["e0"], preferred={"e0": "a"})
    stage.until_even(1, 1)
    start("b", ["e0"], preferred={"e0": "b"})
    stage.until(lambda: len(stage.begun) > 3)
    assert [label for label, _ in stage.begun[:4]] == ["a", "b", "a", "b"]


def test_a_home_where_the_work_failed_leaves_it_to_who_holds_it(
    start: Start, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("incumbent.workloads.spread.member.FIRST_PAUSE_S", 0.2)
    failing = threading.Event()
    failing.set()

    def work(term: incumbent.Term) -> None:
        if failing.is_set():
            raise ValueError("not here")
        term.lost.wait(LIMIT_S)

    b = start("b", ["e0"], ttl_s=1.5)
    stage.until_even(1, 1)
    a = Replica(stage, "a", ["e0"], work=work, preferred={"e0": "a"}, ttl_s=1.5).start()
    expected = ["b", "a", "b"]
    stage.until(lambda: [label for label, _ in stage.begun] == expected and bool(stage.loads))
    _after_renewals(stage, 4)
    assert [label for label, _ in stage.begun] == expected
    failing.clear()
    b.stop()
    stage.until(lambda: stage.loads == {"a": 1})
    start("c", ["e0"])
    stage.until(lambda: stage.followers("e0") == 2)
    a.spread.update(["x"])
    stage.until(lambda: stage.works["e0"] == ["c"])
    a.spread.update(["x", "e0"])
    stage.until(lambda: stage.works["e0"] == ["a"])
    a.stop()


def test_the_home_is_offered_a_vacancy_first(start: Start, stage: Stage) -> None:
    homes = dict.fromkeys(names(6), "b")
    outsider = Outsider(stage, names(6)).take()
    for label in "ab":
        start(label, names(6), preferred=homes, pause_s=NEVER_S)
    stage.until(lambda: all(stage.followers(name) == 2 for name in names(6)))
    outsider.die()
    stage.until(lambda: sum(stage.loads.values()) == 6)
    assert stage.loads == {"b": 6}


def test_the_less_loaded_take_first(start: Start, stage: Stage) -> None:
    """All on one event loop, so that nobody's being late counts."""
    more = [f"more{number}" for number in range(8)]
    outsider = Outsider(stage, more).take()
    b = start("b", ["b0", "b1"], pause_s=NEVER_S)
    stage.until_even(2, 1)
    everything = ["b0", "b1", *more, *names(40)]
    start("a", everything, pause_s=NEVER_S)
    stage.until(lambda: stage.loads == {"a": 40, "b": 2})
    b.spread.update(everything)
    stage.until(lambda: all(stage.followers(name) == 2 for name in everything))
    outsider.die()
    stage.until(lambda: sum(stage.loads.values()) == 50)
    assert stage.loads == {"a": 40, "b": 10}


def test_who_has_nothing_takes_first_where_nobody_has_more_than_one(
    start: Start, stage: Stage
) -> None:
    outsider = Outsider(stage, ["x"]).take()
    start("a", ["y", "x"])
    stage.until(lambda: stage.loads == {"a": 1})
    start("b", ["y", "x"])
    stage.until(lambda: stage.followers("x") == stage.followers("y") == 2)
    outsider.die()
    stage.until(lambda: sum(stage.loads.values()) == 2)
    assert stage.loads == {"a": 1, "b": 1}
    assert stage.calls["ask"] == 0


def test_the_important_are_taken_first(start: Start, stage: Stage) -> None:
    outsider = Outsider(stage, names(9)).take()
    start("a", names(9), priority={"e7": 2, "e3": 1, "e5": -1}, pause_s=NEVER_S)
    stage.until(lambda: all(stage.followers(name) == 1 for name in names(9)))
    outsider.die()
    stage.until_even(9, 1)
    order = sorted(names(9), key=lambda name: stage.shelf.records[name].token)
    assert [order[0], order[1], order[-1]] == ["e7", "e3", "e5"]


def test_nobody_has_more_than_it_may_and_takes_again_when_there_is_room(
    start: Start, stage: Stage
) -> None:
    """A hundred are vacant: several takes go at a time."""
    many = start("x", names(100), at_most=2)
    stage.until(lambda: stage.loads == {"x": 2})
    many.stop()
    assert stage.most["x"] == 2
    a = start("a", names(6), at_most=2)
    stage.until(lambda: stage.loads == {"a": 2})
    start("b", names(6), at_most=3)
    stage.until(lambda: stage.loads == {"a": 2, "b": 3})
    a.spread.update([name for name, who in stage.works.items() if who == ["a"]][:1])
    stage.until(lambda: stage.loads == {"a": 1, "b": 3})
    a.spread.update(names(6))
    stage.until(lambda: stage.loads == {"a": 2, "b": 3})
    assert max(len([1 for _ in group]) for group in stage.works.values()) == 1


def test_elections_come_and_go(start: Start, stage: Stage) -> None:
    a = start("a", names(2))
    stage.until_even(2, 1)
    a.spread.update(["e1", "e2", "e3"])
    stage.until(lambda: sorted(name for name, who in stage.works.items() if who) == a.spread.held)
    stage.until(lambda: a.spread.held == ["e1", "e2", "e3"])
    with pytest.raises(ConfigError, match="names is empty"):
        a.spread.update([])


def test_a_work_that_fails_goes_to_others_and_comes_back_after_a_pause(
    start: Start, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("incumbent.workloads.spread.member.FIRST_PAUSE_S", 0.3)
    failing = threading.Event()
    failing.set()
    alone = threading.Event()
    replica: Replica

    def work(term: incumbent.Term) -> None:
        if failing.is_set():
            failing.clear()
            raise ValueError("not here")
        alone.set()

    replica = start("a", ["e0"], work=work)
    replica.join()
    assert alone.is_set()
    assert replica.failure is None
    assert stage.begun == [("a", "e0")] * 2


def test_a_failure_moves_it_to_another(start: Start, stage: Stage) -> None:
    fail = threading.Event()

    def work(term: incumbent.Term) -> None:
        fail.wait(LIMIT_S)
        raise ValueError("not here")

    a = Replica(stage, "a", ["e0"], work=work).start()
    stage.until_even(1, 1)
    start("b", ["e0"])
    stage.until(lambda: stage.followers("e0") == 2)
    fail.set()
    stage.until(lambda: stage.loads == {"b": 1})
    a.stop()


def test_it_returns_when_all_work_has_returned(start: Start, stage: Stage) -> None:
    replica = start("a", names(3), work=lambda term: None)
    replica.join()
    assert replica.failure is None
    assert len(stage.begun) == 3
    assert all(not record.session for record in stage.shelf.records.values())


class Ended(BaseException):
    """No Exception."""


def test_what_is_no_exception_ends_the_replica(stage: Stage) -> None:
    def work(term: incumbent.Term) -> None:
        if term.name == "e1":
            raise Ended
        term.lost.wait(LIMIT_S)

    replica = Replica(stage, "a", names(3), work=work).start()
    replica.join()
    assert isinstance(replica.failure, Ended)
    assert all(not record.session for record in stage.shelf.records.values())


def test_what_is_no_work_is_told_at_once(stage: Stage) -> None:
    async def later(term: incumbent.Term) -> None: ...

    with pytest.raises(TypeError, match="asynchronous"):
        incumbent.Spread(GROUP, ["e"], later, store=stage.store("a")).run()

    def seems_plain(term: incumbent.Term) -> object:
        return later(term)

    hidden = incumbent.Spread(GROUP, ["e"], seems_plain, store=stage.store("a"))
    with pytest.raises(TypeError, match="asynchronous"):
        hidden.run(deadman=False)


def test_a_task_that_cannot_be_awaited_is_told_at_once(stage: Stage) -> None:
    plain: Any = lambda term: 3  # noqa: E731
    with pytest.raises(TypeError, match="cannot be awaited"):
        asyncio.run(aio.Spread(GROUP, ["e"], plain, store=stage.store("a")).run(deadman=False))


def test_whoever_cancels_gives_everything_up_first(stage: Stage) -> None:
    async def work(term: aio.Term) -> None:
        stage.begin("a", term.name)
        try:
            await asyncio.sleep(LIMIT_S)  # sleep: until it is cancelled
        finally:
            stage.end("a", term.name)

    async def main() -> None:
        spread = aio.Spread(GROUP, names(3), work, store=stage.store("a"))
        running = asyncio.create_task(spread.run(deadman=False))
        await asyncio.to_thread(stage.until_even, 3, 1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert spread.held == []

    asyncio.run(main())
    assert all(not record.session for record in stage.shelf.records.values())


class Closed(MemoryStore):
    """Cannot be opened."""

    async def open(self, *, create: bool = True) -> None:
        raise StoreUnavailable("it is closed")


def test_a_store_that_cannot_be_opened_is_raised(stage: Stage) -> None:
    spread = incumbent.Spread(GROUP, names(5), lambda term: None, store=Closed(stage.shelf))
    with pytest.raises(StoreUnavailable, match="it is closed"):
        spread.run(deadman=False)


async def nothing(term: aio.Term) -> None: ...


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no names": ({"names": []}, "names is empty"),
    "one text": ({"names": "abc"}, "must be several names"),
    "a name that is none": ({"names": ["A"]}, "election name 'A'"),
    "the group's own": ({"names": ["a", GROUP]}, "no election in it can have that name"),
    "a home that is none": ({"preferred": {"a": "-"}}, "identity '-'"),
    "a priority that is none": ({"priority": {"a": "high"}}, r"priority\['a'\]='high'"),
    "none at most": ({"at_most": 0}, "at_most=0 must be 1 or more"),
    "no pause": ({"pause_s": 0}, "pause_s=0 must be more than 0"),
    "an observer that is none": ({"observer": 3}, "observer=3 must be a function"),
    "a store that does not say who holds": ({"store": "dapr://localhost:1/s"}, "cannot tell who"),
    "a queue": (
        {"store": "zookeeper://h/x?recipe=kazoo-lock"},
        "nobody can be named as the successor",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_work_is_refused_at_once(case: str, stage: Stage) -> None:
    settings, text = BAD[case]
    given: dict[str, Any] = {"names": ["a"], "store": stage.store("a"), "ttl_s": 5.0, **settings}
    elections = given.pop("names")
    for kind in (incumbent.Spread, aio.Spread):
        work: Any = nothing
        with pytest.raises((ConfigError, InvalidName), match=text):
            kind(GROUP, elections, work, **given)


def test_who_is_stopped_before_it_has_begun_does_not_begin(stage: Stage) -> None:
    class Gone:
        def __init__(self) -> None:
            self.told = threading.Event()

        def gone(self, error: BaseException | None) -> None:
            self.told.set()

    runner: Any = Gone()
    spread = incumbent.Spread(GROUP, names(2), lambda term: None, store=stage.store("a"))
    member = spread._enter(runner, incumbent.Term, deadman=False)
    spread.stop()
    member.start()
    assert runner.told.wait(LIMIT_S)
    on_keeper(asyncio.sleep(0))  # By then the start was heard of, too.
    assert not stage.calls


def test_one_object_runs_once_at_a_time(start: Start, stage: Stage) -> None:
    a = start("a", names(1))
    stage.until_even(1, 1)
    with pytest.raises(ConfigError, match="runs already"):
        a.spread._enter(None, None, deadman=False)  # type: ignore[arg-type]
