"""What is printed: the golden files, what can be read back, and what is left as a comment."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from incumbent.errors import ConfigError
from incumbent.manifests.model import Application
from incumbent.manifests.modes import Mode, exposures
from incumbent.manifests.objects import objects_of
from incumbent.manifests.parts import Autoscaling, Companion, Port, Probe, Resources, Storage
from incumbent.manifests.render import files
from incumbent.manifests.render.yaml import plain
from tests.manifests.kit import DOCUMENT, EVERY, GOLDEN, PLAIN, table


@pytest.mark.parametrize("name", EVERY)
def test_what_is_printed_is_what_was_reviewed(name: str) -> None:
    golden = (GOLDEN / f"{name}.yaml").read_text(encoding="utf-8")
    assert plain(EVERY[name]) == golden, "python -m tests.manifests.kit writes them anew"


@pytest.mark.parametrize("mode", Mode)
def test_the_documentation_has_the_table(mode: Mode) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert f"<!-- table: {mode} -->\n{table(mode)}<!-- end -->" in text, "tests.manifests.kit"


def test_the_documentation_names_every_field() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    kinds = (Application, Port, Probe, Resources, Storage, Autoscaling, Companion)
    names = {field.name for kind in kinds for field in fields(kind)}
    assert sorted(name for name in names if f"`{name}`" not in text) == []


def test_every_golden_file_is_of_an_application() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(EVERY)


@pytest.mark.parametrize("name", EVERY)
def test_what_is_printed_reads_back_as_the_objects(name: str) -> None:
    assert list(yaml.safe_load_all(plain(EVERY[name]))) == objects_of(EVERY[name])


@pytest.mark.parametrize("mode", Mode)
def test_the_comment_has_every_row_of_the_table(mode: Mode) -> None:
    app = PLAIN[mode]
    head = plain(app).partition("---")[0]
    words = " ".join(line.removeprefix("#") for line in head.splitlines()).split()
    assert all(line.startswith("#") for line in head.splitlines())
    for row in exposures(mode, app.times):
        assert row.cause.split()[0] in words


def test_only_the_modes_of_one_replica_can_be_two() -> None:
    for mode, app in PLAIN.items():
        double = {row.cause for row in exposures(mode, app.times) if row.at_once not in ("0", "1")}
        assert bool(double) == mode.single, mode
        two_for = {row.cause for row in exposures(mode, app.times) if row.two_for != "–"}
        assert two_for == double, mode


def test_a_folder_is_written_again_but_not_around_what_is_not_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    files.write(folder, {"a.yaml": "1", "templates/b.yaml": "2"})
    files.write(folder, {"a.yaml": "3", "templates/b.yaml": "4"})
    assert (folder / "templates/b.yaml").read_text() == "4"
    (folder / "templates/README.md").write_text("mine")
    with pytest.raises(ConfigError, match=r"templates/b\.yaml is not of what is written now"):
        files.write(folder, {"a.yaml": "5", "templates/c.yaml": "6"})
    assert (folder / "a.yaml").read_text() == "3"


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(ConfigError, match="taken"):
        files.write(tmp_path / "taken", {"base/a.yaml": ""})
