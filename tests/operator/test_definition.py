"""The definition on a real API server: what it takes, what it refuses, and what kubectl shows.

The model is the law: a rule of the definition may refuse only what the model refuses, and under the
same field.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from incumbent.errors import ConfigError
from incumbent.manifests import Object
from incumbent.manifests.modes import Mode
from incumbent.operator.definition import SINGLETONS, definition
from incumbent.operator.reading import application_of
from incumbent.operator.rules import RULES, Rule
from tests.manifests.kit import EVERY, IMAGE, OWNER, PLAIN
from tests.operator.kit import SAYABLE, singleton
from tests.servers.kubernetes import ApiError, ApiServer

_SINGLE = {"mode": "at-most-one", "image": IMAGE, "owner": OWNER}
_STANDBY = {"mode": "active-standby", "image": IMAGE, "command": ["work"]}
_PORTS = [{"number": 8080}]
_PARTLY = {"mode": "partly-singleton", "image": IMAGE, "ports": _PORTS}
_TRIPPED: tuple[dict[str, Any], ...] = (
    {**_SINGLE, "replicas": 2},
    {**_STANDBY, "replicas": 1},
    {**_STANDBY, "autoscaling": {"minReplicas": 2, "maxReplicas": 3}},
    {**_PARTLY, "replicas": 2, "autoscaling": {"minReplicas": 2, "maxReplicas": 3}},
    {**_PARTLY, "autoscaling": {"minReplicas": 1, "maxReplicas": 3}},
    {**_SINGLE, "lease": "other"},
    {**_SINGLE, "store": "etcd://etcd"},
    {**_SINGLE, "storeSecret": "stores/etcd"},
    {**_SINGLE, "routing": "label"},
    {**_STANDBY, "checkpoints": ["consumer"]},
    {**_PARTLY, "checkpoints": ["consumer"], "store": "etcd://etcd"},
    {**_STANDBY, "storage": {"size": "1Gi"}},
    {**_SINGLE, "owner": ""},
    {**_STANDBY, "command": []},
    {**_STANDBY, "ports": _PORTS},
    {**_PARTLY, "ports": []},
    {**_PARTLY, "store": "etcd://etcd", "storeSecret": "stores/etcd"},
)


def _resource(spec: dict[str, Any], name: str = "reports") -> Object:
    return {
        "apiVersion": SINGLETONS.api_version,
        "kind": SINGLETONS.kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


def _refusal(server: ApiServer, resource: Object) -> str:
    """Return why the API server does not take it, or ""."""
    path = SINGLETONS.path(resource["metadata"]["namespace"])
    try:
        server.request("POST", f"{path}?dryRun=All&fieldValidation=Strict", resource)
    except ApiError as error:
        if error.status not in (400, 422):
            raise
        return str(error)
    return ""


@pytest.mark.parametrize("name", SAYABLE)
def test_every_application_can_be_said(defined: ApiServer, namespace: str, name: str) -> None:
    app = replace(EVERY[name], namespace=namespace)
    resource = singleton(app)
    assert application_of(resource) == app
    kept = defined.request("POST", f"{SINGLETONS.path(namespace)}?dryRun=All", resource)
    assert kept["spec"] == resource["spec"]
    assert application_of(kept) == app


@pytest.mark.parametrize(("rule", "spec"), [*zip(RULES, _TRIPPED, strict=True)])
def test_what_a_rule_refuses_the_model_refuses(
    defined: ApiServer, rule: Rule, spec: dict[str, Any]
) -> None:
    refused = _refusal(defined, _resource(spec))
    assert rule.otherwise in refused
    with pytest.raises(ConfigError) as model:
        application_of(_resource(spec))
    assert re.search(rf"\b{rule.field}\b", str(model.value).partition(": ")[0])


@pytest.mark.parametrize("name", ["x" * 53, "a.b", "9lives"])
def test_a_name_that_cannot_be_a_label_is_refused(defined: ApiServer, name: str) -> None:
    assert "becomes a part of a DNS name" in _refusal(defined, _resource(_SINGLE, name))
    with pytest.raises(ConfigError, match="name"):
        application_of(_resource(_SINGLE, name))


@pytest.mark.parametrize(
    ("field", "instead"),
    [("guard", "use `incumbent guard`"), ("handoverCordon", "use `incumbent manifests --handover")],
)
def test_what_lies_in_no_namespace_is_not_a_singletons_to_say(
    defined: ApiServer, field: str, instead: str
) -> None:
    resource = _resource({**_STANDBY, "handover": True, field: True})
    assert f'unknown field "spec.{field}"' in _refusal(defined, resource)
    with pytest.raises(ConfigError, match=f"lies in no namespace: {instead}"):
        application_of(resource)


_BASES = (_SINGLE, {**_SINGLE, "mode": "at-least-one"}, _STANDBY, _PARTLY)
_MORE: tuple[tuple[str, Any], ...] = (
    ("mode", "at-most-one"),
    ("mode", "partly-singleton"),
    ("owner", ""),
    ("owner", OWNER),
    ("command", []),
    ("command", ["incumbent", "work", "reports.toml"]),
    ("checkpoints", ["job.main"]),
    ("ports", []),
    ("ports", _PORTS),
    ("replicas", 1),
    ("replicas", 2),
    ("autoscaling", {"minReplicas": 2, "maxReplicas": 5}),
    ("autoscaling", {"minReplicas": 1, "maxReplicas": 5}),
    ("store", "etcd://etcd"),
    ("storeSecret", "stores/etcd"),
    ("lease", "nightly"),
    ("storage", {"size": "1Gi"}),
)


def _specs() -> st.SearchStrategy[dict[str, Any]]:
    """One that is right, with up to three fields said otherwise."""
    changes = st.lists(st.sampled_from(_MORE), max_size=3)
    return st.builds(lambda base, more: {**base, **dict(more)}, st.sampled_from(_BASES), changes)


def test_what_the_model_takes_the_api_server_takes(defined: ApiServer) -> None:
    taken: list[str] = []

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(_specs())
    def same(spec: dict[str, Any]) -> None:
        resource = _resource(spec)
        refused = _refusal(defined, resource)
        try:
            application_of(resource)
        except ConfigError:
            wrong = not refused
        else:
            taken.append(spec["mode"])
            wrong = bool(refused)
        assert not wrong, f"{spec}: {refused or 'only the model refuses it'}"

    same()
    assert taken, "no spec was one that could be meant"


def test_a_setting_with_a_typing_error_is_refused_and_named(defined: ApiServer) -> None:
    spec = {**_STANDBY, "graceSecond": 3}
    assert "graceSecond" in _refusal(defined, _resource(spec))
    with pytest.raises(ConfigError, match=r"^graceSecond: no such field"):
        application_of(_resource(spec))


def test_messages_name_fields_as_they_are_written() -> None:
    spec = {**_STANDBY, "ttlSeconds": -1}
    with pytest.raises(ConfigError, match=r"^ttlSeconds:"):
        application_of(_resource(spec))
    spec = {**_STANDBY, "env": {"graceSeconds": "kept", "grace_s": "kept"}}
    assert dict(application_of(_resource(spec)).env) == spec["env"]


def _schemas(schema: Object, where: str) -> Iterator[tuple[str, Object]]:
    for name, inner in schema.get("properties", {}).items():
        yield f"{where}.{name}", inner
        yield from _schemas(inner, f"{where}.{name}")
        yield from _schemas(inner.get("items", {}), f"{where}.{name}[]")


def test_every_field_is_described() -> None:
    (version,) = definition()["spec"]["versions"]
    found = dict(_schemas(version["schema"]["openAPIV3Schema"], ""))
    assert ".spec.companion.autoscaling.cpuPercent" in found
    assert [where for where, schema in found.items() if not schema.get("description")] == []


def test_kubectl_explains_and_shows(
    defined: ApiServer, namespace: str, kubectl: Path, tmp_path: Path
) -> None:
    app = replace(PLAIN[Mode.ACTIVE_STANDBY], namespace=namespace)
    path = SINGLETONS.path(namespace)
    made = defined.request("POST", path, singleton(app))
    made["status"] = {"holder": "reports-7d4b-x2x9q", "since": "2026-01-01T00:00:00Z"}
    defined.request("PUT", f"{path}/reports/status", made)
    environment = {
        "KUBECONFIG": str(defined.kubeconfig(namespace=namespace)),
        "HOME": str(tmp_path),
    }

    def said(*words: str) -> str:
        return subprocess.run(
            [kubectl, *words], env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert "TTL of the lease" in said("explain", "singletons.spec.ttlSeconds")
    head, row = said("get", "singletons").splitlines()
    assert head.split() == ["NAME", "MODE", "READY", "ACTIVE", "SINCE", "HELD", "AGE"]
    assert row.split()[:2] == ["reports", "active-standby"]
    assert "reports-7d4b-x2x9q" in row
