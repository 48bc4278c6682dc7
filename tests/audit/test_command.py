"""`incumbent audit` on files: what it says, in which form, and how it ends."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from incumbent.audit.rules import RULES
from incumbent.cli import app, codes
from tests.audit.kit import EXAMPLES, example
from tests.cli.processes import Result, run_python

SURGE = str(EXAMPLES / "INC011-bad.yaml")


Audit = Callable[..., Result]


@pytest.fixture
def audit(capsys: pytest.CaptureFixture[str]) -> Audit:
    def call(*arguments: str) -> Result:
        code = app.main(["audit", *arguments])
        return Result(code, *capsys.readouterr())

    return call


def test_findings_are_lines_that_an_editor_can_jump_to(audit: Audit) -> None:
    said = audit(SURGE)
    assert said.code == codes.NOT_SO
    first, why, fix, *_ = said.out.splitlines()
    assert first.startswith(f"{SURGE}:4: critical INC011: Deployment poller is at-most-one")
    assert "there are two" in why
    assert "Recreate" in fix
    assert said.out.splitlines()[-1] == "1 object: 2 critical, 4 medium"


def test_quietly_only_the_findings(audit: Audit) -> None:
    lines = audit("-q", SURGE).out.splitlines()
    assert len(lines) == 6
    assert all(line.startswith(f"{SURGE}:") for line in lines)


@pytest.mark.parametrize(
    ("fail_on", "name", "code"),
    [
        ("critical", "INC011-bad", codes.NOT_SO),
        ("critical", "INC021-bad", codes.OK),
        ("high", "INC021-bad", codes.NOT_SO),
        ("high", "INC094-bad", codes.NOT_SO),
        ("high", "INC096-bad", codes.NOT_SO),
        ("high", "INC071-good", codes.OK),
        ("medium", "INC071-good", codes.NOT_SO),
        ("note", "INC008-bad", codes.NOT_SO),
        ("low", "INC008-bad", codes.OK),
        ("never", "INC011-bad", codes.OK),
    ],
)
def test_the_exit_code_follows_from_the_severity(
    audit: Audit, fail_on: str, name: str, code: int
) -> None:
    assert audit("--fail-on", fail_on, str(EXAMPLES / f"{name}.yaml")).code == code


def test_objects_of_several_files_are_one_set(audit: Audit, tmp_path: Path) -> None:
    workload, budget = example("INC031-good").split("---\n")
    (tmp_path / "a.yaml").write_text(workload, encoding="utf-8")
    (tmp_path / "b.yaml").write_text(budget, encoding="utf-8")
    alone = {each["rule"] for each in audit("--json", str(tmp_path / "a.yaml")).json["findings"]}
    both = {each["rule"] for each in audit("--json", str(tmp_path)).json["findings"]}
    assert "INC031" in alone
    assert "INC031" not in both


def test_json_has_all_that_is_known(audit: Audit) -> None:
    said = audit("--json", SURGE)
    assert said.code == codes.NOT_SO
    found = {each["rule"]: each for each in said.json["findings"]}["INC011"]
    assert found["object"] == {"kind": "Deployment", "namespace": "default", "name": "poller"}
    assert (found["file"], found["line"], found["severity"]) == (SURGE, 4, "critical")
    assert (found["fixable"], found["waived"]) == (True, None)
    assert found["links"][0] == "docs/audit.md#inc011"


def test_a_stream(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(example("INC039-bad")))
    assert audit("-q", "-").out.startswith("<stdin>:1: high INC039: ")


def test_the_mode_on_the_command_line_counts(audit: Audit) -> None:
    path = str(EXAMPLES / "INC008-bad.yaml")
    assert "INC011" not in audit("-q", path).out
    for mode in ("web=at-most-one", "Deployment/web=at-most-one"):
        assert "critical INC011" in audit("-q", "--mode", mode, path).out
    assert "critical INC011" not in audit("-q", "--mode", "web=at-least-one", path).out


def test_a_mode_of_nothing_is_refused(audit: Audit) -> None:
    for name, meant in (("webb", "did you mean 'web'?"), ("other", "there are: web")):
        said = audit("--mode", f"{name}=at-most-one", str(EXAMPLES / "INC008-bad.yaml"))
        text = f"--mode {name}=…: there is no such workload: {meant}"
        assert (said.code, said.out, said.err) == (2, "", f"incumbent: error: {text}\n")


def test_what_is_no_object_is_told(audit: Audit, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("replicas: 1\n---\n" + example("INC039-good"), encoding="utf-8")
    said = audit(str(path))
    assert said.code == codes.OK
    assert said.err == f"incumbent: no Kubernetes object, left out: {path}:1\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "nothing to judge: name files"),
        (["--cluster", SURGE], "either files or --cluster"),
        (["--context", "x", SURGE], "are for --cluster"),
        (["--fix", "-"], "a stream or a cluster is not rewritten"),
        (["--diff", "--cluster"], "a stream or a cluster is not rewritten"),
        (["--mode", "web", SURGE], "is not NAME=MODE"),
        (["--mode", "web=one", SURGE], "at-least-one, at-most-one, active-standby"),
        (["--waivers", "/not/there", SURGE], "cannot read /not/there"),
        (["/not/there.yaml"], "cannot read /not/there.yaml: No such file or directory"),
        (["--fail-on", "bad", SURGE], "'bad' is not one of"),
    ],
)
def test_what_is_wrong_is_one_line(audit: Audit, arguments: list[str], text: str) -> None:
    said = audit(*arguments)
    assert said.code == codes.USAGE
    assert said.err.startswith("incumbent: error: ")
    assert text in said.err
    assert len(said.err.splitlines()) == 1


def test_a_set_without_objects_is_not_clean(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    said = audit("-")
    assert said.code == codes.USAGE
    assert "no Kubernetes object in -" in said.err


# -- waivers --------------------------------------------------------------------------------------


def waived(tmp_path: Path, entries: str) -> list[str]:
    path = tmp_path / "waivers.yaml"
    path.write_text(f"waivers:\n{entries}\n", encoding="utf-8")
    return ["--waivers", str(path)]


def test_an_annotation_waives_with_its_reason(audit: Audit, tmp_path: Path) -> None:
    text = example("INC039-bad").replace("{name: poller}", "{name: poller, annotations: {%s}}")
    path = tmp_path / "x.yaml"
    path.write_text(text % "waive.incumbent.dev/INC039: an old cluster", encoding="utf-8")
    said = audit(str(path))
    assert said.code == codes.OK
    assert f"{path}:1: waived INC039: an old cluster\n" in said.out
    assert said.out.splitlines()[-1] == "1 object: nothing found; 1 waived"
    path.write_text(text % "waive.incumbent.dev/INC039: ' '", encoding="utf-8")
    said = audit("-q", str(path))
    assert said.code == codes.NOT_SO
    assert {line.split()[2] for line in said.out.splitlines()} == {"INC039:", "INC098:"}


def test_a_file_waives_by_pattern(audit: Audit, tmp_path: Path) -> None:
    path = str(EXAMPLES / "INC039-bad.yaml")
    for named in ("PodDisruptionBudget/poller", "*/poll*", "default/PodDisruptionBudget/*"):
        entry = f"- {{rule: INC039, object: '{named}', reason: an old cluster}}"
        assert audit(*waived(tmp_path, entry), path).code == codes.OK
    entry = "- {rule: INC039, object: other/*/poller, reason: an old cluster}"
    said = audit(*waived(tmp_path, entry), path)
    assert said.code == codes.NOT_SO
    assert "the waiver of INC039 for other/*/poller accepts nothing" in said.err


def test_a_waiver_ends_with_its_day(audit: Audit, tmp_path: Path) -> None:
    path = str(EXAMPLES / "INC039-bad.yaml")
    entry = "- {rule: INC039, object: '*/*', reason: an old cluster, until: %s}"
    assert audit(*waived(tmp_path, entry % "9999-12-31"), path).code == codes.OK
    said = audit(*waived(tmp_path, entry % "2020-01-31"), path)
    assert said.code == codes.NOT_SO
    assert "it ended with 2020-01-31" in said.err


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("- {rule: INC999, object: '*/*', reason: x}", "'INC999' is no rule"),
        ("- {rule: INC039, object: poller, reason: x}", "is not KIND/NAME"),
        ("- {rule: INC039, object: '*/*'}", "waiver 1 has no reason"),
        ("- {rule: INC039, object: '*/*', reason: x, until: soon}", "is no date"),
        ("- {rule: INC039, object: '*/*', reason: x, untill: x}", "has untill; there are"),
    ],
)
def test_a_wrong_waiver_is_refused(audit: Audit, tmp_path: Path, entry: str, text: str) -> None:
    said = audit(*waived(tmp_path, entry), SURGE)
    assert said.code == codes.USAGE
    assert text in said.err


def test_a_file_of_something_else_is_no_file_of_waivers(audit: Audit) -> None:
    assert "has no list `waivers:`" in audit("--waivers", SURGE, SURGE).err


# -- repairs --------------------------------------------------------------------------------------


def test_a_diff_changes_nothing(audit: Audit, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    shutil.copy(SURGE, path)
    said = audit("--diff", str(path))
    assert said.code == codes.NOT_SO
    assert "\n+  strategy: {type: Recreate}\n" in said.out
    assert path.read_text(encoding="utf-8") == example("INC011-bad")


def test_a_fix_is_written_and_what_is_left_is_judged(audit: Audit, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + example("INC039-bad").replace("\n", "\r\n").encode())
    said = audit("--fix", str(path))
    assert said.code == codes.OK
    assert said.err == f"incumbent: mended {path}: INC039\n"
    assert said.out == "1 object: nothing found\n"
    wanted = example("INC039-good").replace("\n", "\r\n").encode()
    assert path.read_bytes() == b"\xef\xbb\xbf" + wanted


def test_what_cannot_be_mended_safely_is_said(audit: Audit, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    text = example("INC039-bad").replace("policy/v1beta1", "&version policy/v1beta1")
    text = text.replace("{name: poller}", "{name: poller, annotations: {was: *version}}")
    path.write_text(text, encoding="utf-8")
    said = audit("--fix", str(path))
    assert said.code == codes.NOT_SO
    assert said.err == f"incumbent: {path}:1: INC039 cannot be mended safely in this text\n"
    assert path.read_text(encoding="utf-8") == text


# -- the rest -------------------------------------------------------------------------------------


def test_the_rules_are_listed(audit: Audit) -> None:
    assert [each["rule"] for each in audit("--rules", "--json").json] == [each.id for each in RULES]
    lines = audit("--rules").out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [each.id for each in RULES]


def test_help_imports_no_yaml() -> None:
    done = run_python(
        "import sys; from incumbent.cli.__main__ import main; code = main(['audit', '--help'])\n"
        "print(code, [m for m in ('yaml', 'rich', 'incumbent.audit') if m in sys.modules])"
    )
    assert done.out.splitlines()[-1] == "0 []"
