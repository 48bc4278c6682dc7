"""`incumbent assert-death` on a real API server: exactly what was shown is voided, or nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import pytest

from incumbent.cli.app import main
from incumbent.core.records import Claim, Held, Holding, Snapshot
from incumbent.errors import OutcomeUnknown, Refused
from incumbent.stores import open_store
from incumbent.stores.kubernetes import KubernetesStore
from incumbent.stores.kubernetes.client import Client
from incumbent.stores.kubernetes.wire import Object
from tests.cli.processes import Result, run
from tests.servers.kubernetes import ApiServer

T = TypeVar("T")
replace_once = Client.replace


class Place:
    """A namespace, and what is held in it."""

    def __init__(self, server: ApiServer, namespace: str) -> None:
        self.server, self.namespace = server, namespace
        self.url = f"kubernetes://{namespace}?kubeconfig={server.kubeconfig()}"

    def __call__(self, *words: str, more: str = "") -> Result:
        return run("assert-death", *words, "--store", f"{self.url}{more}")

    def hold(self, who: str = "a_1", ttl_s: float = 1.0, attempt: int = 1, more: str = "") -> Held:
        async def work(store: KubernetesStore) -> Held:
            claim = Claim(who, f"{who}/{attempt}", ttl_s)
            held = await store.take("wiki", claim, await store.read("wiki"))
            lease = await store.renew(held.lease)  # With this the record tells the token.
            return replace(held, lease=lease)

        return self.with_store(work, more)

    def read(self) -> Snapshot:
        return self.with_store(lambda store: store.read("wiki"))

    def with_store(self, work: Callable[[KubernetesStore], Awaitable[T]], more: str = "") -> T:
        async def main() -> T:
            store = open_store(f"{self.url}{more}")
            assert isinstance(store, KubernetesStore)
            try:
                await store.open()
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(main())


@pytest.fixture
def place(api_server: ApiServer, namespace: str) -> Place:
    return Place(api_server, namespace)


def test_it_shows_first_and_changes_nothing(place: Place) -> None:
    held = place.hold()
    shown = place("wiki")
    assert shown.code == 0
    assert "outside the promise" in shown.err
    assert "a_1" in shown.err
    assert f"--yes --token {held.token}" in shown.out
    assert place.read().term == held.term
    assert place("wiki", "--json").json["result"] == "shown"


def test_it_voids_what_was_shown(place: Place) -> None:
    held = place.hold()
    done = place("wiki", "--yes", "--token", str(held.token))
    assert done.code == 0, done.err
    after = place.read()
    assert after.holding is Holding.VACANT
    assert (place.hold("b_2").token or 0) > (held.token or 0)


def test_another_term_than_the_one_meant_is_left_alone(place: Place) -> None:
    first = place.hold()
    second = place.hold("b_2")
    done = place("wiki", "--yes", "--token", str(first.token))
    assert done.code == 1
    assert f"under the token {second.token}" in done.err
    assert place.read().term == second.term


def test_a_holder_that_renews_is_left_alone(place: Place) -> None:
    held = place.hold(ttl_s=6.0)
    over = threading.Event()

    async def renewing(store: KubernetesStore) -> None:
        lease = held.lease
        while not over.is_set():
            lease = await store.renew(lease)
            await asyncio.to_thread(over.wait, 0.2)

    thread = threading.Thread(target=place.with_store, args=(renewing,))
    thread.start()
    try:
        done = place("wiki", "--yes")
    finally:
        over.set()
        thread.join()
    assert done.code == 1
    assert "it lives" in done.err
    assert place.read().term == held.term


def test_the_very_version_is_swapped(place: Place) -> None:
    """A renewal between the look and the swap refuses it; so does another term."""

    async def work(store: KubernetesStore) -> None:
        held = await store.take("wiki", Claim("a_1", "a_1/1", 15.0), await store.read("wiki"))
        seen = await store.read("wiki")
        await store.renew(held.lease)
        with pytest.raises(Refused):
            await store.void(seen)
        now = await store.read("wiki")
        assert now.term == held.term
        assert (await store.void(now)).holding is Holding.VACANT
        with pytest.raises(Refused):
            await store.void(await store.read("wiki"))

    place.with_store(work)


def test_a_write_that_a_proxy_repeats_is_a_success(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The repetition is refused because the first one worked."""
    place.hold()
    sent: list[int] = []

    async def twice(self: Client, obj: Object) -> Object:
        sent.append(1)
        await replace_once(self, obj)
        return await replace_once(self, obj)

    monkeypatch.setattr(Client, "replace", twice)
    for more in ("", "&recipe=configmap"):
        if more:
            monkeypatch.setattr(Client, "replace", replace_once)
            place.hold(more=more)
            monkeypatch.setattr(Client, "replace", twice)
        assert main(["assert-death", "wiki", "--yes", "--store", f"{place.url}{more}"]) == 0
        assert "the record of a_1 is void" in capsys.readouterr().out
    assert len(sent) == 2


def test_another_vacancy_is_not_taken_for_ours(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its holder gives it up between the look and the write; then the next one holds."""
    held = place.hold()

    def before_the_write(act: Callable[[], object]) -> None:
        async def late(self: Client, obj: Object) -> Object:
            monkeypatch.setattr(Client, "replace", replace_once)
            await asyncio.to_thread(act)
            return await replace_once(self, obj)

        monkeypatch.setattr(Client, "replace", late)

    def said() -> str:
        assert main(["assert-death", "wiki", "--yes", "--store", place.url]) == 1
        return capsys.readouterr().err

    before_the_write(
        lambda: place.with_store(lambda store: store.release(held, held.lease, "")),
    )
    told = said()
    assert "nothing was changed: meanwhile" in told
    assert "not by this" in told
    place.hold()
    before_the_write(lambda: place.hold("b_2"))
    assert "whether because of this is not known" in said()
    assert place.read().holder == "b_2"


def test_an_answer_that_is_lost_is_not_taken_for_a_refusal(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place.hold()

    async def unheard(self: Client, obj: Object) -> Object:
        await replace_once(self, obj)
        raise OutcomeUnknown("the connection was lost")

    monkeypatch.setattr(Client, "replace", unheard)
    code = main(["assert-death", "wiki", "--yes", "--store", place.url])
    said = capsys.readouterr().err
    assert code != 0
    assert "it is not known whether the record of a_1 was voided (the connection was lost)" in said
    assert "nothing was changed" not in said
    assert place.read().holding is Holding.VACANT


def test_what_it_is_not_for(place: Place) -> None:
    assert place("wiki").code == 1
    assert "has no record" in place("wiki").err
    assert place("wiki", more="&session=1").code == 2
    other = run("assert-death", "wiki", "--store", "memory://x")
    assert other.code == 2
    theirs = place("wiki", "--yes", more="&recipe=clientgo-configmap")
    assert theirs.code == 1
