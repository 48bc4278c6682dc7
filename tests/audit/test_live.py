"""The audit of a real API server: what only a cluster shows, with which rights, no other verb."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import http.client
import json
import re
import secrets
import ssl
import threading
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from incumbent.audit import live
from incumbent.audit.case import Case
from incumbent.audit.finding import Finding, Rule
from incumbent.audit.inventory import Inventory
from incumbent.audit.live import CLUSTER_WIDE, NAMESPACED, SCRIPTS, Seen, read_cluster
from incumbent.audit.objects import Manifest, Object
from incumbent.audit.rules import RULES, judge
from incumbent.audit.source import read_text
from incumbent.errors import ConfigError, PermissionDenied, StoreUnavailable
from incumbent.stores.kubernetes.api import Listing
from incumbent.stores.kubernetes.client import Client
from incumbent.stores.kubernetes.resource import Resource
from tests.audit.kit import EXAMPLES, READ_AT, example
from tests.audit.test_charts import CHARTS
from tests.cli.processes import run
from tests.servers.kubernetes import NOBODY, ApiServer
from tests.servers.kubernetes import Rule as Right

_MERGE = "application/merge-patch+json"
_TIME = re.compile(r"2026-\d\d-\d\dT00:\d\d:\d\d(?:\.\d+)?Z")
_LATER = timedelta(seconds=100)
RESOURCES = {each.kind: each for each in (*NAMESPACED, *SCRIPTS, *CLUSTER_WIDE)}
LIVE = [rule for rule in RULES if rule.live]


class Cluster:
    """Objects of one test on the shared API server, with all that a status says."""

    def __init__(self, server: ApiServer, namespace: str) -> None:
        self.server = server
        self.namespace = namespace
        self.node = f"node-{secrets.token_hex(4)}"
        self._outside: list[str] = []
        self._uids: dict[str, str] = {}

    def apply(self, text: str) -> None:
        """Create what an example has; its times count from now."""
        now = datetime.now(UTC)

        def shifted(match: re.Match[str]) -> str:
            time = now + (datetime.fromisoformat(match.group()) - READ_AT)
            return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

        text = _TIME.sub(shifted, text).replace("node-1", self.node).replace("shop", self.namespace)
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


def findings(seen: Seen, *, later: timedelta = timedelta(0)) -> Iterator[Finding]:
    read_at, unseen = seen.read_at + later, frozenset(seen.unseen)
    return judge(Case(Inventory(seen.manifests), read_at=read_at, unseen=unseen))


def ids(seen: Seen) -> set[str]:
    return {each.rule.id for each in findings(seen)}


@pytest.fixture(scope="module")
def examples(api_server: ApiServer) -> Iterator[tuple[dict[str, Cluster], Seen]]:
    """Each example of a running cluster in a namespace of its own, and all of them read at once."""
    made: dict[str, Cluster] = {}
    for name in (f"{rule.id}-{kind}" for rule in LIVE for kind in ("bad", "good")):
        namespace = f"{name.lower()}-{secrets.token_hex(4)}"
        api_server.create_namespace(namespace)
        made[name] = Cluster(api_server, namespace)
        made[name].apply(example(name))
    yield made, next(iter(made.values())).read("")
    for cluster in made.values():
        cluster.clear()


@pytest.mark.parametrize("kind", ["bad", "good"])
@pytest.mark.parametrize("rule", LIVE, ids=lambda rule: rule.id)
def test_what_only_a_cluster_shows(
    examples: tuple[dict[str, Cluster], Seen], rule: Rule, kind: str
) -> None:
    clusters, seen = examples
    cluster = clusters[f"{rule.id}-{kind}"]
    outside = {"INC106": cluster.node, "INC109": f"incumbent-consent.{cluster.namespace}"}
    # A grace period has to be over, and by more than clocks differ.
    later = _LATER if (rule.id, kind) == ("INC105", "bad") else timedelta(0)
    hits = {
        each.manifest.name if rule.id in outside else each.manifest.namespace
        for each in findings(seen, later=later)
        if each.rule is rule
    }
    wanted = outside.get(rule.id, cluster.namespace)
    assert (wanted in hits) == (kind == "bad")


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


# -- more than one answer -------------------------------------------------------------------------


EVENTS = Resource("", "v1", "events", "Event")
"""The one kind that no API server keeps in memory: a page of it comes from etcd, or not at all."""


def events(cluster: Cluster, count: int) -> list[str]:
    """Make events, and return their names."""
    path = f"/api/v1/namespaces/{cluster.namespace}/events"
    about = {"kind": "Pod", "namespace": cluster.namespace, "name": "a"}
    names = [f"event-{number}" for number in range(count)]
    for name in names:
        cluster.server.request("POST", path, {"metadata": {"name": name}, "involvedObject": about})
    return names


def seen_events(seen: Seen) -> list[str]:
    return [each.name for each in seen.manifests if each.kind == "Event"]


def asked(cluster: Cluster) -> list[str]:
    """Return the queries of the lists of events that the API server has answered, in order."""
    return [
        event["requestURI"].partition("?")[2]
        for event in cluster.server.audit_events()
        if event["verb"] == "list"
        and event["objectRef"]["resource"] == "events"
        and event["objectRef"].get("namespace") == cluster.namespace
    ]


@pytest.fixture
def by_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are read, too, and there are two on a page."""
    monkeypatch.setattr(live, "NAMESPACED", (*live.NAMESPACED, EVENTS))
    monkeypatch.setattr(live, "_PAGE_OBJECTS", 2)


@pytest.mark.usefixtures("by_two")
def test_a_cluster_is_read_page_by_page(cluster: Cluster) -> None:
    names = events(cluster, 5)
    assert seen_events(cluster.read()) == names
    queries = asked(cluster)
    assert [query.startswith("limit=2") for query in queries] == [True] * 3
    assert ["continue=" in query for query in queries] == [False, True, True]


def compacted(server: ApiServer) -> None:
    """Have etcd forget all but the present, as it is told to every few minutes."""

    def ask(what: str, **body: object) -> str:
        url, text = f"{server.etcd.url}/v3/kv/{what}", json.dumps(body).encode()
        with urllib.request.urlopen(url, text, timeout=30) as response:
            revision: str = json.load(response)["header"]["revision"]
        return revision

    ask("compaction", revision=ask("put", key="Y29tcGFjdGVk"), physical=True)


@pytest.mark.usefixtures("by_two")
@pytest.mark.parametrize("times", [1, 3])
def test_a_list_that_the_server_has_forgotten_is_begun_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    names = events(cluster, 3)
    real, late = Client.page, [True] * times

    async def page(client: Client, limit: int, after: str = "") -> tuple[Listing, str]:
        if after and client.resource is EVENTS and late:
            late.pop()
            compacted(cluster.server)
        return await real(client, limit, after)

    monkeypatch.setattr(Client, "page", page)
    if times == 1:
        assert seen_events(cluster.read()) == names
        assert ["continue=" in query for query in asked(cluster)] == [False, True, False, True]
    else:
        with pytest.raises(StoreUnavailable, match="forgot 3 times what it had listed of events"):
            cluster.read()


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
    assert "configmaps may not be listed: {apiGroups: " in done.err
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


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "current-context: a\n"
        "contexts: [{name: a, context: {cluster: a}}]\n"
        "clusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]\n",
        encoding="utf-8",
    )
    done = run("audit", "--cluster", "--kubeconfig", str(config))
    assert done.code == 69
    assert "127.0.0.1:1 cannot be reached" in done.err


# -- the examples ---------------------------------------------------------------------------------

GONE = ("INC039-bad", "INC094-bad")
"""Examples of a version that no API server has any more, and of what none ever takes."""


def objects() -> Iterator[tuple[str, Object]]:
    for path in sorted((*EXAMPLES.iterdir(), *CHARTS.iterdir())):
        for manifest in read_text(path.read_text(encoding="utf-8")).manifests:
            if path.stem not in GONE:
                yield path.stem, manifest.body


def test_the_api_server_takes_every_example(cluster: Cluster) -> None:
    server = cluster.server
    trust = ssl.create_default_context(cafile=str(server.ca_file))
    connection = http.client.HTTPSConnection(server.host, server.port, context=trust, timeout=30)
    refused: list[str] = []
    foreign: set[str] = set()
    for name, body in objects():
        if body["kind"] not in RESOURCES:
            foreign.add(body["kind"])
            continue
        connection.request(*dry_run(cluster, body))
        response = connection.getresponse()
        answer = response.read().decode()
        if response.status != 201:
            refused.append(f"{name}: {json.loads(answer)['message']}")
    connection.close()
    assert not refused, "\n".join(refused)
    assert foreign == {"ScaledObject", "EvictionAutoScaler", "ClusterPolicy", "ServiceAccount"}


def dry_run(cluster: Cluster, body: Object) -> tuple[str, str, str, dict[str, str]]:
    """Return the request that creates an object, and does not."""
    metadata = {key: each for key, each in body["metadata"].items() if key != "deletionTimestamp"}
    if RESOURCES[body["kind"]] not in CLUSTER_WIDE:
        metadata["namespace"] = cluster.namespace
    tried = {**body, "metadata": metadata}
    headers = {
        "Authorization": f"Bearer {cluster.server.token()}",
        "Content-Type": "application/json",
    }
    path = f"{cluster.path(tried)}?dryRun=All&fieldValidation=Strict"
    return "POST", path, json.dumps(tried), headers


TYPES: tuple[tuple[str, Any], ...] = (
    ("metadata.labels.a", True),
    ("spec.replicas", "two"),
    ("spec.replicas", -1),
    ("spec.replicas", True),
    ("spec.replicas", None),
    ("spec.strategy", "Recreate"),
    ("spec.strategy.rollingUpdate.maxSurge", "one"),
    ("spec.strategy.rollingUpdate.maxSurge", "30%"),
    ("spec.strategy.rollingUpdate.maxSurge", 1.5),
    ("spec.template", [1]),
    ("spec.template.metadata.labels.a", 1),
    ("spec.template.metadata.annotations", {"a": None}),
    ("spec.template.spec", [1]),
    ("spec.template.spec.affinity", []),
    ("spec.template.spec.terminationGracePeriodSeconds", "0"),
    ("spec.template.spec.terminationGracePeriodSeconds", 0),
    ("spec.template.spec.tolerations", {"key": "a"}),
    ("spec.template.spec.containers", {"name": "a"}),
    ("spec.template.spec.containers.0.command", "sleep 1"),
    ("spec.template.spec.containers.0.args", [1]),
    ("spec.template.spec.containers.0.env", {"A": "b"}),
    ("spec.template.spec.containers.0.resources", None),
    ("spec.template.spec.containers.0.livenessProbe", "/alive"),
)
"""A path in a Deployment, and what is written there; some of it is well."""


def test_of_a_wrong_type_is_what_the_api_server_refuses(cluster: Cluster) -> None:
    body = read_text(example("INC094-good")).manifests[0].body
    server = cluster.server
    trust = ssl.create_default_context(cafile=str(server.ca_file))
    connection = http.client.HTTPSConnection(server.host, server.port, context=trust, timeout=30)
    told, refused = [], []
    for path, value in TYPES:
        changed = copy.deepcopy(body)
        *steps, last = (int(step) if step.isdecimal() else step for step in path.split("."))
        inner: Any = changed
        for step in steps:
            inner = inner[step] if isinstance(step, int) else inner.setdefault(step, {})
        inner[last] = value
        found = judge(Case(Inventory([Manifest(changed)])))
        if any(each.rule.id == "INC094" for each in found):
            told.append((path, value))
        connection.request(*dry_run(cluster, changed))
        response = connection.getresponse()
        response.read()
        if response.status != 201:
            refused.append((path, value))
    connection.close()
    assert told == refused
    assert 0 < len(told) < len(TYPES)


# -- what shows at the second look only -----------------------------------------------------------

HOLDER = """\
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: %(name)s}
spec:
  selector: {matchLabels: {app: %(name)s}}
  template: {metadata: {labels: {app: %(name)s}}, spec: {containers: [{name: a, image: a}]}}
---
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: %(name)s}
spec: {holderIdentity: %(name)s-0_x, leaseDurationSeconds: 5, renewTime: "2026-01-01T00:10:00Z"}
"""


def test_only_what_is_renewed_is_held_by_a_ghost(cluster: Cluster) -> None:
    cluster.apply(HOLDER % {"name": "ghost"})
    cluster.apply(HOLDER % {"name": "ended"})
    path = cluster.server.lease_path(cluster.namespace, "ghost")
    over = threading.Event()

    def renew() -> None:
        while not over.wait(0.3):
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            spec = {"spec": {"renewTime": now}}
            with contextlib.suppress(OSError):  # A busy machine; the next one follows.
                cluster.server.request("PATCH", path, spec, content_type=_MERGE)

    thread = threading.Thread(target=renew)
    thread.start()
    config = str(cluster.server.kubeconfig())
    done = run("audit", "--cluster", "--kubeconfig", config, "-n", cluster.namespace, "--json")
    over.set()
    thread.join()
    hits = [each for each in done.json["findings"] if each["rule"] == "INC103"]
    assert [each["object"]["name"] for each in hits] == ["ghost"]
