"""The formats of a record that are no Lease: the store on a real server, and what is written."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from incumbent.core.records import Claim, Holding
from incumbent.errors import ConfigError, PermissionDenied, Refused, StoreUnusable
from incumbent.stores.api import StoreURL
from incumbent.stores.kubernetes import KubernetesStore, formats, wire
from incumbent.stores.kubernetes import open as open_kubernetes
from incumbent.stores.kubernetes.formats import AnnotationFormat, ConfigMapFormat, HeartbeatFormat
from incumbent.stores.kubernetes.names import Names
from incumbent.stores.kubernetes.resource import CONFIG_MAPS, Resource, heartbeats_of
from incumbent.testing import conformance
from incumbent.testing.conformance.kit import Watch
from tests.servers.crds import define
from tests.servers.kubernetes import ApiServer, Rule
from tests.stores.candidate import candidate, plan
from tests.stores.test_conformance import KubernetesHarness

CLAIM = Claim("pod-0_1f0a", "pod-0_1f0a/9c.1", 15.0)
OTHER = Claim("b", "b/1.1", 7.0)
NOON_S = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC).timestamp()
NOON_MS = int(NOON_S * 1000)
LEADER = "control-plane.alpha.kubernetes.io/leader"
PEKKO = heartbeats_of("pekko.apache.org")
RECIPES = {"configmap": CONFIG_MAPS, "clientgo-configmap": CONFIG_MAPS, "pekko": PEKKO}


@contextlib.asynccontextmanager
async def made(
    server: ApiServer, namespace: str, options: str, user: str = "admin"
) -> AsyncIterator[KubernetesStore]:
    kubeconfig = server.kubeconfig(user)
    url = f"kubernetes://{namespace}?kubeconfig={kubeconfig}&{options}"
    store = open_kubernetes(StoreURL.parse(url))
    assert isinstance(store, KubernetesStore)
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def opened(
    server: ApiServer, namespace: str, options: str, user: str = "admin"
) -> AsyncIterator[KubernetesStore]:
    async with made(server, namespace, options, user) as store:
        await store.open()
        yield store


# -- the store ------------------------------------------------------------------------------------


class Harness(KubernetesHarness):
    def __init__(self, server: ApiServer, namespace: str, recipe: str, resource: Resource) -> None:
        super().__init__(server, namespace)
        self.options = f"&recipe={recipe}"
        self._resource = resource

    def _path(self, name: str) -> str:
        return f"{self._resource.path(self._namespace)}/{name}"


@pytest.mark.parametrize("case", conformance.CASES, ids=str)
@pytest.mark.parametrize("recipe", RECIPES)
def test_it_is_a_store(
    recipe: str, case: conformance.Case, api_server: ApiServer, namespace: str
) -> None:
    resource = RECIPES[recipe]
    define(api_server, resource)
    conformance.run(case, lambda: Harness(api_server, namespace, recipe, resource))


def test_many_locks_are_followed_by_one_watch_under_their_own_names(
    api_server: ApiServer, namespace: str
) -> None:
    define(api_server, PEKKO)
    names = [f"job-{number}" for number in range(12)]

    async def main(stack: contextlib.AsyncExitStack) -> None:
        options = "recipe=pekko&lock=My_{name}.lock"
        ours = await stack.enter_async_context(opened(api_server, namespace, options))
        other = await stack.enter_async_context(opened(api_server, namespace, options))
        for name in names[:2]:
            await ours.take(name, CLAIM, await absent(ours, name))
        watches = [Watch(other, name) for name in names]
        for name, watch in zip(names, watches, strict=True):
            with watch:
                seen = await watch.until(lambda snapshot: True, "anything")
                held = name in names[:2]
                assert seen.holding is (Holding.HELD if held else Holding.ABSENT)
        assert [found.name for found in await ours.elections()] == names[:2]

    async def cleaned_up() -> None:
        async with contextlib.AsyncExitStack() as stack:
            await main(stack)

    asyncio.run(cleaned_up())
    path = f"{PEKKO.path(namespace)}/my-job-0-lock"
    assert api_server.request("GET", path)["spec"]["owner"] == CLAIM.identity


async def absent(store: KubernetesStore, name: str) -> Any:
    with Watch(store, name) as watch:
        return await watch.until(lambda snapshot: snapshot.holding is Holding.ABSENT, "the absence")


def test_a_config_map_that_is_no_election_is_left_alone(
    api_server: ApiServer, namespace: str
) -> None:
    path = CONFIG_MAPS.path(namespace)
    api_server.request("POST", path, {"metadata": {"name": "settings"}, "data": {"a": "b"}})

    async def main() -> None:
        async with opened(api_server, namespace, "recipe=configmap") as store:
            seen = await store.read("settings")
            assert seen.holding is Holding.FOREIGN
            with pytest.raises(Refused):
                await store.take("settings", CLAIM, seen)
            assert await store.elections() == []

    asyncio.run(main())
    assert api_server.request("GET", f"{path}/settings")["data"] == {"a": "b"}


def test_an_annotation_that_somebody_removes_is_an_absence_that_is_waited_out(
    api_server: ApiServer, namespace: str
) -> None:
    path = f"{CONFIG_MAPS.path(namespace)}/jobs"

    async def main() -> None:
        async with opened(api_server, namespace, "recipe=clientgo-configmap") as store:
            held = await store.take("jobs", CLAIM, await absent(store, "jobs"))
            patch = {"metadata": {"annotations": {LEADER: None}}, "data": {"kept": "yes"}}
            await asyncio.to_thread(
                api_server.request,
                "PATCH",
                path,
                patch,
                content_type="application/merge-patch+json",
            )
            newcomer = candidate(store, "jobs", "other_1", plan(60))
            waiting = await newcomer.until("waiting", 30)
            assert waiting["holding"] is Holding.ABSENT
            assert waiting["until"] - waiting["at"] > 30
            with pytest.raises(Refused):
                await store.renew(held.lease)
            seen = await store.read("jobs")
            after = await store.take("jobs", OTHER, seen)
            assert held.token is not None
            assert after.token is not None
            assert after.token > held.token
            with pytest.raises(Refused):
                await store.take("jobs", CLAIM, seen)

    asyncio.run(main())
    assert api_server.request("GET", path)["data"] == {"kept": "yes"}


def test_a_resource_that_is_not_defined_is_said_with_its_definition(
    own_api_server: ApiServer,
) -> None:
    async def main() -> None:
        async with made(own_api_server, "default", "recipe=akka") as store:
            with pytest.raises(StoreUnusable, match=r"does not know leases\.akka\.io"):
                await store.open()
            found = {finding.check: finding for finding in await store.examine()}
            assert found["resource"].ok is False
            assert "name: leases.akka.io" in found["resource"].fix
            await asyncio.to_thread(define, own_api_server, heartbeats_of("akka.io"))
            await store.open()
            assert {f.check: f.ok for f in await store.examine()}["resource"] is True

    asyncio.run(main())


def test_rights_are_asked_and_told_for_the_resource(api_server: ApiServer, namespace: str) -> None:
    rule = Rule(("get", "watch"), resources=("configmaps",), api_groups=("",))
    grant = api_server.grant("candidate-3", [rule], namespace)

    async def main() -> None:
        async with opened(api_server, namespace, "recipe=configmap", "candidate-3") as store:
            found = {finding.check: finding for finding in await store.examine()}
            assert found["right to get"].text.startswith("may get configmaps")
            assert found["right to update"].ok is False
            assert found["right to update"].fix == (
                '- {apiGroups: [""], resources: [configmaps], verbs: [update]}'
            )
            with pytest.raises(PermissionDenied, match=r'missing: \{apiGroups: \[""\], resources'):
                await store.take("jobs", CLAIM, await absent(store, "jobs"))

    asyncio.run(main())
    api_server.revoke(grant)


# -- what is written ------------------------------------------------------------------------------


def written(obj: dict[str, Any], version: int) -> dict[str, Any]:
    """What the server makes of what was sent."""
    stored = copy.deepcopy(obj)
    stored["metadata"]["resourceVersion"] = str(version)
    return stored


def annotation(obj: dict[str, Any]) -> Any:
    return json.loads(obj["metadata"]["annotations"][LEADER])


def test_golden_life_of_a_config_map() -> None:
    format = ConfigMapFormat()
    created = format.created("jobs", "apps", CLAIM, NOON_S)
    assert created == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "jobs",
            "namespace": "apps",
            "annotations": {"incumbent.dev/format": "1", "incumbent.dev/term": CLAIM.term},
        },
        "data": {
            "holderIdentity": "pod-0_1f0a",
            "leaseDurationSeconds": "15",
            "acquireTime": "2026-03-01T12:00:00.000000Z",
            "renewTime": "2026-03-01T12:00:00.000000Z",
            "leaseTransitions": "0",
        },
    }
    seen = format.snapshot("jobs", written(created, 7))
    assert (seen.holding, seen.term, seen.ttl_s) == (Holding.HELD, CLAIM.term, 15.0)
    released = format.released(written(created, 7), "pod-1", NOON_S + 1)
    free = format.snapshot("jobs", written(released, 8))
    assert (free.holding, free.successor) == (Holding.VACANT, "pod-1")
    taken = format.taken(written(released, 8), OTHER, NOON_S + 2)
    assert taken["data"]["leaseTransitions"] == "1"
    assert format.carries(taken, OTHER.term)
    assert not format.carries(taken, CLAIM.term)


def test_golden_life_of_an_annotation() -> None:
    format = AnnotationFormat()
    created = format.created("jobs", "apps", CLAIM, NOON_S + 0.75)
    assert created["apiVersion"] == "v1"
    assert annotation(created) == {
        "holderIdentity": "pod-0_1f0a",
        "leaseDurationSeconds": 15,
        "acquireTime": "2026-03-01T12:00:00Z",
        "renewTime": "2026-03-01T12:00:00Z",
        "leaderTransitions": 0,
    }
    renewed = format.renewed(written(created, 7), 7, NOON_S + 0.9)
    assert annotation(renewed)["renewTime"] == "2026-03-01T12:00:01Z", "else it looks the same"
    released = format.released(written(renewed, 8), "", NOON_S + 5)
    assert annotation(released)["holderIdentity"] == ""
    taken = format.taken(written(released, 9), OTHER, NOON_S + 6)
    assert annotation(taken)["leaderTransitions"] == 1


def of_python(holder: str, **more: Any) -> dict[str, Any]:
    """A ConfigMap as the Kubernetes client of Python leaves it after it took over from ours."""
    record = {
        "holderIdentity": holder,
        "leaseDurationSeconds": "15",
        "acquireTime": "2026-03-01 12:00:00.123456",
        "renewTime": "2026-03-01 12:00:00.123456",
        **more,
    }
    notes = {LEADER: json.dumps(record), "incumbent.dev/term": CLAIM.term}
    return written({"metadata": {"name": "jobs", "annotations": notes}}, 9)


def test_what_the_kubernetes_client_of_python_writes_is_read() -> None:
    format = AnnotationFormat()
    seen = format.snapshot("jobs", of_python("pod-9"))
    assert (seen.holding, seen.holder, seen.term) == (Holding.HELD, "pod-9", "")
    assert seen.ttl_s == 15.0
    longer = format.snapshot("jobs", of_python("pod-9", leaseDurationSeconds="15.5"))
    assert longer.ttl_s == 16.0
    why = format.snapshot("jobs", of_python("pod-9", leaseDurationSeconds="soon"))
    assert why.holding is Holding.FOREIGN
    odd = written({"metadata": {"name": "jobs", "annotations": {LEADER: "moo"}}}, 9)
    assert format.snapshot("jobs", odd).holding is Holding.FOREIGN


def test_golden_life_of_a_heartbeat() -> None:
    format = HeartbeatFormat(PEKKO, 96.0)
    created = format.created("jobs", "apps", CLAIM, NOON_S)
    assert created == {
        "apiVersion": "pekko.apache.org/v1",
        "kind": "Lease",
        "metadata": {
            "name": "jobs",
            "namespace": "apps",
            "annotations": {
                "incumbent.dev/format": "1",
                "incumbent.dev/term": CLAIM.term,
                "incumbent.dev/ttl": "15",
            },
        },
        "spec": {"owner": "pod-0_1f0a", "time": NOON_MS},
    }
    assert format.snapshot("jobs", written(created, 7)).ttl_s == 15.0
    released = format.released(written(created, 7), "pod-1", NOON_S + 1)
    assert released["spec"] == {"owner": "", "time": NOON_MS + 1000}
    free = format.snapshot("jobs", written(released, 8))
    assert (free.holding, free.successor) == (Holding.VACANT, "pod-1")


def of_pekko(owner: str, time_ms: int, **notes: str) -> dict[str, Any]:
    marks = {f"incumbent.dev/{key}": value for key, value in notes.items()}
    spec = {"owner": owner, "time": time_ms}
    return written({"metadata": {"name": "jobs", "annotations": marks}, "spec": spec}, 9)


def test_a_lease_of_theirs_is_waited_for_as_long_as_they_would_be() -> None:
    format = HeartbeatFormat(PEKKO, 96.0)
    seen = format.snapshot("jobs", of_pekko("system@host", NOON_MS))
    assert (seen.holding, seen.ttl_s, seen.term) == (Holding.HELD, 96.0, "")
    stale = of_pekko("system@host", NOON_MS, term=CLAIM.term, ttl="15")
    assert format.snapshot("jobs", stale).ttl_s == 96.0, "marks of a term that is over"


def test_a_time_that_was_written_is_never_taken_back_by_its_own_holder() -> None:
    format = HeartbeatFormat(PEKKO, 96.0)
    held = written(format.created("jobs", "apps", CLAIM, NOON_S), 7)
    stepped_back = format.renewed(held, 7, NOON_S - 3600)
    assert stepped_back["spec"]["time"] == NOON_MS + 1


def test_a_takeover_owes_nothing_to_the_clock_of_who_is_gone() -> None:
    format = HeartbeatFormat(PEKKO, 96.0)
    years_ahead = of_pekko("system@host", 2 * NOON_MS)
    assert format.taken(years_ahead, CLAIM, NOON_S)["spec"]["time"] == NOON_MS


def test_a_term_that_a_member_of_theirs_would_cut_short_is_refused(
    api_server: ApiServer, namespace: str
) -> None:
    define(api_server, PEKKO)

    async def main() -> None:
        async with opened(api_server, namespace, "recipe=pekko&takeover_s=10") as store:
            with pytest.raises(StoreUnusable, match="shorten the TTL"):
                await store.take("jobs", CLAIM, await absent(store, "jobs"))
            assert (await store.read("jobs")).holding is Holding.ABSENT

    asyncio.run(main())


@pytest.mark.parametrize(
    "format", [ConfigMapFormat(), AnnotationFormat(), HeartbeatFormat(PEKKO, 96.0)]
)
def test_what_others_put_in_is_kept(format: wire.Format) -> None:
    held = written(format.created("jobs", "apps", CLAIM, NOON_S), 7)
    held["metadata"]["annotations"]["team"] = "blue"
    held["metadata"]["labels"] = {"app": "jobs"}
    held.setdefault("data", {})["other"] = "entry"
    for change in (
        format.renewed(held, 7, NOON_S),
        format.released(held, "", NOON_S),
        format.taken(held, OTHER, NOON_S),
    ):
        assert change["metadata"]["annotations"]["team"] == "blue"
        assert change["metadata"]["labels"] == {"app": "jobs"}
        assert change["data"]["other"] == "entry"
        assert change["metadata"]["resourceVersion"] == "7"


# -- names and options ----------------------------------------------------------------------------


def test_names_have_a_way_back() -> None:
    names = Names("My_System.{name}-Singleton", formats.pekko_text, formats.pekko_name)
    assert names.object_of("jobs") == "my-system-jobs-singleton"
    assert names.election_of("my-system-jobs-singleton") == "jobs"
    assert names.election_of("my-system-singleton") == ""
    with pytest.raises(ConfigError, match="that of another name as well"):
        names.object_of("jobs.nightly")


def test_one_lock_is_one_election() -> None:
    names = Names("Orders Lease", formats.pekko_text, formats.pekko_name)
    assert names.election_of("orderslease") == ""
    assert names.object_of("orders") == "orderslease"
    assert names.election_of("orderslease") == "orders"
    with pytest.raises(ConfigError, match="one lock"):
        names.object_of("jobs")


@pytest.mark.parametrize("name", ["x" * 64, "___"])
def test_a_name_that_their_versions_would_cut_differently_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="choose one by lock="):
        formats.pekko_name(name)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("recipe=pekko&takeover_s=soon", "takeover_s='soon' is not a number"),
        ("recipe=pekko&takeover_s=0", "takeover_s='0' is not a number"),
        ("recipe=configmap&lock=x", "does not know the option 'lock'"),
        ("recipe=configmap&session=1", "does not know the option 'session'"),
        ("recipe=camel", "it knows: akka, camel-configmap, camel-lease, clientgo"),
        ("takeover_s=3", "does not know the option 'takeover_s'"),
    ],
)
def test_options_that_are_none(options: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        open_kubernetes(StoreURL.parse(f"kubernetes://apps?{options}"))
