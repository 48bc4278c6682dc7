"""Writes the results of fault runs into `docs/faults.md`.

    python -m tests.faults.page promise.jsonl cells.jsonl

Only elections in the library are in that table: it is about stores. What is not in the files given
stays as it stands in the page, and what was not judged "ok" is refused, so that no line of the page
hides a failure.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.faults.results import PROJECT, Document

__all__ = ["line", "written"]

PAGE = PROJECT / "docs/faults.md"
_ROW = re.compile(r"\| (?P<store>[\w-]+) \| (?P<fault>[\w-]+) \| \d+ \| \d+ \| .*")


def line(document: Document) -> str:
    """Return the line of one cell; gaps are in milliseconds."""
    plan = document["plan"]
    gaps = (f"{document[f'gap_{share}_ns'] / 1e6:,.0f}" for share in ("p50", "p95", "max"))
    cells = (
        plan["store"],
        plan["fault"],
        document["rounds"],
        document["takeovers"],
        document["overlaps"],
        document["stale_marks"],
        *gaps,
        document["survivors"],
    )
    return f"| {' | '.join(map(str, cells))} |"


def written(page: str, documents: Iterable[Document]) -> str:
    """Return the page with the results in place of those of the same store and fault.

    Raises:
        ValueError: a result is not good, or the page has no line for it.
    """
    new = {}
    for document in documents:
        plan = document["plan"]
        if plan["mode"] == "library":
            cell = plan["store"], plan["fault"]
            if document["verdict"] != "ok":
                raise ValueError(f"{' '.join(cell)} was judged {document['verdict']}")
            new[cell] = line(document)
    lines = []
    for old in page.splitlines():
        match = _ROW.fullmatch(old)
        lines.append(old if match is None else new.pop((match["store"], match["fault"]), old))
    if new:
        raise ValueError(f"the page has no line for {', '.join(map(' '.join, new))}")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the files, write the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.page", description=__doc__)
    parser.add_argument("results", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    lines = [text for path in options.results for text in path.read_text("utf-8").splitlines()]
    try:
        page = written(PAGE.read_text(encoding="utf-8"), map(json.loads, lines))
    except ValueError as error:
        print(f"page: {error}", file=sys.stderr)
        return 1
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
