"""What the benchmarks found, as a table for people, as JSON, and as Markdown for the docs.

A `Row` is one measured thing of one candidate: a distribution, or a single value. A `Target` is
what the project promises, with what was measured against it; a ratio within the same run wherever
there is something to divide by.
"""

from __future__ import annotations

import math
import os
import platform
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

__all__ = ["Report", "Row", "Target", "distribution", "machine", "percentile", "write_docs"]

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest of the values that is not below this share of them."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class Row:
    """One measured thing.

    Attributes:
        what: the thing.
        who: whose it is.
        unit: of the values.
        n: how many were measured.
        p50: the median, or the value if there is only one.
        p95, worst: None for a single value.
        against: the same divided by something of the same run, for people.
    """

    what: str
    who: str
    unit: str
    n: int
    p50: float
    p95: float | None = None
    worst: float | None = None
    against: str = ""


def distribution(what: str, who: str, unit: str, values: Sequence[float], against: str = "") -> Row:
    """Return the row of these values."""
    if not values:
        raise RuntimeError(f"{what}, {who}: nothing was measured")
    p50, p95 = percentile(values, 0.5), percentile(values, 0.95)
    return Row(what, who, unit, len(values), p50, p95, max(values), against)


@dataclass(frozen=True, slots=True)
class Target:
    """A promise, and what came of it.

    Attributes:
        text: the promise.
        measured, limit, unit: reached if `measured` is not above `limit`.
    """

    text: str
    measured: float
    limit: float
    unit: str

    @property
    def reached(self) -> bool:
        """Tell whether the promise was kept."""
        return self.measured <= self.limit

    def __str__(self) -> str:
        verdict = "reached" if self.reached else "MISSED"
        return (
            f"{self.text}: {number(self.measured)} of {number(self.limit)} {self.unit}: {verdict}"
        )


@dataclass(slots=True)
class Report:
    """What one benchmark found."""

    name: str
    title: str
    rows: list[Row] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    took_s: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        data = asdict(self)
        for target, raw in zip(self.targets, data["targets"], strict=True):
            raw["reached"] = target.reached
        return data

    def show(self, console: Console) -> None:
        """Print a table, and below it the targets."""
        table = Table(title=f"{self.name}: {self.title}", title_justify="left", expand=False)
        table.add_column("what")
        table.add_column("who")
        for name in ("p50", "p95", "worst"):
            table.add_column(name, justify="right")
        table.add_column("unit")
        table.add_column("n", justify="right")
        table.add_column("against")
        for row in self.rows:
            table.add_row(*map(escape, _cells(row)))
        console.print(table)
        for target in self.targets:
            style = "green" if target.reached else "bold red"
            console.print(f"  target: {target}", style=style, highlight=False, markup=False)
        for note in self.notes:
            console.print(f"  note: {note}", highlight=False, markup=False)
        console.print(f"  took {self.took_s:.0f} s\n", highlight=False)

    def as_markdown(self) -> str:
        """Return the table and the targets as Markdown."""
        lines = [
            f"### {self.name}",
            "",
            f"{self.title[:1].upper()}{self.title[1:]}.",
            "",
            "| what | who | p50 | p95 | worst | unit | n | against |",
            "|---|---|--:|--:|--:|---|--:|---|",
            *("| " + " | ".join(_cells(row)) + " |" for row in self.rows),
            "",
            *(f"- {target}" for target in self.targets),
            *(f"- {note}" for note in self.notes),
        ]
        return "\n".join(lines).rstrip() + "\n"


def number(value: float) -> str:
    """Return a number with as many digits as mean something."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def _cells(row: Row) -> list[str]:
    p95 = "" if row.p95 is None else number(row.p95)
    worst = "" if row.worst is None else number(row.worst)
    return [row.what, row.who, number(row.p50), p95, worst, row.unit, f"{row.n:,}", row.against]


def machine() -> str:
    """Return what it was measured on, in one line that names no host."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kernel = re.match(r"[\d.]+", platform.release())
    return (
        f"{os.cpu_count()} cores ({model or platform.machine()}), {memory_gib:.0f} GiB, "
        f"{platform.system()} {kernel.group() if kernel else platform.release()}, "
        f"{platform.python_implementation()} {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}"
    )


def write_docs(path: Path, head: str, reports: Sequence[Report]) -> None:
    """Put the results between the markers of a page."""
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise RuntimeError(f"{path.name} lacks the markers {BEGIN} and {END}")
    body = "\n".join([head, "", *(report.as_markdown() for report in reports)])
    path.write_text(f"{before}{BEGIN}\n\n{body}\n{END}{after}", encoding="utf-8")
