"""The rights that are rendered are the rights that are used: by the API server's own audit log.

The command of the manifest runs, as the service account of the manifest, against a real API server
with RBAC. The Role has what a candidate's whole life needs, and nothing that it does not use.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from incumbent.manifests import Object
from incumbent.manifests.model import Application
from incumbent.manifests.modes import Mode
from incumbent.manifests.objects import objects_of
from incumbent.manifests.parts import Port
from tests.cli.processes import Process, run
from tests.faces.programs import until
from tests.manifests.kit import PLAIN, by_name, create, path_of
from tests.servers.kubernetes import ApiServer
from tests.stores.pods_kit import Pods

Uses = set[tuple[str, str, str]]


class Installed:
    """An application of active and standby in a namespace, and its Pods' service account."""

    def __init__(self, server: ApiServer, app: Application, *, without: str = "") -> None:
        self.server, self.app = server, app
        self.user = f"system:serviceaccount:{app.namespace}:{app.name}"
        objects = objects_of(app)
        for obj in objects:
            if obj["kind"] != without:
                create(server, app.namespace, obj)
        self.found = by_name(objects)
        token = server.service_account_token(app.namespace, app.name, "token")
        written = server.kubeconfig("nobody", namespace=app.namespace)
        text = re.sub(r"token: \w+", f"token: {token}", written.read_text())
        written.write_text(text)
        self.environment = {"KUBECONFIG": str(written)}
        self._started: list[Process] = []

    @property
    def command(self) -> list[str]:
        """The words of the container, as they are in the manifest, on this machine.

        Here is no folder of the Pod's own, in which it could be asked whether it is alive.
        """
        container = self.found["Deployment", self.app.name]["spec"]["template"]["spec"][
            "containers"
        ][0]
        program, verb, *words = container["command"]
        assert (program, verb) == ("incumbent", "run")
        at = words.index("--probe")
        del words[at : at + 2]
        return [sys.executable, "-m", "incumbent.cli", verb, "--json", *words]

    def start(self, extra: dict[str, str] | None = None) -> Process:
        self._started.append(Process(self.command, {**self.environment, **(extra or {})}))
        return self._started[-1]

    def close(self) -> None:
        for process in self._started:
            process.close()

    def holder(self) -> str:
        lease = self.server.get_lease(self.app.namespace, self.app.election)
        return str(lease.get("spec", {}).get("holderIdentity") or "")

    def watches(self) -> int:
        events = self.server.audit_events(self.user)
        return sum(event["verb"] == "watch" for event in events)

    def used(self) -> Uses:
        """Return the verbs that were used, on which resource, by which name."""
        found = set()
        for event in self.server.audit_events(self.user):
            where = event.get("objectRef")
            if where is not None:
                found.add((event["verb"], where["resource"], where.get("name", "")))
        return found


def granted(role: Object) -> Uses:
    return {
        (verb, resource, name)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
        for name in rule["resourceNames"]
    }


@pytest.fixture
def app(namespace: str, tmp_path: Path) -> Application:
    mark = f"open({str(tmp_path)!r} + '/' + os.environ['INCUMBENT_TOKEN'], 'w')"
    work = f"import os, time; {mark}; time.sleep(60)"
    return replace(
        PLAIN[Mode.ACTIVE_STANDBY],
        namespace=namespace,
        command=(sys.executable, "-c", work),
    )


@pytest.fixture
def installed(api_server: ApiServer, app: Application) -> Iterator[Installed]:
    made = Installed(api_server, app)
    yield made
    made.close()


def test_the_role_is_what_a_whole_life_uses(installed: Installed, tmp_path: Path) -> None:
    first = installed.start()
    # The Lease is there, so nobody waits out an absence of it.
    until(lambda: len(os.listdir(tmp_path)) == 1, "the first one works")
    holder = installed.holder()
    before = installed.watches()
    standby = installed.start()
    until(lambda: installed.watches() > before, "the standby watches")
    first.process.terminate()
    first.wait()
    until(lambda: len(os.listdir(tmp_path)) == 2, "the standby has taken over")
    assert installed.holder() not in ("", holder)
    standby.process.terminate()
    standby.wait()
    assert installed.holder() == ""
    role = installed.found["Role", f"{installed.app.name}-election"]
    assert installed.used() == granted(role)
    events = installed.server.audit_events(installed.user)
    assert {event["responseStatus"]["code"] for event in events} <= {200, 201, 409}


def test_cordons_add_the_right_to_look_at_a_node_and_no_more(app: Application) -> None:
    with_it, without = (
        objects_of(replace(app, handover=True, handover_cordon=cordon)) for cordon in (True, False)
    )
    role, binding, *_ = added = [obj for obj in with_it if obj["kind"].startswith("Cluster")]
    assert role["rules"] == [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": app.name, "namespace": app.namespace}
    ]
    elsewhere = objects_of(replace(app, namespace="other", handover=True, handover_cordon=True))
    assert {*by_name(elsewhere)}.isdisjoint(by_name(added)), "two namespaces share none"
    assert [obj["kind"] for obj in with_it if obj not in added] == [obj["kind"] for obj in without]


ASKED: dict[str, dict[str, Any]] = {
    "endpointslice": {"routing": "endpointslice"},
    "all": {"routing": "label", "evidence": True},
}


@pytest.mark.parametrize("asked", ASKED)
def test_what_is_asked_for_adds_what_it_uses(
    api_server: ApiServer, app: Application, tmp_path: Path, asked: str
) -> None:
    more: dict[str, Any] = {"ports": (Port(8080),)} if "routing" in ASKED[asked] else {}
    # The first election on a slice waits out an absence.
    made = Installed(api_server, replace(app, ttl_s=3.0, **ASKED[asked], **more))
    pods = Pods(api_server, app.namespace)
    places = []
    for name in ("a", "b"):
        told = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "POD_IP": "10.1.2.3"}
        places.append({**told, "POD_NAME": name, "POD_UID": pods.make(name)})
    try:
        first = made.start(places[0])
        until(lambda: len(os.listdir(tmp_path)) == 1, "the first one works")
        labelled = "label" in ASKED[asked].values()
        until(lambda: pods.active() == ["a"] * labelled, "the label")
        standby = made.start(places[1])
        until(lambda: _granted(made) <= {*_used(made), ("update", _lock(made))}, "all is used")
        first.process.terminate()
        first.wait()
        until(lambda: len(os.listdir(tmp_path)) == 2, "the standby has taken over")
        until(lambda: pods.active() == ["b"] * labelled, "the label")
        standby.process.terminate()
        standby.wait()
        assert pods.active() == []
        assert _used(made) == _granted(made)
    finally:
        made.close()


def _lock(made: Installed) -> str:
    return "endpointslices" if made.app.sliced else "leases"


def _used(made: Installed) -> set[tuple[str, str]]:
    return {(verb, resource) for verb, resource, _ in made.used()}


def _granted(made: Installed) -> set[tuple[str, str]]:
    rules = made.found["Role", f"{made.app.name}-election"]["rules"]
    return {(verb, what) for rule in rules for verb in rule["verbs"] for what in rule["resources"]}


def test_no_other_lease_and_no_other_verb(installed: Installed) -> None:
    namespace, name = installed.app.namespace, installed.app.election

    def may(verb: str, name: str = name, resource: str = "leases", group: str = "") -> bool:
        access = {"verb": verb, "name": name, "resource": resource, "namespace": namespace}
        access["group"] = group or "coordination.k8s.io"
        return installed.server.allowed(installed.user, access)

    until(lambda: may("update"), "the binding counts")
    assert [verb for verb in ("get", "update", "watch") if not may(verb)] == []
    forbidden = ("create", "delete", "patch", "list", "deletecollection")
    assert [verb for verb in forbidden if may(verb)] == []
    assert not may("get", name="another")
    assert not may("create", name="")


def test_without_the_lease_it_would_not_do(api_server: ApiServer, app: Application) -> None:
    """So the Lease among the manifests is no ornament: nobody may make it at run time."""
    bare = Installed(api_server, replace(app, ttl_s=3.0), without="Lease")
    try:
        process = Process([*bare.command[:5], "--wait", "6", *bare.command[5:]], bare.environment)
        bare._started.append(process)
        assert process.wait() == 77
    finally:
        bare.close()


def test_doctor_is_content_with_these_rights(installed: Installed) -> None:
    namespace, name = installed.app.namespace, installed.app.election
    url = f"kubernetes://{namespace}"

    def rights(*arguments: str) -> dict[str, bool | None]:
        done = run("doctor", *arguments, "--json", "--store", url, extra=installed.environment)
        found = done.json["findings"]
        return {one["check"]: one["ok"] for one in found if one["check"].startswith("right")}

    optional = {"right to create": None, "right to list": None}
    used = {f"right to {verb}": True for verb in ("get", "update", "watch")}
    assert rights(name) == {**used, **optional}
    assert rights("another") == {**dict.fromkeys(used, False), **optional, "right to create": False}


def test_the_deployment_is_where_the_manifest_says(installed: Installed) -> None:
    for obj in installed.found.values():
        assert installed.server.request("GET", path_of(obj, installed.app.namespace))
