"""The stores beside their neighbours: the descriptions fit together, and each measurement runs.

The neighbours' libraries are not here (they have an environment of their own), so what runs is ours
and the raw requests, on the stores that need no server. That the figures mean something is not
asked: a busy machine may be as slow as it likes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import neighbours
from benchmarks.__main__ import MODULES
from benchmarks.bench import Bench
from benchmarks.programs.locks import OPENERS
from benchmarks.programs.raw_stores import REQUESTS
from benchmarks.report import Report
from benchmarks.stores import acquire, crash, handover, steady
from benchmarks.stores.kinds import KINDS, NAMES, File, Kind, Neighbour, Sqlite
from incumbent.stores import open_store

ON_DISK = {File.name, Sqlite.name}


class Tiny(Bench):
    """Does everything once or twice."""

    def many(self, full: int, quick: int) -> int:
        return 2


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    for kind in (File, Sqlite):
        monkeypatch.setattr(kind, "neighbours", lambda _: ())
    with Tiny(quick=True, stores=sorted(ON_DISK)) as bench:
        yield bench


def test_every_store_is_described_once() -> None:
    assert len(set(NAMES)) == len(KINDS)
    assert set(NAMES) == set(REQUESTS)


def test_no_two_benchmarks_have_the_same_name() -> None:
    assert len({module.NAME for module in MODULES}) == len(MODULES)
    assert {acquire, handover, crash, steady} <= set(MODULES)


@pytest.mark.parametrize("make", [File, Sqlite])
def test_a_description_names_a_store_and_its_neighbours(make: type[Kind], tmp_path: Path) -> None:
    kind = make(tmp_path)
    assert open_store(kind.url()).capabilities.scheme == kind.name
    assert kind.needs
    found = kind.neighbours()
    assert found
    assert all(isinstance(one, Neighbour) and one.lock in OPENERS for one in found)


def test_every_library_that_a_neighbour_needs_has_a_version() -> None:
    wanted = {"kazoo", "tooz", "redis", "portalocker", "etcd3gw", "psycopg", "pymysql"}
    assert wanted <= set(neighbours.versions())


def test_what_the_neighbours_need_is_not_where_the_tests_are() -> None:
    path = neighbours.REQUIREMENTS.with_name("dev.in")
    named = path.read_text(encoding="utf-8").lower().split()
    assert not {"tooz", "portalocker"} & set(named)


def test_acquire_runs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acquire, "BATCH", 2)
    report = acquire.run(bench)
    assert _stores(report) == ON_DISK
    assert {row.who for row in report.rows} == {acquire.RAW, acquire.STAYS, acquire.HOLD}
    assert all(row.n == 4 and row.p50 > 0 for row in report.rows)
    assert len(report.targets) == 2 * len(ON_DISK)


def test_handover_runs(bench: Bench) -> None:
    report = handover.run(bench)
    assert _stores(report) == ON_DISK
    assert all(row.n == 2 and row.p50 > 0 for row in report.rows)


@pytest.mark.slow
def test_crash_runs(bench: Bench) -> None:
    report = crash.run(bench)
    assert {target.text.partition(",")[0] for target in report.targets} == ON_DISK
    bounds = [row for row in report.rows if row.who == "derived"]
    assert len(bounds) == len(ON_DISK)
    assert all(row.p50 > crash.TTL_S * 1e3 for row in bounds)


def test_steady_runs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steady, "_SETTLE_S", 0.0)
    report = steady.run(bench)
    assert {row.who for row in report.rows} == ON_DISK
    assert "lost" not in " ".join(report.notes)


def _stores(report: Report) -> set[str]:
    return {row.what for row in report.rows}
