"""What users get for their own tests."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

import incumbent
from incumbent import testing
from incumbent.errors import ImpossibleTiming, InvalidName
from tests.faces.programs import LIMIT_S, environment


def test_a_ready_made_term_needs_nobody() -> None:
    term = testing.elected_term("billing", token=7, identity="me_1")
    term.check()
    assert (term.name, term.token, term.identity, term.ended) == ("billing", 7, "me_1", False)
    assert 0 < term.remaining() < 15
    with pytest.raises(InvalidName):
        testing.elected_term("Not A Name")
    with pytest.raises(ImpossibleTiming):
        testing.elected_term(ttl_s=0)


def test_its_trust_runs_out_on_a_clock_of_ones_own() -> None:
    clock = testing.ManualClock()
    term = testing.elected_term(clock=clock, ttl_s=10)
    clock.advance(term.remaining() / 2)
    term.check()
    clock.expire(term)
    with pytest.raises(incumbent.LeadershipLost, match="not confirmed in time"):
        term.check()
    assert term.remaining() == 0
    assert not term.lost.is_set()
    now = clock()
    clock.expire(term)
    assert clock() == now
    with pytest.raises(ValueError, match="go back"):
        clock.advance(-1)


def test_recalled_it_is_trusted_a_while_yet() -> None:
    term = testing.elected_term()
    heard: list[str] = []
    term.on_lost(lambda told: heard.append(told.cause))
    testing.recall(term)
    term.check()
    assert term.lost.is_set()
    assert heard == ["asked to"]


def test_deposed_it_is_not() -> None:
    term = testing.elected_term()
    heard: list[str] = []
    term.on_lost(lambda told: heard.append(told.cause))
    testing.depose(term, "somebody else was faster")
    with pytest.raises(incumbent.LeadershipLost, match="somebody else was faster"):
        term.check()
    assert heard == ["somebody else was faster"]


def test_each_store_has_its_own_elections() -> None:
    one, two = testing.memory_store(), testing.memory_store()
    with (
        incumbent.Election("e", store=one, ttl_s=5).hold(timeout_s=LIMIT_S),
        incumbent.Election("e", store=two, ttl_s=5).hold(timeout_s=LIMIT_S) as term,
    ):
        term.check()


def test_a_store_beside_another_is_what_another_process_would_have() -> None:
    store = testing.memory_store()
    rival = incumbent.Election("e", store=testing.memory_store(beside=store), ttl_s=5)
    elected = threading.Event()

    def contend() -> None:
        with rival.hold(timeout_s=LIMIT_S):
            elected.set()

    with incumbent.Election("e", store=store, ttl_s=5).hold() as term:
        with pytest.raises(incumbent.NotElected, match="is held by"), rival.hold(timeout_s=0):
            pytest.fail("two hold")
        thread = threading.Thread(target=contend)
        thread.start()
        term.check()
        assert not elected.is_set()
    assert elected.wait(LIMIT_S)
    thread.join(LIMIT_S)


def test_it_brings_no_test_framework_with_it() -> None:
    code = (
        "import sys, incumbent.testing; "
        "assert not {'pytest', '_pytest', 'hypothesis', 'asyncio.runners'} & {*sys.modules} "
        "- {'asyncio.runners'}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=environment(), timeout=LIMIT_S)
