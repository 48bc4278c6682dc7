"""Who can be two, and for how long: the table of a mode as text of fixed columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from incumbent.manifests.model import Application
from incumbent.manifests.modes import Mode, assumption, exposures, summary

__all__ = ["COLUMNS", "head", "rows"]

COLUMNS = ("cause", "at once", "two for", "nobody for")
_WIDTHS = (26, 7, 30, 30)


def rows(app: Application) -> list[tuple[str, str, str, str]]:
    """Return the table of this application's mode, with its seconds."""
    found = exposures(app.mode, app.times, leased=app.leased, guarded=app.guard)
    return [(row.cause, row.at_once, row.two_for, row.nobody_for) for row in found]


def head(app: Application) -> str:
    """Return the comment that stands in front of the manifests."""
    lines = [
        f"{app.name}: {app.mode}. {summary(app.mode)}",
        "Written by `incumbent manifests`. Who can be two, and for how long:",
        "",
        *_table(rows(app)),
        "",
        assumption(app.mode),
    ]
    if app.liveness is None and app.mode is not Mode.ACTIVE_STANDBY:
        lines += ["", "No liveness probe: only you know what shows that the work goes on."]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def _table(cells: Iterable[Sequence[str]]) -> list[str]:
    lines = []
    for row in (COLUMNS, *cells):
        wrapped = [textwrap.wrap(text, width) for text, width in zip(row, _WIDTHS, strict=True)]
        for pieces in zip_longest(*wrapped, fillvalue=""):
            padded = zip(pieces, _WIDTHS, strict=True)
            lines.append("  ".join(piece.ljust(width) for piece, width in padded).rstrip())
    return lines
