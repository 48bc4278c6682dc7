"""Locks on an API server that members of others share with ours, and how both sides are started.

The Kubernetes client of Python has its lock on a ConfigMap; Pekko and Akka have their leases.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from incumbent.errors import StaleToken
from incumbent.fencing import Fence, sql
from incumbent.stores.api import StoreURL
from incumbent.stores.kubernetes import KubernetesStore
from incumbent.stores.kubernetes import open as open_kubernetes
from incumbent.stores.kubernetes.resource import CONFIG_MAPS, Resource, heartbeats_of
from tests.partners.member import Member
from tests.partners.passing import START_S, Passed, all_pass_on, ended
from tests.servers import java
from tests.servers.crds import define
from tests.servers.kubernetes import ApiServer
from tests.stores.candidate import Event, Recorder, candidate, plan

__all__ = ["LIMIT_S", "Place", "dialogues", "opened", "robbed", "still_refused", "works_on"]

LIMIT_S = 60.0
_GROUPS = {"pekko": "pekko.apache.org", "akka": "akka.io"}


class Place:
    """A lock in a namespace, and how both sides are started there.

    Theirs take over `theirs_s` after the last sign of life: Pekko and Akka by a heartbeat-timeout
    of twice that less two heartbeat-intervals, the Kubernetes client by its lease duration.
    """

    def __init__(
        self, recipe: str, server: ApiServer, namespace: str, folder: Path, ttl_s: int
    ) -> None:
        self.recipe, self.server, self.namespace, self.folder = recipe, server, namespace, folder
        self.ttl_s = self.theirs_s = ttl_s
        define(server, self.resource)
        (folder / "token").write_text(server.token(), encoding="ascii")

    @property
    def resource(self) -> Resource:
        return heartbeats_of(_GROUPS[self.recipe]) if self.recipe in _GROUPS else CONFIG_MAPS

    @property
    def url(self) -> str:
        more = f"&takeover_s={self.theirs_s}" if self.resource.definition else ""
        config = self.server.kubeconfig(namespace=self.namespace)
        return f"kubernetes://{self.namespace}?kubeconfig={config}&recipe={self.recipe}{more}"

    def ours(self, lock: str, name: str) -> Member:
        words = ["-m", "tests.partners.ours", self.url, lock, name, str(self.ttl_s)]
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


@contextlib.asynccontextmanager
async def opened(place: Place) -> AsyncIterator[KubernetesStore]:
    store = open_kubernetes(StoreURL.parse(place.url))
    assert isinstance(store, KubernetesStore)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def dialogues(place: Place, pairs: Sequence[tuple[str, str]] = ()) -> dict[tuple[str, str], Passed]:
    """Play them, on a lock each."""

    def makes(name: str) -> tuple[Member, Member]:
        return place.ours(name, f"ours-{name}"), place.theirs(name, f"theirs-{name}")

    beats = 10 * (2 * place.ttl_s + 1)
    return all_pass_on(makes, beats=beats, limit_s=LIMIT_S, dialogues=pairs)


def still_refused(folder: Path, old: int | None, new: int | None) -> None:
    """A write that was under way when the lock was lost finds a later token there.

    Theirs have no tokens. Where they fence at all, it is by a version that they have read.
    """
    path = folder / "ledger.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(sql.TABLE)
        connection.execute("BEGIN IMMEDIATE")
        Fence("ledger", new, lambda: None).sql(connection)
        connection.execute("COMMIT")
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(StaleToken):
            Fence("ledger", old, lambda: None).sql(connection)
        connection.execute("ROLLBACK")


async def robbed(
    place: Place,
    store: KubernetesStore,
    ttl_s: int,
    break_it: Callable[[Member], None] = lambda theirs: None,
) -> None:
    """Ours lives, renews, and is trusted; theirs takes the lock all the same."""
    theirs = place.theirs("jobs", "theirs")
    with ended(theirs):
        ours = candidate(store, "jobs", "ours_1", plan(ttl_s))
        begun = await ours.until("begun", LIMIT_S)
        theirs.start()
        await asyncio.to_thread(break_it, theirs)
        await asyncio.to_thread(theirs.wait_for, "holding", START_S)
        stopped = await ours.until("stopped", LIMIT_S)
        assert "changed under us" in stopped["cause"], "not for want of renewals"
        print(f"theirs held: {theirs.all('holding')[0]['at']:.3f}; ours heard: {stopped['at']:.3f}")
        theirs.kill()
        again = await ours.until("begun", LIMIT_S, count=2)
        assert again["token"] > begun["token"]
        still_refused(place.folder, begun["token"], again["token"])


async def works_on(
    place: Place,
    store: KubernetesStore,
    theirs: Member,
    called: str,
    meanwhile: Callable[[], None] = lambda: None,
) -> tuple[Recorder, Event]:
    """Theirs is stopped while it works, ours takes over, and theirs goes on with what it was at.

    Args:
        place: where the lock is.
        store: ours.
        theirs: not started yet.
        called: the object of the lock.
        meanwhile: what happens while theirs is stopped.

    Returns:
        Ours, and its event `begun`.
    """
    theirs.start()
    await asyncio.to_thread(theirs.wait_for, "beat", START_S)
    ours = candidate(store, "jobs", "ours_1", plan(place.ttl_s))
    await ours.until("waiting", LIMIT_S, lambda e: e["holder"] == "theirs")
    read = int(place.object(called)["metadata"]["resourceVersion"])
    theirs.pause()
    await asyncio.to_thread(meanwhile)
    begun = await ours.until("begun", LIMIT_S)
    resumed = time.monotonic()
    theirs.resume()
    over = await asyncio.to_thread(theirs.wait_for, "stopped", LIMIT_S)
    late = [e["at"] - resumed for e in theirs.all("beat") if resumed < e["at"] < over["at"]]
    assert late, "it did what it had begun"
    begun["term"].check()
    print(f"{len(late)} beats of theirs under our term, the last {late[-1]:.3f} s after its pause")
    assert begun["token"] > read
    still_refused(place.folder, read, begun["token"])
    return ours, begun
