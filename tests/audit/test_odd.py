"""Whatever stands in a manifest: an audit says what it finds, or one line, and never fails."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from incumbent.audit.case import Case
from incumbent.audit.fix import repair
from incumbent.audit.inventory import Inventory
from incumbent.audit.objects import Manifest
from incumbent.audit.report.json import document
from incumbent.audit.rules import RULES, judge
from incumbent.audit.source import read_text
from tests.audit.kit import READ_AT, example

ODD: tuple[Any, ...] = (
    None,
    1,
    "x",
    [],
    {},
    [1],
    {"a": 1},
    True,
    [{}],
    ["x", None],
    -1.5,
    {"a": {"b": []}},
)


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of everything in a value."""
    below = value.items() if isinstance(value, dict) else ()
    for key, each in enumerate(value) if isinstance(value, list) else below:
        yield (*path, key)
        yield from places(each, (*path, key))


def replaced(body: Any, path: tuple[str | int, ...], odd: Any) -> Any:
    made = copy.deepcopy(body)
    at = made
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = copy.deepcopy(odd)
    return made


@pytest.mark.parametrize("name", [rule.id for rule in RULES])
def test_a_value_of_another_type_is_no_crash(name: str) -> None:
    bodies = [each.body for each in read_text(example(f"{name}-bad")).manifests]
    turn = count()
    for number, body in enumerate(bodies):
        for path in places(body):
            odd = ODD[next(turn) % len(ODD)]
            changed = [*bodies]
            changed[number] = replaced(body, path, odd)
            case = Case(Inventory([Manifest(each) for each in changed]), read_at=READ_AT)
            found = list(judge(case))
            assert document(found, [])["findings"] is not None
            assert repair(found) == []
