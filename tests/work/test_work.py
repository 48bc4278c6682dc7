"""Short runs of `python -m tests.work`: what is exact is found exact, and a mistake is found."""

from __future__ import annotations

from pathlib import Path

from tests.work import checker
from tests.work.nemesis import Plan, run

TTL_S = 2.0
SEED = 8


def test_a_consumer_without_a_mistake_is_exact_through_faults(tmp_path: Path) -> None:
    plan = Plan(
        "consumer",
        "postgresql",
        items=300,
        rounds=3,
        seed=SEED,
        ttl_s=TTL_S,
        faults=("kill", "stop", "database-restart"),
        raw=True,
    )
    outcome = run(plan, tmp_path / "run")
    assert outcome.failures == []
    report = checker.judge(tmp_path / "run")
    assert report.verdict(1) == checker.EXACT, report
    assert (report.produced, report.committed) == (300, 300)
    assert report.faults == dict.fromkeys(plan.faults, 1)


def test_a_consumer_that_seals_nothing_is_found_out(tmp_path: Path) -> None:
    plan = Plan(
        "consumer",
        "postgresql",
        items=400,
        rounds=2,
        seed=SEED,
        ttl_s=TTL_S,
        faults=("stop",),
        raw=True,
        planted="unsealed",
    )
    outcome = run(plan, tmp_path / "run")
    assert outcome.failures == []
    report = checker.judge(tmp_path / "run")
    assert report.verdict(1) == checker.VIOLATED
    assert report.twice
    assert report.stale
    assert not report.lost
