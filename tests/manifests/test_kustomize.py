"""What is written for kustomize, built by the kustomize that is in the real `kubectl`."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from incumbent.manifests import Object
from incumbent.manifests.modes import Mode
from incumbent.manifests.objects import objects_of
from incumbent.manifests.objects.guard import CLUSTER_WIDE
from incumbent.manifests.render import files
from incumbent.manifests.render.kustomize import files_of
from tests.manifests.kit import EVERY, PLAIN, by_name, create
from tests.servers.kubernetes import ApiServer


def built(kubectl: Path, folder: Path) -> dict[tuple[str, str], Object]:
    done = subprocess.run(
        [kubectl, "kustomize", folder], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return by_name(list(yaml.safe_load_all(done.stdout)))


@pytest.mark.parametrize("name", EVERY)
def test_the_base_is_the_plain_yaml(kubectl: Path, tmp_path: Path, name: str) -> None:
    files.write(tmp_path, files_of(EVERY[name]))
    assert built(kubectl, tmp_path / "base") == by_name(objects_of(EVERY[name]))


@pytest.mark.parametrize("mode", Mode)
def test_the_overlay_is_in_another_namespace_as_a_whole(
    kubectl: Path, tmp_path: Path, mode: Mode
) -> None:
    app = PLAIN[mode]
    made = files_of(app)
    overlay = "overlays/example/kustomization.yaml"
    made[overlay] = made[overlay].replace("newTag: '1.4'", "newTag: '1.5'")
    files.write(tmp_path, made)
    found = built(kubectl, tmp_path / "overlays/example")
    changed = replace(app, namespace="example", image="registry.example/reports:1.5")
    if mode.elected:
        changed = replace(changed, replicas=3)
    assert found == by_name(objects_of(changed))


@pytest.mark.parametrize("name", EVERY)
def test_the_overlay_speaks_of_what_is_there(name: str) -> None:
    app = EVERY[name]
    text = files_of(app)["overlays/example/kustomization.yaml"]
    comments = [line for line in text.splitlines() if line.startswith("#")]
    kinds = {obj["kind"] for obj in objects_of(app)}
    said = {kind for kind in ("Role", "Lease", "EndpointSlice") if kind in " ".join(comments)}
    locks = kinds & {"Lease", "EndpointSlice"}
    assert said == ({"Role", *locks} if locks else set())
    assert any("guard" in line for line in comments) == (CLUSTER_WIDE[0] in kinds)


@pytest.mark.parametrize("mode", [mode for mode in Mode if mode.single])
def test_the_guard_follows_into_another_namespace(
    api_server: ApiServer, kubectl: Path, tmp_path: Path, mode: Mode
) -> None:
    app = replace(PLAIN[mode], guard=True)
    files.write(tmp_path, files_of(app))
    found = built(kubectl, tmp_path / "overlays/example")
    for (kind, _), obj in found.items():
        if kind in CLUSTER_WIDE:
            # kustomize takes them for namespaced, and the API server does not mind.
            taken = create(api_server, "example", obj, dry_run=True)
            assert obj["metadata"].pop("namespace") == "example"
            assert "namespace" not in taken["metadata"]
    assert found == by_name(objects_of(replace(app, namespace="example")))


def test_the_right_to_look_at_nodes_follows_into_another_namespace(
    kubectl: Path, tmp_path: Path
) -> None:
    app = EVERY["handover-cordon"]
    files.write(tmp_path, files_of(app))
    found = built(kubectl, tmp_path / "overlays/example")
    assert ("ClusterRole", "example.reports-cordon") in found
    assert found == by_name(objects_of(replace(app, namespace="example", replicas=3)))
