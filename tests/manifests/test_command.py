"""`incumbent manifests` and `kubectl incumbent manifests`, as they are typed."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sysconfig
from pathlib import Path

import pytest
import yaml

from incumbent.cli.app import main
from incumbent.manifests.modes import Mode
from incumbent.manifests.objects import objects_of
from incumbent.manifests.reading import application_of
from tests.cli.processes import Result, environment, run, run_python
from tests.manifests.kit import EVERY, IMAGE, PLAIN

STANDBY = ("reports", "--mode", "active-standby", "--image", IMAGE)
BASE = "name: a\nmode: active-standby\nimage: a:1\ncommand: [x]\n"
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
        (["a", "b"], "unexpected extra argument (b): what belongs to the application's command"),
        (["a", "--image", "a:1", "python", "-m", "a"], "stands after `--`, as in `-- python"),
        ([*STANDBY, "--store", "bogus://", *WORDS], "--store: no store answers to bogus://; there"),
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


TYPED = (
    ("a --mode at-most-one", "as in --owner payments@example.com"),
    ("a --mode at-most-one --replicas 2", "by --mode active-standby"),
    ("a --mode at-most-one --lease b", "or use --mode active-standby"),
    ("a --mode at-least-one --max-replicas 3 --min-replicas 1", "--min-replicas and"),
    ("a --mode partly-singleton", "add --port 8080, or use --mode"),
    (
        "a --mode partly-singleton --port 8 --min-replicas 4 --max-replicas 3",
        "--max-replicas 3 is less than --min-replicas 4",
    ),
    (
        "a --mode partly-singleton --port 8 --max-replicas 3 --min-replicas 2 --replicas 9",
        "leave --replicas out",
    ),
    (
        "a --mode partly-singleton --port 8 --readiness /leader",
        "--readiness: '/leader' asks who leads",
    ),
    ("a --mode active-standby --companion b", "--companion: 'b' is whatever"),
    ("a --mode active-standby", "-- python poll.py"),
    ("a --mode active-standby --port 80 -- x", "found by --routing ("),
    ("a --mode active-standby --routing label -- x", "add --port NUMBER"),
    (
        "a --mode active-standby --max-replicas 3 --min-replicas 2 -- x",
        "set --replicas, or use --mode",
    ),
    (
        "a --mode active-standby --store redis://a:b@c -- x",
        "name that by --store-secret SECRET/KEY",
    ),
    (
        "a --mode active-standby --store redis://c --evidence -- x",
        "leave out --store and --store-secret",
    ),
    (
        "a --mode active-standby --store redis://c --store-secret a/b -- x",
        "--store and --store-secret exclude each other",
    ),
    (
        "a --mode active-standby --routing endpointslice --port 80 --lease b -- x",
        "leave --lease out",
    ),
)


@pytest.mark.parametrize(("typed", "text"), TYPED)
def test_what_to_do_is_said_as_it_is_typed(
    typed: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["manifests", "--image", "a:1", *typed.split()]) == 2
    said = capsys.readouterr().err
    assert text in said
    spelled = re.findall(r"\b[a-z]+_[a-z_]+\b|\{name:|\b(?:use|by) mode ", said)
    assert spelled == []


def test_beside_a_file_what_was_typed_is_named_as_it_was_typed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "app.yaml"
    file.write_text("name: a\nmode: active-standby\nimage: a:1\nttl_s: 15\ncommand: [x]\n")
    assert main(["manifests", "--from", str(file), "--tolerations", "-1"]) == 2
    assert "error: --tolerations: -1 must be" in capsys.readouterr().err
    file.write_text(file.read_text() + "user: 0\n")
    assert main(["manifests", "--from", str(file), "--tolerations", "1"]) == 2
    assert "error: user: 0 must be" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("app.yaml", "name: a\nimage: a:1\nname: b\n", "line 3: 'name' stands there twice"),
        ("app.yaml", "resources: {cpu: 1,\n cpu: 2}\n", "line 2: 'cpu' stands there twice"),
        ("app.json", '{"env": {"A": "1", "A": "2"}}', "'A' stands there twice"),
        ("app.yaml", "# nothing\n", "is empty: write fields into it, as in name: reports"),
        ("app.yaml", "resources: {cpu: .nan}\n" + BASE, "resources.cpu: nan is no amount"),
    ],
)
def test_what_a_file_cannot_mean_is_refused(
    name: str, text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    file.write_text(text)
    assert main(["manifests", "--from", str(file)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_an_amount_may_be_a_number_and_the_file_the_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{BASE}resources: {{cpu: 0.5, memory: 1Gi}}\n"))
    assert main(["manifests", "--from", "-", "--json"]) == 0
    items = json.loads(capsys.readouterr().out)["items"]
    (workload,) = [obj for obj in items if obj["kind"] == "Deployment"]
    container = workload["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["requests"] == {"cpu": "0.5", "memory": "1Gi"}
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["manifests", "--from", "-"]) == 2
    assert "- is empty" in capsys.readouterr().err


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
