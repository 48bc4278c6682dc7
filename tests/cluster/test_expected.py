"""The judge finds what it is there to find, in rounds made by hand; and rounds can be drawn."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from tests.cluster.causes import CAUSES
from tests.cluster.expected import judge
from tests.cluster.ledger import Entry
from tests.cluster.picture import svg
from tests.cluster.reader import Span
from tests.cluster.rounds import Round
from tests.cluster.timeline import strips
from tests.cluster.workloads import AT_LEAST, AT_MOST, PARTLY, STANDBY

S = 1_000_000_000


def _span(pod: str, first_s: float, last_s: float, token: int = 0) -> Span:
    node = "node1" if pod.startswith("a") else "node2"
    return Span(pod, node, 1, token, int((first_s + 100) * S), int((last_s + 100) * S))


def _entries(*tokens: int) -> list[Entry]:
    return [Entry(n, "reports", "w", token, n) for n, token in enumerate(tokens)]


def _round(cause: str, **spans: list[Span]) -> Round:
    named = {name.replace("_", "-"): found for name, found in spans.items()}
    played = Round(CAUSES[cause], "node1", tuple(named), 100 * S, ttl_s=6)
    played.healed_ns, played.ended_ns = 128 * S, 140 * S
    played.spans = named
    return played


def _missed(played: Round) -> list[str]:
    return [finding.text for finding in judge(played) if not finding.met]


LEAST = [_span("a", -2, 29), _span("b", 14, 40)]
MOST = [_span("a", -2, 29), _span("a2", 31, 40)]
ELECTED = [_span("a", -2, 4, token=1), _span("b", 6.3, 40, token=2)]


def test_a_round_as_it_is_expected() -> None:
    played = _round("cut", at_least_one=LEAST, at_most_one=MOST, active_standby=ELECTED)
    played.entries[STANDBY] = _entries(1, 1, 2, 2)
    played.late_status = 412
    assert _missed(played) == []


@pytest.mark.parametrize(
    ("cause", "spans", "text"),
    [
        ("cut", {AT_LEAST: [_span("a", -2, 40)]}, "one at every instant"),
        ("cut", {AT_MOST: [_span("a", -2, 29), _span("b", 20, 40)]}, "2 at once"),
        ("cut", {AT_MOST: [_span("a", -2, 2), _span("a2", 31, 40)]}, "works on"),
        ("force", {AT_MOST: MOST}, "one at every instant"),
        ("cut", {STANDBY: [_span("a", -2, 7, 1), _span("b", 6, 40, 2)]}, "2 at once"),
        ("cut", {STANDBY: [_span("a", -2, 4, 1), _span("b", 8.1, 40, 2)]}, "after 8.1 s"),
        ("cut", {STANDBY: [_span("a", -2, 4, 1), _span("b", 31, 40, 2)]}, "nobody else"),
        ("kubelet", {STANDBY: ELECTED}, "with no reason"),
        ("all", {STANDBY: [_span("a", -2, 40, 1)]}, "nobody can know"),
        ("crash", {AT_MOST: [_span("a", -2, 0), _span("a2", 20, 40)]}, "another is active"),
        ("cut", {STANDBY: [*ELECTED, _span("c", 39.9, 40, 3)]}, "in the end 2"),
    ],
)
def test_what_comes_otherwise_is_found(cause: str, spans: dict[str, list[Span]], text: str) -> None:
    named = {name.replace("-", "_"): found for name, found in spans.items()}
    missed = _missed(_round(cause, **named))
    assert any(text in one for one in missed), missed


def test_who_was_active_in_an_earlier_term_may_take_over() -> None:
    earlier = _span("b", -9, -4, token=1)
    spans = [earlier, _span("a", -3, 4, token=2), _span("b", 6.3, 40, token=3)]
    assert _missed(_round("cut", active_standby=spans)) == []


def test_a_stale_line_in_the_ledger_is_found() -> None:
    played = _round("api", active_standby=ELECTED)
    played.entries[STANDBY] = _entries(1, 2, 1, 2)
    assert _missed(played) == ["4 lines of 2 terms in the ledger, 1 of them stale"]


def test_a_late_write_that_was_accepted_is_found() -> None:
    played = _round("api", active_standby=ELECTED)
    played.late_status = 204
    assert _missed(played) == ["a write under the token of the deposed is answered by 204"]


def test_a_replica_that_stopped_serving_is_found() -> None:
    played = _round("cut", partly_singleton=ELECTED)
    played.serving[PARTLY] = [_span("a", -2, 3), _span("b", -2, 40)]
    assert _missed(played) == ["1 replicas serve before, during and after the cut"]
    played.serving[PARTLY][0] = _span("a", -2, 29)
    assert _missed(played) == []


def test_a_round_in_text() -> None:
    lines = strips(_round("cut", at_least_one=LEAST, active_standby=ELECTED), columns=42)
    cells = [line[29:] for line in lines[:4]]
    assert [line[:28].split() for line in lines[:4]] == [
        ["at-least-one", "node1", "a"],
        ["node2", "b"],
        ["active-standby", "node1", "a"],
        ["node2", "b"],
    ]
    assert cells[0] == "█" * 32 + "·" * 10
    assert cells[1] == "·" * 16 + "█" * 26
    assert lines[5].strip() == "^ the node's link is cut"


@pytest.mark.parametrize("name", sorted(CAUSES))
def test_a_round_as_a_picture(name: str) -> None:
    played = _round(name, at_least_one=LEAST, at_most_one=MOST)
    findings = judge(played)
    drawn = ElementTree.fromstring(svg(played, [replace(findings[0], text="<&>"), *findings[1:]]))
    bars = [bar for bar in drawn.iter("{http://www.w3.org/2000/svg}rect") if bar.get("fill")]
    assert len(bars) == 4
    assert any(
        "<&>" in (text.text or "") for text in drawn.iter("{http://www.w3.org/2000/svg}text")
    )
