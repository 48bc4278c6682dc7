"""Ours beside members of an Apache Camel cluster that has its locks in one ConfigMap."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.partners.camel import MAP, CamelPlace
from tests.partners.kubernetes import LIMIT_S, dialogues, opened, still_refused, works_on
from tests.partners.member import Member
from tests.partners.passing import START_S, ended
from tests.servers.kubernetes import ApiServer
from tests.servers.pods import delete_pod, make_pod

MERGE = "application/merge-patch+json"
KEPT = {"settings.yaml": "colour: blue\n\tname: Zo\u00eb\r\n \n", "leader": "nobody of ours"}


def native(place: CamelPlace) -> Member:
    """One of ours with a record of our own, in the very ConfigMap in which Camel has its groups.

    Nobody else wants what it holds, so its TTL may be as long as a busy machine needs.
    """
    config = place.server.kubeconfig(namespace=place.namespace)
    url = f"kubernetes://{place.namespace}?kubeconfig={config}&recipe=configmap"
    words = ["-m", "tests.partners.ours", url, MAP, "native_1", str(5 * place.ttl_s)]
    return Member("native", [sys.executable, *words], place.folder)


def patch(place: CamelPlace, data: Mapping[str, str | None]) -> None:
    path = f"{place.resource.path(place.namespace)}/{MAP}"
    place.server.request("PATCH", path, {"data": data}, content_type=MERGE)


def test_each_waits_for_the_other_and_is_next_beside_a_record_of_our_own(
    api_server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    place = CamelPlace("camel-configmap", api_server, namespace, tmp_path, 6)
    metadata = {"name": MAP, "annotations": {"incumbent.dev/format": "1"}}
    made = {"metadata": metadata, "data": KEPT}
    api_server.request("POST", place.resource.path(namespace), made)
    beside = native(place)
    with ended(beside):
        beside.start()
        beside.wait_for("holding", START_S)
        played = dialogues(place)
        after = place.object(MAP)
        said = beside.leave(START_S)
    kinds = [event["event"] for event in said if event["event"] != "beat"]
    assert kinds == ["holding", "stopped"], "it held all the time"
    data = after["data"]
    assert data["holderIdentity"].startswith("native_1_")
    assert {key: data[key] for key in KEPT} == KEPT, "byte for byte"
    groups = {f"{who}-{how}" for who, how in played}
    assert {f"incumbent.{group}" for group in groups} <= data.keys(), "Camel leaves ours alone"
    ended_by_ours = {f"leader.pod.{group}" for group in groups if group.startswith("theirs")}
    assert not ended_by_ours & data.keys(), "what is given up has no entries of theirs"


def test_camel_finishes_what_it_was_at_and_robs_whose_entries_are_deleted(
    api_server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    place = CamelPlace("camel-configmap", api_server, namespace, tmp_path, 4)
    make_pod(api_server, namespace, "ours")
    theirs = place.theirs("jobs", "theirs")

    async def main() -> None:
        async with opened(place) as store:
            # Its node is cut off, and its Pod is given up.
            pod = (api_server, namespace, "theirs")
            ours, begun = await works_on(place, store, theirs, MAP, lambda: delete_pod(*pod))

            make_pod(*pod)
            keys = ("leader.pod.jobs", "leader.local.timestamp.jobs", "incumbent.jobs")
            await asyncio.to_thread(patch, place, dict.fromkeys(keys))
            held = await asyncio.to_thread(theirs.wait_for, "holding", LIMIT_S, count=2)
            stopped = await ours.until("stopped", LIMIT_S)
            assert "changed under us" in stopped["cause"], "not for want of renewals"
            print(f"theirs held: {held['at']:.3f}; ours heard: {stopped['at']:.3f}")
            await asyncio.to_thread(theirs.kill)
            again = await ours.until("begun", LIMIT_S, count=2)
            assert again["token"] > begun["token"]
            still_refused(place.folder, begun["token"], again["token"])

    with ended(theirs):
        asyncio.run(main())
