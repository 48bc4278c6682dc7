"""All rules, in the order of their ids; a module for each question that they answer."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

from incumbent.audit.case import Case
from incumbent.audit.finding import Finding, Rule
from incumbent.audit.rules import (
    bots,
    budget,
    election,
    guard,
    jobs,
    live,
    marking,
    rbac,
    replicas,
    rollout,
    runbooks,
    scheduling,
    service,
    shape,
    storage,
)

__all__ = ["RULES", "RULES_BY_ID", "judge"]


def _of(module: ModuleType) -> list[Rule]:
    return [value for value in vars(module).values() if isinstance(value, Rule)]


_MODULES = (
    replicas,
    bots,
    rollout,
    storage,
    budget,
    service,
    election,
    rbac,
    scheduling,
    jobs,
    guard,
    runbooks,
    shape,
    marking,
    live,
)
RULES: tuple[Rule, ...] = tuple(
    sorted((rule for module in _MODULES for rule in _of(module)), key=lambda rule: rule.id)
)
RULES_BY_ID = {rule.id: rule for rule in RULES}


def judge(case: Case) -> Iterator[Finding]:
    """Yield what all rules find; those of a running cluster only if the objects are of one."""
    for rule in RULES:
        if case.read_at is not None or not rule.live:
            yield from rule.findings(case)
