"""ShedLock's and Spring's own members beside ours, on one lock in a real database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.partners.member import Member
from tests.partners.passing import all_pass_on
from tests.partners.sql_locks import TTL_S, Place, place

LIMIT_S = 60.0
PLAYED = ("postgresql-shedlock", "mariadb-shedlock", "mariadb-spring")
BEATS = int(TTL_S * 10 * 2.2)
"""More than two times to live."""


@pytest.fixture(params=PLAYED)
def here(request: pytest.FixtureRequest) -> Iterator[Place]:
    made = place(request.param, request.getfixturevalue)
    yield made
    made.drop()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_each_takes_over_from_the_other(here: Place, tmp_path: Path) -> None:
    # ShedLock has two ways to tell the time, and each is tried in one of the databases.
    words = ["client-time"] if (here.recipe, here.family) == ("shedlock", "mysql") else []

    def makes(name: str) -> tuple[Member, Member]:
        folder = tmp_path / name
        theirs = here.theirs(folder, here.recipe, *words, lock=name)
        return here.ours(folder, "ours", lock=name), theirs

    played = all_pass_on(makes, beats=BEATS, limit_s=LIMIT_S)
    for (first, _), passed in played.items():
        ours = passed.second if first == "theirs" else passed.first
        assert all(event["token"] for event in ours if event["event"] == "holding")
