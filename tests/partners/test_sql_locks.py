"""ShedLock's and Spring's own members beside ours, on one lock in a real database."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.partners.member import Member
from tests.partners.passing import Passed, passes_on
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


def members(here: Place, folder: Path, first: str, lock: str) -> tuple[Member, Member]:
    # ShedLock has two ways to tell the time, and each is tried in one of the databases.
    words = ["client-time"] if (here.recipe, here.family) == ("shedlock", "mysql") else []
    theirs = here.theirs(folder, f"{here.recipe}", *words, lock=lock)
    ours = here.ours(folder, "ours", lock=lock)
    return (theirs, ours) if first == "theirs" else (ours, theirs)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_each_takes_over_from_the_other(here: Place, tmp_path: Path) -> None:
    """Four dialogues side by side, on a lock each: they wait more than they compute."""

    def play(first: str, how: str) -> Passed:
        lock = f"{first}-{how}"
        pair = members(here, tmp_path / lock, first, lock)
        passed = passes_on(*pair, how, beats=BEATS, limit_s=LIMIT_S)
        print(f"\n{lock}\n{passed.transcript(*(member.name for member in pair))}")
        return passed

    dialogues = [(first, how) for first in ("theirs", "ours") for how in ("release", "crash")]
    with ThreadPoolExecutor(len(dialogues)) as pool:
        played = list(pool.map(lambda words: play(*words), dialogues))
    for passed, (first, _) in zip(played, dialogues, strict=True):
        ours = passed.second if first == "theirs" else passed.first
        assert all(event["token"] for event in ours if event["event"] == "holding")
