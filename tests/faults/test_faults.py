"""The fault suite itself: the checker against planted logs, the whole against a planted mistake,
and the small slice that every `make test` runs. `make faults` is the long one.
"""

from __future__ import annotations

import ast
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults import checker
from tests.faults.__main__ import cells_of, parse
from tests.faults.checker import OK, VIOLATED, VOID, Report, judge_all
from tests.faults.fleet import PROJECT, Watch
from tests.faults.mark import MARK_BYTES
from tests.faults.nemesis import Cell, Result
from tests.faults.results import OtherRun, Results, table
from tests.faults.stores import ADAPTERS

MS = 1_000_000

Planted = tuple[int, int, int]
"""Token, worker, and the time in nanoseconds; the pid follows from the worker."""


def line(mark: Planted) -> bytes:
    token, worker, at_ns = mark
    text = b"%020d %020d %010d %010d\n" % (token, at_ns, 100 + worker, worker)
    assert len(text) == MARK_BYTES
    return text


def span(token: int, worker: int, first_ns: int, last_ns: int) -> list[Planted]:
    """Marks each millisecond, the first and the last instant included."""
    return [(token, worker, at) for at in (*range(first_ns, last_ns, MS), last_ns)]


GOOD = [*span(5, 1, 0, 10 * MS), *span(8, 2, 15 * MS, 30 * MS), *span(9, 3, 31 * MS, 40 * MS)]


@pytest.fixture
def judged(tmp_path: Path) -> Callable[[Iterable[Planted]], Report]:
    def judge(marks: Iterable[Planted]) -> Report:
        (tmp_path / "billing.log").write_bytes(b"".join(map(line, marks)))
        return judge_all(tmp_path)

    return judge


# ---- the checker


def test_a_good_run_is_ok_and_its_gaps_are_measured(
    judged: Callable[[Iterable[Planted]], Report],
) -> None:
    report = judged(GOOD)
    assert report.verdict(2) == OK
    assert (report.holdings, report.takeovers, report.marks) == (3, 2, len(GOOD))
    assert sorted(report.gaps_ns) == [1 * MS, 5 * MS]
    assert (report.gap_ns(0.5), report.gap_ns(0.95), report.gap_ns(1.0)) == (MS, 5 * MS, 5 * MS)


def test_an_overlap_of_one_nanosecond_is_found(
    judged: Callable[[Iterable[Planted]], Report],
) -> None:
    report = judged([*span(5, 1, 0, 10 * MS), *span(8, 2, 10 * MS - 1, 30 * MS)])
    assert report.verdict(1) == VIOLATED
    assert [overlap.amount_ns for overlap in report.overlaps] == [1]
    assert not report.gaps_ns


def test_holdings_that_only_touch_overlap(judged: Callable[[Iterable[Planted]], Report]) -> None:
    report = judged([*span(5, 1, 0, 10 * MS), *span(8, 2, 10 * MS, 30 * MS)])
    assert [overlap.amount_ns for overlap in report.overlaps] == [0]
    assert report.verdict(1) == VIOLATED


def test_a_long_holding_overlaps_with_all_that_begin_within_it(
    judged: Callable[[Iterable[Planted]], Report],
) -> None:
    marks = [*span(5, 1, 0, 90 * MS), *span(6, 2, 10 * MS, 20 * MS), *span(7, 3, 30 * MS, 40 * MS)]
    report = judged(marks)
    assert [overlap.amount_ns for overlap in report.overlaps] == [10 * MS, 10 * MS]
    assert {overlap.earlier.token for overlap in report.overlaps} == {5}


def test_one_stale_mark_is_found(judged: Callable[[Iterable[Planted]], Report]) -> None:
    report = judged([*GOOD, (8, 2, 33 * MS)])
    assert report.verdict(2) == VIOLATED
    assert [(stale.marks, stale.latest_ns) for stale in report.stale] == [(1, 2 * MS)]
    assert report.overlap_ns == 2 * MS


def test_a_late_write_is_found_though_its_time_was_read_early(
    judged: Callable[[Iterable[Planted]], Report],
) -> None:
    """Stopped between reading the clock and writing: only the order of the writes tells."""
    report = judged([*GOOD, (8, 2, 30 * MS)])
    assert not report.overlaps
    assert report.stale_marks == 1
    assert report.verdict(2) == VIOLATED


@pytest.mark.parametrize(
    ("second", "found"),
    [
        pytest.param(span(5, 2, 15 * MS, 20 * MS), "TOKEN used twice", id="reused"),
        pytest.param(span(4, 2, 15 * MS, 20 * MS), "TOKEN went back", id="fallen"),
    ],
)
def test_tokens_grow(
    judged: Callable[[Iterable[Planted]], Report], second: list[Planted], found: str
) -> None:
    report = judged([*span(5, 1, 0, 10 * MS), *second])
    assert report.verdict(1) == VIOLATED
    assert [mistake.partition(":")[0] for mistake in report.token_mistakes] == [found]


def test_a_token_of_the_same_worker_in_another_process_is_reused(tmp_path: Path) -> None:
    again = line((5, 1, 20 * MS)).replace(b"0000000101", b"0000000999")
    (tmp_path / "billing.log").write_bytes(line((5, 1, 10 * MS)) + again)
    assert "used twice" in judge_all(tmp_path).token_mistakes[0]


def test_too_few_takeovers_prove_nothing(judged: Callable[[Iterable[Planted]], Report]) -> None:
    assert judged(GOOD).verdict(3) == VOID
    assert judged([]).verdict(1) == VOID


def test_half_a_line_at_the_end_is_no_damage(tmp_path: Path) -> None:
    text = b"".join(map(line, GOOD))
    (tmp_path / "billing.log").write_bytes(text + line((9, 3, 41 * MS))[:30])
    report = judge_all(tmp_path)
    assert (report.verdict(2), report.truncated, report.marks) == (OK, 1, len(GOOD))


@pytest.mark.parametrize("damage", [b"\n", b"x" * 63 + b"\n", line((9, 3, 1))[:30] + b"\n"])
def test_damage_elsewhere_voids_a_run(tmp_path: Path, damage: bytes) -> None:
    lines = list(map(line, GOOD))
    (tmp_path / "billing.log").write_bytes(b"".join([*lines[:4], damage, *lines[4:]]))
    report = judge_all(tmp_path)
    assert (report.verdict(2), len(report.damaged)) == (VOID, 1)


def test_elections_are_judged_apart_and_their_files_together(tmp_path: Path) -> None:
    for name, token in (("a", 5), ("b", 5)):
        (tmp_path / f"{name}.log").write_bytes(b"".join(map(line, span(token, 1, 0, 9 * MS))))
    assert judge_all(tmp_path).verdict(0) == OK
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "of-worker-2.log").write_bytes(line((6, 2, 9 * MS)))
    assert judge_all(tmp_path).overlaps[0].later.worker == 2


def test_the_checker_runs_alone_and_imports_nothing_of_ours(tmp_path: Path) -> None:
    source = Path(checker.__file__)
    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
        )
    }
    assert imported <= sys.stdlib_module_names
    (tmp_path / "billing.log").write_bytes(b"".join(map(line, GOOD)))
    command = [sys.executable, "-I", "-S", str(source), str(tmp_path), "--json"]
    for least, status in ((2, 0), (3, 2)):
        done = subprocess.run(
            [*command, "--min-takeovers", str(least)], capture_output=True, check=False
        )
        assert done.returncode == status
        assert json.loads(done.stdout)["takeovers"] == 2
    (tmp_path / "other.log").write_bytes(line((2, 1, 9)) + line((1, 2, 10)))
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize("fault", ["kill", "server-pause", "isolate"])
@pytest.mark.parametrize(("rounds", "parallel"), [(1, 6), (7, 3), (200, 6)])
def test_lanes_share_all_rounds(fault: str, rounds: int, parallel: int) -> None:
    lanes = Cell("sqlite", "library", fault, rounds, 1, parallel, 1.0).lanes()
    assert len(lanes) <= parallel
    assert sum(lanes) >= rounds
    assert max(lanes) - min(lanes) <= (0 if fault == "server-pause" else 1)
    assert fault != "isolate" or len(lanes) == 1


def test_each_store_has_the_faults_that_it_can_have() -> None:
    cells = cells_of(parse(["--mode", "library"]))
    stores_of = {
        fault: {cell.store for cell in cells if cell.fault == fault}
        for fault in ("kill", "end-connections", "isolate")
    }
    assert stores_of["kill"] == set(ADAPTERS)
    assert stores_of["end-connections"] == set(ADAPTERS) - {"sqlite", "file"}
    assert stores_of["isolate"] == {"etcd", "zookeeper"}


# ---- the results


def result_of(fault: str, **others: Any) -> Result:
    cell = Cell("sqlite", "library", fault, 1, 7, 6, 1.0, **others)
    return Result(cell, rounds=1, report=Report(), survivors=0, woke_ns=0)


def test_the_promise_is_one_word() -> None:
    cells = cells_of(parse(["--promise"]))
    assert {(cell.store, cell.mode, cell.fault) for cell in cells} == set(
        itertools.product(
            ("sqlite", "kubernetes"),
            ("library", "command", "pid1"),
            ("kill", "stop", "step-down"),
        )
    )
    assert {cell.rounds for cell in cells} == {200}
    assert len(cells_of(parse(["--promise", "--store", "sqlite", "--faults", "kill"]))) == 3


def test_what_is_finished_is_kept_and_not_run_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.jsonl"
    first = Results(path)
    assert first.seed is None
    written = first.add(result_of("kill"))
    # Not closed, and in the middle of a line: killed, or the machine went down.
    path.write_bytes(path.read_bytes() + json.dumps(written).encode()[:100])
    second = Results(path)
    assert second.seed == 7
    assert second.documents == [written]
    assert second.has(result_of("kill").cell)
    assert not second.has(result_of("stop").cell)
    second.add(result_of("stop"))
    second.close()
    third = Results(path)
    assert third.has(result_of("stop").cell)
    assert len(table(third.documents).splitlines()) == 3
    third.close()
    first.close()


def test_results_of_another_run_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.jsonl"
    results = Results(path)
    results.add(result_of("kill"))
    with pytest.raises(OtherRun, match=r"other deaf.*name another file"):
        results.has(result_of("kill", deaf=True).cell)
    results.close()
    monkeypatch.setattr("tests.faults.results._CODE", ("tests/faults",))
    changed = Results(path)
    with pytest.raises(OtherRun, match="other code"):
        changed.has(result_of("kill").cell)
    changed.close()


# ---- the whole


Faults = Callable[..., tuple[int, list[dict[str, Any]], str]]


@pytest.fixture
def faults(tmp_path: Path) -> Iterator[Faults]:
    """Run the suite as a process of its own: it makes itself a subreaper.

    It runs in an empty folder, where it may leave nothing.
    """
    folder = tmp_path / "working-folder"
    folder.mkdir()

    def run(*arguments: str) -> tuple[int, list[dict[str, Any]], str]:
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults", "--json", *arguments],
            cwd=folder,
            # What it keeps of a run that failed goes with the test.
            env={**os.environ, "PYTHONPATH": str(PROJECT), "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=110,
        )
        return done.returncode, json.loads(done.stdout or "[]"), done.stderr

    yield run
    assert os.listdir(folder) == []


@pytest.mark.slow
def test_a_planted_mistake_is_found(faults: Faults) -> None:
    """Workers that ask nobody, have no dead-man, and stop 50 ms after they were told to."""
    status, results, text = faults(
        *("--store", "sqlite", "--mode", "library", "--faults", "stop", "step-down"),
        *("--rounds", "3", "--parallel", "3", "--seed", "1", "--deaf"),
    )
    stopped, asked = results
    assert status == 1, text
    assert stopped["verdict"] == VIOLATED, text
    assert stopped["stale_marks"] > 0, text
    assert stopped["overlap_ns"] > 10 * MS, text
    # Asked to hand over they are late, and still the lease outlives the work.
    assert asked["verdict"] == OK, text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("store", "modes"),
    [
        ("sqlite", ["library", "command"]),
        ("kubernetes", ["library"]),
        ("zookeeper", ["library"]),
    ],
)
def test_the_slice_of_every_run(
    store: str, modes: list[str], faults: Faults, tmp_path: Path
) -> None:
    arguments = (
        *("--promise", "--store", store, "--mode", *modes, "--rounds", "3", "--parallel", "3"),
        *("--results", str(tmp_path / "results.jsonl")),
    )
    status, results, text = faults(*arguments)
    assert status == 0, text
    assert len(results) == 3 * len(modes)
    for result in results:
        assert (result["verdict"], result["takeovers"] >= 3) == (OK, True), text
    status, again, text = faults(*arguments)
    assert (status, again) == (0, results), text
    assert f"{len(results)} of {len(results)} cells stand in" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("store", "fault"), [("etcd", "isolate"), ("postgresql", "end-connections")]
)
def test_faults_that_a_live_holder_meets(store: str, fault: str, faults: Faults) -> None:
    status, (result,), text = faults(
        *("--store", store, "--mode", "library", "--faults", fault),
        *("--rounds", "2", "--parallel", "2"),
    )
    assert (status, result["verdict"]) == (0, OK), text
    assert result["takeovers"] >= 2, text


@pytest.mark.slow
def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "tests.faults", "--store", "sqlite", "--mode", "command"]
    options = ["--faults", "stop", "--rounds", "100", "--parallel", "2", "--keep", str(folder)]
    watch = Watch(threading.Event())

    def working() -> bool | None:
        logs = list((folder / "sqlite-command-stop" / "marks").glob("*.log"))
        return True if logs and all(log.stat().st_size for log in logs) else None

    with subprocess.Popen([*command, *options], cwd=PROJECT, stderr=subprocess.PIPE) as run:
        watch.until("workers mark", 30, working)
        assert processes_of(folder)
        run.send_signal(signal.SIGINT)
        _, text = run.communicate(timeout=30)
    assert run.returncode == 130, text.decode()
    assert f"to go on: --results {folder}/results.jsonl" in text.decode()
    watch.until("gone", 5, lambda: None if processes_of(folder) else True)


ORPHANS = """
import ctypes, os, subprocess, threading
from tests.faults.fleet import Watch, orphans
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
watch = Watch(threading.Event())
mine = subprocess.Popen(["true"])
subprocess.run(["sh", "-c", "sleep 60 & true & true &"], check=True)
def children():
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return file.read().split()
watch.until("adopted", 10, lambda: len(children()) == 4 or None)
watch.until("buried", 10, lambda: orphans({mine.pid}) and len(children()) == 2 or None)
(left,) = orphans({mine.pid})
assert left.command()[0] == "sleep", left
left.signal(9)
watch.until("gone", 10, lambda: None if orphans({mine.pid}) else True)
assert children() == [str(mine.pid)]
assert mine.wait() == 0
"""


def test_what_is_left_behind_is_found_and_the_dead_are_taken_away() -> None:
    subprocess.run([sys.executable, "-c", ORPHANS], cwd=PROJECT, check=True)


def processes_of(folder: Path) -> list[str]:
    """Return the command lines in which a folder occurs."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            text = Path("/proc", pid, "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(folder) in text:
            found.append(text)
    return found
