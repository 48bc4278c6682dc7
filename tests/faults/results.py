"""What came of the cells: the final table, and a file that an interrupted run goes on from.

The file has one line of JSON for each finished cell, written as soon as it is finished. A cell
that stands there is not run again, whatever its verdict: who wants to see a failure vanish has to
delete its line. So that no line speaks for what it has not seen, it carries the whole plan of its
cell, the seed included, and a hash of the code; a file of another run is refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.faults.nemesis import Cell, Result

__all__ = [
    "Document",
    "OtherRun",
    "Results",
    "aligned",
    "document",
    "is_limit",
    "row",
    "table",
]

Document = dict[str, Any]
"""One line of the file."""

PROJECT = Path(__file__).resolve().parents[2]
_CODE = ("src/incumbent", "tests/faults", "tests/servers")
_COLUMNS = "store mode fault rounds takeovers overlap stale woke p50 p95 max survivors verdict"


class OtherRun(ValueError):
    """The file has results of other plans, or of other code."""


class Results:
    """The results so far, in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._code = _hash_of_code()
        data = path.read_bytes() if path.exists() else b""
        # A line that was being written when the machine went down counts as not there.
        whole = data[: data.rfind(b"\n") + 1]
        self.documents: list[Document] = [json.loads(line) for line in whole.splitlines()]
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("r+b" if data else "w+b")
        self._file.truncate(len(whole))
        self._file.seek(0, os.SEEK_END)

    @property
    def seed(self) -> int | None:
        """The seed of the run that the file is of."""
        return next((int(document["plan"]["seed"]) for document in self.documents), None)

    def has(self, cell: Cell) -> bool:
        """Tell whether a cell is finished.

        Raises OtherRun if what stands there in its place is something else.
        """
        plan = {**dataclasses.asdict(cell), "code": self._code}
        for document in self.documents:
            there = document["plan"]
            if all(there[name] == plan[name] for name in ("store", "mode", "fault")):
                if there != plan:
                    other = ", ".join(name for name in plan if there.get(name) != plan[name])
                    raise OtherRun(
                        f"{self.path} has results of another run (other {other}): "
                        "name another file, or delete this one"
                    )
                return True
        return False

    def add(self, result: Result) -> Document:
        """Write down what came of a cell."""
        added = document(result, self._code)
        self.documents.append(added)
        self._file.write(json.dumps(added).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        return added

    def close(self) -> None:
        self._file.close()


def document(result: Result, code: str = "") -> Document:
    """Return a result as it is written down."""
    report = result.report
    return {
        "plan": {**dataclasses.asdict(result.cell), "code": code},
        "rounds": result.rounds,
        "takeovers": report.takeovers,
        "marks": report.marks,
        "overlaps": len(report.overlaps),
        "overlap_ns": report.overlap_ns,
        "stale_marks": report.stale_marks,
        "token_mistakes": len(report.token_mistakes),
        "woke_ns": result.woke_ns,
        "survivors": result.survivors,
        "gap_p50_ns": report.gap_ns(0.5),
        "gap_p95_ns": report.gap_ns(0.95),
        "gap_max_ns": report.gap_ns(1.0),
        "verdict": result.verdict,
        "violations": report.violations,
        "damaged": report.damaged,
        "failures": result.failures,
        "took_s": round(result.took_s, 1),
        "busy": round(result.busy, 2),
    }


def is_limit(document: Document) -> bool:
    """Tell whether this is the one cell that is published as broken, and broken in no other way."""
    plan = document["plan"]
    published = plan["fault"] == "freeze" and plan["mode"] in ("command", "pid1")
    return published and document["verdict"] == "VIOLATED" and not document["failures"]


def row(document: Document) -> list[str]:
    """Return the cells of one line of the table."""
    plan = document["plan"]
    overlap, woke = (
        f"{document[name] / 1e6:.3f}" if document["overlaps"] else "0"
        for name in ("overlap_ns", "woke_ns")
    )
    return [
        plan["store"],
        plan["mode"],
        plan["fault"],
        str(document["rounds"]),
        str(document["takeovers"]),
        overlap,
        str(document["stale_marks"]),
        woke,
        *(f"{document[f'gap_{share}_ns'] / 1e6:.1f}" for share in ("p50", "p95", "max")),
        str(document["survivors"]),
        document["verdict"],
    ]


def table(documents: Iterable[Document]) -> str:
    """Return the final table; times are milliseconds.

    `overlap` is the greatest amount; `woke` how long the worst of those who overlapped went on
    after the end of his pause; p50, p95 and max are the gaps of the takeovers; `survivors` are
    those who lived on after a pause or cut.
    """
    return aligned([_COLUMNS.split(), *map(row, documents)], words=3)


def aligned(rows: list[list[str]], words: int) -> str:
    """Return rows below one another; the first columns are words, and the others numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if number < words else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _hash_of_code() -> str:
    digest = hashlib.sha256()
    for path in sorted(path for folder in _CODE for path in (PROJECT / folder).rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(PROJECT)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]
