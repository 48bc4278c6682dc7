"""Camel's Lease: the store on a real server, what is written, and who may take from whom."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from incumbent.core.records import Claim, Holding
from incumbent.errors import StoreUnusable
from incumbent.stores.kubernetes.camel import CamelFormat, camel_name, camel_text
from incumbent.stores.kubernetes.names import Names
from incumbent.testing import conformance
from incumbent.testing.conformance.kit import Watch
from tests.servers.kubernetes import ApiServer
from tests.servers.pods import make_pod, set_ready
from tests.stores.camel_kit import CLAIM, NOON_S, OTHER, conformance_namespace, opened, refused
from tests.stores.test_conformance import KubernetesHarness

NOON = "2026-03-01T12:00:00.000000Z"
LEASE = "recipe=camel-lease"


class Harness(KubernetesHarness):
    options = "&recipe=camel-lease&lock={name}"


@pytest.fixture(scope="module")
def shared_namespace(api_server: ApiServer) -> str:
    return conformance_namespace(api_server, "camel-conformance")


@pytest.mark.parametrize("case", conformance.CASES, ids=str)
def test_it_is_a_store(
    case: conformance.Case, api_server: ApiServer, shared_namespace: str
) -> None:
    conformance.run(case, lambda: Harness(api_server, shared_namespace))


def of_camel(pod: str, at: str = NOON, **spec: Any) -> dict[str, Any]:
    """A Lease as Camel creates it."""
    return {
        "metadata": {"name": "leaders-jobs", "labels": {"provider": "camel"}},
        "spec": {
            "holderIdentity": pod,
            "leaseDurationSeconds": 15,
            "acquireTime": at,
            "renewTime": at,
            **spec,
        },
    }


def test_from_a_holder_of_theirs_it_is_taken_when_the_pod_is_gone_and_in_two_steps(
    api_server: ApiServer, namespace: str
) -> None:
    for pod in ("pod-0", "pod-1", "theirs"):
        make_pod(api_server, namespace, pod)
    path = api_server.lease_path(namespace)
    api_server.request("POST", path, of_camel("theirs"))

    async def main() -> None:
        async with opened(api_server, namespace, LEASE) as store:
            seen = await store.read("jobs")
            assert (seen.holding, seen.holder, seen.ttl_s) == (Holding.HELD, "theirs", 15.0)
            told = await refused(store, CLAIM, seen)
            assert told.watched == seen.watched, "theirs is a member, and nothing was written"
            assert (await store.read("jobs")).version == seen.version
            await asyncio.to_thread(set_ready, api_server, namespace, "theirs", False)
            with pytest.raises(StoreUnusable, match="shorten the TTL"):
                await store.take("jobs", Claim("pod-0", "pod-0/1.1", 16.0), seen)
            waited_for = await refused(store, CLAIM, seen)
            assert (waited_for.holder, waited_for.term) == ("pod-0", ""), "nobody's term"
            assert waited_for.watched != seen.watched, "it has to stand still again"
            assert waited_for.ttl_s == 15.0, "for as long as theirs would wait"
            assert (await refused(store, CLAIM, seen)).watched == waited_for.watched
            held = await store.take("jobs", OTHER, waited_for)
            assert held.snapshot.holder == OTHER.identity
            assert (await refused(store, CLAIM, waited_for)).term == OTHER.term

    asyncio.run(main())
    assert api_server.get_lease(namespace, "leaders-jobs")["spec"]["holderIdentity"] == "pod-1"


def test_what_names_our_pod_without_a_term_is_ours_to_take_in_two_steps(
    api_server: ApiServer, namespace: str
) -> None:
    make_pod(api_server, namespace, "pod-0")
    api_server.request("POST", api_server.lease_path(namespace), of_camel("pod-0"))

    async def main() -> None:
        async with opened(api_server, namespace, LEASE) as store:
            seen = await store.read("jobs")
            waited_for = await refused(store, CLAIM, seen)
            assert waited_for.watched != seen.watched
            assert (await store.take("jobs", CLAIM, waited_for)).term == CLAIM.term

    asyncio.run(main())


def test_who_is_no_member_takes_nothing(api_server: ApiServer, namespace: str) -> None:
    make_pod(api_server, namespace, "pod-0", labels={"app": "other"})
    make_pod(api_server, namespace, "pod-1", labels={"app": "jobs"}, ready=False)
    make_pod(api_server, namespace, "pod-2", labels={"app": "jobs"})

    async def main() -> None:
        async with opened(api_server, namespace, f"{LEASE}&labels=app%3Djobs") as store:
            with Watch(store, "jobs") as watch:
                seen = await watch.until(lambda s: s.holding is Holding.ABSENT, "the absence")
            for claim in (CLAIM, OTHER):
                with pytest.raises(StoreUnusable, match=r"none of the Pods with the labels"):
                    await store.take("jobs", claim, seen)
            with pytest.raises(StoreUnusable, match="shorten the TTL"):
                await store.take("jobs", Claim("pod-2", "pod-2/1.1", 16.0), seen)
            await store.take("jobs", Claim("pod-2", "pod-2/1.1", 15.0), seen)
            findings = {finding.check: finding.ok for finding in await store.examine()}
            assert findings["right to list pods"] is True

    asyncio.run(main())


# -- what is written ------------------------------------------------------------------------------


def written(obj: dict[str, Any], version: int) -> dict[str, Any]:
    """What the server makes of what was sent."""
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(version)}}


FORMAT = CamelFormat(15.0)


def test_golden_life_of_a_lease() -> None:
    created = FORMAT.created("jobs", "apps", CLAIM, NOON_S)
    assert created == {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": "jobs",
            "namespace": "apps",
            "labels": {"provider": "camel"},
            "annotations": {
                "incumbent.dev/format": "1",
                "incumbent.dev/term": CLAIM.term,
                "incumbent.dev/renewed": NOON,
            },
        },
        "spec": {
            "holderIdentity": "pod-0",
            "leaseDurationSeconds": 5,
            "acquireTime": NOON,
            "renewTime": NOON,
            "leaseTransitions": 0,
        },
    }
    seen = FORMAT.snapshot("jobs", written(created, 7))
    assert (seen.holder, seen.term, seen.ttl_s) == ("pod-0_1f0a", CLAIM.term, 5.0)
    renewed = written(FORMAT.renewed(written(created, 7), 7, NOON_S + 2), 8)
    assert FORMAT.snapshot("jobs", renewed).token == 7
    released = FORMAT.released(renewed, "pod-1", NOON_S + 4)
    assert "holderIdentity" not in released["spec"], "of an empty one Camel waits"
    free = FORMAT.snapshot("jobs", written(released, 9))
    assert (free.holding, free.successor) == (Holding.VACANT, "pod-1")
    taken = FORMAT.taken(written(released, 9), OTHER, NOON_S + 6)
    assert (taken["spec"]["holderIdentity"], taken["spec"]["leaseTransitions"]) == ("pod-1", 1)
    assert FORMAT.carries(taken, OTHER.term)


def test_a_term_counts_only_with_what_was_written_with_it() -> None:
    """A member of theirs in a Pod of the same name takes the Lease for its own, and renews it."""
    held = written(FORMAT.created("jobs", "apps", CLAIM, NOON_S), 7)
    held["spec"] = {**held["spec"], "renewTime": "2026-03-01T12:00:10.000000Z"}
    assert not FORMAT.carries(held, CLAIM.term)
    seen = FORMAT.snapshot("jobs", held)
    assert (seen.holding, seen.holder, seen.term) == (Holding.HELD, "pod-0", "")


def test_the_wait_for_a_former_holder_ends_with_any_other_write() -> None:
    evicted = written(FORMAT.evicted(written(of_camel("theirs"), 7), CLAIM, NOON_S + 60), 8)
    assert FORMAT.is_evicted(evicted)
    assert not FORMAT.carries(evicted, CLAIM.term)
    evicted["spec"] = {**evicted["spec"], "holderIdentity": "theirs", "renewTime": NOON}
    assert not FORMAT.is_evicted(evicted), "Camel keeps annotations"


def test_names_are_camels() -> None:
    names = Names("leaders-{name}", camel_text, camel_name)
    assert names.object_of("jobs.nightly") == "leaders-jobs.nightly"
    assert names.election_of("leaders-jobs.nightly") == "jobs.nightly"
    assert Names("Leaders-My Group_", camel_text, camel_name).object_of("jobs") == (
        "leaders-my-group"
    )
