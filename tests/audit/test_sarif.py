"""The SARIF log has what the standard demands, and what forges read from it.

No package brings the schema along, so its demands on what we write are checked one by one: the
sections of the standard (SARIF 2.1.0) are named.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from incumbent.audit.report.sarif import log
from incumbent.audit.rules import RULES
from tests.audit.kit import example, found

NAMES = ("INC011-bad", "INC034-bad", "INC077-bad")


@pytest.fixture(scope="module")
def run() -> dict[str, Any]:
    findings = [each for name in NAMES for each in found(example(name))]
    findings.append(replace(findings[0], waived="both write to a fenced table"))
    document = log(findings)
    assert document["version"] == "2.1.0"  # 3.13.2
    assert document["$schema"].endswith("sarif-2.1.0.json")
    [only] = document["runs"]
    assert isinstance(only, dict)
    return only


def test_the_tool_and_its_rules(run: dict[str, Any]) -> None:
    driver = run["tool"]["driver"]
    assert driver["name"]  # 3.19.8
    rules = driver["rules"]
    assert [each["id"] for each in rules] == [each.id for each in RULES]  # 3.49.3: unique
    for each in rules:
        for key in ("shortDescription", "fullDescription", "help"):
            assert each[key]["text"]  # 3.11.8
        assert each["defaultConfiguration"]["level"] in ("none", "note", "warning", "error")
        assert each.get("helpUri", "https://").startswith("https://")
        assert 0 <= float(each["properties"]["security-severity"]) <= 10
        assert each["properties"]["problem.severity"] in ("error", "warning", "recommendation")


def test_results_point_at_rules_and_lines(run: dict[str, Any]) -> None:
    rules = run["tool"]["driver"]["rules"]
    assert run["results"]
    for each in run["results"]:
        assert rules[each["ruleIndex"]]["id"] == each["ruleId"]  # 3.27.6
        assert each["level"] in ("none", "note", "warning", "error")  # 3.27.10
        assert each["message"]["text"]
        [place] = each["locations"]
        assert place["physicalLocation"]["region"]["startLine"] >= 1  # 3.30.5
        assert re.fullmatch(r"[\w./%~-]+", place["physicalLocation"]["artifactLocation"]["uri"])
        assert place["logicalLocations"][0]["fullyQualifiedName"].count("/") == 2
        assert re.fullmatch(r"[0-9a-f]{32}", each["partialFingerprints"]["ruleAndObject/v1"])


def test_a_finding_is_the_same_one_when_lines_are_added() -> None:
    def prints(text: str) -> list[str]:
        results = log(found(text))["runs"][0]["results"]
        return [each["partialFingerprints"]["ruleAndObject/v1"] for each in results]

    text = example("INC011-bad")
    assert prints("# a comment\n\n" + text) == prints(text)
    assert len(set(prints(text))) == len(prints(text))
    assert set(prints(text.replace("poller", "other"))).isdisjoint(prints(text))


def test_what_is_waived_is_suppressed_with_the_reason(run: dict[str, Any]) -> None:
    suppressed = [each["suppressions"] for each in run["results"] if "suppressions" in each]
    wanted = {"kind": "external", "justification": "both write to a fenced table"}
    assert suppressed == [[wanted]]  # 3.35
