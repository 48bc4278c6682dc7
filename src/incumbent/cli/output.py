"""Output: JSON for programs, tables for people. Rich is imported where something is drawn.

Colours appear on a terminal only, and not with NO_COLOR; both is rich's own rule. Where the output
is no terminal, tables are as wide as their content, so that a pipe never cuts what it carries.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from incumbent.errors import MissingExtra

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

__all__ = ["console", "draw", "require_rich", "show", "table", "write_json", "write_json_line"]

WIDE = 4096


def write_json(document: Any) -> None:
    """Write one document."""
    print(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False), flush=True)


def write_json_line(values: dict[str, Any]) -> None:
    """Write one object of a stream, on a line of its own."""
    print(json.dumps(values, ensure_ascii=False, allow_nan=False), flush=True)


def require_rich() -> None:
    """Say what is missing before anything is done, and not in the middle of it.

    Raises:
        MissingExtra: rich is not installed.
    """
    try:
        import rich  # noqa: F401
    except ModuleNotFoundError as missing:
        raise MissingExtra(
            "this draws with rich: pip install 'incumbent[cli]'; or use --json"
        ) from missing


def console(*, stderr: bool = False) -> Console:
    """Return where to draw."""
    require_rich()
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else WIDE
    return Console(stderr=stderr, width=width, highlight=False, emoji=False, markup=False)


def table(*columns: str, wrap: Sequence[str] = ()) -> Table:
    """Return a plain table; the columns in `wrap` are broken into lines, the others never."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        if column in wrap:
            made.add_column(column, overflow="fold")
        else:
            made.add_column(column, no_wrap=True, overflow="ellipsis")
    return made


def show(rows: Iterable[Sequence[Any]], *columns: str, wrap: Sequence[str] = ()) -> None:
    """Draw a table of `rows` on the standard output."""
    made = table(*columns, wrap=wrap)
    for row in rows:
        made.add_row(*row)
    draw(made)


def draw(renderable: RenderableType) -> None:
    """Draw on the standard output; into a pipe without the blanks that fill up lines."""
    out = console()
    if sys.stdout.isatty():
        out.print(renderable)
        return
    with out.capture() as captured:
        out.print(renderable)
    lines = captured.get().splitlines()
    print("\n".join(line.rstrip() for line in lines), flush=True)
