"""What a killed run has left behind is taken away, and what a living one has is not."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.cluster import leftovers


@pytest.fixture
def hierarchy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is taken for the one hierarchy of control groups, and another for /tmp."""
    groups = tmp_path / "groups"
    groups.mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(leftovers, "CONTROL_GROUPS", groups)
    monkeypatch.setattr(leftovers, "_mounted", lambda kind: {groups} if kind == "cgroup" else set())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return groups


def test_what_a_dead_run_left_is_removed(hierarchy: Path, tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    name = f"incumbent-cluster-{ended.pid}-12345"
    (hierarchy / name / "node1" / "pods").mkdir(parents=True)
    (tmp_path / "tmp" / name / "disk").mkdir(parents=True)
    assert len(leftovers.reap()) == 2
    assert list(hierarchy.iterdir()) == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_what_a_living_run_has_is_left_alone(hierarchy: Path, tmp_path: Path) -> None:
    folder = leftovers.state_folder()
    leftovers.make_groups(f"{folder.name}/node1")
    (tmp_path / "tmp" / "incumbent-cluster-of-somebody").mkdir()
    assert leftovers.reap() == []
    assert folder.parent == tmp_path / "tmp"
    assert (hierarchy / folder.name / "node1").is_dir()


def test_a_process_that_got_the_number_later_is_not_the_run(hierarchy: Path) -> None:
    (hierarchy / f"incumbent-cluster-{os.getpid()}-1").mkdir()
    assert len(leftovers.reap()) == 1


def test_a_new_cpuset_is_told_its_processors(hierarchy: Path) -> None:
    (hierarchy / "cpuset.cpus").write_text("0-1\n")
    leftovers.make_groups("run/node1")
    assert (hierarchy / "run/node1/cpuset.cpus").read_text() == "0-1\n"
