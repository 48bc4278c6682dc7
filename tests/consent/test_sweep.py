"""Labels that stay after an eviction that failed, on a real API server."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

import pytest

from incumbent.cli.app import main
from incumbent.consent import desk, server, sweep
from incumbent.consent.decision import Rules
from incumbent.consent.desk import Desk
from incumbent.consent.sweep import STANDS_S, Sweep
from incumbent.errors import PermissionDenied
from incumbent.manifests import marks
from incumbent.stores.kubernetes.client import Client
from incumbent.stores.kubernetes.config import load
from tests.consent.kit import OWNER, body, review
from tests.consent.world import World, wait_until
from tests.servers.kubernetes import ApiServer

T = TypeVar("T")
SINGLE = {"app": "reports", marks.SINGLETON: "true"}
LEFT = {marks.OWNER: OWNER, marks.LET_GO_FOR: "2026-05-04T12:00:00Z question-0"}
UNTIL = {marks.OWNER: OWNER, marks.CONSENT: "until 2999-01-01T00:00:00Z"}


@dataclasses.dataclass
class Place:
    """Some replicas of the sweep in one world, and what time it is for them."""

    world: World
    client: Client
    now_s: float = 1000.0

    def sweep(self, *namespaces: str) -> Sweep:
        return Sweep(self.client, namespaces or [self.world.namespace], lambda: self.now_s)

    async def later(self, after_s: float, *sweeps: Sweep) -> None:
        self.now_s += after_s
        await asyncio.gather(*(each.once() for each in sweeps))

    async def labelled(self, name: str = "reports-0") -> bool:
        return marks.LET_GO in await asyncio.to_thread(self.world.labels, name)

    async def ask(self, number: int) -> bool:
        """Ask a replica of the webhook for an eviction."""
        asked = review()
        asked["request"] |= {"uid": f"question-{number}", "namespace": self.world.namespace}
        replica = Desk(
            self.client,
            Rules(),
            refuse_unseen=True,
            now=lambda: datetime.now(UTC),
            heard=lambda *_: None,
        )
        return bool((await replica.answer(body(asked), 10.0))["response"]["allowed"])


@pytest.fixture
def within(api_server: ApiServer, world: World) -> Callable[[Callable[[Place], Awaitable[T]]], T]:
    def run(work: Callable[[Place], Awaitable[T]]) -> T:
        async def main() -> T:
            client = Client(load(kubeconfig=str(api_server.kubeconfig())), "default")
            try:
                return await work(Place(world, client))
            finally:
                await client.close()

        return asyncio.run(main())

    return run


Within = Callable[[Callable[[Place], Awaitable[None]]], None]


def test_a_label_is_taken_off_when_it_was_seen_to_stand(within: Within, world: World) -> None:
    """Also by another replica than the one that set it, which is gone; the Pod stays."""
    made = world.pod(labels={**SINGLE, marks.LET_GO: "true"}, notes=LEFT)

    async def work(place: Place) -> None:
        one, other = place.sweep(), place.sweep()
        await place.later(0, one, other)
        await place.later(STANDS_S - 1, one, other)
        assert await place.labelled()
        await place.later(1, one, other)
        assert not await place.labelled()

    within(work)
    after = world.get()
    assert after["metadata"]["uid"] == made["metadata"]["uid"]
    assert after["metadata"]["labels"] == SINGLE
    assert after["metadata"]["annotations"] == {marks.OWNER: OWNER}


def test_what_others_wrote_there_by_hand_goes_as_well(within: Within, world: World) -> None:
    world.pod(labels={**SINGLE, marks.LET_GO: "true"}, notes={marks.LET_GO_FOR: "soon"})
    world.pod("reports-1", labels={**SINGLE, marks.LET_GO: "true"})
    world.pod("reports-2", labels={**SINGLE, marks.LET_GO: "no"})

    async def work(place: Place) -> None:
        one = place.sweep()
        await place.later(0, one)
        await place.later(STANDS_S, one)
        found = [await place.labelled(f"reports-{number}") for number in range(3)]
        assert found == [False, False, True]

    within(work)


def test_one_that_was_set_anew_stands_anew(within: Within, world: World) -> None:
    world.pod(notes=UNTIL)

    async def work(place: Place) -> None:
        assert await place.ask(1)
        one = place.sweep()
        await place.later(0, one)
        assert await place.ask(2)
        await place.later(STANDS_S, one)
        assert await place.labelled(), "the second eviction may be on its way"
        await place.later(STANDS_S, one)
        assert not await place.labelled()
        assert await place.ask(3), "who has consent until later gets another yes"
        assert await place.labelled()

    within(work)


@pytest.mark.parametrize("first", ["the yes", "the removal"])
def test_a_yes_and_a_removal_that_meet_leave_the_label(
    first: str, within: Within, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have read the Pod; whoever writes second is refused, and the label is there."""
    world.pod(labels={**SINGLE, marks.LET_GO: "true"}, notes=LEFT | UNTIL)
    module = sweep if first == "the yes" else desk
    write = module.write

    async def work(place: Place) -> None:
        one = place.sweep()
        await place.later(0, one)

        async def between(*told: object) -> None:
            monkeypatch.setattr(module, "write", write)
            if first == "the yes":
                assert await place.ask(1)
            else:
                await place.later(STANDS_S, one)
                assert not await place.labelled()
            await write(*told)

        monkeypatch.setattr(module, "write", between)
        if first == "the yes":
            await place.later(STANDS_S, one)
        else:
            assert await place.ask(1)
        assert await place.labelled()
        assert module.write is write, "they have met"

    within(work)


def test_one_that_ends_is_left_alone(within: Within, world: World) -> None:
    world.pod(labels={**SINGLE, marks.LET_GO: "true"}, notes=LEFT)
    world.patch("reports-0", {"metadata": {"finalizers": ["example.com/waits"]}})
    world.server.request("DELETE", world.path("reports-0"))

    async def work(place: Place) -> None:
        one = place.sweep()
        await place.later(0, one)
        await place.later(STANDS_S, one)
        assert await place.labelled()

    try:
        within(work)
    finally:
        world.patch("reports-0", {"metadata": {"finalizers": None}})


def test_the_webhook_looks_where_it_is_told_from_its_start(
    api_server: ApiServer, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.pod(labels={**SINGLE, marks.LET_GO: "true"}, notes=LEFT)

    async def serve(*_: object) -> None:
        await asyncio.to_thread(wait_until, lambda: marks.LET_GO not in world.labels(), "gone")

    monkeypatch.setattr(server, "serve", serve)
    monkeypatch.setattr(sweep, "STANDS_S", 0.0)
    words = ["consent-webhook", "--tls-cert", "crt", "--tls-key", "key"]
    words += ["--guard", world.namespace, "--kubeconfig", str(api_server.kubeconfig())]
    assert main(words) == 0


def test_what_fails_in_one_namespace_is_said_once_and_keeps_no_other_from_it(
    within: Within, world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.pod(labels={**SINGLE, marks.LET_GO: "true"}, notes=LEFT)
    listed = Client.list

    async def forbidden(self: Client, selector: str = "") -> object:
        if self.namespace == "another":
            raise PermissionDenied("another is forbidden")
        return await listed(self, selector)

    async def work(place: Place) -> None:
        one = place.sweep("another")
        one.heard(world.namespace)
        for _ in range(2):
            await place.later(STANDS_S, one)
        assert not await place.labelled()

    monkeypatch.setattr(Client, "list", forbidden)
    within(work)
    assert caplog.text.count("another is forbidden") == 1
