"""Names, snapshots, and who is meant by a name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incumbent.core.records import (
    Holding,
    Lease,
    Snapshot,
    absent,
    check_identity,
    check_name,
    same_candidate,
)
from incumbent.errors import InvalidName

NAMES = st.from_regex(r"[a-z0-9]([-.a-z0-9]{0,198}[a-z0-9])?", fullmatch=True)
IDENTITIES = st.from_regex(r"[A-Za-z0-9]([-._A-Za-z0-9]{0,250}[A-Za-z0-9])?", fullmatch=True)


@given(NAMES)
def test_good_names_pass_as_they_are(name: str) -> None:
    assert check_name(name) == name


@given(IDENTITIES)
def test_good_identities_pass_as_they_are(identity: str) -> None:
    assert check_identity(identity) == identity


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "A", "a/b", "a b", "a\n", "é", "a" * 201, ".a", "a_b", "../x"]
)
def test_bad_names_are_refused_with_the_rule(name: str) -> None:
    with pytest.raises(InvalidName, match="use 1 to 200"):
        check_name(name)


@pytest.mark.parametrize("identity", ["", "_a", "a_", "a/b", "a b", "a\n", "ö", "a" * 253])
def test_bad_identities_are_refused_with_the_rule(identity: str) -> None:
    with pytest.raises(InvalidName, match="use 1 to 252"):
        check_identity(identity)


@pytest.mark.parametrize(
    ("wanted", "identity", "same"),
    [
        ("web-1", "web-1_ab12", True),
        ("web-1_ab12", "web-1_ab12", True),
        ("web-1", "web-10_ab12", False),
        ("web", "web-1_ab12", False),
        ("", "web-1_ab12", False),
        ("web-1_ab", "web-1_ab12", False),
    ],
)
def test_a_candidate_is_meant_by_its_identity_or_its_first_part(
    wanted: str, identity: str, same: bool
) -> None:
    assert same_candidate(wanted, identity) is same


def test_what_is_watched_is_both_versions() -> None:
    snapshot = Snapshot("a", Holding.HELD, version=7, serial=7, lease_version=3)
    assert snapshot.watched == (7, 3)


@pytest.mark.parametrize(
    ("snapshot", "text"),
    [
        (absent("a"), "'a' has no record"),
        (Snapshot("a", Holding.VACANT, 1, 1), "'a' is vacant"),
        (Snapshot("a", Holding.HELD, 1, 1, holder="p"), "'a' is held by 'p'"),
        (Snapshot("a", Holding.FOREIGN, 1, 1, why="moo"), "'a' has a record that is not ours: moo"),
    ],
)
def test_a_snapshot_says_who_has_it(snapshot: Snapshot, text: str) -> None:
    assert snapshot.describe() == text


def test_a_lease_moves_on_as_a_new_value() -> None:
    lease = Lease("k", 1, 10.0, "p")
    assert lease.at(2) == Lease("k", 2, 10.0, "p")
    assert lease.version == 1
