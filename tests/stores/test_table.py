"""The conformance table counts what pytest says, and a store that is missing is one that fails."""

from __future__ import annotations

import pytest

from incumbent.stores import OURS
from tests.stores.table import CASES, COLUMNS, Results, table

OTHER_SET_UPS = ("pgbouncer", "redis-py", "consul lock", "flock")


def report(store: str, case: str, outcome: str, when: str = "call") -> pytest.TestReport:
    return pytest.TestReport(
        f"tests/stores/{COLUMNS[store]}[{case}]",
        ("", 0, ""),
        {},
        outcome,  # type: ignore[arg-type]
        None,
        when,  # type: ignore[arg-type]
    )


def everything() -> Results:
    results = Results()
    for store in COLUMNS:
        for case in CASES:
            for when in ("setup", "call", "teardown"):
                results.pytest_runtest_logreport(report(store, case, "passed", when))
    return results


def test_each_store_of_ours_has_a_column() -> None:
    modules = {OURS[store] for store in COLUMNS if store not in OTHER_SET_UPS}
    assert modules == set(OURS.values())


def test_all_cases_of_all_stores_have_to_pass() -> None:
    text, complete = table(everything().outcomes)
    assert complete
    assert "✗" not in text
    assert text.splitlines()[-1].count(f"{len(CASES)}/{len(CASES)}") == len(COLUMNS)


@pytest.mark.parametrize(
    ("outcome", "when"),
    [("failed", "setup"), ("failed", "call"), ("skipped", "setup"), ("failed", "teardown")],
)
def test_whatever_did_not_pass_is_told(outcome: str, when: str) -> None:
    results = everything()
    results.pytest_runtest_logreport(report("etcd", CASES[3], outcome, when))
    results.pytest_runtest_logreport(report("etcd", CASES[3], "passed", "teardown"))
    text, complete = table(results.outcomes)
    assert not complete
    (line,) = [line for line in text.splitlines() if "✗" in line]
    assert line.startswith(CASES[3])
    assert f"✗ {outcome}" in line


def test_a_store_that_did_not_run_has_failed() -> None:
    results = everything()
    del results.outcomes["consul"]
    text, complete = table(results.outcomes)
    assert not complete
    assert text.count("✗ not run") == len(CASES)
