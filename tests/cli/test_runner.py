"""The loop of `incumbent run` between two terms."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from incumbent.cli import runner
from incumbent.runtime.contain import Tree
from tests.cli import processes
from tests.faces.programs import Program

SLEEP = ("--", "sleep", "600")


@pytest.fixture
def started() -> Iterator[list[Program]]:
    programs: list[Program] = []
    yield programs
    for program in programs:
        program.close()


def late(url: str, gate: Path, *options: str) -> Program:
    """A replica whose second tree has to wait for `gate`."""
    own = [sys.executable, "-m", "tests.cli.slow_init", str(gate)]
    return Program([*own, "run", "e", "--store", url, "--as", "late", *options, *SLEEP])


def test_the_successor_does_not_wait_for_our_next_tree(
    started: list[Program], url: str, tmp_path: Path
) -> None:
    """The end of the work is told before the next tree is made, which may take long."""
    gate = tmp_path / "gate"
    started.append(late(url, gate))
    started[0].error("elected")
    started.append(
        Program([*processes.command("run", "e", "--store", url, "--as", "other"), *SLEEP])
    )
    started[1].error("standby")

    assert processes.run("step-down", "e", "--store", url).code == 0

    started[0].expect("preparing")
    started[1].error("elected")
    assert started[0].process.poll() is None
    assert not gate.exists()
    gate.touch()
    assert processes.run("step-down", "e", "--store", url).code == 0
    started[0].error("elected")


def test_a_term_won_before_its_tree_is_there_waits_for_it(
    started: list[Program], url: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    own = [sys.executable, "-m", "tests.cli.slow_init", str(gate), "run", "e", "--store", url]
    command = ["sh", "-c", 'echo "ran under $INCUMBENT_TOKEN"']
    started.append(Program([*own, "--as", "late", "--again", "--", *command]))
    first = started[0].line()
    started[0].error("elected")
    started[0].expect("preparing")
    started[0].error("elected")
    gate.touch()
    assert first.startswith("ran under ")
    second = started[0].line()
    assert int(second.split()[-1]) > int(first.split()[-1])


class _Told:
    """A tree that keeps what it is told; and no kernel's timer on the tests' own process."""

    def __init__(self) -> None:
        self.deadlines: list[float] = []

    def extend(self, deadline: float) -> None:
        self.deadlines.append(deadline)

    def arm(self, deadline: float, message: str) -> None:
        pass

    def disarm(self) -> None:
        pass


def test_a_tree_that_comes_after_its_term_is_told_the_terms_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "DeadMan", _Told)
    deadline = runner._Deadline()
    old, new = _Told(), _Told()
    deadline.cover(cast(Tree, old))
    deadline.arm(5.0, "")
    deadline.disarm()
    deadline.cover(None)
    deadline.arm(9.0, "")
    deadline.cover(cast(Tree, new))
    deadline.arm(10.0, "")
    assert old.deadlines == [float("inf"), 5.0, float("inf")]
    assert new.deadlines == [9.0, 10.0]
