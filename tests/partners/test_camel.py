"""Ours beside members of an Apache Camel cluster that has its lock in a Lease."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.partners.camel import CamelPlace
from tests.partners.kubernetes import LIMIT_S, dialogues, opened, robbed, still_refused
from tests.partners.member import Member
from tests.partners.passing import START_S, ended
from tests.servers.kubernetes import ApiServer
from tests.servers.pods import make_pod, set_ready
from tests.stores.candidate import candidate, plan


def test_each_waits_for_the_other_and_is_next(
    api_server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    place = CamelPlace("camel-lease", api_server, namespace, tmp_path, 6)
    played = dialogues(place)
    assert played["ours", "release"].handed_over_s < place.theirs_s, "of a release nobody waits"
    by_theirs, by_ours = place.object("leaders-ours-release"), place.object("leaders-theirs-crash")
    assert by_theirs["metadata"]["labels"] == by_ours["metadata"]["labels"]
    assert "holderIdentity" not in by_theirs["spec"], "it was released in the end"
    assert "holderIdentity" not in by_ours["spec"]


@pytest.fixture
def place(api_server: ApiServer, namespace: str, tmp_path: Path) -> CamelPlace:
    make_pod(api_server, namespace, "ours")
    return CamelPlace("camel-lease", api_server, namespace, tmp_path, 4)


def test_camel_robs_a_holder_whose_lease_is_deleted(place: CamelPlace) -> None:
    def delete(theirs: Member) -> None:
        theirs.wait_for("waiting", START_S)
        assert not theirs.all("holding")
        place.server.request("DELETE", place.server.lease_path(place.namespace, "leaders-jobs"))

    async def main() -> None:
        async with opened(place) as store:
            await robbed(place, store, place.ttl_s, delete)

    asyncio.run(main())


def test_camel_robs_a_holder_whose_pod_is_not_ready_and_waits_for_its_end(
    place: CamelPlace,
) -> None:
    theirs = place.theirs("jobs", "theirs")

    async def main() -> None:
        async with opened(place) as store:
            ours = candidate(store, "jobs", "ours_1", plan(place.ttl_s))
            begun = await ours.until("begun", LIMIT_S)
            theirs.start()
            await asyncio.to_thread(theirs.wait_for, "waiting", START_S)
            set_ready(place.server, place.namespace, "ours", False)
            stopped = await ours.until("stopped", LIMIT_S)
            assert "changed under us" in stopped["cause"], "not for want of renewals"
            held = await asyncio.to_thread(theirs.wait_for, "holding", START_S)
            assert held["at"] > stopped["at"] + 1, "it waits for as long as we could be trusted"
            set_ready(place.server, place.namespace, "ours", True)
            theirs.kill()
            again = await ours.until("begun", LIMIT_S, count=2)
            assert again["token"] > begun["token"]
            still_refused(place.folder, begun["token"], again["token"])

    with ended(theirs):
        asyncio.run(main())
