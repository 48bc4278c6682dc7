"""A periodic job with a process of its own: that one dies with the term, and ours lives."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.workloads.consuming import until
from tests.workloads.faces import FACES, Face
from tests.workloads.isolated import LOG, alive, made


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Face:
    return Face(request.param)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "log"
    path.touch()
    monkeypatch.setenv(LOG, str(path))
    return path


def runs(log: Path) -> list[tuple[str, int, int]]:
    """Return tick, attempt and token of each run."""
    found = (line.split() for line in log.read_text().splitlines())
    return [(tick, int(attempt), int(token)) for tick, attempt, token in found]


@pytest.mark.parametrize("how", ["asked", "lost"])
def test_the_job_dies_with_its_term_and_we_live(
    face: Face, tmp_path: Path, log: Path, how: str
) -> None:
    """The tick was cut short, and is begun again by the next term: in another process."""
    path = tmp_path / "store.db"
    face.start(made(face.name, f"sqlite://{path}"))
    try:
        until(lambda: runs(log), "it runs")
        tick, attempt, token = runs(log)[0]
        assert attempt == 1
        assert alive(log, token)
        if how == "asked":
            face.step_down()
            until(lambda: not alive(log, token), "the job has been ended")
        else:
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN EXCLUSIVE")  # Nobody's renewal gets through.
                until(lambda: not alive(log, token), "the job has been ended")
                assert len(runs(log)) == 1
        until(lambda: len(runs(log)) > 1, "a later term runs it")
        assert runs(log)[1][:2] == (tick, 2)
        assert runs(log)[1][2] > token
    finally:
        face.stop()
    assert not alive(log, runs(log)[-1][2])
