"""What keeps an operator going: what wakes it, what is due, and that one failure is no other's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from incumbent.core.records import Claim
from incumbent.errors import LeadershipLost
from incumbent.manifests import Object
from incumbent.operator import controller
from incumbent.operator.definition import SINGLETONS
from incumbent.operator.queue import Name, Queue
from incumbent.operator.waking import WATCHED, follow
from incumbent.stores.kubernetes import config
from incumbent.stores.kubernetes.client import Client
from incumbent.stores.kubernetes.resource import LEASES
from incumbent.stores.kubernetes.wire import LEASE
from tests.servers.kubernetes import ApiServer

_A, _B = ("default", "a"), ("default", "b")


def test_each_is_looked_after_once_at_a_time() -> None:
    async def play() -> list[Name]:
        queue = Queue()
        for name in (_A, _B, _A):
            queue.wake(name, 0.0)
        found = [await queue.take()]
        queue.wake(_A, 0.0)
        found.append(await queue.take())
        queue.done(_B, failed=False)
        waiting = asyncio.ensure_future(queue.take())
        await asyncio.sleep(0)
        assert not waiting.done(), "it is being looked after"
        queue.done(_A, failed=False)
        return [*found, await waiting]

    assert asyncio.run(play()) == [_A, _B, _A]


def test_one_that_fails_comes_later_each_time() -> None:
    async def play() -> None:
        queue = Queue()
        now = asyncio.get_running_loop().time

        async def fail(later_s: float) -> None:
            queue.wake(_A, 0.0)
            name = await queue.take()
            before_s = now()
            queue.done(name, failed=True)
            assert before_s + later_s <= queue.due_at(_A) <= now() + later_s

        for later_s in (0.5, 1, 2, 4, 8, 16, 32, 60, 60):
            await fail(later_s)
        queue.wake(_A, 0.0)
        queue.done(await queue.take(), failed=False)
        await fail(0.5)

    asyncio.run(play())


def test_one_that_cannot_be_coped_with_keeps_nobody_else_from_being_looked_after(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken:
        async def reconcile(self, name: Name) -> bool:
            if name == _A:
                raise KeyError("a mistake")
            raise LeadershipLost("the end of the test")

    async def play() -> None:
        queue = Queue()
        queue.wake(_A, 0.0)
        queue.wake(_B, 0.01)
        reconciler: Any = Broken()
        await controller._look_after(queue, reconciler)

    with pytest.raises(LeadershipLost):
        asyncio.run(play())
    assert "a mistake" in caplog.text


def test_a_lease_wakes_when_its_holder_changes_and_not_when_it_is_renewed(
    defined: ApiServer, namespace: str
) -> None:
    path = f"{LEASES.path(namespace)}/reports"
    labels = {"app.kubernetes.io/managed-by": "incumbent", "app.kubernetes.io/name": "reports"}

    def change(how: Any) -> None:
        defined.request("PUT", path, how(defined.request("GET", path)))

    made = {"metadata": {"name": "reports", "namespace": namespace, "labels": labels}}
    defined.request("POST", LEASES.path(namespace), made)
    held: list[tuple[str, bool]] = []
    (leases,) = [of for of in WATCHED if of.plural == "leases"]

    async def play() -> None:
        connection = config.load(kubeconfig=str(defined.kubeconfig()))
        client = Client(connection, namespace, SINGLETONS)
        woken: asyncio.Queue[Name] = asyncio.Queue()

        def note(lease: Object, complete: bool) -> None:
            held.append((str((lease.get("spec") or {}).get("holderIdentity", "")), complete))

        following = asyncio.ensure_future(follow(client, leases, woken.put_nowait, note))
        try:
            assert await woken.get() == (namespace, "reports")
            for how in (
                lambda lease: LEASE.taken(lease, Claim("a", "a/1", 15.0), 5.0),
                lambda lease: LEASE.renewed(lease, None, 10.0),
                lambda lease: LEASE.renewed(lease, 7, 15.0),
                lambda lease: LEASE.renewed(lease, 7, 20.0),
                lambda lease: LEASE.released(lease, "", 25.0),
            ):
                await asyncio.to_thread(change, how)
            for _ in range(3):
                await woken.get()
            await asyncio.to_thread(defined.request, "DELETE", path)
            await woken.get()
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await client.close()

    asyncio.run(play())
    # It was there; taken; its token has come; given up; gone, which nobody can judge.
    assert held == [("", False), ("a", True), ("a", True), ("", True), ("", False)]
