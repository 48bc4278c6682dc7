"""Draws the elector's table as a picture: `python -m incumbent.testing.diagram > elector.svg`.

What is drawn is the law, `core.table.TABLE`; where it is drawn is a matter of taste and stands
here. Every way from one state to another must have a route, and no route may be without one in the
table, so that a changed table cannot keep an old picture.

To keep the picture legible, three kinds of ways are written into a state's box and not drawn: what
leaves the state as it is, what leads back to looking, and what ends the candidacy.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from incumbent.core.table import TABLE, State

__all__ = ["draw", "drawn", "transitions", "written"]

_S = State

_WIDTH, _HEIGHT = 1290, 900
_BOX_WIDTH = 216
_LINE_HEIGHT = 15
_LINE_CHARACTERS = 33

_COLOURS = {
    "quiet": ("#f4f6f8", "#7d8b99"),
    "asking": ("#f1ecfa", "#7a5cc0"),
    "leading": ("#e3f4e8", "#2f8f55"),
    "ending": ("#fdf3dc", "#c28a12"),
    "stuck": ("#fbe6e4", "#c0392b"),
}
"""The colours of a state's box: its ground, and its edge and the arrows that leave it."""


@dataclass(frozen=True, slots=True)
class _Box:
    """Where a state stands: the middle of its upper edge."""

    x: int
    y: int
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class _Route:
    """One arrow: an SVG path, and where the middle of its label is, or its beginning or end."""

    path: str
    x: int
    y: int
    anchor: str = "middle"


_BOXES = {
    _S.NEW: _Box(130, 100, "quiet", "no candidate yet"),
    _S.LOOKING: _Box(430, 100, "quiet", "reads the record"),
    _S.STANDBY: _Box(430, 330, "quiet", "watches the record and waits"),
    _S.TAKING: _Box(780, 330, "asking", "has asked the store for it"),
    _S.DOUBT: _Box(960, 100, "asking", "was it taken? nobody knows"),
    _S.LEADING: _Box(1150, 330, "leading", "the work runs"),
    _S.STOPPING: _Box(1150, 550, "ending", "the work was asked to stop"),
    _S.STUCK: _Box(1150, 775, "stuck", "the work would not stop"),
    _S.RELEASING: _Box(780, 560, "ending", "gives exactly this term up"),
    _S.CLOSED: _Box(130, 330, "quiet", "no candidate any more"),
}

_ROUTES = {
    (_S.NEW, _S.LOOKING): _Route("M238,130 H316", 277, 122),
    (_S.LOOKING, _S.STANDBY): _Route("M430,{LOOKING} V324", 438, 262, "start"),
    (_S.LOOKING, _S.TAKING): _Route("M538,160 C600,190 690,240 738,322", 690, 238, "start"),
    (_S.STANDBY, _S.TAKING): _Route("M538,356 H666", 602, 348),
    (_S.TAKING, _S.STANDBY): _Route("M672,392 H544", 608, 410),
    (_S.TAKING, _S.LEADING): _Route("M888,372 H1036", 962, 364),
    (_S.TAKING, _S.DOUBT): _Route("M820,330 C826,280 860,240 896,{DOUBT}", 830, 282, "end"),
    (_S.TAKING, _S.RELEASING): _Route("M810,{TAKING} V554", 818, 524, "start"),
    (_S.DOUBT, _S.STANDBY): _Route("M852,140 C720,150 560,230 500,324", 566, 284, "start"),
    (_S.DOUBT, _S.TAKING): _Route("M930,{DOUBT} C912,270 890,290 862,324", 906, 306, "start"),
    (_S.DOUBT, _S.LEADING): _Route("M1040,{DOUBT} C1080,250 1110,280 1126,324", 1104, 262, "start"),
    (_S.DOUBT, _S.RELEASING): _Route("M976,{DOUBT} V470 C976,530 930,570 894,582", 968, 492, "end"),
    (_S.LEADING, _S.STOPPING): _Route("M1150,{LEADING} V544", 1158, 450, "start"),
    (_S.LEADING, _S.RELEASING): _Route(
        "M1060,{LEADING} C1040,520 960,590 894,606", 1030, 520, "start"
    ),
    (_S.STOPPING, _S.RELEASING): _Route("M1042,628 H894", 968, 646),
    (_S.STOPPING, _S.STUCK): _Route("M1150,{STOPPING} V769", 1158, 730, "start"),
    (_S.RELEASING, _S.STANDBY): _Route("M672,600 C560,590 450,540 430,{STANDBY}", 476, 576, "end"),
    (_S.RELEASING, _S.TAKING): _Route("M750,560 V{TAKING}", 742, 524, "end"),
}
"""Where the arrows run; `{STATE}` stands for the lower edge of that state's box."""


def transitions() -> dict[tuple[State, State], list[str]]:
    """Return which events lead from a state to another one or back to itself."""
    ways: dict[tuple[State, State], list[str]] = {}
    for state, row in TABLE.items():
        for event, states in row.items():
            for after in states:
                ways.setdefault((state, after), []).append(event.__name__)
    return ways


def written(before: State, after: State) -> bool:
    """Tell whether a way is written into a box and not drawn."""
    back = after is State.LOOKING and before is not State.NEW
    return back or after in (before, State.CLOSED)


def drawn() -> set[tuple[State, State]]:
    """Return the ways that are drawn."""
    return set(_ROUTES)


def draw() -> str:
    """Return the picture as SVG."""
    ways = transitions()
    wanted = {way for way in ways if not written(*way)}
    if wanted != drawn():
        raise ValueError(
            f"no route for {sorted(map(str, wanted - drawn()))}, "
            f"no use for {sorted(map(str, drawn() - wanted))}"
        )
    lower = {state.name: _lower_edge(state, ways) for state in State}
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" {_FONT}>',
        "<title>The states of a candidate, and the events that lead from one to another</title>",
        "<defs>",
        *_markers(),
        "</defs>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text x="22" y="44" font-size="22" font-weight="600" fill="#1f2933">{_HEADING}</text>',
        f'<text x="22" y="68" font-size="13" fill="#52606d">{_RULE}</text>',
    ]
    for way, route in _ROUTES.items():
        lines += _arrow(route, _BOXES[way[0]].kind, lower)
    for state in State:
        lines += _box(state, ways)
    for way, route in _ROUTES.items():
        lines += _label(route, ways[way])
    for index, line in enumerate(_LEGEND):
        lines.append(
            f'<text x="22" y="{770 + 18 * index}" font-size="12.5" fill="#52606d">{line}</text>'
        )
    return "\n".join([*lines, "</svg>", ""])


def _markers() -> Iterator[str]:
    for kind, (_, colour) in _COLOURS.items():
        yield (
            f'<marker id="{kind}" viewBox="0 0 10 10" refX="8" refY="5" markerWidth="7" '
            'markerHeight="7" orient="auto">'
            f'<path d="M0,0 L10,5 L0,10 z" fill="{colour}"/></marker>'
        )


def _arrow(route: _Route, kind: str, lower: dict[str, int]) -> Iterator[str]:
    yield (
        f'<path d="{route.path.format(**lower)}" fill="none" stroke="{_COLOURS[kind][1]}" '
        f'stroke-width="1.8" marker-end="url(#{kind})"/>'
    )


def _label(route: _Route, events: list[str]) -> Iterator[str]:
    """Write the events at an arrow, with a white edge below them that interrupts the arrow."""
    for below in (' stroke="#ffffff" stroke-width="5" stroke-linejoin="round"', ""):
        for index, event in enumerate(events):
            yield (
                f'<text x="{route.x}" y="{route.y + 14 * index}" font-size="12" fill="#1f2933" '
                f'text-anchor="{route.anchor}"{below}>{escape(event)}</text>'
            )


_FONT = 'font-family="system-ui, Segoe UI, Helvetica, Arial, sans-serif" role="img"'
_HEADING = "One candidate's way to a term, and out of it"
_RULE = "Arrows are events. An event that is neither at an arrow nor in the state's box is ignored."
_LEGEND = (
    "↺  leaves the state as it is",
    "→ looking, → closed: arrows that are not drawn",
    "An event that answers an older attempt leaves everything as it is.",
    "",
    "Wherever it came from, a term ends in looking: the candidate",
    "tries again for ever, unless it withdraws.",
)


def _box(state: State, ways: dict[tuple[State, State], list[str]]) -> Iterator[str]:
    box = _BOXES[state]
    ground, edge = _COLOURS[box.kind]
    left, height = box.x - _BOX_WIDTH // 2, _lower_edge(state, ways) - box.y
    yield (
        f'<rect x="{left}" y="{box.y}" width="{_BOX_WIDTH}" height="{height}" rx="9" '
        f'fill="{ground}" stroke="{edge}" stroke-width="1.6"/>'
    )
    yield (
        f'<text x="{box.x}" y="{box.y + 23}" font-size="16" font-weight="600" fill="#1f2933" '
        f'text-anchor="middle">{escape(state.value)}</text>'
    )
    yield (
        f'<text x="{box.x}" y="{box.y + 41}" font-size="12" fill="#52606d" '
        f'text-anchor="middle">{escape(box.text)}</text>'
    )
    for index, line in enumerate(_notes(state, ways)):
        yield (
            f'<text x="{left + 12}" y="{box.y + 62 + _LINE_HEIGHT * index}" font-size="11.5" '
            f'fill="#3e4c59" xml:space="preserve">{escape(line)}</text>'
        )


def _lower_edge(state: State, ways: dict[tuple[State, State], list[str]]) -> int:
    notes = len(_notes(state, ways))
    return _BOXES[state].y + (52 if not notes else 56 + _LINE_HEIGHT * notes)


def _notes(state: State, ways: dict[tuple[State, State], list[str]]) -> list[str]:
    lines: list[str] = []
    for mark, after in (("↺", state), ("→ looking:", State.LOOKING), ("→ closed:", State.CLOSED)):
        events = ways.get((state, after), [])
        if events and written(state, after) and (mark == "↺" or after is not state):
            text = f"{mark} {', '.join(events)}"
            lines += textwrap.wrap(text, _LINE_CHARACTERS, subsequent_indent="    ")
    return lines


if __name__ == "__main__":
    sys.stdout.write(draw())
