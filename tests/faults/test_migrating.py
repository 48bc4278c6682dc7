"""Migrations that are killed behind each step, between real stores, with workers on both sides.

The slice that every `make test` runs; `python -m tests.faults.migrating` is the long one.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from incumbent.cli.migration import Step
from tests.faults.adapter import Adapter
from tests.faults.checker import OK, VIOLATED, Report
from tests.faults.fleet import Late
from tests.faults.migrating import ANYTIME, LIMIT_S, MOVED, PAIRS, STEPS, Round, started


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Adapter, Adapter]]]:
    with ExitStack() as stack:
        yield {
            pair: stack.enter_context(started(pair, tmp_path_factory.mktemp("stores")))
            for pair in ("sqlite:file", "redis:kubernetes")
        }


def play(
    pairs: dict[str, tuple[Adapter, Adapter]], pair: str, step: str, folder: Path, lane: int
) -> Report:
    source, target = pairs[pair]
    urls = source.url(lane), target.url(lane)
    return Round(*urls, f"move-{lane}", folder, undo=lane % 2 == 1, seed=lane).play(step)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("pair", "steps"),
    [
        pytest.param("sqlite:file", STEPS, id="sqlite:file"),
        pytest.param(
            "redis:kubernetes",
            (Step.SOURCE_HELD.value, Step.SOURCE_BARRED.value, ANYTIME),
            id="redis:kubernetes",
        ),
    ],
)
def test_killed_behind_a_step_nobody_overlaps_and_tokens_grow(
    pair: str,
    steps: tuple[str, ...],
    pairs: dict[str, tuple[Adapter, Adapter]],
    tmp_path: Path,
) -> None:
    """All steps at once, each with an election of its own; every other one is undone first."""
    lanes = range(len(steps))
    with ThreadPoolExecutor(len(steps)) as pool:
        reports = pool.map(lambda lane: play(pairs, pair, steps[lane], tmp_path, lane), lanes)
        for step, report in zip(steps, reports, strict=True):
            assert report.verdict(2) == OK, (step, report.violations)


@pytest.mark.slow
def test_the_wrong_order_is_found(
    pairs: dict[str, tuple[Adapter, Adapter]], tmp_path: Path
) -> None:
    """The planted mistake: TO is opened before FROM's holder was asked to hand over."""
    source, target = pairs["sqlite:file"]
    report = Round(source.url(99), target.url(99), "careless", tmp_path, careless=True).play("")
    assert report.verdict(1) == VIOLATED
    assert report.overlaps


def test_who_was_ended_by_his_timer_is_started_again_and_no_outage(
    pairs: dict[str, tuple[Adapter, Adapter]], tmp_path: Path
) -> None:
    """The kernel's SIGKILL is what a busy machine makes of a term that was not renewed in time."""
    source, target = pairs["sqlite:file"]
    played = Round(source.url(98), target.url(98), "revived", tmp_path)
    with played.contending():
        for worker in list(played.workers):
            worker.process.kill()
        assert played.marked("they go on", (1, 2)).token > 0
        assert played.revived == 2
        played.workers[0].process.terminate()
        played.workers[0].process.wait(LIMIT_S)
        with pytest.raises(Late, match="ended with status"):
            played.revive()


def test_the_pairs_are_of_stores_that_there_are() -> None:
    named = {name for pair in PAIRS for name in pair.split(":")}
    assert named == set(MOVED)
