"""The whole of it: installed by kubectl, run as two processes with the rights that it has there.

The API server, the controllers and the garbage collector are real. Nodes there are none, so the
test says for them that a Pod runs, and that it has ended.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from incumbent.manifests.modes import Mode
from incumbent.operator.definition import SINGLETONS
from incumbent.operator.install import NAME, rules
from incumbent.operator.kinds import KEPT, KINDS
from tests.cli.processes import Process, command, run
from tests.manifests.kit import EVERY, PLAIN
from tests.operator.cluster import Stage
from tests.servers.kubernetes import ApiError, ApiServer

_OPERATORS, _TEAM = "operators", "team"
_USER = f"system:serviceaccount:{_OPERATORS}:{NAME}"
_LIMIT_S = 90.0
_UNUSED = {
    ("update", "singletons/finalizers"),
    ("update", "endpointslices"),
    *((verb, "pods") for verb in ("get", "patch")),
}
"""What is granted for an admission plugin that does not run here, or to be given on to Pods."""


@pytest.fixture
def stage(governed: ApiServer) -> Iterator[Stage]:
    for name in (_OPERATORS, _TEAM):
        governed.create_namespace(name)
    found = Stage(governed, _TEAM)
    yield found
    found.server.close()


@pytest.fixture
def installed(governed: ApiServer, stage: Stage, kubectl: Path) -> dict[str, str]:
    """The environment of the operator's Pods."""
    image = "registry.example/incumbent:1"
    text = run("operator", "--manifests", "--image", image, "--namespace", _OPERATORS).out
    subprocess.run(
        [kubectl, "apply", "--server-side", "-f", "-"],
        input=text,
        env={"KUBECONFIG": str(governed.kubeconfig()), "HOME": str(governed.ca_file.parent)},
        text=True,
        capture_output=True,
        check=True,
    )
    token = governed.service_account_token(_OPERATORS, NAME, "token")
    written = governed.kubeconfig("nobody", namespace=_OPERATORS)
    written.write_text(re.sub(r"token: \w+", f"token: {token}", written.read_text()))
    return {"KUBECONFIG": str(written), "INCUMBENT_TTL": "10"}


@pytest.fixture
def start(installed: dict[str, str]) -> Iterator[Callable[[], Process]]:
    started: list[Process] = []

    def one() -> Process:
        started.append(Process(command("operator"), installed))
        return started[-1]

    yield one
    for process in started:
        process.close()


def _says(stage: Stage, kind: str, status: str, reason: str) -> bool:
    if not stage.status.get("conditions"):
        return False
    return stage.condition(kind) == (status, reason)


def _bind(stage: Stage) -> str:
    """Say for a node that the only Pod runs there."""
    (pod,) = stage.pods()
    name: str = pod["metadata"]["name"]
    path = f"/api/v1/namespaces/{_TEAM}/pods/{name}"
    target = {"apiVersion": "v1", "kind": "Node", "name": "some-node"}
    binding = {"metadata": {"name": name}, "target": target}
    stage.server.request("POST", f"{path}/binding", binding)
    found = stage.server.request("GET", path)
    found["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    found["status"]["phase"] = "Running"
    stage.server.request("PUT", f"{path}/status", found)
    return name


def _used(server: ApiServer) -> set[tuple[str, str]]:
    found = set()
    for event in server.audit_events(_USER):
        where = event.get("objectRef")
        if where is not None:
            sub = where.get("subresource")
            resource = f"{where['resource']}/{sub}" if sub else where["resource"]
            found.add((event["verb"], resource))
    return found


def _granted() -> set[tuple[str, str]]:
    return {
        (verb, resource)
        for rule in rules()
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _left(stage: Stage) -> dict[str, list[str]]:
    found = {kind: stage.names(kind) for kind in KINDS}
    return {kind: names for kind, names in found.items() if names}


@pytest.mark.slow
def test_from_installation_to_deletion(
    governed: ApiServer, stage: Stage, start: Callable[[], Process]
) -> None:
    server = governed
    first = start()
    until(lambda: bool(_holder(server)), "the first one is elected")
    leader = _holder(server)
    standby = start()
    # All that there can be of a Singleton, then one that is strict, then one that is not.
    stage.apply(EVERY["full-partly-singleton"])
    until(lambda: "HorizontalPodAutoscaler" in _left(stage), "everything is made")
    until(lambda: _count(stage, "Deployment") == 3, "it is set going")
    stage.apply(EVERY["endpointslice"])
    until(lambda: "EndpointSlice" in _left(stage), "another lock is made")
    stage.apply(PLAIN[Mode.AT_MOST_ONE])
    until(lambda: _count(stage, "StatefulSet") == 1, "the other mode is there")
    until(lambda: len(stage.pods()) == 1, "its Pod is there")
    assert stage.pods()[0]["metadata"]["name"] == "reports-0"
    pod = _bind(stage)
    until(lambda: _says(stage, "Ready", "True", "Active"), "the Pod is ready")
    assert stage.status["holder"] == pod
    stage.apply(PLAIN[Mode.AT_LEAST_ONE])
    until(lambda: _says(stage, "Held", "True", "WaitingForOldPods"), "it is held back")
    first.process.kill()
    first.wait()
    assert [obj["kind"] for obj in stage.workloads()] == ["StatefulSet"]
    stage.end(pod)
    until(lambda: _count(stage, "Deployment") == 1, "the standby goes on")
    assert _holder(server) != leader
    assert stage.names("StatefulSet") == []
    until(lambda: _says(stage, "Held", "False", "NothingInTheWay"), "and says so")
    term = stage.status["operatorTerm"]
    annotations = stage.get("Deployment")["metadata"]["annotations"]
    assert annotations["incumbent.dev/operator-term"] == str(term)
    until(lambda: len(stage.pods()) == 1, "there is a Pod")
    server.request("DELETE", f"{SINGLETONS.path(_TEAM)}/reports")
    until(lambda: set(_left(stage)) <= set(KEPT), "what it had made is deleted")
    assert set(_left(stage)) == set(KEPT), "and what it holds is kept"
    standby.process.terminate()
    assert standby.wait() == 0, standby.errors()
    assert _holder(server) == "", "a planned end gives the Lease back"
    assert _used(server) == _granted() - _UNUSED
    refused = [e for e in server.audit_events(_USER) if e["responseStatus"]["code"] in (401, 403)]
    assert refused == []


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for what real controllers do; each question is a request with a handshake of its own."""
    deadline_s = time.monotonic() + _LIMIT_S
    while not holds():
        assert time.monotonic() < deadline_s, f"not within {_LIMIT_S} s: {what}"
        time.sleep(0.2)  # sleep: it can be watched, but by no simpler means than those under test


def _holder(server: ApiServer) -> str:
    lease = server.get_lease(_OPERATORS, NAME)
    return str(lease.get("spec", {}).get("holderIdentity") or "")


def _count(stage: Stage, kind: str) -> int:
    try:
        found: Any = stage.get(kind)
    except ApiError:
        return 0
    return int(found["spec"]["replicas"])


def test_our_own_audit_finds_nothing(tmp_path: Path) -> None:
    told = ["--manifests", "--image", "registry.example/incumbent:1", "--namespace", _OPERATORS]
    written = tmp_path / "operator.yaml"
    written.write_text(run("operator", *told).out, encoding="utf-8")
    done = run("audit", str(written), "--json")
    assert done.code == 0
    assert [one["rule"] for one in done.json["findings"] if not one["waived"]] == []


def test_in_one_namespace_it_has_no_right_elsewhere() -> None:
    image = "registry.example/incumbent:1"
    told = ["--manifests", "--image", image, "--namespace", _OPERATORS, "--only", _TEAM]
    items = run("operator", *told, "--json").json["items"]
    kinds = [item["kind"] for item in items]
    assert not [kind for kind in kinds if kind.startswith("ClusterRole")]
    roles = [item for item in items if item["kind"] == "Role"]
    assert [role["metadata"]["namespace"] for role in roles] == [_TEAM, _OPERATORS]
    (deployment,) = [item for item in items if item["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    assert pod["containers"][0]["command"] == ["incumbent", "operator", "--only", _TEAM]
    assert pod["shareProcessNamespace"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--manifests", "--namespace", "x"], "--image: is missing"),
        (["--manifests", "--image", "a/b:1"], "--namespace: is missing"),
        (["--manifests", "--image", "a/b", "--namespace", "x"], "add a version"),
        (["--image", "a/b:1"], "--manifests"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], text: str) -> None:
    done = run("operator", *arguments)
    assert done.code == 2
    assert text in done.err
    assert len(done.err.splitlines()) == 1
