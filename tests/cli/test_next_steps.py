"""Each error about a cluster names what to change here: the option that there is, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from incumbent.cli import app
from tests.cli.processes import run

NO_SERVER = "no Kubernetes API server is known"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a kubeconfig, and outside of any Pod."""
    for variable in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "INCUMBENT_STORE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def without_current(home: Path) -> Path:
    """A kubeconfig with two contexts, of which none is the current one."""
    path = home / "config"
    path.write_text(
        "contexts: [{name: b, context: {cluster: c}}, {name: a, context: {cluster: c}}]\n"
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n"
    )
    return path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert app.main([*arguments]) == 2
    told = capsys.readouterr()
    assert (told.out, len(told.err.splitlines())) == ("", 1)
    return told.err


@pytest.mark.parametrize("command", ["status", "audit"])
def test_a_cluster_is_named_by_options(
    command: str, without_current: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, command, "--cluster")
    assert NO_SERVER in said
    assert "name a kubeconfig by --kubeconfig PATH or KUBECONFIG, or run this in a Pod" in said
    said = refused(capsys, command, "--cluster", "--kubeconfig", str(without_current))
    assert "choose one by --context NAME or `kubectl config use-context NAME`" in said
    assert said.endswith("it has: a, b\n")


def test_a_store_is_named_by_its_url(
    without_current: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = refused(capsys, "status", "--store", "kubernetes://")
    assert "KUBECONFIG is not set" in said
    assert "by ?kubeconfig=PATH in the URL or KUBECONFIG" in said
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    assert "KUBECONFIG=/nowhere names no file" in refused(
        capsys, "status", "--store", "kubernetes://"
    )
    said = refused(capsys, "status", "--store", f"kubernetes://?kubeconfig={without_current}")
    assert "by ?context=NAME in the URL or `kubectl config use-context NAME`" in said


@pytest.mark.parametrize(
    ("url", "found", "fix"),
    [
        ("kubernetes://", "by ?kubeconfig=PATH in the URL or KUBECONFIG", None),
        ("bogus://", "no store answers to bogus://", "see `incumbent stores`"),
    ],
)
def test_the_doctor_does_not_send_to_a_list_of_stores(
    url: str, found: str, fix: str | None, home: Path
) -> None:
    done = run("doctor", "--json", "--store", url, extra={"HOME": str(home)})
    [told] = [each for each in done.json["findings"] if each["check"] == "store URL"]
    assert (done.code, told["ok"], told["fix"]) == (1, False, fix)
    assert found in told["found"]


def test_the_doctor_says_who_looks_at_a_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "doctor", "--cluster")
    for command in ("audit --cluster", "status --cluster", "doctor --store kubernetes://"):
        assert f"`incumbent {command}`" in said


def test_a_handover_from_no_pod_names_its_option(home: Path) -> None:
    store = f"sqlite://{home}/a.db"
    words = ("run", "bill", "--hand-over-on", "cordon", "--store", store, "--", "true")
    done = run(*words, extra={"HOME": str(home)})
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "--hand-over-on cordon is for a Pod, whatever the store: leave it out" in done.err
    assert NO_SERVER in done.err
    assert not (home / "a.db").exists()
