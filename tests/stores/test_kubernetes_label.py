"""The label of the active Pod, on a real API server: one in the end, and no term hangs on it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

import pytest

from incumbent.clock import boottime
from incumbent.core.records import Holding
from incumbent.errors import ConfigError, Refused
from incumbent.stores import open_store
from incumbent.stores.kubernetes import KubernetesStore, label
from incumbent.stores.kubernetes.api import Change
from incumbent.stores.kubernetes.client import Client
from incumbent.stores.kubernetes.config import load
from incumbent.stores.kubernetes.label import RoleLabel
from incumbent.stores.kubernetes.pods import OwnPod
from incumbent.stores.kubernetes.resource import PODS
from incumbent.stores.kubernetes.wire import Object
from tests.servers.kubernetes import CANDIDATES, ApiServer, Rule
from tests.servers.proxy import Proxy
from tests.stores.pods_kit import Pods, taken
from tests.stores.subjects import eventually

LABELLED = "role_label=1"
NAMED = Rule(("get", "update", "watch", "create"))
ON_PODS = Rule(("watch", "patch"), ("pods",), ("",))


@pytest.fixture
def pods(api_server: ApiServer, namespace: str) -> Pods:
    made = Pods(api_server, namespace)
    for name in ("a", "b"):
        made.make(name)
    return made


@contextlib.asynccontextmanager
async def inside(pods: Pods, name: str, **more: str) -> AsyncIterator[KubernetesStore]:
    store = pods.store(name, LABELLED, **more)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def shows(pods: Pods, *wanted: str) -> None:
    await asyncio.to_thread(eventually, lambda: pods.active() == sorted(wanted))


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await work()

    asyncio.run(main())


def test_it_comes_after_the_term_and_goes_before_the_release(pods: Pods) -> None:
    async def work() -> None:
        async with inside(pods, "a") as a:
            assert pods.active() == []
            held = await taken(a, "wiki", pods.identity("a"))
            await shows(pods, "a")
            await a.release(held, held.lease, "")
            assert pods.active() == []
            pod = pods.server.request("GET", f"{pods.path}/a")["metadata"]
            lease = pods.server.get_lease(pods.namespace, "wiki")["metadata"]
            assert int(pod["resourceVersion"]) < int(lease["resourceVersion"])

    run(work)


def test_the_successor_takes_it_off_who_died(pods: Pods) -> None:
    async def work() -> None:
        async with inside(pods, "b") as b:
            b.follow("wiki", lambda event: None)
            async with inside(pods, "a") as a:
                await taken(a, "wiki", pods.identity("a"))
                await shows(pods, "a")
            assert pods.active() == ["a"], "a was killed, as far as the cluster can tell"
            await taken(b, "wiki", pods.identity("b"))
            await shows(pods, "b")

    run(work)


def test_a_late_patch_of_the_last_holder_is_mended(pods: Pods) -> None:
    async def work() -> None:
        async with inside(pods, "b") as b:
            await taken(b, "wiki", pods.identity("b"))
            await shows(pods, "b")
            pods.label("a", f"{pods.namespace}/wiki")
            await shows(pods, "b")

    run(work)


def test_what_somebody_took_off_is_set_again(pods: Pods) -> None:
    async def work() -> None:
        async with inside(pods, "b") as b:
            await taken(b, "wiki", pods.identity("b"))
            await shows(pods, "b")
            pods.change("b", {"metadata": {"labels": {label.ROLE: None}}})
            await shows(pods, "b")

    run(work)


def test_the_active_pod_of_another_election_is_left_alone(pods: Pods) -> None:
    async def work() -> None:
        pods.label("a", f"{pods.namespace}/blog")
        async with inside(pods, "b") as b:
            held = await taken(b, "wiki", pods.identity("b"))
            await shows(pods, "a", "b")
            pods.make("c")
            pods.label("c", f"{pods.namespace}/wiki")
            await shows(pods, "a", "b")  # It has looked: the one of its own election has gone.
            await b.release(held, held.lease, "")
            assert pods.active() == ["a"]

    run(work)


def test_what_a_predecessor_in_the_same_pod_left_goes(pods: Pods) -> None:
    async def work() -> None:
        pods.label("a", f"{pods.namespace}/wiki")
        async with inside(pods, "a") as a:
            a.follow("wiki", lambda event: None)
            await shows(pods)

    run(work)


def test_a_lost_term_takes_its_label_along(pods: Pods) -> None:
    async def work() -> None:
        async with inside(pods, "a") as a:
            held = await taken(a, "wiki", pods.identity("a"))
            await shows(pods, "a")
            plain = open_store(f"kubernetes://{pods.namespace}?kubeconfig={_config(pods)}")
            assert isinstance(plain, KubernetesStore)
            try:
                await taken(plain, "wiki", "elsewhere_1")
            finally:
                await plain.close()
            with pytest.raises(Refused):
                await a.renew(held.lease)
            await shows(pods)

    run(work)


def _config(pods: Pods) -> str:
    return str(pods.server.kubeconfig())


def test_no_term_hangs_on_it(pods: Pods, caplog: pytest.LogCaptureFixture) -> None:
    """Without the right to patch Pods everything goes on, and the log names the missing rule."""
    user = CANDIDATES[1]
    grant = pods.server.grant(user, [NAMED], pods.namespace)

    async def work() -> None:
        async with inside(pods, "a", user=user) as a:
            held = await taken(a, "wiki", pods.identity("a"))
            lease = await a.renew(held.lease)
            after = await a.release(held, lease, "")
            assert after.holding is Holding.VACANT
        assert pods.active() == []

    with caplog.at_level(logging.WARNING):
        run(work)
    assert "verbs: [patch]" in caplog.text
    pods.server.revoke(grant)


def test_two_rights_are_enough(pods: Pods) -> None:
    user = CANDIDATES[2]
    grant = pods.server.grant(user, [NAMED, ON_PODS], pods.namespace)

    async def work() -> None:
        pods.label("b", f"{pods.namespace}/wiki")
        async with inside(pods, "a", user=user) as a:
            held = await taken(a, "wiki", pods.identity("a"))
            await shows(pods, "a")
            await a.release(held, held.lease, "")
            assert pods.active() == []

    run(work)
    asked = {
        event["verb"]
        for event in pods.server.audit_events(user)
        for where in [event.get("objectRef", {})]
        if (where.get("namespace"), where.get("resource")) == (pods.namespace, "pods")
    }
    assert asked == {"watch", "patch"}
    pods.server.revoke(grant)


def test_a_silent_server_delays_no_release(
    pods: Pods, api_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label, "PATIENCE_S", 0.2)

    async def work() -> None:
        config = pods.server.kubeconfig(url=f"https://{api_proxy.address}")
        silent = Client(load(kubeconfig=str(config)), pods.namespace, PODS)
        async with inside(pods, "a") as a:
            own = OwnPod(pods.namespace, "a", pods.uids["a"])
            kept = RoleLabel(silent, own, pods.namespace)
            a.equip(kept, None, silent)
            held = await taken(a, "wiki", pods.identity("a"))
            await shows(pods, "a")
            await asyncio.to_thread(api_proxy.hold_requests)
            async with asyncio.timeout(10):
                after = await a.release(held, held.lease, "")
            assert after.holding is Holding.VACANT
            assert pods.active() == ["a"]
            await asyncio.to_thread(api_proxy.heal)
            await shows(pods)

    run(work)


def test_who_wakes_from_a_pause_mends_nothing(pods: Pods) -> None:
    """Its deadline is over: it neither sets its own again, nor takes that of its successor off."""

    async def work() -> None:
        now = 100.0
        client = Client(load(kubeconfig=_config(pods)), pods.namespace, PODS)
        own = OwnPod(pods.namespace, "a", pods.uids["a"])
        kept = RoleLabel(client, own, pods.namespace, lambda: now)
        try:
            kept.confirmed("wiki", now, 15.0)
            await shows(pods, "a")
            now = 116.0
            pods.label("b", f"{pods.namespace}/wiki")
            pods.change("a", {"metadata": {"labels": {label.ROLE: None}}})
            pods.label("a", f"{pods.namespace}/wiki")
            await shows(pods, "b")  # Its own it takes off.
            kept.confirmed("wiki", now, 15.0)
            await shows(pods, "a")
        finally:
            await kept.close()
            await client.close()

    run(work)


def test_what_nobody_confirmed_for_a_ttl_is_taken_off(pods: Pods) -> None:
    async def work() -> None:
        client = Client(load(kubeconfig=_config(pods)), pods.namespace, PODS)
        kept = RoleLabel(client, OwnPod(pods.namespace, "a", pods.uids["a"]), pods.namespace)
        try:
            kept.confirmed("wiki", boottime(), 2.0)
            await shows(pods, "a")
            await shows(pods)
        finally:
            await kept.close()
            await client.close()

    run(work)


def test_doctor_asks_for_the_rights_to_pods(pods: Pods) -> None:
    user = CANDIDATES[3]
    grant = pods.server.grant(user, [NAMED], pods.namespace)

    async def work() -> None:
        async with inside(pods, "a", user=user) as a:
            found = {one.text: one for one in await a.examine_election("wiki")}
            missing = found[f"may not patch pods in {pods.namespace!r}"]
            assert missing.ok is False
            assert "verbs: [patch]" in missing.fix
            assert found[f"may not watch pods in {pods.namespace!r}"].ok is False

    run(work)
    pods.server.revoke(grant)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("role_label=yes", "neither 0 nor 1"),
        ("role_label=1&session=1", "session=1 has many"),
        ("recipe=pekko&role_label=1", "does not know the option 'role_label'"),
        ("termination_log=/x", "is for evidence=1"),
    ],
)
def test_what_does_not_go_together(options: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        open_store(f"kubernetes://shop?{options}")


def test_two_candidates_in_a_pod_leave_it_in_peace(pods: Pods) -> None:
    """The one that does not hold cannot tell the other's label from a leftover."""

    async def work() -> None:
        async with inside(pods, "a") as standby, inside(pods, "a") as holder:
            standby.follow("wiki", lambda event: None)
            await taken(holder, "wiki", pods.identity("a", "holder"))
            spare = standby._label
            assert spare is not None
            await asyncio.to_thread(eventually, lambda: not spare._owed)
            await shows(pods, "a")
            version = pods.server.request("GET", f"{pods.path}/a")["metadata"]["resourceVersion"]
            pods.label("b", f"{pods.namespace}/wiki")
            await shows(pods, "a")  # Both have looked at what came later.
            pod = pods.server.request("GET", f"{pods.path}/a")["metadata"]
            assert pod["resourceVersion"] == version

    run(work)


class _Slow:
    """The API server, which answers a patch when it is told to."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.applied = asyncio.Event()
        self.answer = asyncio.Event()

    async def patch(self, name: str, change: Object) -> Object:
        answer = await self._client.patch(name, change)
        self.applied.set()
        await self.answer.wait()
        return answer

    def watch(
        self, name: str, version: str, limit_s: float, selector: str = ""
    ) -> AsyncGenerator[Change]:
        return self._client.watch(name, version, limit_s, selector)


def test_a_removal_that_is_heard_of_during_a_set_counts(pods: Pods) -> None:
    async def work() -> None:
        client = Client(load(kubeconfig=_config(pods)), pods.namespace, PODS)
        slow = _Slow(client)
        kept = RoleLabel(slow, OwnPod(pods.namespace, "a", pods.uids["a"]), pods.namespace)
        try:
            kept.confirmed("wiki", boottime(), 60.0)
            await slow.applied.wait()
            await shows(pods, "a")
            pods.change("a", {"metadata": {"labels": {label.ROLE: None}}})
            await asyncio.to_thread(eventually, lambda: kept._unset)
            slow.answer.set()
            await shows(pods, "a")
        finally:
            await kept.close()
            await client.close()

    run(work)
