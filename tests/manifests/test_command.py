"""`incumbent manifests` and `kubectl incumbent manifests`, as they are typed."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from pathlib import Path

import pytest
import yaml

from incumbent.manifests.modes import Mode
from incumbent.manifests.objects import objects_of
from incumbent.manifests.reading import application_of
from tests.cli.processes import Result, environment, run, run_python
from tests.manifests.kit import EVERY, IMAGE, PLAIN

STANDBY = ("reports", "--mode", "active-standby", "--image", IMAGE)
WORDS = ("--", "python", "-m", "reports")


def made(*arguments: str) -> Result:
    done = run("manifests", *arguments)
    assert (done.code, done.err) == (0, ""), done.err
    return done


def test_what_is_typed_is_the_application_of_the_library() -> None:
    found = list(yaml.safe_load_all(made(*STANDBY, *WORDS).out))
    assert found == objects_of(PLAIN[Mode.ACTIVE_STANDBY])
    listed = made(*STANDBY, "--json", *WORDS).json
    assert (listed["kind"], listed["items"]) == ("List", found)


def test_every_option_is_its_field() -> None:
    typed = made(
        *("reports", "--mode", "partly-singleton", "--image", IMAGE, "--namespace", "finance"),
        *("--owner", "Ann", "--ttl", "20", "--grace", "2.5", "--tolerations", "7"),
        *("--lease", "nightly", "--store-secret", "stores/redis", "--port", "web=80"),
        *("--port", "81", "--env", "A=b=c", "--cpu", "1", "--memory", "1Gi"),
        *("--priority-class", "important", "--liveness", "/live", "--readiness", "test -e '/a b'"),
        *("--min-replicas", "2", "--max-replicas", "5", "--companion", "web:1", "--user", "7"),
        "--json",
        *("--", "serve", "--mode", "x"),
    ).json["items"]
    told = {
        "name": "reports",
        "mode": "partly-singleton",
        "image": IMAGE,
        "namespace": "finance",
        "owner": "Ann",
        "ttl_s": 20.0,
        "grace_s": 2.5,
        "tolerations_s": 7,
        "lease": "nightly",
        "store_secret": "stores/redis",
        "ports": [{"name": "web", "number": 80}, 81],
        "env": {"A": "b=c"},
        "resources": {"cpu": "1", "memory": "1Gi"},
        "priority_class": "important",
        "liveness": {"path": "/live"},
        "readiness": {"command": ["test", "-e", "/a b"]},
        "autoscaling": {"min_replicas": 2, "max_replicas": 5},
        "companion": {"image": "web:1"},
        "user": 7,
        "command": ["serve", "--mode", "x"],
    }
    assert typed == objects_of(application_of(told))


def test_the_guard_is_written_in_front() -> None:
    typed = made(
        *("reports", "--mode", "at-most-one", "--image", IMAGE, "--owner", "reports@example.com"),
        *("--guard", "--json"),
    ).json["items"]
    assert typed == objects_of(EVERY["guarded"])
    kinds = [obj["kind"] for obj in typed]
    assert kinds.index("ValidatingAdmissionPolicyBinding") < kinds.index("StatefulSet")


def test_an_option_counts_more_than_the_file(tmp_path: Path) -> None:
    file = tmp_path / "app.yaml"
    file.write_text(
        "name: reports\nmode: at-most-one\nimage: a/b:1\nowner: ann\n"
        "resources: {cpu: '2', memory: 1Gi}\n"
    )
    items = made("--from", str(file), "--cpu", "3", "--json", "--", "x", "y").json["items"]
    (workload,) = [obj for obj in items if obj["kind"] == "StatefulSet"]
    container = workload["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["requests"] == {"cpu": "3", "memory": "1Gi"}
    assert container["command"] == ["x", "y"]
    assert workload["metadata"]["name"] == "reports"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["a"], "--mode: is missing: say one of at-least-one"),
        (["--mode", "at-most-one", "--image", "a:1"], "NAME: is missing: add it"),
        (["a", "--mode", "two"], "'two' is not one of 'at-least-one'"),
        (["a", "b"], "unexpected extra argument"),
        (["a", "--mode", "at-most-one", "--image", "a:1"], "--owner: in mode at-most-one"),
        ([*STANDBY, "--guard", *WORDS], "--guard: it keeps a marked singleton"),
        ([*STANDBY, "--port", "x"], "--port: 'x' is neither NUMBER nor NAME=NUMBER"),
        ([*STANDBY, "--env", "x"], "--env: 'x' is not NAME=TEXT"),
        ([*STANDBY, "--readiness", "'"], "--readiness"),
        ([*STANDBY], "the command after `--`: `incumbent run` starts the process"),
        ([*STANDBY, "--ttl", "5", "--grace", "9", *WORDS], "raise --ttl above"),
        (
            [*STANDBY, "--format", "helm", *WORDS],
            "--format helm is a folder: say which by --output",
        ),
        ([*STANDBY, "--output", "x", *WORDS], "leave --output out"),
        ([*STANDBY, "--from", "nowhere.yaml"], "cannot read nowhere.yaml"),
    ],
)
def test_bad_input_is_one_line_in_the_words_of_the_options(arguments: list[str], text: str) -> None:
    done = run("manifests", *arguments)
    assert (done.code, done.out) == (2, "")
    assert text in done.err
    assert len(done.err.splitlines()) == 1


def test_a_folder_is_written_and_listed(tmp_path: Path) -> None:
    for kind, first in (("helm", "Chart.yaml"), ("kustomize", "base/kustomization.yaml")):
        folder = tmp_path / kind
        listed = made(*STANDBY, "--format", kind, "--output", str(folder), *WORDS).out.split()
        assert str(folder / first) in listed
        assert {str(path) for path in folder.rglob("*") if path.is_file()} == set(listed)


def test_who_can_be_two_is_told_to_people_and_programs() -> None:
    text = made(*STANDBY, "--explain", *WORDS).out
    assert "only the API server cut off" in text
    told = made(*STANDBY, "--explain", "--json", *WORDS).json
    assert told["mode"] == "active-standby"
    assert {row["two_for"] for row in told["who_can_be_two"]} == {"–"}


def test_it_is_a_plugin_of_kubectl(kubectl: Path) -> None:
    folder = sysconfig.get_path("scripts")
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [kubectl, "incumbent", "manifests", *STANDBY, "--json", *WORDS],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment({"PATH": path}),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["items"] == objects_of(PLAIN[Mode.ACTIVE_STANDBY])


def test_help_reads_no_yaml_and_without_it_the_extra_is_named() -> None:
    done = run_python(
        "import sys; from incumbent.cli.__main__ import main; code = main(['manifests', '-h'])\n"
        "print(code, [m for m in ('yaml', 'rich', 'incumbent.manifests') if m in sys.modules])"
    )
    assert done.out.splitlines()[-1] == "0 []"
    words = ["manifests", *STANDBY, *WORDS]
    done = run_python(
        "import sys; sys.modules['yaml'] = None\n"
        f"from incumbent.cli.app import main; sys.exit(main({words!r}))"
    )
    assert (done.code, done.out) == (2, "")
    assert "pip install 'incumbent[cli,kubernetes]'" in done.err
