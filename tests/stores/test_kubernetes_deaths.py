"""Evidence of death: what of a Pod's status proves one, and that nothing else shortens a wait.

The statuses are written to a real API server as kubelets write them. What real kubelets say when
they are restarted, cut off or lose a container is in `tests/cluster`.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from incumbent.core.events import Evidence, Seen
from incumbent.core.records import Held
from incumbent.stores.kubernetes import KubernetesStore, deaths
from incumbent.stores.kubernetes.deaths import WHY, line_of, proof_of_death
from tests.servers.kubernetes import CANDIDATES, ApiServer, Rule
from tests.stores.candidate import candidate, plan
from tests.stores.pods_kit import Pods, taken
from tests.stores.subjects import eventually

UID = "0a0b0c0d-1111-2222-3333-444455556666"
IDENTITY = f"a_{UID}_abc/abc"
OTHER = f"a_{UID}_xyz/xyz"
FAR_S = 5.0
"""Much less than the TTL of 15 s, and much more than news of a Pod takes."""


def ended(
    identity: str = IDENTITY, reason: str = "Error", message: str = "", code: Any = 137
) -> dict[str, Any]:
    """Return how a kubelet reports the end of a container in which a candidate ran."""
    text = message or f"\n{line_of(identity)}\n"
    return {"terminated": {"exitCode": code, "reason": reason, "message": text}}


def pod(**status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "a", "namespace": "shop", "uid": UID},
        "spec": {"containers": [{"name": "main", "terminationMessagePolicy": "File"}]},
        "status": {"containerStatuses": [{"name": "main", **status}]},
    }


def changed(obj: dict[str, Any], *path: Any, to: Any) -> dict[str, Any]:
    made = copy.deepcopy(obj)
    place = made
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return made


DEAD = pod(state=ended())
RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


@pytest.mark.parametrize(
    "obj",
    [
        DEAD,
        pod(state=ended(reason="OOMKilled")),
        pod(state=ended(reason="Completed", message=f"bye\n{line_of(IDENTITY)}\nended")),
        pod(state=RUNNING, lastState=ended()),  # The same Pod has gone on with a new instance.
        pod(state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=ended()),
        pod(state=ended(code=0)),
        pod(state=ended(code=254)),
        pod(state=ended(message=f"{line_of(OTHER)}\n{line_of(IDENTITY)}")),  # Two in one container.
    ],
)
def test_what_proves_a_death(obj: dict[str, Any]) -> None:
    assert WHY in proof_of_death(obj, IDENTITY)


CONTAINER = ("spec", "containers", 0)
SILENCE = {
    "it runs": pod(state=RUNNING),
    "nothing is known": pod(),
    "no container at all": changed(DEAD, "status", to={}),
    "the next instance runs, and the one before was another": pod(
        state=RUNNING, lastState=ended(OTHER)
    ),
    "another process of the same identity": pod(state=ended(f"a_{UID}_abc/xyz")),
    "the report of the one before came late": pod(state=ended(OTHER)),
    "the kubelet lost it": pod(state=ended(reason="ContainerStatusUnknown")),
    "the runtime lost it": pod(state=ended(reason="Unknown")),
    "the runtime killed it, and did not wait": pod(state=ended(code=255)),
    "an exit code that no process has": pod(state=ended(code=-1)),
    "a greater one": pod(state=ended(code=256)),
    "a wait that failed": pod(state=ended(code=4294967295)),
    "no exit code": pod(state=ended(code=None)),
    "an exit code that is no number": pod(state=ended(code="0")),
    "an exit code that is a truth": pod(state=ended(code=True)),
    "a reason that nobody knows": pod(state=ended(reason="Evaporated")),
    "no reason": pod(state=ended(reason="")),
    "another Pod of this name": changed(DEAD, "metadata", "uid", to=UID.replace("0", "1")),
    "another name": changed(DEAD, "metadata", "name", to="b"),
    "part of a line": pod(state=ended(message=f"{line_of(IDENTITY)}x")),
    "within a line": pod(state=ended(message=f"led by {line_of(IDENTITY)}")),
    "its name and no line": pod(state=ended(message=IDENTITY)),
    "the Pod failed": changed(pod(state=RUNNING), "status", "phase", to="Failed"),
    "the Pod is ending": changed(pod(state=RUNNING), "metadata", "deletionTimestamp", to="now"),
    "processes of the node": changed(DEAD, "spec", "hostPID", to=True),
    "processes of the Pod": changed(DEAD, "spec", "shareProcessNamespace", to=True),
    "a runtime of its own": changed(DEAD, "spec", "runtimeClassName", to="kata"),
    "a message from the log": changed(
        DEAD, *CONTAINER, "terminationMessagePolicy", to="FallbackToLogsOnError"
    ),
    "a container that the spec does not have": changed(DEAD, *CONTAINER, "name", to="other"),
}


@pytest.mark.parametrize("what", SILENCE)
def test_everything_else_is_silence(what: str) -> None:
    assert proof_of_death(SILENCE[what], IDENTITY) == ""


@pytest.mark.parametrize(
    "identity",
    ["", "a", "a_abc", f"a_{UID}", "host_1_2"],
    ids=["nothing", "a", "a_abc", "a_UID", "numbers"],
)
def test_an_identity_that_names_no_pod_for_certain_is_never_proven_dead(identity: str) -> None:
    obj = pod(state=ended(identity))
    assert proof_of_death(obj, identity) == ""


# -- on a real API server -------------------------------------------------------------------------


@pytest.fixture
def pods(api_server: ApiServer, namespace: str) -> Pods:
    made = Pods(api_server, namespace)
    for name in ("a", "b"):
        made.make(name)
    return made


@contextlib.asynccontextmanager
async def inside(pods: Pods, name: str, log: Path, **more: str) -> AsyncIterator[KubernetesStore]:
    await asyncio.to_thread(log.touch)
    store = pods.store(name, f"evidence=1&termination_log={log}", **more)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


class Told:
    """Remembers what it is told of one election."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.evidence: list[Evidence] = []

    def __call__(self, event: Seen | Evidence) -> None:
        if isinstance(event, Evidence):
            self.evidence.append(event)
        else:
            self.seen.append(event)


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(60):
            await work()

    asyncio.run(main())


async def until(look: Callable[[], Any]) -> None:
    await asyncio.to_thread(eventually, look)


def test_a_holder_says_who_it_is_before_it_holds(pods: Pods, tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    log.write_text("of the application")

    async def work() -> None:
        async with inside(pods, "a", log) as a:
            held = await taken(a, "wiki", pods.identity("a"))
            assert line_of(pods.candidacy("a")) in log.read_text().splitlines()
            assert log.read_text().startswith("of the application\n")
            size = log.stat().st_size
            await a.release(held, held.lease, "")
            await taken(a, "wiki", pods.identity("a"))
            assert log.stat().st_size == size, "once for each process"

    run(work)


def test_without_a_termination_log_it_holds_all_the_same(
    pods: Pods, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        store = pods.store("a", f"evidence=1&termination_log={tmp_path}/none")
        await store.open()
        try:
            assert (await taken(store, "wiki", pods.identity("a"))).token
        finally:
            await store.close()

    run(work)
    assert "nobody will be told of our death" in caplog.text


async def _dies(pods: Pods, name: str, log: Path) -> Held:
    """Hold, and be killed: the kubelet reports what stands in the log."""
    async with inside(pods, name, log) as store:
        held = await taken(store, "wiki", pods.identity(name))
    return held


def test_a_death_is_reported_to_whoever_follows(pods: Pods, tmp_path: Path) -> None:
    log = tmp_path / "a"

    async def work() -> None:
        held = await _dies(pods, "a", log)
        async with inside(pods, "b", tmp_path / "b") as b:
            assert b.capabilities.evidence == WHY
            first, second = Told(), Told()
            b.follow("wiki", first)
            await until(lambda: first.seen)
            pods.report("a", state=RUNNING)
            pods.report("a", state=ended(message=log.read_text()))
            await until(lambda: first.evidence)
            assert first.evidence[0].lease_key == held.term == first.seen[-1].snapshot.lease_key
            b.follow("wiki", second)
            await until(lambda: second.evidence)
            b.unfollow("wiki", first)
            b.unfollow("wiki", second)

    run(work)


def test_a_standby_takes_over_at_once(pods: Pods, tmp_path: Path) -> None:
    log = tmp_path / "a"

    async def work() -> None:
        await _dies(pods, "a", log)
        async with inside(pods, "b", tmp_path / "b") as b:
            recorder = candidate(b, "wiki", pods.identity("b"), plan(15.0))
            waiting = await recorder.until("waiting", 30.0)
            assert waiting["until"] - waiting["at"] > FAR_S
            pods.report("a", state=ended(message=log.read_text()))
            async with asyncio.timeout(FAR_S):
                await recorder.until("begun", 30.0)
            assert recorder.driver is not None
            recorder.driver.close()
            await recorder.until("closed", 30.0)

    run(work)
    assert "wiki" in pods.server.get_lease(pods.namespace, "wiki")["metadata"]["name"]


def test_two_in_one_pod_are_told_apart(pods: Pods, tmp_path: Path) -> None:
    """The report about the instance before comes late, and its successor holds."""
    first, second = pods.identity("a", "first"), pods.identity("a", "second")

    async def work() -> None:
        async with (
            inside(pods, "a", tmp_path / "a") as a,
            inside(pods, "b", tmp_path / "b") as b,
        ):
            held = await taken(a, "wiki", first)
            await a.release(held, held.lease, "")
            now = await taken(a, "wiki", second)
            told = Told()
            b.follow("wiki", told)
            await until(lambda: told.seen)
            pods.report("a", state=RUNNING, lastState=ended(f"{first}/r"), restartCount=1)
            pods.report("a", state=ended(f"{second}/r", reason="ContainerStatusUnknown"))
            pods.report("a", state=RUNNING, lastState=ended(f"{second}/r"), restartCount=2)
            await until(lambda: told.evidence)
            assert [each.lease_key for each in told.evidence] == [now.term]

    run(work)


def test_evidence_is_about_the_term_that_was_held_then(pods: Pods, tmp_path: Path) -> None:
    """The Pod of the last holder is still watched when another has taken over."""

    async def work() -> None:
        await _dies(pods, "a", tmp_path / "a")
        async with (
            inside(pods, "b", tmp_path / "b") as b,
            inside(pods, "b", tmp_path / "c") as standby,
        ):
            told = Told()
            standby.follow("wiki", told)
            await until(lambda: told.seen)
            held = await taken(b, "wiki", pods.identity("b"))
            await until(lambda: told.seen[-1].snapshot.term == held.term)
            pods.report("a", state=ended(pods.candidacy("a")))
            pods.report("b", state=ended(pods.candidacy("b")))
            await until(lambda: told.evidence)
            assert {each.lease_key for each in told.evidence} == {held.term}
            assert all("'b'" in each.why for each in told.evidence)

    run(work)


def test_a_watch_by_name_is_all_the_right_that_it_takes(pods: Pods, tmp_path: Path) -> None:
    user, log = CANDIDATES[4], tmp_path / "a"
    rules = [
        Rule(("get", "update", "watch", "create")),
        Rule(("watch",), ("pods",), ("",), ("a",)),
    ]
    grant = pods.server.grant(user, rules, pods.namespace)

    async def work() -> None:
        await _dies(pods, "a", log)
        async with inside(pods, "b", tmp_path / "b", user=user) as b:
            told = Told()
            b.follow("wiki", told)
            await until(lambda: told.seen)
            pods.report("a", state=ended(message=log.read_text()))
            await until(lambda: told.evidence)

    run(work)
    pods.server.revoke(grant)


def test_without_the_right_it_is_silence_and_the_log_says_so(
    pods: Pods, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    user = CANDIDATES[0]
    grant = pods.server.grant(user, [Rule(("get", "update", "watch", "create"))], pods.namespace)

    async def work() -> None:
        await _dies(pods, "a", tmp_path / "a")
        pods.report("a", state=ended(pods.candidacy("a")))
        async with inside(pods, "b", tmp_path / "b", user=user) as b:
            told = Told()
            b.follow("wiki", told)
            await until(lambda: "cannot be watched" in caplog.text)
            assert not told.evidence

    run(work)
    assert "verbs: [watch]" in caplog.text
    pods.server.revoke(grant)


def test_a_pod_that_is_gone_is_silence(
    pods: Pods, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ran as far as anybody knows; then it is deleted by force, and another one comes."""
    looked: list[str] = []

    def spied(obj: dict[str, Any], identity: str) -> str:
        looked.append(obj["metadata"]["uid"])
        return proof_of_death(obj, identity)

    monkeypatch.setattr(deaths, "proof_of_death", spied)

    async def work() -> None:
        await _dies(pods, "a", tmp_path / "a")
        dead = pods.candidacy("a")
        pods.report("a", state=RUNNING)
        async with inside(pods, "b", tmp_path / "b") as b:
            told = Told()
            b.follow("wiki", told)
            await until(lambda: pods.uids["a"] in looked)
            pods.server.request("DELETE", f"{pods.path}/a?gracePeriodSeconds=0")
            uid = pods.make("a")
            pods.report("a", state=ended(dead))
            await until(lambda: looked.count(uid) > 1)  # What is gone was seen before.
            assert not told.evidence

    run(work)
