"""The page has every rule, as the registry has it."""

from __future__ import annotations

import re

from incumbent.audit.rules import RULES
from tests.audit.page import PAGE, with_rules


def test_the_page_is_up_to_date() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert with_rules(text) == text, "python -m tests.audit.page"


def test_every_link_within_the_page_leads_to_a_rule() -> None:
    text = PAGE.read_text(encoding="utf-8")
    linked = set(re.findall(r"\(#(inc\d+)\)", text))
    assert linked == {rule.id.lower() for rule in RULES}
    assert set(re.findall(r"^### (INC\d+)$", text, re.MULTILINE)) == {rule.id for rule in RULES}


def test_a_rule_that_changes_changes_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert with_rules(text.replace(RULES[0].why, "")) == text
