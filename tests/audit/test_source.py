"""What is read, from where, and on which line it stands."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from incumbent.audit.source import read, read_text
from incumbent.errors import ConfigError


def body(text: str) -> dict[str, object]:
    [manifest] = read_text(f"apiVersion: v1\nkind: X\ndata: {text}\n").manifests
    data: dict[str, object] = manifest.body["data"]
    return data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{a: yes, b: Off, c: y, d: n}", {"a": True, "b": False, "c": True, "d": False}),
        ("{a: 1:30, b: 2026-01-01}", {"a": "1:30", "b": "2026-01-01"}),
        ("{a: 010, b: 0x1f, c: 1_000, d: 0o17}", {"a": 8, "b": 31, "c": 1000, "d": 15}),
        ("{a: 1.5, b: 1e3, c: 3.}", {"a": 1.5, "b": 1000.0, "c": 3.0}),
        ("{a: ~, b: null, c: , d: 'null'}", {"a": None, "b": None, "c": None, "d": "null"}),
        ("{<<: {a: 1}, b: 0}", {"a": 1, "b": 0}),
        ("{a: 100m, b: 25%, c: '1', d: +5}", {"a": "100m", "b": "25%", "c": "1", "d": 5}),
    ],
)
def test_scalars_are_read_as_kubernetes_reads_them(text: str, value: object) -> None:
    assert body(text) == value


def test_documents_lists_and_what_is_no_object() -> None:
    found = read_text(
        "replicas: 1\n---\n# nothing\n---\n"
        "apiVersion: v1\nkind: ConfigMapList\nitems:\n"
        "- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n"
        "- {apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: X, metadata: {name: b}}]}\n"
        "---\n{apiVersion: v1, kind: List, items: []}\n",
        "values.yaml",
    )
    assert [manifest.name for manifest in found.manifests] == ["a", "b"]
    assert found.left_out == ["values.yaml:1"]
    assert [manifest.origin.line(("metadata", "name")) for manifest in found.manifests] == [8, 9]


def test_lines_are_those_of_the_nearest_thing_that_is_there() -> None:
    text = "---\napiVersion: v1\nkind: Pod\nspec:\n  a: 1\n  list:\n  - x: 1\n  - y: 2\n"
    origin = read_text(text).manifests[0].origin
    assert origin.line(("kind",)) == 3
    assert origin.line(("spec", "list", 1, "y")) == 8
    assert origin.line(("spec", "not", "there")) == 4
    assert origin.line(("status",)) == 2


@pytest.mark.parametrize(
    ("named", "home"),
    [
        (["a", "a", ""], "a"),
        (["a", "", ""], "default"),
        (["a", "b", ""], "default"),
        (["", ""], "default"),
    ],
)
def test_the_namespace_of_what_names_none(named: list[str], home: str) -> None:
    text = "\n---\n".join(
        f"apiVersion: v1\nkind: Pod\nmetadata: {{name: x, namespace: {each or '~'}}}"
        for each in named
    )
    assert read_text(text).manifests[-1].namespace == home
    assert read_text(text, namespace="given").manifests[-1].namespace == "given"


def test_folders_and_the_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\n"
    (tmp_path / "deep" / ".hidden").mkdir(parents=True)
    for name in ("b.yaml", "deep/a.yml", "deep/.hidden/c.yaml", "notes.txt"):
        (tmp_path / name).write_text(pod % name[0], encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO(pod % "s"))
    found = read([str(tmp_path), "-"])
    assert [manifest.name for manifest in found.manifests] == ["b", "d", "s"]
    assert found.manifests[-1].origin.name == "<stdin>"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: {{ .Values.x }}\nb: [", "helm template"),
        ("kind: Deployment\nspec:\n  replicas: {{ .Values.n }}\n", "x.yaml is a template"),
        ("a: [1\nb: 2\n", "line 2"),
        ("a: &a [*a]\n", "contains itself"),
        ("[" * 1000 + "]" * 1000, "nested too deeply"),
        ("[" * 90000 + "]" * 90000, "nested too deeply"),
        ("- " * 90000 + "x", "nested too deeply"),
        ("a: !!python/object:os.system x\n", "line 1"),
        ("{a: 1}: 2\n", "line 1"),
    ],
)
def test_what_cannot_be_read_is_said(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_text(text, "x.yaml")


def test_aliases_that_blow_up_are_refused() -> None:
    text = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    for number in range(1, 9):
        text += f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 10)}]\n"
    with pytest.raises(ConfigError, match="aliases"):
        read_text(text)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*: No such file"):
        read([str(tmp_path / "no.yaml")])
    with pytest.raises(ConfigError, match="has no file that ends in"):
        read([str(tmp_path)])
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        read([str(tmp_path / "x.yaml")])
