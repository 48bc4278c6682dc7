"""Examples as files, and what the audit says of a text."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime
from pathlib import Path

from incumbent.audit.case import Case
from incumbent.audit.finding import Finding
from incumbent.audit.inventory import Inventory
from incumbent.audit.rules import judge
from incumbent.audit.source import read_text

__all__ = ["EXAMPLES", "READ_AT", "example", "found", "ids"]

EXAMPLES = Path(__file__).parent / "examples"
READ_AT = datetime(2026, 1, 1, 0, 10, tzinfo=UTC)
"""When the examples of a running cluster were read."""


def example(name: str) -> str:
    return (EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8")


def found(text: str, *, live: bool = False) -> list[Finding]:
    read = read_text(textwrap.dedent(text))
    return list(judge(Case(Inventory(read.manifests), read_at=READ_AT if live else None)))


def ids(text: str, *, live: bool = False) -> set[str]:
    return {finding.rule.id for finding in found(text, live=live)}
