"""The chart, by Helm's own engine: with its own values it is the plain YAML, and never two."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from incumbent.manifests import Object
from incumbent.manifests.modes import Mode
from incumbent.manifests.objects import objects_of
from incumbent.manifests.render import files
from incumbent.manifests.render.helm import files_of
from tests.manifests.kit import EVERY, FULL, PLAIN, by_name

LIMIT_S = 60


def rendered(
    helm: Path, chart: Path, namespace: str, *more: str
) -> subprocess.CompletedProcess[str]:
    home = {name: str(chart.parent / "home") for name in ("HOME", "HELM_CACHE_HOME")}
    return subprocess.run(
        [helm, "template", "release", chart, "--namespace", namespace, *more],
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env=home,
    )


def objects(done: subprocess.CompletedProcess[str]) -> list[Object]:
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found is not None]


def chart_of(tmp_path: Path, name: str) -> Path:
    files.write(tmp_path / "chart", files_of(EVERY[name]))
    return tmp_path / "chart"


@pytest.mark.parametrize("name", EVERY)
def test_with_its_own_values_it_is_the_plain_yaml(helm: Path, tmp_path: Path, name: str) -> None:
    app = EVERY[name]
    found = by_name(objects(rendered(helm, chart_of(tmp_path, name), app.namespace)))
    assert found == by_name(objects_of(app))


@pytest.mark.parametrize("mode", [mode for mode in Mode if mode.single])
def test_a_second_replica_is_refused_twice(helm: Path, tmp_path: Path, mode: Mode) -> None:
    chart = chart_of(tmp_path, f"plain-{mode}")
    two = rendered(helm, chart, "default", "--set", "replicas=2")
    assert two.returncode != 0
    assert "replicas" in two.stderr
    assert "maximum" in two.stderr
    unchecked = ("--set", "replicas=2", "--skip-schema-validation")
    two = rendered(helm, chart, "default", *unchecked)
    assert two.returncode != 0
    assert f"reports is {mode}: replicas must be 1" in two.stderr
    kind = "StatefulSet" if mode is Mode.AT_MOST_ONE else "Deployment"
    stopped = by_name(objects(rendered(helm, chart, "default", "--set", "replicas=0")))
    assert stopped[kind, "reports"]["spec"]["replicas"] == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("replcas=3", "replcas"),
        ("image=", "image"),
        ("tolerationSeconds=-1", "tolerationSeconds"),
        ("terminationGracePeriodSeconds=3", "terminationGracePeriodSeconds"),
    ],
)
def test_values_that_cannot_work_are_named(
    helm: Path, tmp_path: Path, value: str, text: str
) -> None:
    done = rendered(helm, chart_of(tmp_path, "plain-active-standby"), "default", "--set", value)
    assert done.returncode != 0
    assert text in done.stderr


def test_values_arrive_where_they_belong(helm: Path, tmp_path: Path) -> None:
    chart = chart_of(tmp_path, "full-at-most-one")
    (tmp_path / "more.yaml").write_text(
        json.dumps(
            {
                "image": "other/reports:2",
                "priorityClassName": "",
                "owner": 'Bo {{ "x" }}',
                "resources": {"requests": {"cpu": 2}, "limits": {"memory": "1Gi"}},
                "tolerationSeconds": 5_000_000,
                "companionMaxReplicas": 40,
            }
        )
    )
    found = by_name(objects(rendered(helm, chart, "123", "--values", f"{tmp_path}/more.yaml")))
    workload = found["StatefulSet", "reports"]
    pod = workload["spec"]["template"]["spec"]
    assert workload["metadata"]["namespace"] == "123"
    assert workload["metadata"]["annotations"]["incumbent.dev/owner"] == 'Bo {{ "x" }}'
    assert pod["containers"][0]["image"] == "other/reports:2"
    assert pod["containers"][0]["resources"]["requests"] == {"cpu": 2, "memory": "1Gi"}
    assert {one["tolerationSeconds"] for one in pod["tolerations"]} == {5_000_000}
    assert "priorityClassName" not in pod
    companion = found["HorizontalPodAutoscaler", "reports-companion"]
    assert companion["spec"]["maxReplicas"] == 40


@pytest.mark.parametrize("name", ["guarded", "handover-cordon"])
def test_what_lies_in_no_namespace_is_that_of_the_release(
    helm: Path, tmp_path: Path, name: str
) -> None:
    app = EVERY[name]
    found = by_name(objects(rendered(helm, chart_of(tmp_path, name), "finance")))
    assert found == by_name(objects_of(replace(app, namespace="finance")))


@pytest.mark.parametrize("mode", Mode)
def test_every_value_is_used_and_has_a_schema(mode: Mode) -> None:
    for app in (PLAIN[mode], FULL[mode]):
        made = files_of(app)
        values = yaml.safe_load(made["values.yaml"])
        schema = json.loads(made["values.schema.json"])
        templates = "".join(text for path, text in made.items() if path.startswith("templates/"))
        assert set(values) == set(schema["properties"]) - {"global"}
        assert schema["additionalProperties"] is False
        for key in values:
            assert f".Values.{key}" in templates, key
        assert "incumbent-value" not in "".join(made.values())
