"""Short runs of `python -m tests.work`: each kind is exact, and a mistake is found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.sql import Postgresql
from tests.work import checker
from tests.work.nemesis import Plan, run

SEED = 8

KINDS = {
    "consumer": Plan("consumer", "postgresql", 200, 2, SEED, replicas=2, poison=40),
    "poller": Plan("poller", "directory", 100, 1, SEED, replicas=2),
    "periodic": Plan("periodic", "every", 20, 1, SEED, replicas=2, every_ms=100),
}
FAULTS = ("kill", "database-restart")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgresql]:
    adapter = Postgresql(tmp_path_factory.mktemp("database"))
    adapter.start()
    yield adapter
    adapter.stop()


@pytest.mark.parametrize("plan", KINDS.values(), ids=KINDS)
def test_each_kind_is_exact_through_faults(
    tmp_path: Path, database: Postgresql, plan: Plan
) -> None:
    faults = FAULTS[: plan.rounds]
    outcome = run(replace(plan, faults=faults), tmp_path / "run", database=database)
    assert outcome.failures == []
    report = checker.judge(tmp_path / "run")
    assert report.verdict(1) == checker.EXACT, report.violations
    assert report.committed == report.produced - report.dead
    assert report.faults == dict.fromkeys(faults, 1)


def test_a_consumer_that_seals_nothing_is_found_out(tmp_path: Path, database: Postgresql) -> None:
    plan = Plan("consumer", "postgresql", 200, 1, SEED, replicas=2, raw=True, planted="unsealed")
    outcome = run(replace(plan, faults=("stop",)), tmp_path / "run", database=database)
    assert outcome.failures == []
    report = checker.judge(tmp_path / "run")
    assert report.verdict(1) == checker.VIOLATED
    assert report.twice or report.stale
    assert not report.lost


def test_a_replica_that_ends_by_a_mistake_of_its_own_fails_the_run(
    tmp_path: Path, database: Postgresql
) -> None:
    plan = Plan("consumer", "postgresql", 20, 1, SEED, replicas=2, raw=True, planted="nonsense")
    outcome = run(replace(plan, faults=("kill",)), tmp_path / "run", database=database)
    (failure,) = outcome.failures
    assert "ended by itself, with 1\n" in failure
    assert "KeyError: 'nonsense'" in failure
