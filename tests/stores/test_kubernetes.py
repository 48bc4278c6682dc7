"""The Kubernetes store on a real API server: client-go beside it, and a network that breaks."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from incumbent.core import events as ev
from incumbent.core.records import Claim, Held, Holding, Snapshot
from incumbent.errors import (
    OutcomeUnknown,
    PermissionDenied,
    Refused,
    StoreUnavailable,
    StoreUnusable,
)
from incumbent.stores import http
from incumbent.stores.api import StoreURL
from incumbent.stores.kubernetes import KubernetesStore
from incumbent.stores.kubernetes import open as open_kubernetes
from incumbent.stores.kubernetes.api import Change, Expired, Kind
from incumbent.testing.conformance.kit import Watch
from tests.servers.clientgo import ClientGoCandidate
from tests.servers.kubernetes import ApiServer, Grant, Rule
from tests.servers.process import ChildProcess
from tests.servers.proxy import Proxy
from tests.stores.candidate import candidate, plan

NAME = "jobs"
LEASE = {"lease_duration_s": 3.0, "renew_deadline_s": 2.0, "retry_period_s": 0.5}
ClientGo = Callable[..., ClientGoCandidate]


@contextlib.asynccontextmanager
async def opened(
    server: ApiServer, namespace: str, *, proxy: Proxy | None = None, user: str = "admin"
) -> AsyncIterator[KubernetesStore]:
    url = None if proxy is None else f"https://{proxy.address}"
    kubeconfig = server.kubeconfig(user, url=url, namespace=namespace)
    store = open_kubernetes(StoreURL.parse(f"kubernetes://?kubeconfig={kubeconfig}"))
    assert isinstance(store, KubernetesStore)
    assert store.url == f"kubernetes://{namespace}"
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def claim(identity: str = "a_1", ttl_s: float = 5.0) -> Claim:
    return Claim(identity, f"{identity}/{secrets.token_hex(3)}.1", ttl_s)


def at(version: object) -> Callable[[Snapshot], bool]:
    return lambda snapshot: snapshot.version == version


def under(term: str) -> Callable[[Snapshot], bool]:
    return lambda snapshot: snapshot.term == term


def patch(server: ApiServer, namespace: str, body: dict[str, Any], name: str = NAME) -> None:
    server.request(
        "PATCH",
        server.lease_path(namespace, name),
        body,
        content_type="application/merge-patch+json",
    )


# -- client-go beside us --------------------------------------------------------------------------


def test_we_wait_for_client_go_and_take_over_when_it_was_killed(
    api_server: ApiServer, namespace: str, clientgo_candidate: ClientGo
) -> None:
    async def main() -> None:
        theirs = clientgo_candidate(NAME, "go-1", **LEASE)
        started = await asyncio.to_thread(theirs.wait_for, "started", 20)
        async with opened(api_server, namespace) as store:
            ours = candidate(store, NAME, "ours_1", plan(5))
            with Watch(store, NAME) as watch:
                await ours.until("waiting", 10, lambda e: e["holder"] == "go-1", count=12)
                assert not ours.all("begun")
                await asyncio.to_thread(theirs.kill)
                killed = ours.events[-1]["at"]
                begun = await ours.until("begun", 10)
                last = [s for s in watch.seen if s.holder == "go-1"][-1]
            assert last.ttl_s == 3.0
            waited_s = begun["at"] - killed
            assert 2.0 <= waited_s <= 4.0, "their lease duration counts, and not ours"
            assert begun["token"] > int(started["resource_version"])
            spec = api_server.get_lease(namespace, NAME)["spec"]
            assert (spec["leaseTransitions"], spec["leaseDurationSeconds"]) == (1, 5)

    asyncio.run(main())


def test_we_take_over_at_once_when_client_go_releases(
    api_server: ApiServer, namespace: str, clientgo_candidate: ClientGo
) -> None:
    async def main() -> None:
        theirs = clientgo_candidate(
            NAME, "go-1", lease_duration_s=15.0, release_on_cancel=True, retry_period_s=0.5
        )
        await asyncio.to_thread(theirs.wait_for, "started", 20)
        async with opened(api_server, namespace) as store:
            ours = candidate(store, NAME, "ours_1", plan(15))
            await ours.until("waiting", 10, lambda e: e["holder"] == "go-1")
            theirs.terminate()
            released = await asyncio.to_thread(theirs.wait_for, "released", 10)
            begun = await ours.until("begun", 5)
            assert begun["at"] - released["boottime_ns"] / 1e9 < 1.0

    asyncio.run(main())


def test_client_go_stays_out_while_we_renew_and_takes_over_at_our_release(
    api_server: ApiServer, namespace: str, clientgo_candidate: ClientGo
) -> None:
    async def main() -> None:
        async with opened(api_server, namespace) as store:
            ours = candidate(store, NAME, "ours_1", plan(3))
            await ours.until("begun", 10)
            with Watch(store, NAME) as watch:
                theirs = clientgo_candidate(NAME, "go-1", **LEASE)
                seen = await asyncio.to_thread(theirs.wait_for, "new_leader", 20)
                assert seen["leader"] == "ours_1"
                # Twelve renewals are more than two lease durations of both.
                await watch.until(lambda s: len(watch.seen) > 12, "renewals")
                assert {s.holder for s in watch.seen} == {"ours_1"}
                token = ours.all("begun")[0]["token"]
                assert {s.token for s in watch.seen[3:]} == {token}
            assert not [e for e in theirs.events if e["event"] == "acquired"]
            assert ours.driver is not None
            ours.driver.close()
            closed = await ours.until("closed", 5)
            started = await asyncio.to_thread(theirs.wait_for, "started", 5)
            assert started["boottime_ns"] / 1e9 - closed["at"] < 2.0
            assert int(started["resource_version"]) > token

    asyncio.run(main())


def test_client_go_takes_over_when_we_are_killed(
    api_server: ApiServer, namespace: str, clientgo_candidate: ClientGo, tmp_path: Path
) -> None:
    url = f"kubernetes://{namespace}?kubeconfig={api_server.kubeconfig()}"
    ours = ChildProcess(
        "candidate",
        [sys.executable, "-m", "tests.stores.candidate", url, NAME, "ours_1", "3"],
        log_path=tmp_path / "candidate.log",
        capture_output=True,
        environment={"PYTHONPATH": os.pathsep.join(sys.path)},
        working_dir=Path(__file__).parents[2],
    )
    ours.spawn()
    try:
        with ours.output as output:
            lines = (json.loads(line) for line in output)
            assert next(line for line in lines if line["event"] == "begun")
            theirs = clientgo_candidate(NAME, "go-1", **LEASE)
            theirs.wait_for("new_leader", 20, where=lambda e: e["leader"] == "ours_1")
            ours.kill()
    finally:
        ours.kill()
    started = theirs.wait_for("started", 10)
    spec = api_server.get_lease(namespace, NAME)["spec"]
    assert spec["holderIdentity"] == "go-1"
    assert started["transitions"] == 1


def test_our_work_has_stopped_before_client_go_takes_over_from_a_cut_off_holder(
    api_server: ApiServer, namespace: str, clientgo_candidate: ClientGo, api_proxy: Proxy
) -> None:
    async def main() -> None:
        async with opened(api_server, namespace, proxy=api_proxy) as store:
            ours = candidate(store, NAME, "ours_1", plan(3))
            begun = await ours.until("begun", 10)
            theirs = clientgo_candidate(NAME, "go-1", **LEASE)
            await asyncio.to_thread(theirs.wait_for, "new_leader", 20)
            api_proxy.cut()
            stopped = await ours.until("stopped", 10)
            assert stopped["why"] is ev.Why.LOST
            started = await asyncio.to_thread(theirs.wait_for, "started", 10)
            assert stopped["at"] < started["boottime_ns"] / 1e9
            api_proxy.heal()
            await ours.until("waiting", 20, lambda e: e["holder"] == "go-1")
            assert int(started["resource_version"]) > begun["token"]
            assert api_server.get_lease(namespace, NAME)["spec"]["holderIdentity"] == "go-1"

    asyncio.run(main())


# -- two of ours ----------------------------------------------------------------------------------


def test_a_handover_is_two_writes_and_one_notification(
    api_server: ApiServer, namespace: str
) -> None:
    async def main() -> None:
        async with (
            opened(api_server, namespace) as one,
            opened(api_server, namespace) as two,
        ):
            first = candidate(one, NAME, "a_1", plan(5))
            await first.until("begun", 20)
            second = candidate(two, NAME, "b_2", plan(5))
            await second.until("waiting", 10, lambda e: e["holder"] == "a_1")
            assert first.driver is not None
            before = first.events[-1]["at"]
            first.driver.step_down(to="b_2")
            begun = await second.until("begun", 5)
            asked = first.all("stopped")[0]["at"]
            assert asked >= before
            assert begun["at"] - asked < 1.0
            assert begun["token"] > first.all("begun")[0]["token"]

    asyncio.run(main())


def test_a_lease_deleted_under_its_holder_ends_the_term_and_others_wait(
    api_server: ApiServer, namespace: str
) -> None:
    async def main() -> None:
        async with (
            opened(api_server, namespace) as one,
            opened(api_server, namespace) as two,
        ):
            first = candidate(one, NAME, "a_1", plan(4))
            old = await first.until("begun", 20)
            second = candidate(two, NAME, "b_2", plan(4))
            await second.until("waiting", 10, lambda e: e["holder"] == "a_1")
            api_server.request("DELETE", api_server.lease_path(namespace, NAME))
            gone = await second.until("waiting", 5, lambda e: e["holding"] is Holding.ABSENT)
            stopped = await first.until("stopped", 5)
            assert stopped["why"] is ev.Why.DEPOSED
            assert old["term"].valid_until < stopped["at"]
            assert first.driver is not None
            assert second.driver is not None
            tasks = [
                asyncio.ensure_future(recorder.until("begun", 10, count=count))
                for recorder, count in ((first, 2), (second, 1))
            ]
            done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in rest:
                task.cancel()
            begun = done.pop().result()
            assert begun["at"] - gone["at"] >= 3.9, "a whole TTL is waited out"
            assert begun["token"] > old["token"]
            assert api_server.get_lease(namespace, NAME)["spec"]["leaseTransitions"] == 0

    asyncio.run(main())


def test_a_third_party_renews_nothing_and_loses_nothing(
    api_server: ApiServer, namespace: str
) -> None:
    async def main() -> None:
        async with opened(api_server, namespace) as store:
            held = await store.take(NAME, claim(), await store.read(NAME))
            lease = held.lease
            for number in range(3):
                patch(api_server, namespace, {"metadata": {"annotations": {"n": str(number)}}})
                lease = await store.renew(lease)
            obj = api_server.get_lease(namespace, NAME)
            assert obj["metadata"]["annotations"]["n"] == "2"
            assert obj["metadata"]["annotations"]["incumbent.dev/token"] == str(held.token)
            assert lease.version == obj["metadata"]["resourceVersion"]
            patch(api_server, namespace, {"spec": {"holderIdentity": "go-1"}})
            with pytest.raises(Refused) as refusal:
                await store.renew(lease)
            assert (refusal.value.snapshot.holder, refusal.value.snapshot.term) == ("go-1", "")
            told = await store.release(held, lease, "")
            assert told.holder == "go-1"
            assert api_server.get_lease(namespace, NAME)["spec"]["holderIdentity"] == "go-1"

    asyncio.run(main())


def test_a_record_that_another_process_changed_is_fetched_and_only_its_version_replaced(
    api_server: ApiServer, namespace: str
) -> None:
    async def main() -> None:
        async with opened(api_server, namespace) as one, opened(api_server, namespace) as two:
            held = await one.take(NAME, claim("a_1"), await one.read(NAME))
            # The second store has never seen the object, and gets it at the version asked for.
            taken = await two.take(NAME, claim("b_2"), held.snapshot)
            assert isinstance(taken, Held)
            with pytest.raises(Refused):
                await one.take(NAME, claim("a_1"), held.snapshot)
            assert (await one.read(NAME)).term == taken.term

    asyncio.run(main())


# -- a network that breaks ------------------------------------------------------------------------


def test_a_write_whose_answer_is_lost_is_unknown_and_found_again(
    api_server: ApiServer, namespace: str, api_proxy: Proxy
) -> None:
    async def main() -> None:
        async with opened(api_server, namespace, proxy=api_proxy) as store:
            over = await store.read(NAME)
            mine = claim()
            api_proxy.drop_replies()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await store.take(NAME, mine, over)
            api_proxy.heal()
            found = await store.read_back(NAME, mine)
            assert isinstance(found, Held)
            assert found.token == found.snapshot.serial
            lease = await store.renew(found.lease)

            api_proxy.drop_replies()
            renewing = asyncio.ensure_future(store.renew(lease))
            async with opened(api_server, namespace) as other:
                with Watch(other, NAME) as watch:
                    await watch.until(lambda s: s.serial > int(str(lease.version)), "its effect")
            api_proxy.reset()
            with pytest.raises(OutcomeUnknown):
                await renewing
            api_proxy.heal()
            assert (await store.renew(lease)).version != lease.version

    asyncio.run(main())


def test_what_never_left_did_not_happen(
    api_server: ApiServer, namespace: str, api_proxy: Proxy
) -> None:
    async def main() -> None:
        async with opened(api_server, namespace, proxy=api_proxy) as store:
            over = await store.read(NAME)
            api_proxy.refuse()
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                await store.take(NAME, claim(), over)
            with pytest.raises(StoreUnavailable):
                await store.read(NAME)
            findings = await store.examine()
            assert [(f.check, f.ok) for f in findings] == [("reachable", False)]
            api_proxy.heal()
            await store.take(NAME, claim(), over)

    asyncio.run(main())


def test_a_store_that_was_told_of_a_take_has_a_connection_for_it(
    api_server: ApiServer, namespace: str, api_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of a standby has idled for so long that it would not be used again."""

    async def main() -> None:
        async with opened(api_server, namespace, proxy=api_proxy) as store:
            monkeypatch.setattr(http, "AHEAD_S", http.IDLE_S)
            before = api_proxy.accepted
            await store.connect()
            assert api_proxy.accepted == before + 1
            monkeypatch.undo()
            await store.connect()
            over = await store.read(NAME)
            await store.take(NAME, claim(), over)
            assert api_proxy.accepted == before + 1
            api_proxy.refuse()
            monkeypatch.setattr(http, "AHEAD_S", http.IDLE_S)
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                await store.connect()
            monkeypatch.undo()
            api_proxy.heal()
            await store.read(NAME)

    asyncio.run(main())


def test_cancelled_requests_leave_no_connection_behind(
    api_server: ApiServer, namespace: str, api_proxy: Proxy
) -> None:
    async def main() -> None:
        async with opened(api_server, namespace, proxy=api_proxy) as store:
            held = await store.take(NAME, claim(), await store.read(NAME))
            for _ in range(3):
                api_proxy.cut()
                reads = [asyncio.ensure_future(store.read(NAME)) for _ in range(60)]
                await asyncio.wait(reads, timeout=0.2)
                for read in reads:
                    read.cancel()
                await asyncio.wait(reads)
                api_proxy.heal()
                async with asyncio.timeout(5):
                    results = await asyncio.gather(*(store.read(NAME) for _ in range(40)))
                assert {r.term for r in results} == {held.term}

    asyncio.run(main())


def test_an_untrusted_certificate_is_refused(api_server: ApiServer, tmp_path: Path) -> None:
    async def main() -> None:
        config = yaml.safe_load(api_server.kubeconfig().read_text())
        del config["clusters"][0]["cluster"]["certificate-authority-data"]
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        store = open_kubernetes(StoreURL.parse(f"kubernetes://default?kubeconfig={path}"))
        try:
            with pytest.raises(StoreUnusable, match="certificate"):
                await store.open()
        finally:
            await store.close()

    asyncio.run(main())


# -- watches --------------------------------------------------------------------------------------


def test_a_watch_that_broke_misses_nothing(
    api_server: ApiServer, namespace: str, api_proxy: Proxy
) -> None:
    async def main() -> None:
        async with (
            opened(api_server, namespace) as holder,
            opened(api_server, namespace, proxy=api_proxy) as store,
        ):
            with Watch(store, NAME) as watch:
                await watch.until(lambda s: s.holding is Holding.ABSENT, "the absence")
                held = await holder.take(NAME, claim(), await holder.read(NAME))
                await watch.until(lambda s: s.term == held.term, "the take")
                lease = held.lease
                for _ in range(3):
                    api_proxy.reset()
                    lease = await holder.renew(lease)
                    await watch.until(at(lease.version), "the renewal")
                api_proxy.refuse()
                vacant = await holder.release(held, lease, "")
                api_proxy.heal()
                await watch.until(lambda s: s.version == vacant.version, "the release")
                api_proxy.reset()
                api_server.request("DELETE", api_server.lease_path(namespace, NAME))
                await watch.until(lambda s: s.holding is Holding.ABSENT, "the deletion")

    asyncio.run(main())


def test_a_watch_whose_version_was_forgotten_starts_anew(tmp_path: Path) -> None:
    """etcd is made to forget what is older than a second; without its cache, so does the server."""

    async def forgotten(store: KubernetesStore, version: str) -> None:
        while True:
            async with contextlib.aclosing(store._api.watch(NAME, version, 1.0)) as changes:
                try:
                    async for _ in changes:
                        pass
                except Expired:
                    return

    async def main() -> None:
        async with (
            opened(server, "default") as holder,
            opened(server, "default", proxy=proxy) as store,
        ):
            with Watch(store, NAME) as watch, Watch(store, "other") as other:
                absent = await other.until(lambda s: s.holding is Holding.ABSENT, "the absence")
                assert (await store.read("other")).watched == absent.watched
                held = await holder.take(NAME, claim(), await holder.read(NAME))
                seen = await watch.until(lambda s: s.term == held.term, "the take")
                proxy.refuse()
                lease = await holder.renew(held.lease)
                vacant = await holder.release(held, lease, "")
                async with asyncio.timeout(30):
                    await forgotten(holder, str(seen.version))
                proxy.heal()
                await watch.until(lambda s: s.version == vacant.version, "the release")
                await other.until(lambda s: s.watched != absent.watched, "an absence counted anew")
                with pytest.raises(Refused):
                    await store.take("other", claim(), absent)
                await store.take("other", claim(), other.seen[-1])

    options = ("--etcd-compaction-interval=1s", "--watch-cache=false")
    with (
        ApiServer(tmp_path / "api-server", arguments=options) as server,
        Proxy(server.host, server.port) as proxy,
    ):
        asyncio.run(main())


def test_many_elections_share_one_watch_and_an_idle_standby_asks_for_nothing(
    api_server: ApiServer, namespace: str
) -> None:
    async def main(user: str) -> list[dict[str, Any]]:
        async with (
            opened(api_server, namespace) as holder,
            opened(api_server, namespace, user=user) as store,
        ):
            names = [f"{user}-{number}" for number in range(30)]
            held: dict[str, Held] = {}
            with contextlib.ExitStack() as stack:
                for name in names:
                    held[name] = await holder.take(name, claim(), await holder.read(name))
                watches = [stack.enter_context(Watch(store, name)) for name in names]
                for name, watch in zip(names, watches, strict=True):
                    await watch.until(under(held[name].term), "the holder")
                for name, watch in zip(names, watches, strict=True):
                    lease = await holder.renew(held[name].lease)
                    await watch.until(at(lease.version), "the renewal")
                return requests(user)

    def requests(user: str) -> list[dict[str, Any]]:
        return [
            e
            for e in api_server.audit_events(user)
            if e.get("objectRef", {}).get("resource") == "leases"
            and e["objectRef"].get("namespace") == namespace
            and (e["verb"] != "watch" or e["stage"] == "ResponseStarted")
        ]

    rights = (Rule(("get", "list", "watch")),)
    with granted(api_server, "candidate-4", rights, namespace):
        verbs = [e["verb"] for e in asyncio.run(main("candidate-4"))]
    # The first eight may have begun on their own; thirty renewals were seen without a request.
    assert verbs.count("list") == 1, verbs
    assert verbs.count("watch") <= 9, verbs
    assert verbs.count("get") <= 8, verbs
    named = Rule(("get", "watch"), resource_names=tuple(f"candidate-5-{n}" for n in range(30)))
    with granted(api_server, "candidate-5", (named,), namespace):
        verbs = [e["verb"] for e in asyncio.run(main("candidate-5"))]
    assert 30 <= verbs.count("watch") <= 38, verbs
    assert 30 <= verbs.count("get") <= 38, verbs


def test_without_the_right_to_watch_the_lease_is_read_now_and_then(
    api_server: ApiServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("incumbent.stores.kubernetes.watch.POLL_S", 0.1)

    async def main() -> None:
        async with (
            opened(api_server, namespace) as holder,
            opened(api_server, namespace, user="candidate-3") as store,
        ):
            with Watch(store, NAME) as watch:
                await watch.until(lambda s: len(watch.seen) >= 3, "three reads")
                assert len({s.watched for s in watch.seen}) == 1, "one absence, one version"
                held = await holder.take(NAME, claim(), await holder.read(NAME))
                await watch.until(lambda s: s.term == held.term, "the take")

    with granted(api_server, "candidate-3", (Rule(("get",)),), namespace):
        asyncio.run(main())


# -- rights ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def granted(server: ApiServer, user: str, rules: tuple[Rule, ...], namespace: str) -> Any:
    grant: Grant = server.grant(user, rules, namespace)
    try:
        yield grant
    finally:
        server.revoke(grant)


def test_a_missing_right_is_named_with_the_rule_that_gives_it(
    api_server: ApiServer, namespace: str
) -> None:
    async def main() -> None:
        async with opened(api_server, namespace, user="candidate-1") as store:
            over = await store.read(NAME)
            with pytest.raises(PermissionDenied) as denial:
                await store.take(NAME, claim(), over)
            text = str(denial.value)
            rule = yaml.safe_load(text.partition("the rule that is missing: ")[2])
            assert rule == {
                "apiGroups": ["coordination.k8s.io"],
                "resources": ["leases"],
                "verbs": ["create"],
            }
            async with opened(api_server, namespace) as admin:
                held = await admin.take(NAME, claim("b_1"), await admin.read(NAME))
            with pytest.raises(PermissionDenied) as denial:
                await store.take(NAME, claim(), held.snapshot)
            rule = yaml.safe_load(str(denial.value).partition("the rule that is missing: ")[2])
            assert (rule["verbs"], rule["resourceNames"]) == (["update"], [NAME])
            with pytest.raises(PermissionDenied, match="list"):
                await store.elections()

            findings = {f.check: f for f in await store.examine()}
            assert findings["right to get"].ok is False
            assert findings["right to list"].ok is None
            assert findings["version"].text.startswith("Kubernetes v1.")
            assert yaml.safe_load(findings["right to update"].fix)[0]["verbs"] == ["update"]

    named = Rule(("get", "watch"), resource_names=(NAME,))
    with granted(api_server, "candidate-1", (named,), namespace):
        asyncio.run(main())


def test_the_two_rules_of_the_documentation_are_enough(
    api_server: ApiServer, namespace: str
) -> None:
    async def main() -> None:
        async with opened(api_server, namespace, user="candidate-2") as store:
            ours = candidate(store, NAME, "ours_1", plan(3))
            begun = await ours.until("begun", 10)
            with Watch(store, NAME) as watch:
                await watch.until(lambda s: s.token == begun["token"], "a renewal")
            assert ours.driver is not None
            ours.driver.close()
            await ours.until("closed", 5)
            assert not ours.all("note")

    rules = (Rule(("get", "update", "watch"), resource_names=(NAME,)), Rule(("create",)))
    with granted(api_server, "candidate-2", rules, namespace):
        asyncio.run(main())


def test_a_namespace_that_is_not_there(api_server: ApiServer) -> None:
    async def main() -> None:
        async with opened(api_server, "nowhere") as store:
            with pytest.raises(StoreUnusable, match="nowhere"):
                await store.take(NAME, claim(), await store.read(NAME))
            findings = {f.check: f for f in await store.examine()}
            assert findings["namespace"].ok is False
            assert all(f.ok for f in findings.values() if f.check != "namespace")

    asyncio.run(main())


def test_fresh_reads_are_told_apart_from_a_store_that_went_back() -> None:
    from incumbent.stores.kubernetes.ledger import Ledger

    def lease(version: int) -> dict[str, Any]:
        return {"metadata": {"name": NAME, "resourceVersion": str(version)}, "spec": {}}

    ledger = Ledger()
    asked = ledger.asking(NAME)
    ledger.present(NAME, lease(10))
    late: Snapshot
    late, went_back = ledger.present(NAME, lease(9), asked)
    assert (late.serial, went_back) == (9, False), "asked before 10 was known"
    assert ledger.object_at(NAME, "10") is not None
    assert ledger.asking(NAME).absent_from == 11, "what is gone now went after 10"
    _, went_back = ledger.present(NAME, lease(9), ledger.asking(NAME))
    assert went_back
    assert ledger.object_at(NAME, "9") is not None


# -- what a network in between may do -------------------------------------------------------------


def test_a_write_that_a_proxy_repeats_is_a_success(
    api_server: ApiServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repetition is refused because the first one worked."""

    async def main() -> None:
        async with opened(api_server, namespace) as store:
            for verb in ("create", "replace"):
                real, calls = getattr(store._api, verb), itertools.count()

                async def twice(obj: Any, real: Any = real, calls: Any = calls) -> Any:
                    if next(calls) % 2 == 0:
                        await real(obj)
                    return await real(obj)

                monkeypatch.setattr(store._api, verb, twice)
            for _ in range(2):
                mine = claim()
                held = await store.take(NAME, mine, await store.read(NAME))
                assert held.term == mine.term
                lease = await store.renew(held.lease)
                assert (await store.read(NAME)).token == held.token
                assert (await store.release(held, lease, "")).holding is Holding.VACANT

    asyncio.run(main())


def test_a_watch_that_begins_in_the_past_is_not_believed(
    api_server: ApiServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with opened(api_server, namespace) as store:
            held = await store.take(NAME, claim(), await store.read(NAME))
            old = api_server.get_lease(namespace, NAME)
            lease = await store.renew(held.lease)
            real = store._api.watch

            async def late(name: str, version: str, limit_s: float) -> AsyncIterator[Change]:
                async with contextlib.aclosing(real(name, version, limit_s)) as changes:
                    async for change in changes:
                        yield change
                        if change.kind is Kind.OPENED:
                            yield Change(Kind.ADDED, old)

            monkeypatch.setattr(store._api, "watch", late)
            with Watch(store, NAME) as watch:
                await watch.until(at(lease.version), "the state")
                lease = await store.renew(lease)
                await watch.until(at(lease.version), "the renewal")
            assert [s.serial for s in watch.seen] == sorted({s.serial for s in watch.seen})
            assert old["metadata"]["resourceVersion"] not in {s.version for s in watch.seen}

    asyncio.run(main())
