"""The checker finds what was planted, and nothing in a run without a mistake."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.work import checker

Rows = list[tuple[str, int, str, int, str]]
"""Lane, position, item, token and replica, in the order of their commits."""

COUNT = 40
CRON = {"cron": "*/10 * * * *", "tz": "Europe/Vienna"}


def exact() -> Rows:
    """Two lanes, each in order; four terms of three replicas."""
    return [
        (f"lane-{n % 2}", n // 2, f"item-{n}", 3 + n // 10, f"replica-{n // 10 % 3}")
        for n in range(COUNT)
    ]


def duplicate(rows: Rows) -> None:
    rows.insert(20, rows[12])


def duplicate_much_later(rows: Rows) -> None:
    rows.append((*rows[0][:3], rows[-1][3], "replica-1"))


def gap(rows: Rows) -> None:
    del rows[15]


def gap_at_the_end(rows: Rows) -> None:
    del rows[-1]


def swap(rows: Rows) -> None:
    rows[10], rows[12] = (*rows[12][:3], *rows[10][3:]), (*rows[10][:3], *rows[12][3:])


def foreign(rows: Rows) -> None:
    rows[7] = ("lane-1", 3, "item-of-nobody", *rows[7][3:])


def stale(rows: Rows) -> None:
    rows[25] = (*rows[25][:3], 4, "replica-1")


def moved(rows: Rows) -> None:
    rows[8] = ("lane-0", 11, *rows[8][2:])


def write(folder: Path, rows: Rows, **run: Any) -> Path:
    said = {"kind": "consumer", "source": "rows", "ordered": True, **run}
    (folder / "run.json").write_text(json.dumps(said), encoding="utf-8")
    made = [f"{lane} {position} {item}" for lane, position, item, _, _ in exact()]
    (folder / "produced.log").write_text("\n".join(made) + "\n", encoding="utf-8")
    committed = [" ".join(map(str, (number, *row))) for number, row in enumerate(rows)]
    # In any order: the sequence decides.
    (folder / "committed.log").write_text("\n".join(reversed(committed)) + "\n", encoding="utf-8")
    (folder / "faults.log").write_text("5 kill replica-1\n9 kill replica-2\n9 stop replica-0\n")
    return folder


def test_an_exact_run_is_exact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert checker.main([str(write(tmp_path, exact())), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "verdict": "exact",
        "produced": COUNT,
        "committed": COUNT,
        "dead": 0,
        **dict.fromkeys(checker.Report.FINDINGS, 0),
        "damaged": 0,
        "takeovers": 3,
        "replicas": 3,
        "faults": {"kill": 2, "stop": 1},
    }


@pytest.mark.parametrize(
    ("mistake", "found"),
    [
        (duplicate, {"twice": 1}),
        (duplicate_much_later, {"twice": 1}),
        (gap, {"lost": 1, "gaps": 1}),
        (gap_at_the_end, {"lost": 1}),
        (swap, {"gaps": 1, "out_of_order": 1}),
        (foreign, {"unknown": 1, "lost": 1, "gaps": 1}),
        (stale, {"stale": 1}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_was_planted_is_found_and_nothing_else(
    tmp_path: Path, mistake: Callable[[Rows], None], found: dict[str, int]
) -> None:
    rows = exact()
    mistake(rows)
    report = checker.judge(write(tmp_path, rows))
    counts = {name: len(getattr(report, name)) for name in report.FINDINGS}
    assert {name: count for name, count in counts.items() if count} == found
    assert checker.main([str(tmp_path)]) == 1


def test_without_an_order_a_swap_is_none(tmp_path: Path) -> None:
    rows = exact()
    swap(rows)
    assert checker.main([str(write(tmp_path, rows, ordered=False))]) == 0


def test_poisoned_items_belong_among_the_dead_and_leave_no_gap(tmp_path: Path) -> None:
    rows = [row for row in exact() if row[2] not in ("item-4", "item-5")]
    folder = write(tmp_path, rows)
    made = (folder / "produced.log").read_text(encoding="utf-8")
    for item in ("item-4\n", "item-5\n"):
        made = made.replace(item, f"{item.strip()} poison\n")
    (folder / "produced.log").write_text(made, encoding="utf-8")
    (folder / "dead.log").write_text("lane-0 2 item-4\nlane-1 2 item-5\n", encoding="utf-8")
    assert checker.main([str(folder)]) == 0

    (folder / "dead.log").write_text("lane-0 2 item-4\nlane-0 3 item-6\n", encoding="utf-8")
    report = checker.judge(folder)
    assert (len(report.lost), len(report.misplaced)) == (1, 1)


@pytest.mark.parametrize("file", ["produced.log", "committed.log", "faults.log"])
def test_a_damaged_log_makes_it_void(tmp_path: Path, file: str) -> None:
    write(tmp_path, exact())
    with (tmp_path / file).open("a", encoding="utf-8") as log:
        log.write("half\n")
    assert checker.main([str(tmp_path)]) == 2


def test_a_row_that_lies_elsewhere_makes_it_void(tmp_path: Path) -> None:
    rows = exact()
    moved(rows)
    assert checker.main([str(write(tmp_path, rows))]) == 2


def test_too_few_takeovers_or_nothing_at_all_make_it_void(tmp_path: Path) -> None:
    write(tmp_path, exact())
    assert checker.main([str(tmp_path), "--min-takeovers", "4"]) == 2
    (tmp_path / "produced.log").unlink()
    (tmp_path / "committed.log").unlink()
    assert checker.main([str(tmp_path), "--min-takeovers", "0"]) == 2


def ticks(every_ms: int, first_ms: int, count: int) -> Rows:
    instants = range(first_ms, first_ms + count * every_ms, every_ms)
    return [("ticks", at_ms, str(at_ms), 1 + n // 5, "replica") for n, at_ms in enumerate(instants)]


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (lambda rows: None, {}),
        (lambda rows: rows.pop(3), {"lost": 1, "gaps": 1}),
        (lambda rows: rows.insert(4, rows[3]), {"twice": 1}),
        (lambda rows: rows.append(("ticks", 1250, "1250", 3, "replica")), {"unknown": 1}),
    ],
    ids=["exact", "missed", "twice", "never due"],
)
def test_ticks_are_compared_with_those_that_were_due(
    tmp_path: Path, plant: Callable[[Rows], Any], found: dict[str, int]
) -> None:
    rows = ticks(500, 1500, 12)
    plant(rows)
    write(tmp_path, rows, schedule={"every_ms": 500}, from_ms=1001, until_ms=7499)
    report = checker.judge(tmp_path)
    counts = {name: len(getattr(report, name)) for name in report.FINDINGS}
    assert {name: count for name, count in counts.items() if count} == found
    assert report.produced == 12


def test_what_is_due_by_a_cron_line_is_known_on_the_day_of_a_change() -> None:
    """On 29 March 2026 there is no hour from two to three in Vienna."""
    begin_ms = 1_774_742_400_000  # 00:00 UTC, that is 01:00 there.
    owed = checker.due(CRON, begin_ms, begin_ms + 2 * 3_600_000)
    assert [made.position for made in owed] == [begin_ms + n * 600_000 for n in range(13)]


def test_it_imports_nothing_of_ours() -> None:
    tree = ast.parse(Path(checker.__file__).read_text(encoding="utf-8"))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
    }
    assert imported - set(sys.stdlib_module_names) == {"cronsim"}
