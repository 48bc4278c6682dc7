"""A round as lines of text: who was active when, a line for each process, and what happened.

On a terminal the lines are drawn anew while the round goes on; elsewhere only events are written.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

from tests.cluster.observer import Event
from tests.cluster.reader import Span
from tests.cluster.rounds import Round

__all__ = ["BEFORE_S", "Live", "Row", "event_line", "rows", "strips"]

BEFORE_S = 2.0
_COLUMNS = 64
_S = 1_000_000_000
_EVERY_S = 5


@dataclass(frozen=True, slots=True)
class Row:
    """A Pod: where it ran, and its spans in seconds after the cause."""

    mode: str
    label: str
    active: tuple[tuple[float, float], ...]


def rows(played: Round) -> list[Row]:
    """Return a row for each Pod that was active while it is looked at, mode by mode."""
    found = []
    for mode in played.modes:
        processes: dict[tuple[str, str], list[Span]] = {}
        for span in played.spans.get(mode, ()):
            if played.since_s(span.last_ns) >= -BEFORE_S:
                processes.setdefault((span.node, span.pod), []).append(span)
        for (node, pod), spans in processes.items():
            active = tuple(
                (played.since_s(span.first_ns), played.since_s(span.last_ns)) for span in spans
            )
            found.append(Row(mode, f"{node} {pod[:4]}", active))
    return found


def strips(played: Round, *, columns: int = _COLUMNS, until_s: float | None = None) -> list[str]:
    """Return the picture in text."""
    every = rows(played)
    end_s = max([played.cause.heal_s + 4, *(end for row in every for _, end in row.active)])
    if until_s is not None:
        end_s = max(end_s, until_s)
    step_s = (end_s + BEFORE_S) / columns
    lines = []
    mode = ""
    for row in every:
        title = row.mode if row.mode != mode else ""
        mode = row.mode
        cells = "".join(
            "█" if _is_active(row, -BEFORE_S + step_s * n, step_s) else "·" for n in range(columns)
        )
        lines.append(f"{title:16} {row.label:11} {cells}")
    lines.append(f"{'':28} {_scale(played, step_s, columns)}")
    lines += [f"{'':28} {line}" for line in _steps(played, step_s, columns)]
    return lines


def event_line(event: Event, began_ns: int | None) -> str:
    """Return an event with its time after the cause, or without before there was one."""
    when = f"{(event.at_ns - began_ns) / _S:6.1f}" if began_ns is not None else "      "
    return f"{when}  {event.kind:5} {event.text}"


class Live:
    """Draws the lines anew on a terminal; what is said scrolls up above them."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._drawn = 0
        self._began_ns: int | None = None
        self._terminal = out.isatty()
        self._shown: list[str] = []

    def say(self, event: Event) -> None:
        self._clear()
        print(event_line(event, self._began_ns), file=self._out)
        self._draw()

    def look(self, played: Round) -> None:
        self._began_ns = played.began_ns
        self._clear()
        self._shown = strips(played)
        self._draw()

    def close(self) -> None:
        """Take the picture away."""
        self._clear()
        self._shown = []
        self._out.flush()

    def _draw(self) -> None:
        if self._terminal:
            for line in ("", *self._shown):
                print(line, file=self._out)
            self._drawn = len(self._shown) + 1
        self._out.flush()

    def _clear(self) -> None:
        if self._drawn:
            print(f"\x1b[{self._drawn}A\x1b[J", end="", file=self._out)
            self._drawn = 0


def _is_active(row: Row, from_s: float, width_s: float) -> bool:
    return any(first < from_s + width_s and last >= from_s for first, last in row.active)


def _scale(played: Round, step_s: float, columns: int) -> str:
    end_s = step_s * columns - BEFORE_S
    every_s = _EVERY_S if end_s < 60 else 4 * _EVERY_S
    cells = [" "] * (columns + 4)
    for second in range(0, int(end_s) + 1, every_s):
        label = f"{second} s" if second == 0 else str(second)
        at = int((second + BEFORE_S) / step_s)
        cells[at : at + len(label)] = label
    return "".join(cells).rstrip()


def _steps(played: Round, step_s: float, columns: int) -> Iterator[str]:
    for step in played.cause.steps:
        at = min(int((step.at_s + BEFORE_S) / step_s), columns - 1)
        text = f"^ {step.says}"
        if at + len(text) > columns + 12:
            text = f"{step.says} ^"
            yield " " * max(0, at + 1 - len(text)) + text
        else:
            yield " " * at + text


def list_events(events: Sequence[Event], began_ns: int) -> list[str]:
    """Return what happened, a line each."""
    return [event_line(event, began_ns) for event in events]
