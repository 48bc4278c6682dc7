"""Camel's ConfigMap: several groups in one object, and other things beside them."""

from __future__ import annotations

import asyncio
import copy
import json
import secrets
from collections.abc import Mapping
from typing import Any

import pytest

from incumbent.core.records import Claim, Held, Holding
from incumbent.errors import ConfigError, Refused
from incumbent.stores.api import StoreURL
from incumbent.stores.kubernetes import open as open_kubernetes
from incumbent.stores.kubernetes.camel_map import GroupFormat, Groups, group_name
from incumbent.stores.kubernetes.formats import ConfigMapFormat
from incumbent.stores.kubernetes.names import Names
from incumbent.stores.kubernetes.resource import CONFIG_MAPS
from incumbent.testing import conformance
from incumbent.testing.conformance.kit import Watch, same
from tests.servers.kubernetes import ApiError, ApiServer
from tests.servers.pods import delete_pod, make_pod
from tests.stores.camel_kit import CLAIM, NOON_S, OTHER, conformance_namespace, opened, refused
from tests.stores.candidate import candidate, plan
from tests.stores.test_conformance import KubernetesHarness

MERGE = "application/merge-patch+json"
MAP = "recipe=camel-configmap"


def patch(server: ApiServer, namespace: str, data: Mapping[str, str | None]) -> None:
    path = f"{CONFIG_MAPS.path(namespace)}/leaders"
    server.request("PATCH", path, {"data": data}, content_type=MERGE)


def of_camel(group: str, pod: str | None) -> dict[str, str | None]:
    """The entries of a group as Camel writes them; without a Pod, as it gives them up."""
    at = None if pod is None else "2026-03-01T12:00:00Z"
    return {f"leader.pod.{group}": pod, f"leader.local.timestamp.{group}": at}


class Harness(KubernetesHarness):
    """All elections are in one ConfigMap, which is written by others as well."""

    options = "&recipe=camel-configmap"

    async def delete(self, name: str) -> bool:
        patch(self._server, self._namespace, {**of_camel(name, None), f"incumbent.{name}": None})
        return True

    async def scribble(self, name: str) -> bool:
        key = f"incumbent.{name}"
        path = f"{CONFIG_MAPS.path(self._namespace)}/leaders"
        told = json.loads(self._server.request("GET", path)["data"][key])
        note = json.dumps({**told, "incumbent.dev/format": "999"})
        patch(self._server, self._namespace, {key: note})
        return True

    async def disturb(self, name: str) -> bool:
        patch(self._server, self._namespace, of_camel("another", f"pod-{secrets.token_hex(4)}"))
        return True


@pytest.fixture(scope="module")
def shared_namespace(api_server: ApiServer) -> str:
    return conformance_namespace(api_server, "camel-map-conformance")


@pytest.mark.parametrize("case", conformance.CASES, ids=str)
def test_it_is_a_store(
    case: conformance.Case, api_server: ApiServer, shared_namespace: str
) -> None:
    conformance.run(case, lambda: Harness(api_server, shared_namespace))


@pytest.fixture
def pods(api_server: ApiServer, namespace: str) -> None:
    for pod in ("pod-0", "pod-1"):
        make_pod(api_server, namespace, pod)


# -- what is written beside a record --------------------------------------------------------------


@pytest.mark.parametrize("options", ["recipe=camel-configmap", "recipe=configmap"])
def test_what_is_written_beside_a_record_is_no_life_of_it_and_no_refusal(
    options: str, api_server: ApiServer, namespace: str, pods: None
) -> None:
    name = "jobs" if "camel" in options else "leaders"

    async def beside() -> None:
        entries = of_camel("another", secrets.token_hex(4))
        await asyncio.to_thread(patch, api_server, namespace, entries)

    async def main() -> None:
        async with (
            opened(api_server, namespace, options) as a,
            opened(api_server, namespace, options) as b,
        ):
            held = await a.take(name, CLAIM, await a.read(name))
            with Watch(b, name) as watch:
                seen = await watch.until(lambda s: s.term == CLAIM.term, "the holder")
                await beside()
                await beside()
                now = await b.read(name)
                assert same(now, seen), "it stood still"
                assert now.serial > seen.serial
                lease = await a.renew(held.lease)
                renewed = await watch.until(lambda s: not same(s, seen), "the renewal")
                told = [s for s in watch.seen if same(s, seen)]
                assert len(told) == 1, "what is beside it is no news"
            await beside()
            taken = await b.take(name, OTHER, renewed)
            assert (taken.snapshot.term, taken.token) == (OTHER.term, taken.snapshot.serial)
            assert held.token is not None
            assert taken.token is not None
            assert taken.token > held.token
            with pytest.raises(Refused):
                await a.renew(lease)
            await beside()
            vacant = await b.release(taken, taken.lease, "")
            assert vacant.holding is Holding.VACANT
            await beside()
            await a.take(name, Claim("pod-0_1f0a", "pod-0_1f0a/9c.2", 5.0), vacant)

    asyncio.run(main())


def test_a_take_that_meets_a_write_beside_it_and_one_of_its_own_record_is_refused(
    api_server: ApiServer, namespace: str, pods: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between what is compared and what is written anything may happen."""

    async def main() -> None:
        async with (
            opened(api_server, namespace, MAP) as a,
            opened(api_server, namespace, MAP) as b,
        ):
            held = await a.take("jobs", CLAIM, await a.read("jobs"))
            seen = await b.read("jobs")
            real, met = b._api.replace, []

            async def late(obj: Any) -> Any:
                met.append(obj)
                if len(met) == 1:
                    patch(api_server, namespace, of_camel("another", "x"))
                elif len(met) == 2:
                    await a.renew(held.lease)
                return await real(obj)

            monkeypatch.setattr(b._api, "replace", late)
            told = await refused(b, OTHER, seen)
            assert (told.term, len(met)) == (CLAIM.term, 2)

    asyncio.run(main())


def test_many_groups_are_held_in_one_map_at_once(
    api_server: ApiServer, namespace: str, pods: None
) -> None:
    """Each renewal finds that others have written; and one watch is enough for all."""
    names = [f"group-{number}" for number in range(12)]

    async def main() -> None:
        async with opened(api_server, namespace, MAP) as store:
            ours = [candidate(store, name, "pod-0_1", plan(6)) for name in names]
            begun = [await one.until("begun", 60) for one in ours]
            assert len({event["token"] for event in begun}) == len(names)
            with Watch(store, names[0]) as watch:
                first = await watch.until(lambda s: s.token == begun[0]["token"], "a renewal")
                await watch.until(lambda s: not same(s, first), "another one")
            assert not [one.events for one in ours if one.all("stopped")]
            assert list(store._watcher._streams) == ["leaders"]
            assert [found.name for found in await store.elections()] == sorted(names)

    asyncio.run(main())


# -- what a missing holder means ------------------------------------------------------------------


def test_a_map_that_is_made_anew_for_another_group_proves_no_death(
    api_server: ApiServer, namespace: str, pods: None
) -> None:
    path = CONFIG_MAPS.path(namespace)

    async def main() -> None:
        async with (
            opened(api_server, namespace, MAP) as a,
            opened(api_server, namespace, MAP) as b,
        ):
            held = await a.take("jobs", CLAIM, await a.read("jobs"))
            newcomer = candidate(b, "jobs", "pod-1_77", plan(14))
            await newcomer.until("waiting", 30, lambda e: e["holder"] == CLAIM.identity)
            await asyncio.to_thread(api_server.request, "DELETE", f"{path}/leaders")
            made = {"metadata": {"name": "leaders"}, "data": of_camel("another", "x")}
            await asyncio.to_thread(api_server.request, "POST", path, made)
            gone = await newcomer.until("waiting", 30, lambda e: e["holding"] is Holding.ABSENT)
            assert gone["until"] - gone["at"] > 7
            with Watch(b, "jobs") as watch:
                seen = await watch.until(lambda s: True, "the absence")
                assert (seen.holding, seen.version) == (Holding.ABSENT, None)
                await asyncio.to_thread(patch, api_server, namespace, of_camel("third", "y"))
                assert same(await b.read("jobs"), seen), "one absence, whatever is beside it"
            assert not newcomer.all("begun")
            with pytest.raises(Refused):
                await a.renew(held.lease)
            taken = await b.take("jobs", OTHER, seen)
            assert held.token is not None
            assert taken.token is not None
            assert taken.token > held.token

    asyncio.run(main())
    data = api_server.request("GET", f"{path}/leaders")["data"]
    assert (data["leader.pod.another"], data["leader.pod.third"]) == ("x", "y")


def test_entries_of_camel_that_are_gone_are_waited_out_if_one_of_ours_was_there(
    api_server: ApiServer, namespace: str, pods: None
) -> None:
    async def main() -> None:
        async with opened(api_server, namespace, MAP) as store:
            held = await store.take("jobs", CLAIM, await store.read("jobs"))
            await asyncio.to_thread(patch, api_server, namespace, of_camel("jobs", None))
            gone = await store.read("jobs")
            assert (gone.holding, gone.ttl_s) == (Holding.ABSENT, 15.0)
            with pytest.raises(Refused):
                await store.renew(held.lease)
            taken = await store.take("jobs", OTHER, gone)
            vacant = await store.release(taken, taken.lease, "")
            assert vacant.holding is Holding.VACANT
            await asyncio.to_thread(patch, api_server, namespace, of_camel("jobs", "theirs"))
            await asyncio.to_thread(patch, api_server, namespace, of_camel("jobs", None))
            assert (await store.read("jobs")).holding is Holding.VACANT, "theirs gave it up"

    asyncio.run(main())


# -- theirs ---------------------------------------------------------------------------------------


def test_from_a_holder_of_theirs_it_is_taken_when_the_pod_is_gone_and_in_two_steps(
    api_server: ApiServer, namespace: str, pods: None
) -> None:
    make_pod(api_server, namespace, "theirs")
    path = CONFIG_MAPS.path(namespace)
    data = {**of_camel("jobs", "theirs"), "settings": "1"}
    api_server.request("POST", path, {"metadata": {"name": "leaders"}, "data": data})

    async def main() -> None:
        async with opened(api_server, namespace, MAP) as store:
            seen = await store.read("jobs")
            assert (seen.holding, seen.holder, seen.term) == (Holding.HELD, "theirs", "")
            assert seen.ttl_s == 15.0
            assert same(await refused(store, CLAIM, seen), seen), "a member, however silent"
            await asyncio.to_thread(delete_pod, api_server, namespace, "theirs")
            await asyncio.to_thread(patch, api_server, namespace, of_camel("another", "x"))
            waited_for = await refused(store, CLAIM, seen)
            assert (waited_for.holder, waited_for.term) == ("pod-0", ""), "nobody's term"
            assert waited_for.ttl_s == 15.0, "for as long as theirs would wait"
            assert same(await refused(store, CLAIM, seen), waited_for)
            held = await store.take("jobs", OTHER, waited_for)
            assert isinstance(held, Held)

    asyncio.run(main())
    data = api_server.request("GET", f"{path}/leaders")["data"]
    assert (data["leader.pod.jobs"], data["leader.pod.another"]) == ("pod-1", "x")
    assert data["settings"] == "1"


# -- what is written ------------------------------------------------------------------------------


def written(obj: dict[str, Any], version: int) -> dict[str, Any]:
    """What the server makes of what was sent."""
    stored = copy.deepcopy(obj)
    stored["metadata"] |= {"resourceVersion": str(version), "uid": "7a"}
    return stored


FORMAT = GroupFormat("jobs", 15.0)
BESIDE = {"leader.pod.mail": "pod-9", "settings": "a: b\n"}


def test_golden_life_of_a_group() -> None:
    created = FORMAT.created("leaders", "apps", CLAIM, NOON_S)
    note = {
        "acquireTime": "2026-03-01T12:00:00.000000Z",
        "incumbent.dev/format": "1",
        "incumbent.dev/term": CLAIM.term,
        "leaseDurationSeconds": 5,
        "leaseTransitions": 0,
        "pod": "pod-0",
        "renewTime": "2026-03-01T12:00:00.000000Z",
        "timestamp": "2026-03-01T12:00:00Z",
    }
    assert created == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "leaders",
            "namespace": "apps",
            "labels": {"provider": "camel", "kind": "locks"},
        },
        "data": {
            "leader.pod.jobs": "pod-0",
            "leader.local.timestamp.jobs": "2026-03-01T12:00:00Z",
            "incumbent.jobs": json.dumps(note),
        },
    }
    held = written(created, 7)
    held["data"] |= BESIDE
    seen = FORMAT.snapshot("jobs", held)
    assert (seen.holder, seen.term, seen.ttl_s) == ("pod-0_1f0a", CLAIM.term, 5.0)
    renewed = written(FORMAT.renewed(held, 7, NOON_S + 2), 8)
    assert renewed["data"]["leader.local.timestamp.jobs"] == "2026-03-01T12:00:00Z"
    later = FORMAT.snapshot("jobs", renewed)
    assert (later.token, later.term) == (7, CLAIM.term)
    assert later.version != seen.version
    released = FORMAT.released(renewed, "pod-1", NOON_S + 4)
    assert released["data"].keys() == {"incumbent.jobs", *BESIDE}
    free = FORMAT.snapshot("jobs", written(released, 9))
    assert (free.holding, free.successor) == (Holding.VACANT, "pod-1")
    taken = FORMAT.taken(written(released, 9), OTHER, NOON_S + 6)
    assert json.loads(taken["data"]["incumbent.jobs"])["leaseTransitions"] == 1
    assert FORMAT.carries(taken, OTHER.term)
    for change in (renewed, released, taken):
        assert {key: change["data"][key] for key in BESIDE} == BESIDE


def test_a_term_counts_only_with_the_pod_and_the_timestamp_that_it_was_written_with() -> None:
    held = written(FORMAT.created("leaders", "apps", CLAIM, NOON_S), 7)
    for changes in (of_camel("jobs", "pod-1"), {"leader.local.timestamp.jobs": "later"}):
        theirs = copy.deepcopy(held)
        theirs["data"] |= changes
        seen = FORMAT.snapshot("jobs", theirs)
        assert (seen.holding, seen.term, seen.ttl_s) == (Holding.HELD, "", 15.0)
        assert not FORMAT.carries(theirs, CLAIM.term)


def test_the_wait_for_a_former_holder_ends_with_any_other_write() -> None:
    theirs = written({"metadata": {"name": "leaders"}, "data": of_camel("jobs", "theirs")}, 7)
    evicted = written(FORMAT.evicted(theirs, CLAIM, NOON_S + 60), 8)
    assert FORMAT.is_evicted(evicted)
    assert not FORMAT.carries(evicted, CLAIM.term)
    evicted["data"] |= of_camel("jobs", "theirs")
    assert not FORMAT.is_evicted(evicted), "Camel leaves our entry alone"


def test_an_entry_that_cannot_be_read_is_left_alone() -> None:
    held = written(FORMAT.created("leaders", "apps", CLAIM, NOON_S), 7)
    held["data"]["incumbent.jobs"] = "moo"
    assert FORMAT.snapshot("jobs", held).holding is Holding.FOREIGN
    del held["data"]["leader.pod.jobs"]
    assert FORMAT.snapshot("jobs", held).holding is Holding.FOREIGN


def test_a_record_of_our_own_and_a_group_in_one_map_do_not_touch_each_other() -> None:
    ours = ConfigMapFormat()
    both = written(ours.created("leaders", "apps", OTHER, NOON_S), 7)
    before = ours.snapshot("leaders", both)
    both = written(FORMAT.taken(both, CLAIM, NOON_S + 1), 8)
    assert ours.snapshot("leaders", both).watched == before.watched
    group = FORMAT.snapshot("jobs", both)
    assert (group.holding, group.term) == (Holding.HELD, CLAIM.term)
    both = written(ours.renewed(both, 7, NOON_S + 2), 9)
    assert FORMAT.snapshot("jobs", both).watched == group.watched
    assert ours.snapshot("leaders", both).watched != before.watched
    anew = copy.deepcopy(both)
    anew["metadata"]["uid"] = "7b"
    assert FORMAT.snapshot("jobs", anew).watched != group.watched, "put back after a deletion"


# -- names and options ----------------------------------------------------------------------------


def test_groups_and_elections() -> None:
    groups = Groups("leaders", Names("Shop_{name}", check=group_name), 15.0)
    assert groups.object_of("jobs") == "leaders"
    held = groups.format_of("jobs").created("leaders", "apps", CLAIM, NOON_S)
    assert "leader.pod.Shop_jobs" in held["data"]
    held["data"] |= {"incumbent.Shop_mail": "{}", "leader.pod.Other": "x", "holderIdentity": "y"}
    assert groups.elections_in(held) == ["jobs", "mail"]
    assert groups.elections_in({**held, "metadata": {"name": "settings"}}) == []
    with pytest.raises(ConfigError, match="choose one by lock="):
        Groups("leaders", Names("my group", check=group_name), 15.0).object_of("jobs")
    with pytest.raises(ConfigError, match="map='My_Map'"):
        open_kubernetes(StoreURL.parse("kubernetes://apps?recipe=camel-configmap&map=My_Map"))


def test_another_map_and_group_are_chosen_by_options(
    api_server: ApiServer, namespace: str, pods: None
) -> None:
    async def main() -> None:
        options = "recipe=camel-configmap&map=shop&lock=Orders"
        async with opened(api_server, namespace, options) as store:
            await store.take("jobs", CLAIM, await store.read("jobs"))
            with pytest.raises(ConfigError, match="one lock"):
                await store.read("mail")
            findings = {finding.check: finding.ok for finding in await store.examine()}
            assert findings["right to list pods"] is True

    asyncio.run(main())
    data = api_server.request("GET", f"{CONFIG_MAPS.path(namespace)}/shop")["data"]
    assert data["leader.pod.Orders"] == "pod-0"
    with pytest.raises(ApiError):
        api_server.request("GET", f"{CONFIG_MAPS.path(namespace)}/leaders")
