"""What a term says, and what it refuses to say."""

from __future__ import annotations

import threading

import pytest

from incumbent import LeadershipLost, Term, testing


def test_it_has_no_truth_value() -> None:
    term = testing.elected_term()
    with pytest.raises(TypeError, match=r"term\.check\(\)"):
        bool(term)
    with pytest.raises(TypeError), pytest.MonkeyPatch.context():
        assert not term


def test_the_check_is_the_clock_and_nothing_else() -> None:
    clock = testing.ManualClock()
    term = testing.elected_term(clock=clock, ttl_s=15)
    left = term.remaining()
    clock.advance(left - 0.001)
    term.check()
    assert term.remaining() == pytest.approx(0.001)
    clock.advance(0.0015)
    with pytest.raises(LeadershipLost, match=r"has not been trusted for 0\.00"):
        term.check()
    assert term.remaining() == 0.0


def test_a_callback_is_called_once_whenever_it_came() -> None:
    term = testing.elected_term()
    heard: list[str] = []
    term.on_lost(lambda _: heard.append("early"))
    testing.recall(term)
    testing.recall(term, "again")
    testing.depose(term)
    assert heard == ["early"]
    term.on_lost(lambda _: heard.append("late"))
    testing.recall(term)
    assert heard == ["early", "late"]
    assert term.cause == "asked to"


def test_a_callback_that_raises_keeps_nobody_from_hearing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    term = testing.elected_term()
    heard: list[Term] = []

    def raises(_: Term) -> None:
        raise ZeroDivisionError

    term.on_lost(raises)
    term.on_lost(heard.append)
    testing.recall(term)
    assert heard == [term]
    assert "ZeroDivisionError" in caplog.text


def test_no_callback_is_lost_between_two_threads() -> None:
    for _ in range(50):
        term = testing.elected_term()
        heard: list[int] = []
        ready = threading.Barrier(3)

        def register(term: Term, heard: list[int], ready: threading.Barrier) -> None:
            ready.wait()
            for number in range(20):
                term.on_lost(lambda _, number=number: heard.append(number))  # type: ignore[misc]

        threads = [threading.Thread(target=register, args=(term, heard, ready)) for _ in range(2)]
        for thread in threads:
            thread.start()
        ready.wait()
        testing.recall(term)
        for thread in threads:
            thread.join()
        assert sorted(heard) == sorted([*range(20), *range(20)])


def test_what_is_void_stays_so() -> None:
    clock = testing.ManualClock()
    term = testing.elected_term(clock=clock)
    term.void("over")
    with pytest.raises(LeadershipLost, match="is over: over"):
        term.check()
    assert (term.valid_until, term.remaining()) == (float("-inf"), 0.0)


def test_it_can_be_printed() -> None:
    assert repr(testing.elected_term("e", token=3)) == "<Term e token=3 test_0>"
