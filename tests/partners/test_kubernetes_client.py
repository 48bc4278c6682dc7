"""Ours beside the lock of the Kubernetes client of Python: client-go's format on a ConfigMap."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import pytest

from incumbent.stores.kubernetes.formats import LEADER_KEY
from incumbent.stores.kubernetes.resource import CONFIG_MAPS
from tests.partners.kubernetes import LIMIT_S, Place, dialogues, opened, robbed, works_on
from tests.partners.member import Member
from tests.partners.passing import START_S, ended
from tests.servers.kubernetes import ApiServer

TTL_S = 4


@pytest.fixture
def place(api_server: ApiServer, namespace: str, tmp_path: Path) -> Place:
    return Place("clientgo-configmap", api_server, namespace, tmp_path, TTL_S)


def test_each_waits_for_the_other_and_is_next(place: Place) -> None:
    dialogues(place)


def make_vacant(place: Place) -> None:
    """Spare the first candidate the wait for a TTL."""
    vacant = {"holderIdentity": "", "leaseDurationSeconds": 1}
    metadata = {"name": "jobs", "annotations": {LEADER_KEY: json.dumps(vacant)}}
    place.server.request("POST", CONFIG_MAPS.path(place.namespace), {"metadata": metadata})


def test_the_kubernetes_client_robs_a_holder_with_a_longer_ttl(place: Place) -> None:
    place.theirs_s = 3
    make_vacant(place)

    async def main() -> None:
        async with opened(place) as store:
            await robbed(place, store, 30)

    asyncio.run(main())


def test_the_kubernetes_client_robs_a_holder_when_its_clock_is_set_forward(place: Place) -> None:
    """Its duration is enough, but of a record that stood for a moment it believes an hour."""
    place.theirs_s = 8
    make_vacant(place)

    def set_forward(theirs: Member) -> None:
        theirs.wait_for("waiting", START_S)
        assert not theirs.all("holding")
        ends_at = time.monotonic() + LIMIT_S
        while not theirs.all("holding") and time.monotonic() < ends_at:
            os.kill(theirs.pid, signal.SIGUSR1)
            time.sleep(0.3)  # sleep: between two looks of theirs at one record; only it knows when

    async def main() -> None:
        async with opened(place) as store:
            await robbed(place, store, 20, set_forward)

    asyncio.run(main())


def test_the_kubernetes_client_works_on_after_a_pause(place: Place) -> None:
    theirs = place.theirs("jobs", "theirs")

    async def main() -> None:
        async with opened(place) as store:
            await works_on(place, store, theirs, "jobs")

    with ended(theirs):
        asyncio.run(main())
