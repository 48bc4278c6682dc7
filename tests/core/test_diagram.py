"""The picture of the states is that of the table."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from incumbent.core import events as ev
from incumbent.core.table import TABLE, State
from incumbent.testing.diagram import draw, drawn, transitions, written

PICTURE = Path(__file__).parents[2] / "docs" / "diagrams" / "elector.svg"


def test_the_picture_in_the_documentation_is_that_of_the_table() -> None:
    again = "python -m incumbent.testing.diagram > docs/diagrams/elector.svg"
    assert PICTURE.read_text(encoding="utf-8") == draw(), again


def test_every_way_is_drawn_or_written() -> None:
    assert {way for way in transitions() if not written(*way)} == drawn()


def test_every_state_and_event_is_in_it() -> None:
    svg = ElementTree.fromstring(draw())
    words = {word for text in svg.itertext() for word in re.findall(r"\w+", text)}
    assert {state.value for state in State} <= words
    assert {event.__name__ for row in TABLE.values() for event in row} <= words


def test_a_way_without_a_route_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TABLE[State.NEW], ev.Tick, (State.STUCK,))
    with pytest.raises(ValueError, match="no route for"):
        draw()
