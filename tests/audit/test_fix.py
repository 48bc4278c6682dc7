"""Repairs change what they are for, and not a character more."""

from __future__ import annotations

import textwrap
from dataclasses import replace

import pytest

from incumbent.audit.case import Case
from incumbent.audit.edits import Edit, Remove, Set
from incumbent.audit.finding import Rule
from incumbent.audit.fix import diff, edited, repair
from incumbent.audit.inventory import Inventory
from incumbent.audit.rules import RULES, judge
from incumbent.audit.source import read_text
from tests.audit.kit import example, found

BLOCK = """\
# The wiki.
apiVersion: apps/v1
kind: Deployment   # one of it
metadata:
    name: wiki
    labels:
        app: "wiki"
spec:
    # As many as there are disks.
    replicas: 1
    strategy:
        type: RollingUpdate
        rollingUpdate:
            maxSurge: 1

    # What runs.
    template:
        spec:
            containers:
              - name: wiki
                image: wiki
"""


def lines_of(text: str, edit: Edit, document: int = 0) -> list[str]:
    """What an edit adds and takes away, as a diff shows it."""
    made = edited(text, document, (), edit)
    assert made is not None
    old, new = text.splitlines(), made.splitlines()
    gone = [f"-{line}" for line in old if line not in new]
    return gone + [f"+{line}" for line in new if line not in old]


def test_a_value_is_replaced_where_it_stands() -> None:
    edit = Set(("kind",), "StatefulSet")
    assert lines_of(BLOCK, edit) == [
        "-kind: Deployment   # one of it",
        "+kind: StatefulSet   # one of it",
    ]


def test_an_entry_is_added_with_the_indentation_of_its_neighbours() -> None:
    edit = Set(("spec", "paused"), True)
    made = edited(BLOCK, 0, (), edit)
    assert made is not None
    assert "    replicas: 1\n    paused: true\n" in made


def test_an_entry_is_added_where_no_neighbour_is_one_line() -> None:
    made = edited("a:\n  b:\n    c: 1\n", 0, (), Set(("a", "d"), "1"))
    assert made == 'a:\n  d: "1"\n  b:\n    c: 1\n'


def test_an_entry_goes_with_all_of_its_lines_and_no_comment_of_the_next() -> None:
    edit = Remove(("spec", "strategy", "rollingUpdate"))
    assert lines_of(BLOCK, edit) == ["-        rollingUpdate:", "-            maxSurge: 1"]
    made = edited(BLOCK, 0, (), Remove(("spec", "strategy")))
    assert made is not None
    assert "replicas: 1\n\n    # What runs.\n    template:" in made


@pytest.mark.parametrize(
    ("text", "edit", "wanted"),
    [
        ("{a: 1, b: 2}\n", Set(("c",), "x"), "{c: x, a: 1, b: 2}\n"),
        ("{a: 1, b: 2}\n", Remove(("a",)), "{b: 2}\n"),
        ("{a: 1, b: 2}\n", Remove(("b",)), "{a: 1}\n"),
        ("a: {}\n", Set(("a", "b"), 1), "a: {b: 1}\n"),
        ("- {}\n---\na: on\n", Set(("a",), False), "- {}\n---\na: false\n"),
        ("a: 1\r\nb: 2\r\n", Set(("c",), 3), "a: 1\r\nb: 2\r\nc: 3\r\n"),
        ("ä: ö\na: 1 # ü\n", Set(("a",), 2), "ä: ö\na: 2 # ü\n"),
        ('{"a": 1}', Set(("a",), "y"), '{"a": "y"}'),
    ],
)
def test_other_styles(text: str, edit: Edit, wanted: str) -> None:
    document = 1 if "---" in text else 0
    assert edited(text, document, (), edit) == wanted


@pytest.mark.parametrize(
    ("text", "edit"),
    [
        ("a: &x {b: 1}\nc: *x\n", Set(("c", "b"), 2)),
        ("a: 1\n", Set(("b", "c"), 2)),
        ("a:\n  b: 1\n", Remove(("a", "b"))),
        ("a: {b: 1}\n", Set(("a",), 1)),
    ],
)
def test_what_would_change_more_is_not_done(text: str, edit: Edit) -> None:
    assert edited(text, 0, (), edit) is None


def test_what_is_so_already_is_left_alone() -> None:
    assert edited("a: 1\n", 0, (), Set(("a",), 1)) == "a: 1\n"
    assert edited("a: 1\n", 0, (), Remove(("b",))) == "a: 1\n"


MENDED = [
    rule
    for rule in RULES
    if any(each.sighting.edits and each.rule is rule for each in found(example(f"{rule.id}-bad")))
]


@pytest.mark.parametrize("rule", MENDED, ids=lambda rule: rule.id)
def test_what_can_be_mended_is(rule: Rule) -> None:
    text = example(f"{rule.id}-bad")
    [done] = repair([each for each in found(text) if each.sighting.edits])
    assert not done.refused
    left = found(done.text)
    assert not any(each.sighting.edits for each in left)
    assert rule.id not in {each.rule.id for each in left}


def test_many_documents_and_a_list_are_repaired_in_place() -> None:
    text = textwrap.dedent(
        """\
        kind: List
        apiVersion: v1
        items:
        - apiVersion: v1
          kind: ConfigMap
          metadata: {name: a}
        - apiVersion: policy/v1beta1  # old
          kind: PodDisruptionBudget
          metadata: {name: b}
          spec: {minAvailable: 1, selector: {}}
        """
    )
    [done] = repair(found(text))
    assert done.text == text.replace("policy/v1beta1", "policy/v1")
    assert "-- apiVersion: policy/v1beta1  # old\n+- apiVersion: policy/v1  # old\n" in diff(done)


def test_what_is_waived_is_not_mended() -> None:
    read = read_text(example("INC039-bad"))
    findings = list(judge(Case(Inventory(read.manifests))))
    assert repair([replace(each, waived="ours is an old cluster") for each in findings]) == []


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("INC021-bad", "spec:\n  selector", "spec:\n  replicas: 2\n  selector"),
        ("INC043-bad", "matchLabels: {app: poller}", "matchLabels: {incumbent.dev/role: active}"),
        ("INC015-bad", "", ""),
        ("INC045-bad", "", ""),
    ],
)
def test_what_needs_thought_is_left_alone(name: str, old: str, new: str) -> None:
    hits = [each for each in found(example(name).replace(old, new)) if each.rule.id == name[:6]]
    assert hits
    assert not any(each.sighting.edits for each in hits)
