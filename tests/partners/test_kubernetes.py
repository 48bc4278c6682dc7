"""Members of others beside ours on an API server: their dialogues with ours, and what they break.

The Kubernetes client of Python has its lock on a ConfigMap; Pekko and Akka have their leases. Akka's
is the last that came under the Apache licence; what it writes and how it judges is Pekko's.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from incumbent.errors import StaleToken
from incumbent.fencing import Fence
from incumbent.stores.api import StoreURL
from incumbent.stores.kubernetes import KubernetesStore
from incumbent.stores.kubernetes import open as open_kubernetes
from incumbent.stores.kubernetes.resource import CONFIG_MAPS, Resource, heartbeats_of
from tests.partners.member import Member
from tests.partners.passing import START_S, Passed, ended, passes_on
from tests.servers import java
from tests.servers.crds import define
from tests.servers.kubernetes import ApiServer
from tests.stores.candidate import Recorder, candidate, plan

TTL_S = 4
BEATS = 90
"""More than two of any duration here."""
LIMIT_S = 60.0

Makes = Callable[[str, str], Member]


class Place:
    """A lock in a namespace, and how both sides are started there.

    Theirs take over `theirs_s` after the last sign of life: Pekko and Akka by a heartbeat-timeout
    of twice that less two heartbeat-intervals, the Kubernetes client by its lease duration.
    """

    def __init__(self, recipe: str, server: ApiServer, namespace: str, folder: Path) -> None:
        self.recipe, self.server, self.namespace, self.folder = recipe, server, namespace, folder
        self.theirs_s = TTL_S
        define(server, self.resource)
        (folder / "token").write_text(server.token(), encoding="ascii")

    @property
    def resource(self) -> Resource:
        groups = {"pekko": "pekko.apache.org", "akka": "akka.io"}
        return heartbeats_of(groups[self.recipe]) if self.recipe in groups else CONFIG_MAPS

    @property
    def url(self) -> str:
        more = f"&takeover_s={TTL_S}" if self.resource.definition else ""
        config = self.server.kubeconfig(namespace=self.namespace)
        return f"kubernetes://{self.namespace}?kubeconfig={config}&recipe={self.recipe}{more}"

    def ours(self, lock: str, name: str) -> Member:
        words = ["-m", "tests.partners.ours", f"{self.url}&lock={{name}}", lock, name, str(TTL_S)]
        return Member(name, [sys.executable, *words], self.folder)

    def theirs(self, lock: str, name: str) -> Member:
        if not self.resource.definition:
            program = "tests.partners.python.kubernetes_configmap"
            config = self.server.kubeconfig(namespace=self.namespace)
            words = [str(config), self.namespace, lock, name, str(self.theirs_s)]
            return Member(name, [sys.executable, "-m", program, *words], self.folder)
        timeout_ms = 2000 * self.theirs_s
        words = [
            str(self.server.port),
            str(self.server.ca_file),
            str(self.folder / "token"),
            self.namespace,
            lock,
            name,
            str(timeout_ms),
            str(timeout_ms // 4),
        ]
        return Member(name, java.command(self.recipe, *words), self.folder)

    def object(self, lock: str) -> dict[str, Any]:
        return self.server.request("GET", f"{self.resource.path(self.namespace)}/{lock}")

    def store(self) -> KubernetesStore:
        store = open_kubernetes(StoreURL.parse(self.url))
        assert isinstance(store, KubernetesStore)
        return store


@pytest.fixture(params=["clientgo-configmap", "pekko", "akka"])
def place(
    request: pytest.FixtureRequest, api_server: ApiServer, namespace: str, tmp_path: Path
) -> Place:
    return Place(request.param, api_server, namespace, tmp_path)


def test_each_waits_for_the_other_and_is_next(place: Place) -> None:
    """All four dialogues at once: each has a lock of its own, and most of it is waiting."""

    def plays(first: str, how: str) -> tuple[str, Passed]:
        second = "theirs" if first == "ours" else "ours"
        lock = f"{first}-{how}"
        makes: dict[str, Makes] = {"ours": place.ours, "theirs": place.theirs}
        one, two = makes[first](lock, f"{first}-1-{how}"), makes[second](lock, f"{second}-2-{how}")
        passed = passes_on(one, two, how, beats=BEATS, limit_s=LIMIT_S)
        return passed.transcript(first, second), passed

    pairs = [(first, how) for first in ("ours", "theirs") for how in ("release", "crash")]
    with ThreadPoolExecutor(len(pairs)) as pool:
        played = list(pool.map(lambda pair: plays(*pair), pairs))
    for (first, how), (transcript, passed) in zip(pairs, played, strict=True):
        print(f"{place.recipe}: {first} first, {how}: handed over in {passed.handed_over_s:.2f} s")
        print(transcript)
    released = dict(zip(pairs, played, strict=True))[("ours", "release")][1]
    assert released.handed_over_s < TTL_S, "what ours releases is free at once"


# -- what they break ------------------------------------------------------------------------------


def still_refused(folder: Path, old: int | None, new: int | None) -> None:
    """A write that had passed its check when the term was lost finds a later token there."""
    with sqlite3.connect(folder / "ledger.db", isolation_level=None) as connection:
        connection.execute("BEGIN IMMEDIATE")
        Fence("ledger", new, lambda: None).sql(connection)
        connection.execute("COMMIT")
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(StaleToken):
            Fence("ledger", old, lambda: None).sql(connection)
        connection.execute("ROLLBACK")


async def robbed(place: Place, store: KubernetesStore, ttl_s: int) -> None:
    """Ours holds and renews; theirs takes it all the same, and both believe that they hold."""
    theirs = place.theirs("jobs", "theirs")
    with ended(theirs):
        ours = candidate(store, "jobs", "ours_1", plan(ttl_s))
        begun = await ours.until("begun", LIMIT_S)
        theirs.start()
        await asyncio.to_thread(theirs.wait_for, "holding", START_S)
        begun["term"].check()
        assert not ours.all("stopped"), "ours would have to have known"
        print("both believe that they hold")
        await ours.until("stopped", LIMIT_S)
        theirs.kill()
        again = await ours.until("begun", LIMIT_S, count=2)
        assert again["token"] > begun["token"]
        still_refused(place.folder, begun["token"], again["token"])
        assert_driver(ours)


def assert_driver(ours: Recorder) -> None:
    assert ours.driver is not None


def test_the_kubernetes_client_robs_a_holder_with_a_longer_ttl(
    api_server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    place = Place("clientgo-configmap", api_server, namespace, tmp_path)
    place.theirs_s = 3

    async def main() -> None:
        store = place.store()
        await store.open()
        await robbed(place, store, 30)
        await store.close()

    asyncio.run(main())


def test_the_kubernetes_client_works_on_after_a_pause(
    api_server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    place = Place("clientgo-configmap", api_server, namespace, tmp_path)
    theirs = place.theirs("jobs", "theirs")

    async def main() -> None:
        store = place.store()
        await store.open()
        theirs.start()
        await asyncio.to_thread(theirs.wait_for, "holding", START_S)
        ours = candidate(store, "jobs", "ours_1", plan(TTL_S))
        await ours.until("waiting", LIMIT_S, lambda e: e["holder"] == "theirs")
        theirs.pause()
        begun = await ours.until("begun", LIMIT_S)
        resumed = time.monotonic()
        theirs.resume()
        ended_ = await asyncio.to_thread(theirs.wait_for, "stopped", LIMIT_S)
        late = [e for e in theirs.all("beat") if resumed < e["at"] < ended_["at"]]
        assert late, "it believed that it held"
        begun["term"].check()
        print(f"{len(late)} beats of theirs under our term")
        still_refused(place.folder, begun["token"] - 1, begun["token"])
        await store.close()

    with ended(theirs):
        asyncio.run(main())


def test_pekko_robs_a_holder_whose_clock_is_behind(
    api_server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    place = Place("pekko", api_server, namespace, tmp_path)

    async def main() -> None:
        store = place.store()
        store._wall = lambda: time.time() - 3600  # wall clock: it is an hour behind on this host
        await store.open()
        await robbed(place, store, TTL_S)
        await store.close()

    asyncio.run(main())


@pytest.mark.parametrize("recipe", ["pekko", "akka"])
def test_a_record_of_ours_and_one_of_theirs_are_alike(
    recipe: str, api_server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    place = Place(recipe, api_server, namespace, tmp_path)
    makes: list[tuple[str, Makes]] = [("ours", place.ours), ("theirs", place.theirs)]
    found = {}
    for who, make in makes:
        member = make(who, who)
        with ended(member):
            member.start()
            member.wait_for("holding", START_S)
            found[who] = place.object(who)
    for key in ("apiVersion", "kind"):
        assert found["ours"][key] == found["theirs"][key]
    specs = [found[who]["spec"] for who in ("ours", "theirs")]
    assert specs[0].keys() == specs[1].keys() == {"owner", "time"}
    assert abs(specs[0]["time"] - specs[1]["time"]) < 1000 * LIMIT_S
