"""`incumbent status --cluster` on a real API server, and what `kubectl get lease` says."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from incumbent.core.records import Claim, Held
from incumbent.stores import open_store
from incumbent.stores.api import Store
from incumbent.stores.kubernetes.pods import pod_in
from incumbent.stores.kubernetes.survey import SLACK_S, _Record
from incumbent.stores.kubernetes.wire import LEASE
from tests.cli.processes import Result, environment, run
from tests.servers.kubernetes import CANDIDATES, ApiServer, Rule

LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"
LISTS = (
    Rule(("list",)),
    Rule(("list",), ("pods", "configmaps"), ("",)),
    Rule(("list",), ("endpointslices",), ("discovery.k8s.io",)),
)


class Shop:
    """A namespace with elections, and the Pods of one Deployment."""

    def __init__(self, server: ApiServer, namespace: str) -> None:
        self.server, self.namespace = server, namespace
        self.kubeconfig = str(server.kubeconfig(namespace=namespace))

    def pod(self, name: str, phase: str = "Running", owner: str = "owner-1") -> str:
        """Make a Pod, and return its UID."""
        pods = f"/api/v1/namespaces/{self.namespace}/pods"
        owners = [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop", "uid": owner}]
        made = self.server.request(
            "POST",
            pods,
            {
                "metadata": {"name": name, "ownerReferences": [{**owners[0], "controller": True}]},
                "spec": {
                    "nodeName": f"node-of-{name}",
                    "automountServiceAccountToken": False,
                    "containers": [{"name": "main", "image": "none"}],
                },
            },
        )
        self.server.request(
            "PATCH",
            f"{pods}/{name}/status",
            {"status": {"phase": phase}},
            content_type="application/merge-patch+json",
        )
        return str(made["metadata"]["uid"])

    def take(self, name: str, identity: str, query: str = "", *, release: bool = False) -> Held:
        """Hold an election, and leave it at that, or give it up."""
        url = f"kubernetes://{self.namespace}?kubeconfig={self.kubeconfig}{query}"

        async def main() -> Held:
            store: Store = open_store(url)
            await store.open()
            try:
                session = None
                if store.capabilities.sessions:
                    session = await store.open_session(identity, 30.0)
                claim = Claim(identity, f"{identity}/1", 30.0, session)
                held = await store.take(name, claim, await store.read(name))
                await store.renew(held.lease)
                if release:
                    await store.release(held, held.lease, "")
                return held
            finally:
                await store.close()

        return asyncio.run(main())

    def note(self, name: str) -> None:
        """Leave a checkpoint."""
        url = f"kubernetes://{self.namespace}?kubeconfig={self.kubeconfig}"

        async def main() -> None:
            store: Store = open_store(url)
            await store.open()
            try:
                await store.advance(await store.checkpoint(name, "part"), b"x", 1)
            finally:
                await store.close()

        asyncio.run(main())

    def status(self, *words: str) -> Result:
        return run("status", "--cluster", "--kubeconfig", self.kubeconfig, *words)

    def elections(self, *words: str) -> dict[str, Any]:
        found = self.status("--json", *words)
        assert found.code == 0, found.err
        return {each["election"]: each for each in found.json["elections"]}


@pytest.fixture
def shop(api_server: ApiServer, namespace: str) -> Shop:
    return Shop(api_server, namespace)


def test_all_elections_of_a_namespace_with_their_pods(shop: Shop) -> None:
    uid = shop.pod("wiki-1")
    shop.pod("wiki-2")
    shop.pod("wiki-3", phase="Pending")
    shop.pod("blog-1", owner="owner-2")
    wiki = shop.take("wiki", f"wiki-1_{uid}_abc")
    shop.take("maps", "maps-1_x", "&recipe=configmap")
    shop.take("jobs", "jobs-1_x", "&session=1")
    shop.take("free", "free-1_x", release=True)
    shop.take("site", "site-1_x", "&recipe=slice&address=10.1.2.3&port=80")

    shop.note("wiki")

    found = shop.elections()
    assert list(found) == ["free", "jobs", "maps", "site", "wiki"], "they alone are elections"
    row = found["wiki"]
    assert (row["state"], row["kind"], row["stale"]) == ("held", "Lease", False)
    assert row["token"] == wiki.token
    assert row["holder"] == f"wiki-1_{uid}_abc"
    assert (row["pod"]["name"], row["pod"]["uid"]) == ("wiki-1", uid)
    assert (row["pod"]["node"], row["pod"]["phase"]) == ("node-of-wiki-1", "Running")
    assert row["standbys"] == ["wiki-2"]
    for name in ("wiki", "maps", "jobs", "site"):
        assert 0 <= found[name]["renewal_age_s"] < 30, "the server's own account of it"
        assert 0 <= found[name]["term_age_s"] < 30
        assert found[name]["ttl_s"] == 30.0
    assert found["maps"]["kind"] == "ConfigMap"
    assert found["site"]["kind"] == "EndpointSlice"
    assert (found["free"]["state"], found["free"]["holder"]) == ("vacant", None)
    assert found["free"]["renewal_age_s"] is None

    table = shop.status()
    assert table.code == 0
    head, *rows = table.out.splitlines()
    assert head.split()[:4] == ["election", "state", "holder", "node"]
    assert rows[-1].split()[:4] == ["wiki", "held", "wiki-1", "node-of-wiki-1"]
    assert "identity" not in head
    wide = shop.status("-o", "wide").out.splitlines()
    assert "identity" in wide[0]
    assert f"wiki-1_{uid}_abc" in wide[-1]


def test_a_pod_that_came_back_under_its_name_does_not_hold(shop: Shop) -> None:
    shop.pod("sts-0")
    gone = "0a0b0c0d-1111-2222-3333-444455556666"
    shop.take("sts", f"sts-0_{gone}_abc")
    row = shop.elections()["sts"]
    assert row["pod"] == {
        "name": "sts-0",
        "uid": gone,
        "node": None,
        "phase": None,
        "ready": False,
        "ending": False,
    }
    assert "no such Pod" in shop.status().out


def test_with_a_name_the_exit_code_tells(shop: Shop) -> None:
    shop.take("wiki", "wiki-1_x")
    shop.take("free", "free-1_x", release=True)
    assert shop.status("wiki", "-q").code == 0
    assert shop.status("free", "-q").code == 1
    assert shop.status("none").code == 1


def test_it_writes_nothing_and_says_what_it_may_not_see(shop: Shop) -> None:
    shop.take("wiki", "wiki-1_x")
    user = CANDIDATES[3]
    kubeconfig = str(shop.server.kubeconfig(user, namespace=shop.namespace))
    refused = run("status", "--cluster", "--kubeconfig", kubeconfig)
    assert refused.code == 77
    assert "verbs: [list]" in refused.err
    few = shop.server.grant(user, LISTS[:1], shop.namespace)
    partly = run("status", "-n", shop.namespace, "--kubeconfig", kubeconfig)
    assert partly.code == 0
    assert "pods may not be listed" in partly.err
    assert "wiki-1_x" in partly.out
    more = shop.server.grant(user, LISTS[1:], shop.namespace)
    assert run("status", "--cluster", "--kubeconfig", kubeconfig).err == ""
    asked = {
        event["verb"]
        for event in shop.server.audit_events(user)
        if event.get("objectRef", {}).get("namespace") == shop.namespace
    }
    assert asked == {"list"}
    shop.server.revoke(few)
    shop.server.revoke(more)


def test_all_namespaces_at_once(shop: Shop, api_server: ApiServer) -> None:
    other = Shop(api_server, f"{shop.namespace}-b")
    api_server.create_namespace(other.namespace)
    shop.take("wiki", "wiki-1_x")
    other.take("wiki", "wiki-2_x")
    found = run("status", "-A", "--json", "--kubeconfig", shop.kubeconfig).json["elections"]
    places = {each["namespace"]: each["holder"] for each in found if each["election"] == "wiki"}
    assert places[shop.namespace] == "wiki-1_x"
    assert places[other.namespace] == "wiki-2_x"
    table = run("status", "-A", "--kubeconfig", shop.kubeconfig)
    assert table.out.startswith("namespace")
    both = run("status", "-A", "-n", "x", "--kubeconfig", shop.kubeconfig)
    assert both.code == 2


def test_what_does_not_go_together(shop: Shop) -> None:
    assert run("status", "--cluster", "--confirm").code == 2
    assert run("status", "--cluster", "--store", "memory://x").code == 2


def test_as_a_plugin_of_kubectl(shop: Shop, kubectl: Path, tmp_path: Path) -> None:
    shop.take("wiki", "wiki-1_x")
    script = tmp_path / "kubectl-incumbent"
    script.write_text(
        f"#!{sys.executable}\nfrom incumbent.cli.__main__ import main\nraise SystemExit(main())\n"
    )
    script.chmod(0o755)
    extra = environment({"PATH": f"{tmp_path}:/usr/bin:/bin", "KUBECONFIG": shop.kubeconfig})
    done = subprocess.run(
        [kubectl, "incumbent", "status", "-n", shop.namespace],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=extra,
    )
    assert done.returncode == 0, done.stderr
    assert "wiki-1_x" in done.stdout


@pytest.mark.parametrize("query", ["", "&session=1"])
def test_kubectl_get_lease_stays_truthful(shop: Shop, kubectl: Path, query: str) -> None:
    def holder() -> str:
        done = subprocess.run(
            [kubectl, "--kubeconfig", shop.kubeconfig, "get", "lease", "wiki"],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        head, row = done.stdout.splitlines()
        start, end = head.index("HOLDER"), head.index("AGE")
        return row[start:end].strip()

    shop.take("wiki", "wiki-1_x", query, release=True)
    assert holder() == ""
    shop.take("wiki", "wiki-2_y", query)
    assert holder() == "wiki-2_y"


def _lease(renewed: datetime, duration_s: int = 15) -> Any:
    return {
        "metadata": {
            "name": "wiki",
            "namespace": "shop",
            "resourceVersion": "7",
            "managedFields": [
                {"time": "2020-01-01T00:00:00Z", "fieldsV1": {"f:metadata": {}}},
                {
                    "time": renewed.isoformat(),
                    "fieldsV1": {"f:spec": {"f:renewTime": {}, "f:holderIdentity": {}}},
                },
            ],
        },
        "spec": {"holderIdentity": "a_b", "leaseDurationSeconds": duration_s},
    }


@pytest.mark.parametrize(("age_s", "stale"), [(0.0, False), (15 + SLACK_S, False), (18.0, True)])
def test_an_age_is_a_difference_on_the_servers_clock(age_s: float, stale: bool) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    obj = _lease(at - timedelta(seconds=age_s))
    obj["spec"]["renewTime"] = "2031-01-01T00:00:00.000000Z"  # The holder's clock: not asked.
    found = _Record("Lease", LEASE, obj, obj, ("f:spec", "f:renewTime")).election(at)
    assert found.renewal_age_s == age_s
    assert found.stale is stale


def test_without_the_servers_account_there_is_no_age() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    obj = _lease(at)
    del obj["metadata"]["managedFields"]
    found = _Record("Lease", LEASE, obj, obj, ("f:spec", "f:renewTime")).election(at)
    assert (found.renewal_age_s, found.stale) == (None, False)


@pytest.mark.parametrize(
    ("identity", "pod"),
    [
        (
            "a-1_0a0b0c0d-1111-2222-3333-444455556666_xyz",
            ("a-1", "0a0b0c0d-1111-2222-3333-444455556666"),
        ),
        ("a-1_0a0b0c0d-1111-2222-3333-444455556666", ("a-1", "")),  # client-go: something random.
        ("a-1", ("a-1", "")),
    ],
)
def test_which_pod_an_identity_names(identity: str, pod: tuple[str, str]) -> None:
    assert pod_in(identity) == pod
