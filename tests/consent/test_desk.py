"""The desk on a real API server: two replicas at once, lost answers, Pods that change meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from incumbent.audit.objects import Object
from incumbent.consent import sight
from incumbent.consent.decision import Rules, Verdict, Why
from incumbent.consent.desk import Desk
from incumbent.manifests import marks
from incumbent.stores.kubernetes.client import Client
from incumbent.stores.kubernetes.config import load
from incumbent.stores.kubernetes.resource import Resource
from tests.consent.kit import OWNER, body, review
from tests.consent.world import World, wait_until
from tests.servers.kubernetes import CANDIDATES, ApiServer, Rule
from tests.servers.proxy import Proxy

LIMIT_S = 10.0
OWNED = {marks.OWNER: OWNER}


def question(world: World, number: int = 1, **options: Any) -> bytes:
    made = review(**options)
    made["request"] |= {"uid": f"question-{number}", "namespace": world.namespace}
    return body(made)


Patch = Callable[[str, Object], Awaitable[Object]]
Around = Callable[[Patch, str, Object], Awaitable[Object]]


class Between(Client):
    """A client at whose writes something happens."""

    around: Around | None = None

    async def patch(self, name: str, change: Object) -> Object:
        if self.around is None:
            return await super().patch(name, change)
        return await self.around(super().patch, name, change)


class Replica(Desk):
    """One replica of the webhook; keeps what it has decided."""

    def __init__(self, client: Client, *, refuse_unseen: bool = False) -> None:
        self.verdicts: list[Verdict] = []
        super().__init__(
            client,
            Rules(),
            refuse_unseen=refuse_unseen,
            now=lambda: datetime.now(UTC),
            heard=lambda _asked, _sight, verdict: self.verdicts.append(verdict),
        )


@asynccontextmanager
async def replica(
    server: ApiServer,
    *,
    url: str | None = None,
    user: str = "admin",
    refuse_unseen: bool = False,
    around: Around | None = None,
) -> AsyncIterator[Replica]:
    kubeconfig = server.kubeconfig(user, url=url)
    client = Between(load(kubeconfig=str(kubeconfig)), "default")
    client.around = around
    try:
        yield Replica(client, refuse_unseen=refuse_unseen)
    finally:
        await client.close()


def run(work: Callable[[Replica], Awaitable[Any]], server: ApiServer, **how: Any) -> Any:
    async def main() -> Any:
        async with replica(server, **how) as made:
            return await work(made)

    return asyncio.run(main())


def ask(server: ApiServer, text: bytes, limit_s: float = LIMIT_S, **how: Any) -> Object:
    async def work(made: Replica) -> Object:
        found: Object = (await made.answer(text, limit_s))["response"]
        return found

    found: Object = run(work, server, **how)
    return found


# -- consent is used by one -----------------------------------------------------------------------


def test_of_many_that_ask_two_replicas_at_once_one_uses_the_consent(
    api_server: ApiServer, world: World
) -> None:
    world.pod(notes=OWNED)

    async def main() -> list[list[bool]]:
        rounds = []
        async with replica(api_server) as one, replica(api_server) as other:
            for round_ in range(5):
                world.patch("reports-0", {"metadata": {"annotations": {marks.CONSENT: "once"}}})
                asked = [
                    each.answer(question(world, 10 * round_ + number), LIMIT_S)
                    for number, each in enumerate((one, other) * 4)
                ]
                answers = await asyncio.gather(*asked)
                rounds.append([answer["response"]["allowed"] for answer in answers])
        return rounds

    rounds = asyncio.run(main())
    assert [found.count(True) for found in rounds] == [1] * 5
    assert marks.CONSENT not in world.notes()
    assert world.labels()[marks.LET_GO] == "true"


def test_until_lets_all_of_them_through(api_server: ApiServer, world: World) -> None:
    world.pod(notes={**OWNED, marks.CONSENT: "until 2999-01-01T00:00:00Z"})
    assert ask(api_server, question(world, 1))["allowed"]
    assert ask(api_server, question(world, 2))["allowed"]


def test_the_first_request_is_recorded_with_who_and_when(
    api_server: ApiServer, world: World
) -> None:
    world.pod(notes=OWNED)
    assert ask(api_server, question(world, 1))["status"]["code"] == 429
    first = world.notes()
    assert first[marks.EVICTION_REQUESTED_BY] == "ann"
    again = ask(api_server, question(world, 2))
    assert world.notes() == first
    assert first[marks.EVICTION_REQUESTED] in again["status"]["message"]


def test_a_dry_run_in_the_evictions_own_options_writes_nothing(
    api_server: ApiServer, world: World
) -> None:
    world.pod(notes={**OWNED, marks.CONSENT: "once"})
    before = world.get()
    assert ask(api_server, question(world, dryRun=["All"]))["allowed"]
    assert ask(api_server, question(world, dry_run=True))["allowed"]
    assert world.get() == before
    world.note(CONSENT=None)
    before = world.get()
    assert ask(api_server, question(world, dryRun=["All"]))["status"]["code"] == 429
    assert world.get() == before


def test_the_next_pod_of_the_same_name_has_no_consent(api_server: ApiServer, world: World) -> None:
    """It is replaced between the look at it and the write."""
    world.pod(notes={**OWNED, marks.CONSENT: "once"})
    replaced: list[Object] = []

    async def late(patch: Patch, name: str, change: Object) -> Object:
        if not replaced:
            world.server.request("DELETE", world.path("reports-0"))
            replaced.append(world.pod(notes=OWNED))
        return await patch(name, change)

    found = ask(api_server, question(world), around=late)
    assert (found["allowed"], found["status"]["code"]) == (False, 429)
    assert marks.LET_GO not in world.labels()
    assert world.get()["metadata"]["uid"] == replaced[0]["metadata"]["uid"]


# -- what nobody knows ----------------------------------------------------------------------------


def test_a_write_whose_answer_is_lost_is_read_back(
    api_server: ApiServer, world: World, api_proxy: Proxy
) -> None:
    world.pod(notes={**OWNED, marks.CONSENT: "once"})
    written: list[str] = []

    async def unheard(patch: Patch, name: str, change: Object) -> Object:
        """The write arrives, and its connection is gone before the answer."""
        api_proxy.drop_replies()
        sent = asyncio.ensure_future(patch(name, change))
        await asyncio.to_thread(wait_until, lambda: marks.LET_GO in world.labels(), "written")
        written.append(name)
        api_proxy.reset()
        api_proxy.heal()
        return await sent

    url = f"https://{api_proxy.address}"
    assert ask(api_server, question(world), url=url, around=unheard)["allowed"]
    assert len(written) == 1
    assert marks.CONSENT not in world.notes()


@pytest.mark.parametrize("refuse_unseen", [False, True])
def test_while_the_api_server_is_away_the_failure_policy_is_the_answer(
    api_server: ApiServer, world: World, api_proxy: Proxy, refuse_unseen: bool
) -> None:
    world.pod(notes=OWNED)
    api_proxy.cut()
    url = f"https://{api_proxy.address}"
    found = ask(api_server, question(world), 0.5, url=url, refuse_unseen=refuse_unseen)
    assert found["allowed"] is not refuse_unseen
    assert found.get("status", {}).get("code", 429) == 429


def test_what_is_known_to_wait_waits_also_if_that_cannot_be_recorded(
    api_server: ApiServer, world: World, api_proxy: Proxy
) -> None:
    """It was seen, so it is not a case for the failure policy, which would let it go."""
    world.pod(notes=OWNED)

    async def cut_off(patch: Patch, name: str, change: Object) -> Object:
        api_proxy.cut()
        return await patch(name, change)

    url = f"https://{api_proxy.address}"
    found = ask(api_server, question(world), 2.0, url=url, around=cut_off)
    assert (found["allowed"], found["status"]["code"]) == (False, 429)
    assert "not recorded" in found["status"]["message"]


def test_a_yes_that_cannot_be_written_down_is_not_yet(
    api_server: ApiServer, world: World, api_proxy: Proxy
) -> None:
    world.pod(notes={**OWNED, marks.CONSENT: "once"})

    async def cut_off(patch: Patch, name: str, change: Object) -> Object:
        api_proxy.cut()
        return await patch(name, change)

    url = f"https://{api_proxy.address}"
    found = ask(api_server, question(world), 2.0, url=url, around=cut_off)
    assert (found["allowed"], found["status"]["code"]) == (False, 429)


def test_a_pod_that_is_not_there_passes(api_server: ApiServer, world: World) -> None:
    assert ask(api_server, question(world), refuse_unseen=True)["allowed"]


def test_what_is_not_served_is_no_pod_that_is_not_there(
    api_server: ApiServer, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.pod(notes=OWNED)
    monkeypatch.setattr(sight, "BUDGETS", Resource("policy", "v1", "nothings", "Nothing"))
    found = ask(api_server, question(world), refuse_unseen=True)
    assert (found["allowed"], found["status"]["code"]) == (False, 429)
    assert "not served" in found["status"]["message"]


def test_what_is_no_question_is_answered_all_the_same(api_server: ApiServer) -> None:
    for text in (b"", b"{}", b"\xff", b"[" * 100_000):
        assert ask(api_server, text)["status"]["code"] == 429


def test_a_trail_that_cannot_be_written_keeps_no_answer_back(
    api_server: ApiServer, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.pod(notes={**OWNED, marks.CONSENT: "once"})

    class Full:
        def append(self, _: Verdict) -> None:
            raise OSError("no space left on device")

    async def work(made: Replica) -> bool:
        made.verdicts = Full()  # type: ignore[assignment]  # a list that is full
        return bool((await made.answer(question(world), LIMIT_S))["response"]["allowed"])

    assert run(work, api_server)
    assert "no space left on device" in caplog.text


# -- rights ---------------------------------------------------------------------------------------


def test_without_the_right_to_write_it_is_asked_for_and_says_which(
    api_server: ApiServer, world: World
) -> None:
    world.pod(notes=OWNED)
    user = CANDIDATES[0]
    reading = Rule(("get", "list"), ("pods",), ("",))
    budgets = Rule(("list",), ("poddisruptionbudgets",), ("policy",))
    above = Rule(("get",), ("statefulsets",), ("apps",))
    api_server.grant(user, [reading, budgets, above], world.namespace)
    found = ask(api_server, question(world), user=user)
    assert found["status"]["code"] == 429
    assert "patch" in found["status"]["message"]


def test_who_could_take_over_is_another_that_is_ready_and_not_to_go_itself(
    api_server: ApiServer, world: World
) -> None:
    labels = {"app": "reports", marks.MODE: "active-standby"}
    active = {**labels, marks.ROLE: "active", "pod-template-hash": "a"}
    world.pod(labels=active, notes=OWNED)

    def why(number: int) -> Why:
        async def work(made: Replica) -> Why:
            await made.answer(question(world, number), LIMIT_S)
            return made.verdicts[-1].why

        found: Why = run(work, api_server)
        return found

    assert why(1) is Why.ASK_OWNER
    world.note(EVICTION_REQUESTED=None, EVICTION_REPEATED=None)
    world.pod("reports-1", {**labels, "pod-template-hash": "b"})
    assert why(2) is Why.HAND_OVER
    now = datetime.now(UTC).isoformat()
    wanted = {"metadata": {"annotations": {marks.EVICTION_REQUESTED: now}}}
    world.patch("reports-1", wanted)
    assert why(3) is Why.ASK_OWNER
    given_up = (datetime.now(UTC) - timedelta(minutes=11)).isoformat()
    wanted["metadata"]["annotations"] = {marks.EVICTION_REQUESTED: given_up}
    world.patch("reports-1", wanted)
    world.note(EVICTION_REQUESTED=None, EVICTION_REPEATED=None)
    assert why(5) is Why.HAND_OVER
    world.patch("reports-0", {"metadata": {"labels": {marks.ROLE: None}}})
    assert why(4) is Why.UNCONCERNED
