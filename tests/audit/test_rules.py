"""Each rule with a manifest that trips it and one, as like it as can be, that does not."""

from __future__ import annotations

import re

import pytest

from incumbent.audit.finding import Rule
from incumbent.audit.rules import RULES
from tests.audit.kit import EXAMPLES, example, found, ids


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_is_tripped(rule: Rule) -> None:
    hits = [each for each in found(example(f"{rule.id}-bad"), live=rule.live) if each.rule is rule]
    assert hits
    assert all(each.line > 0 for each in hits)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_its_neighbour_does_not_trip_it(rule: Rule) -> None:
    assert rule.id not in ids(example(f"{rule.id}-good"), live=rule.live)


def test_every_example_is_of_a_rule() -> None:
    wanted = {f"{rule.id}-{kind}.yaml" for rule in RULES for kind in ("bad", "good")}
    assert {path.name for path in EXAMPLES.iterdir()} == wanted


def test_every_rule_says_why_and_what_to_do() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert re.fullmatch(r"INC\d{3}", rule.id)
        assert not rule.title.endswith("."), rule.id
        assert len(rule.why.split()) > 7, rule.id
        assert rule.fix.endswith("."), rule.id
        assert all(link.startswith("https://") for link in rule.links)


def test_a_guard_of_another_place_is_not_missed_in_files() -> None:
    marked = example("INC095-good")
    assert "INC081" not in ids(marked)
    assert "INC081" in ids(marked, live=True)


def test_what_only_a_cluster_shows_is_not_looked_for_in_files() -> None:
    for rule in RULES:
        if rule.live:
            assert rule.id not in ids(example(f"{rule.id}-bad"))


@pytest.mark.parametrize(
    ("labels", "severity"),
    [("incumbent.dev/singleton: 'true'", "high"), ("incumbent.dev/mode: at-most-one", "critical")],
)
def test_no_grace_is_found_where_the_guard_refuses_it(labels: str, severity: str) -> None:
    text = f"""\
        apiVersion: apps/v1
        kind: Deployment
        metadata: {{name: a, labels: {{{labels}}}}}
        spec: {{template: {{spec: {{terminationGracePeriodSeconds: 0}}}}}}
        """
    assert [each.severity for each in found(text) if each.rule.id == "INC014"] == [severity]
    assert "INC014" not in ids(text.replace("Seconds: 0", "Seconds: 1"))
    assert "INC014" not in ids(text.replace(labels, ""))


def test_a_policy_against_forced_evictions_lets_drains_pass() -> None:
    bad = example("INC088-bad")
    forced = "object.?deleteOptions.?gracePeriodSeconds.orValue(30) != 0"
    assert "INC088" in ids(bad)
    assert "INC088" not in ids(bad.replace('"false"', f'"{forced}"'))
