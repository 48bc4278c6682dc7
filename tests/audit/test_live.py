"""The audit of a real API server: what only a cluster shows, with which rights, no other verb."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from incumbent.audit.case import Case
from incumbent.audit.finding import Rule
from incumbent.audit.inventory import Inventory
from incumbent.audit.live import CLUSTER_WIDE, NAMESPACED, Seen, read_cluster
from incumbent.audit.objects import Object
from incumbent.audit.rules import RULES, judge
from incumbent.audit.source import read_text
from incumbent.errors import ConfigError, PermissionDenied
from incumbent.stores.kubernetes.resource import Resource
from tests.audit.kit import EXAMPLES, READ_AT, example
from tests.audit.test_charts import CHARTS
from tests.cli.processes import run
from tests.servers.kubernetes import NOBODY, ApiServer
from tests.servers.kubernetes import Rule as Right

_MERGE = "application/merge-patch+json"
_TIME = re.compile(r"2026-01-01T00:\d\d:\d\d(?:\.\d+)?Z")
_LATER = timedelta(seconds=100)
RESOURCES = {each.kind: each for each in (*NAMESPACED, *CLUSTER_WIDE)}
LIVE = [rule for rule in RULES if rule.live]


class Cluster:
    """Objects of one test on the shared API server, with all that a status says."""

    def __init__(self, server: ApiServer, namespace: str) -> None:
        self.server = server
        self.namespace = namespace
        self._outside: list[str] = []
        self._uids: dict[str, str] = {}

    def apply(self, text: str) -> None:
        """Create what an example has; its times count from now."""
        now = datetime.now(UTC)

        def shifted(match: re.Match[str]) -> str:
            time = now + (datetime.fromisoformat(match.group()) - READ_AT)
            return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

        node = f"node-{secrets.token_hex(4)}"
        text = _TIME.sub(shifted, text).replace("node-1", node).replace("shop", self.namespace)
        for manifest in read_text(text).manifests:
            self._create(json.loads(self._known(json.dumps(manifest.body))))

    def _known(self, text: str) -> str:
        for old, new in self._uids.items():
            text = text.replace(old, new)
        return text

    def _create(self, body: Object) -> None:
        path = self.path(body)
        ends = body["metadata"].pop("deletionTimestamp", None)
        made = self.server.request("POST", path, body)
        if uid := body["metadata"].get("uid"):
            self._uids[uid] = made["metadata"]["uid"]
        path = f"{path}/{made['metadata']['name']}"
        if "namespace" not in made["metadata"] or self.namespace not in path:
            self._outside.append(path)
        if "status" in body:
            status = {"status": body["status"]}
            self.server.request("PATCH", f"{path}/status", status, content_type=_MERGE)
        if ends:
            self.server.request("DELETE", f"{path}?gracePeriodSeconds=1")

    def path(self, body: Object) -> str:
        resource = RESOURCES[body["kind"]]
        if resource in CLUSTER_WIDE:
            return f"{resource.root}/{resource.plural}"
        return resource.path(body["metadata"].get("namespace") or self.namespace)

    def read(self, namespace: str | None = None) -> Seen:
        config = str(self.server.kubeconfig())
        wanted = self.namespace if namespace is None else namespace
        return asyncio.run(read_cluster(kubeconfig=config, namespace=wanted))

    def clear(self) -> None:
        for path in self._outside:
            self.server.request("DELETE", path)


@pytest.fixture
def cluster(api_server: ApiServer, namespace: str) -> Iterator[Cluster]:
    made = Cluster(api_server, namespace)
    yield made
    made.clear()


def ids(seen: Seen, *, later: timedelta = timedelta(0)) -> set[str]:
    case = Case(
        Inventory(seen.manifests), read_at=seen.read_at + later, unseen=frozenset(seen.unseen)
    )
    return {each.rule.id for each in judge(case)}


@pytest.mark.parametrize("rule", LIVE, ids=lambda rule: rule.id)
def test_what_only_a_cluster_shows(cluster: Cluster, rule: Rule) -> None:
    cluster.apply(example(f"{rule.id}-bad"))
    # The Leases of nodes are in a namespace of their own. A grace period has to be over.
    everywhere = "" if rule.id == "INC106" else None
    later = _LATER if rule.id == "INC105" else timedelta(0)
    assert rule.id in ids(cluster.read(everywhere), later=later)


@pytest.mark.parametrize("rule", LIVE, ids=lambda rule: rule.id)
def test_its_neighbour_is_not_found(cluster: Cluster, rule: Rule) -> None:
    cluster.apply(example(f"{rule.id}-good"))
    assert rule.id not in ids(cluster.read())


def test_rules_of_files_judge_a_cluster_too(cluster: Cluster) -> None:
    cluster.apply(example("INC011-bad"))
    found = ids(cluster.read())
    assert {"INC011", "INC013", "INC031", "INC081"} <= found
    assert "INC008" not in found


def test_what_a_controller_made_is_no_workload(cluster: Cluster) -> None:
    cluster.apply(example("INC102-good"))
    seen = cluster.read()
    assert [str(each) for each in Inventory(seen.manifests).workloads] == ["Deployment poller"]
    assert "INC006" not in ids(seen)


# -- rights ---------------------------------------------------------------------------------------


def rights(*resources: Resource) -> list[Right]:
    return [Right(("list",), (each.plural,), (each.group,)) for each in resources]


def test_a_role_of_the_namespace_is_enough(cluster: Cluster) -> None:
    server, namespace = cluster.server, cluster.namespace
    cluster.apply(example("INC101-bad"))
    grant = server.grant(NOBODY, rights(*NAMESPACED), namespace)
    before = len(server.audit_events(NOBODY))
    config = str(server.kubeconfig(NOBODY))
    done = run("audit", "--cluster", "--kubeconfig", config, "-n", namespace, "--json")
    server.revoke(grant)
    assert done.code == 1
    found = {each["rule"]: each for each in done.json["findings"]}
    assert found["INC101"]["object"]["namespace"] == namespace
    # What may not be seen is said, and not taken for missing.
    assert "INC081" not in found
    assert "validatingadmissionpolicies may not be listed: {apiGroups: " in done.err
    verbs = {event["verb"] for event in server.audit_events(NOBODY)[before:]}
    assert verbs <= {"list", "get"}


def test_every_missing_right_is_named(cluster: Cluster) -> None:
    server, namespace = cluster.server, cluster.namespace
    grant = server.grant(NOBODY, rights(*NAMESPACED[:-2]), namespace)
    config = str(server.kubeconfig(NOBODY))
    with pytest.raises(PermissionDenied) as denied:
        asyncio.run(read_cluster(kubeconfig=config, namespace=namespace))
    done = run("audit", "--cluster", "--kubeconfig", config, "-n", namespace)
    server.revoke(grant)
    for missing in ("rolebindings", "leases"):
        assert f"resources: [{missing}], verbs: [list]" in str(denied.value)
    assert "resources: [pods]" not in str(denied.value)
    assert done.code == 77
    assert "resources: [leases]" in done.err


def test_a_namespace_that_is_not_there(cluster: Cluster) -> None:
    with pytest.raises(ConfigError, match="there is no namespace 'nowhere'"):
        cluster.read("nowhere")


def test_no_api_server() -> None:
    done = run("audit", "--cluster", "--kubeconfig", "/not/there")
    assert done.code == 2
    assert "cannot read /not/there" in done.err


# -- the examples ---------------------------------------------------------------------------------

GONE = "INC039-bad"
"""An example of a version that no API server has any more."""


def objects() -> Iterator[tuple[str, Object]]:
    for path in sorted((*EXAMPLES.iterdir(), *CHARTS.iterdir())):
        for manifest in read_text(path.read_text(encoding="utf-8")).manifests:
            if path.stem != GONE:
                yield path.stem, manifest.body


def test_the_api_server_takes_every_example(cluster: Cluster) -> None:
    refused: list[str] = []
    foreign: set[str] = set()
    for name, body in objects():
        refused += _dry_run(cluster, name, body, foreign)
    assert not refused, "\n".join(refused)
    assert foreign == {"ScaledObject", "EvictionAutoScaler", "ClusterPolicy"}


def _dry_run(cluster: Cluster, name: str, body: dict[str, Any], foreign: set[str]) -> list[str]:
    if body["kind"] == "ServiceAccount":
        return []
    if body["kind"] not in RESOURCES:
        foreign.add(body["kind"])
        return []
    inside = RESOURCES[body["kind"]] in NAMESPACED
    metadata = {key: each for key, each in body["metadata"].items() if key != "deletionTimestamp"}
    if inside:
        metadata["namespace"] = cluster.namespace
    tried = {**body, "metadata": metadata}
    path = f"{cluster.path(tried)}?dryRun=All&fieldValidation=Strict"
    try:
        cluster.server.request("POST", path, tried)
    except RuntimeError as error:
        return [f"{name}: {body['kind']}: {error}"]
    return []
