"""Shapes of well-known charts: what is found in them, no more and no less; the docs explain it."""

from __future__ import annotations

from pathlib import Path

import pytest

from incumbent.audit.finding import Severity
from tests.audit.kit import found

CHARTS = Path(__file__).parent / "charts"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "audit.md"
FINDINGS = {
    "grafana": {
        "INC011": Severity.HIGH,
        "INC013": Severity.MEDIUM,
        "INC021": Severity.HIGH,
        "INC022": Severity.MEDIUM,
        "INC031": Severity.MEDIUM,
        "INC071": Severity.MEDIUM,
        "INC073": Severity.MEDIUM,
    },
    "cert-manager": {
        "INC031": Severity.LOW,
        "INC071": Severity.MEDIUM,
        "INC072": Severity.MEDIUM,
        "INC073": Severity.MEDIUM,
    },
    "postgresql": {
        "INC015": Severity.MEDIUM,
        "INC016": Severity.MEDIUM,
        "INC033": Severity.HIGH,
        "INC044": Severity.MEDIUM,
        "INC071": Severity.MEDIUM,
    },
    "home-assistant": {
        "INC013": Severity.MEDIUM,
        "INC022": Severity.MEDIUM,
        "INC031": Severity.MEDIUM,
        "INC071": Severity.MEDIUM,
        "INC073": Severity.MEDIUM,
    },
}


@pytest.mark.parametrize("name", FINDINGS)
def test_what_is_found_in_a_chart(name: str) -> None:
    text = (CHARTS / f"{name}.yaml").read_text(encoding="utf-8")
    assert {each.rule.id: each.severity for each in found(text)} == FINDINGS[name]


def test_the_page_explains_each_of_them() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = {
        cells[0].strip(" *"): cells[1]
        for cells in (line.strip("|").split("|") for line in text.splitlines())
        if len(cells) == 3
    }
    for name, rules in FINDINGS.items():
        assert all(rule in rows[name] for rule in rules), name


def test_every_chart_is_judged() -> None:
    assert {path.stem for path in CHARTS.iterdir()} == set(FINDINGS)
