"""A round as a picture: an SVG file without scripts or fonts of its own, light or dark."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape

from tests.cluster.expected import Finding
from tests.cluster.rounds import Round
from tests.cluster.timeline import BEFORE_S, rows

__all__ = ["svg"]

_LEFT, _RIGHT, _TOP, _ROW = 250, 40, 64, 26
_WIDTH = 980
_COLOURS = {
    "at-least-one": "#c2410c",
    "at-most-one": "#1d4ed8",
    "active-standby": "#15803d",
    "partly-singleton": "#7e22ce",
}
_STYLE = """\
text { font: 13px sans-serif; fill: #1f2937 }
.title { font-weight: bold; font-size: 15px }
.small { font-size: 11px; fill: #6b7280 }
.grid { stroke: #d1d5db; stroke-width: 1 }
.step { stroke: #b91c1c; stroke-width: 1.5; stroke-dasharray: 4 3 }
.cause { fill: #b91c1c }
.page { fill: #ffffff }
@media (prefers-color-scheme: dark) {
  text { fill: #e5e7eb } .small { fill: #9ca3af } .grid { stroke: #374151 }
  .cause, .missed { fill: #f87171 } .page { fill: #111827 }
}
.missed { fill: #b91c1c }
"""


def svg(played: Round, findings: list[Finding]) -> str:
    """Return the picture of a round, with what was found below it."""
    every = rows(played)
    end_s = max([played.cause.heal_s + 4, *(end for row in every for _, end in row.active)])
    scale = (_WIDTH - _LEFT - _RIGHT) / (end_s + BEFORE_S)
    bottom = _TOP + _ROW * len(every) + 10
    steps = bottom + 22
    below = steps + 18 * len(played.cause.steps) + 16
    height = below + 18 * len(findings) + 10
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
        f"<title>{escape(played.cause.title)}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{_WIDTH}" height="{height}"/>',
        _text(16, 28, f"Active processes when {played.cause.title}", "title"),
        *_grid(end_s, scale, bottom),
    ]
    mode = ""
    for number, row in enumerate(every):
        y = _TOP + _ROW * number
        if row.mode != mode:
            mode = row.mode
            lines.append(_text(16, y + 14, mode))
        lines.append(_text(140, y + 14, row.label, "small"))
        for first_s, last_s in row.active:
            x = _x(max(first_s, -BEFORE_S), scale)
            width = max(_x(last_s, scale) - x, 1.0)
            lines.append(
                f'<rect x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="15" rx="2"'
                f' fill="{_COLOURS[row.mode]}"/>'
            )
    for number, step in enumerate(played.cause.steps):
        x = _x(step.at_s, scale)
        y = steps + 18 * number
        lines.append(
            f'<line class="step" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 6}" y2="{y - 11}"/>'
        )
        anchor = "end" if x > _WIDTH * 0.6 else "start"
        lines.append(_text(x, y, f"{step.at_s:g} s: {step.says}", "small cause", anchor))
    for number, finding in enumerate(findings):
        mark, kind = ("✓", "") if finding.met else ("✗", "missed")
        text = f"{mark} {finding.mode}: {finding.text}"
        lines.append(_text(16, below + 18 * number, text, kind))
    return "\n".join([*lines, "</svg>", ""])


def _x(second: float, scale: float) -> float:
    return _LEFT + (second + BEFORE_S) * scale


def _grid(end_s: float, scale: float, bottom: int) -> Iterator[str]:
    every_s = 5 if end_s < 60 else 20
    for second in range(0, int(end_s) + 1, every_s):
        x = _x(second, scale)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 6}" y2="{bottom - 4}"/>'
        yield _text(x, _TOP - 12, f"{second} s", "small", "middle")


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    words = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}"{words}>{escape(text)}</text>'
