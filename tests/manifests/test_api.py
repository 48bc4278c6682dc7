"""A real API server takes every object, as it is written, and every Pod under its strictest rules.

`fieldValidation=Strict` refuses a field that does not exist, which a plain create would drop.
"""

from __future__ import annotations

import copy
import secrets
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from incumbent.manifests.modes import Mode
from incumbent.manifests.objects import objects_of
from tests.manifests.kit import EVERY, PLAIN, create, path_of
from tests.servers.kubernetes import ApiError, ApiServer

_APPLY = "application/apply-patch+yaml"


@pytest.fixture(scope="module")
def restricted(api_server: ApiServer) -> Iterator[str]:
    """A namespace that takes only Pods of the standard `restricted`, and the class they name."""
    name = f"restricted-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api_server.request("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    classes = "/apis/scheduling.k8s.io/v1/priorityclasses"
    api_server.request("POST", classes, {"metadata": {"name": "important"}, "value": 1000})
    yield name
    api_server.request("DELETE", f"{classes}/important")


@pytest.mark.parametrize("name", EVERY)
def test_every_object_is_taken(api_server: ApiServer, restricted: str, name: str) -> None:
    app = replace(EVERY[name], namespace=restricted)
    objects = objects_of(app)
    for obj in objects:
        taken = create(api_server, restricted, obj, dry_run=True)
        _is_kept(obj, taken, obj["kind"])


def _is_kept(wanted: Any, found: Any, where: str) -> None:
    """What was asked for is what there is, beside what the server adds by itself."""
    if isinstance(wanted, dict):
        for key, value in wanted.items():
            assert key in found or value in ("", {}), f"{where}.{key} is lost"
            _is_kept(value, found.get(key, value), f"{where}.{key}")
    elif isinstance(wanted, list):
        assert len(wanted) == len(found), where
        for number, (one, other) in enumerate(zip(wanted, found, strict=True)):
            _is_kept(one, other, f"{where}[{number}]")
    else:
        assert wanted == found, where


@pytest.mark.parametrize("name", EVERY)
def test_every_pod_is_taken_under_the_strictest_standard(
    api_server: ApiServer, restricted: str, name: str
) -> None:
    app = replace(EVERY[name], namespace=restricted)
    for obj in objects_of(app):
        if obj["kind"] in ("Deployment", "StatefulSet"):
            pod = {"apiVersion": "v1", "kind": "Pod", **copy.deepcopy(obj["spec"]["template"])}
            pod["metadata"]["name"] = f"{obj['metadata']['name']}-0"
            for claim in obj["spec"].get("volumeClaimTemplates", ()):
                volume = claim["metadata"]["name"]
                source = {"name": volume, "persistentVolumeClaim": {"claimName": volume}}
                pod["spec"]["volumes"].append(source)
            create(api_server, restricted, pod, dry_run=True)
            pod["spec"]["containers"][0]["securityContext"]["capabilities"] = {}
            with pytest.raises(ApiError, match="restricted"):
                create(api_server, restricted, pod, dry_run=True)


@pytest.mark.parametrize("mode", Mode)
def test_a_field_that_does_not_exist_would_be_noticed(
    api_server: ApiServer, restricted: str, mode: Mode
) -> None:
    for obj in objects_of(replace(PLAIN[mode], namespace=restricted)):
        planted = copy.deepcopy(obj)
        planted["metadata"]["annotatons"] = {}
        with pytest.raises(ApiError, match="annotatons"):
            create(api_server, restricted, planted, dry_run=True)


def test_the_order_is_one_in_which_they_can_be_made(api_server: ApiServer, namespace: str) -> None:
    objects = objects_of(replace(EVERY["full-active-standby"], namespace=namespace))
    kinds = [obj["kind"] for obj in objects]
    for earlier in ("ServiceAccount", "Role", "RoleBinding", "Lease"):
        assert kinds.index(earlier) < kinds.index("Deployment"), kinds
    names = [(obj["kind"], obj["metadata"]["name"]) for obj in objects]
    claimed = names.index(("PersistentVolumeClaim", "reports-companion"))
    assert claimed < names.index(("Deployment", "reports-companion"))
    for obj in objects:
        create(api_server, namespace, obj)
    for obj in objects:
        assert api_server.request("GET", path_of(obj, namespace))["metadata"]["name"]


def test_applying_again_leaves_the_record_of_the_holder_alone(
    api_server: ApiServer, namespace: str
) -> None:
    app = replace(PLAIN[Mode.ACTIVE_STANDBY], namespace=namespace)
    (lease,) = [obj for obj in objects_of(app) if obj["kind"] == "Lease"]
    path = path_of(lease, namespace)

    def apply() -> dict[str, Any]:
        where = f"{path}?fieldManager=kubectl"
        return api_server.request("PATCH", where, lease, content_type=_APPLY)

    apply()
    held = {**api_server.request("GET", path), "spec": {"holderIdentity": "somebody"}}
    before = api_server.request("PUT", path, held)
    assert apply()["spec"] == {"holderIdentity": "somebody"}
    assert (
        api_server.request("GET", path)["metadata"]["resourceVersion"]
        == (before["metadata"]["resourceVersion"])
    )
