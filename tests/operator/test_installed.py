"""The whole of it: installed by kubectl, run as two processes with the rights that it has there.

The API server, the controllers and the garbage collector are real. Nodes there are none, so the
test says for them that a Pod runs, and that it has ended.
"""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from incumbent.cli import codes, operator
from incumbent.manifests.modes import Mode
from incumbent.operator.definition import SINGLETONS
from incumbent.operator.install import NAME, rules
from incumbent.operator.kinds import KEPT, KINDS
from incumbent.runtime.keeper import Keeper
from tests.cli.processes import Process, command, environment, run
from tests.manifests.kit import EVERY, PLAIN
from tests.operator.cluster import Stage
from tests.servers.kubernetes import ApiError, ApiServer

_OPERATORS, _TEAM = "incumbent", "team"
_IMAGE = "registry.example/incumbent:1"
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
    governed.create_namespace(_TEAM)
    found = Stage(governed, _TEAM)
    yield found
    found.server.close()


@pytest.fixture
def installed(governed: ApiServer, stage: Stage, kubectl: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of the operator's Pods, after what its help says was typed into a shell."""
    (tmp_path / "kubectl").symlink_to(kubectl)
    ours = tmp_path / "incumbent"
    ours.write_text(f'#!/bin/sh\nexec {sys.executable} -m incumbent.cli "$@"\n')
    ours.chmod(0o755)
    told = run("operator", "--help").out
    (typed,) = re.findall(r"^  kubectl create.*?(?=\n\n)", told, re.DOTALL | re.MULTILINE)
    subprocess.run(
        ["sh", "-ec", typed.replace("IMAGE", _IMAGE)],
        env=environment(
            {
                "KUBECONFIG": str(governed.kubeconfig()),
                "HOME": str(tmp_path),
                "PATH": f"{tmp_path}:/usr/bin:/bin",
            }
        ),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    token = governed.service_account_token(_OPERATORS, NAME, "token")
    written = governed.kubeconfig("nobody", namespace=_OPERATORS)
    written.write_text(re.sub(r"token: \w+", f"token: {token}", written.read_text()))
    return {"KUBECONFIG": str(written), "INCUMBENT_TTL": "10"}


@pytest.fixture
def start(installed: dict[str, str], tmp_path: Path) -> Iterator[Callable[[], Process]]:
    started: list[Process] = []

    def one() -> Process:
        at = str(tmp_path / f"probe-{len(started)}")
        started.append(Process(command("operator", "--probe", at), installed))
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


def _answer(path: str) -> str:
    """What a kubelet hears."""
    found: str = run("probe", "--json", "--timeout", "1", path).json["state"]
    return found


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
    governed: ApiServer, stage: Stage, start: Callable[[], Process], tmp_path: Path
) -> None:
    server = governed
    first = start()
    until(lambda: bool(_holder(server)), "the first one is elected")
    leader = _holder(server)
    standby = start()
    asked = [str(tmp_path / f"probe-{number}") for number in range(2)]
    until(lambda: _answer(asked[0]) == "active", "the first one says that it works")
    until(lambda: _answer(asked[1]) == "standby", "the other one that it waits")
    standby.process.send_signal(signal.SIGSTOP)
    assert _answer(asked[1]) == "silent"
    standby.process.send_signal(signal.SIGCONT)
    # All that there can be of a Singleton, then one that is strict, then one that is not.
    stage.apply(EVERY["full-partly-singleton"])
    last = "reports-companion"
    until(lambda: last in stage.names("PodDisruptionBudget"), "everything is made")
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
    pod = _bind(stage)
    stage.delete("Deployment")
    until(lambda: _says(stage, "Held", "True", "WaitingForOldPods"), "its Pod is waited for")
    until(lambda: "deletionTimestamp" in stage.pods()[0]["metadata"], "it is collected")
    assert stage.workloads() == []
    stage.end(pod)
    until(lambda: _count(stage, "Deployment") == 1, "the next one is made")
    until(lambda: len(stage.pods()) == 1, "there is a Pod again")
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


def test_whether_it_is_alive_is_asked_where_it_answers() -> None:
    told = ["--manifests", "--image", _IMAGE, "--namespace", _OPERATORS, "--json"]
    items = run("operator", *told).json["items"]
    (deployment,) = [item for item in items if item["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    words = container["command"]
    at = words[words.index("--probe") + 1]
    for kind in ("startupProbe", "livenessProbe"):
        assert container[kind]["exec"]["command"] == ["incumbent", "probe", at]
    assert str(Path(at).parent) in [one["mountPath"] for one in container["volumeMounts"]]


def test_two_namespaces_are_not_quietly_one() -> None:
    told = ["--manifests", "--image", _IMAGE, "--namespace", _OPERATORS]
    done = run("operator", *told, "--only", "a", "--only", "b")
    assert done.code == codes.USAGE
    assert "--only a --only b" in done.err


def test_it_is_not_alive_while_its_leases_are_not_kept(tmp_path: Path) -> None:
    at, stuck, on = str(tmp_path / "probe"), threading.Event(), threading.Event()

    def block() -> None:
        stuck.set()
        on.wait()

    async def play() -> None:
        with operator._answering(at, lambda: False):
            assert await asyncio.to_thread(_answer, at) == "standby"
            Keeper.current().loop.call_soon_threadsafe(block)
            try:
                assert await asyncio.to_thread(stuck.wait, 10)
                assert await asyncio.to_thread(_answer, at) == "silent"
            finally:
                on.set()
            assert await asyncio.to_thread(_answer, at) == "standby"

    asyncio.run(play())
    assert not Path(at).exists()


def test_our_own_audit_finds_nothing(tmp_path: Path) -> None:
    told = ["--manifests", "--image", _IMAGE, "--namespace", _OPERATORS]
    written = tmp_path / "operator.yaml"
    written.write_text(run("operator", *told).out, encoding="utf-8")
    done = run("audit", str(written), "--json")
    assert done.code == 0
    assert [one["rule"] for one in done.json["findings"] if not one["waived"]] == []


def test_in_one_namespace_it_has_no_right_elsewhere() -> None:
    told = ["--manifests", "--image", _IMAGE, "--namespace", _OPERATORS, "--only", _TEAM]
    items = run("operator", *told, "--json").json["items"]
    kinds = [item["kind"] for item in items]
    assert not [kind for kind in kinds if kind.startswith("ClusterRole")]
    roles = [item for item in items if item["kind"] == "Role"]
    assert [role["metadata"]["namespace"] for role in roles] == [_TEAM, _OPERATORS]
    (deployment,) = [item for item in items if item["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    assert pod["containers"][0]["command"][-2:] == ["--only", _TEAM]
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
