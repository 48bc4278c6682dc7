"""Ours beside members of Pekko's and Akka's leases on Kubernetes.

This Akka is the last that came under the Apache licence. What it writes and how it judges is
Pekko's, so two of the dialogues are always enough for it.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.partners.kubernetes import Place, dialogues, opened, robbed, works_on
from tests.partners.passing import OF_EVERY_RUN, ended
from tests.servers.kubernetes import ApiServer

TTL_S = 6


@pytest.mark.parametrize(
    ("recipe", "ttl_s", "pairs"),
    [
        # Four virtual machines that start at once leave little time to anybody else.
        ("pekko", 10, ()),
        ("akka", TTL_S, OF_EVERY_RUN),
    ],
)
def test_each_waits_for_the_other_and_is_next(
    recipe: str,
    ttl_s: int,
    pairs: tuple[tuple[str, str], ...],
    api_server: ApiServer,
    namespace: str,
    tmp_path: Path,
) -> None:
    place = Place(recipe, api_server, namespace, tmp_path, ttl_s)
    played = dialogues(place, pairs)
    assert played["ours", "release"].handed_over_s < ttl_s, "what ours releases is free at once"
    by_theirs, by_ours = place.object("ours-release"), place.object("theirs-crash")
    for key in ("apiVersion", "kind"):
        assert by_ours[key] == by_theirs[key]
    assert by_ours["spec"].keys() == by_theirs["spec"].keys() == {"owner", "time"}
    assert by_ours["spec"]["owner"] == by_theirs["spec"]["owner"] == ""


def test_pekko_robs_a_holder_whose_clock_is_behind(
    api_server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    place = Place("pekko", api_server, namespace, tmp_path, TTL_S)

    async def main() -> None:
        async with opened(place) as store:
            store._wall = lambda: time.time() - 3600  # wall clock: it is an hour behind here
            await robbed(place, store, TTL_S)

    asyncio.run(main())


def test_pekko_works_on_after_a_pause(
    api_server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    place = Place("pekko", api_server, namespace, tmp_path, TTL_S)
    theirs = place.theirs("jobs", "theirs")

    async def main() -> None:
        async with opened(place) as store:
            await works_on(place, store, theirs, "jobs")

    with ended(theirs):
        asyncio.run(main())
