"""The conformance table: stores and cases, from one run of pytest on the real servers.

    python -m tests.stores.table [WORDS FOR PYTEST]...

runs the conformance suite over all stores and prints for each case which of them keep it. It counts
pytest's own results: a case that was skipped, that did not run, or whose server could not be had
is one that failed. The exit code is 0 if each store keeps each case.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

from incumbent.testing import conformance

__all__ = ["COLUMNS", "Results", "main", "table"]

HERE = Path(__file__).parent

COLUMNS = {
    "dapr": "test_dapr.py::test_conformance",
    "memory": "test_conformance.py::test_memory",
    "sqlite": "test_sqlite.py::test_it_is_a_store",
    "file": "test_file.py::test_it_is_a_store",
    "kubernetes": "test_conformance.py::test_kubernetes",
    "etcd": "test_etcd.py::test_conformance",
    "zookeeper": "test_zookeeper.py::test_conformance",
    "consul": "test_consul.py::test_it_is_a_store",
    "redis": "test_redis.py::test_conformance",
    "redis-py": "test_redis_recipe.py::test_conformance",
    "consul lock": "test_consul_recipe.py::test_conformance",
    "flock": "test_file_recipe.py::test_conformance",
    "postgresql": "test_postgresql.py::test_directly",
    "pgbouncer": "test_postgresql.py::test_through_a_pooler",
    "mysql": "test_mysql.py::test_mariadb",
}
"""Where the suite runs over each store."""

CASES = tuple(case.name for case in conformance.CASES)

Outcomes = Mapping[str, Mapping[str, str]]
"""The outcome of each case, by store."""


class Results:
    """A plugin of pytest that keeps the outcome of each case."""

    def __init__(self) -> None:
        self.outcomes: dict[str, dict[str, str]] = defaultdict(dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in one phase of one test; the worst of its phases counts."""
        test, _, case = report.nodeid.removesuffix("]").partition("[")
        for store, place in COLUMNS.items():
            if test.endswith(place):
                known = self.outcomes[store].setdefault(case, "passed")
                self.outcomes[store][case] = known if report.passed else report.outcome


def table(outcomes: Outcomes) -> tuple[str, bool]:
    """Return the table, and whether every case of every store has passed."""
    width = max(map(len, CASES)) + 2
    marks = {
        case: [outcomes.get(store, {}).get(case, "not run") for store in COLUMNS] for case in CASES
    }
    lines = [" " * width + "  ".join(COLUMNS)]
    for case, found in marks.items():
        cells = [
            ("✓" if outcome == "passed" else f"✗ {outcome}").ljust(len(store))
            for store, outcome in zip(COLUMNS, found, strict=True)
        ]
        lines.append(f"{case:{width}}{'  '.join(cells)}".rstrip())
    totals = [sum(found[i] == "passed" for found in marks.values()) for i in range(len(COLUMNS))]
    cells = [
        f"{total}/{len(CASES)}".ljust(len(store))
        for store, total in zip(COLUMNS, totals, strict=True)
    ]
    lines.append(f"{'passed':{width}}{'  '.join(cells)}".rstrip())
    return "\n".join(lines), all(total == len(CASES) for total in totals)


def main(words: list[str]) -> int:
    """Run, print, and return the exit code."""
    results = Results()
    places = [str(HERE / place) for place in COLUMNS.values()]
    code = pytest.main(["-q", "--no-header", "-p", "no:cacheprovider", *words, *places], [results])
    text, complete = table(results.outcomes)
    sys.stdout.write(f"\n{text}\n")
    return 0 if complete and code == pytest.ExitCode.OK else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
