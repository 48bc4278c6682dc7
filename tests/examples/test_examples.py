"""The README's examples run, as they stand in `examples/`, and are the ones that it shows."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from incumbent.core.records import Holding
from incumbent.stores import open_store

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
README = (ROOT / "README.md").read_text()
LIMIT_S = 60


def environment(tmp_path: Path) -> dict[str, str]:
    """Return an environment with a store of this test's own."""
    return {**os.environ, "INCUMBENT_STORE": f"sqlite://{tmp_path}/incumbent.db"}


@pytest.mark.parametrize(
    ("example", "says"),
    [
        ("hold.py", "settling with fencing token"),
        ("fencing.py", "sealed with"),
        ("fencing_http.py", "refused: 'ledger' has seen token"),
        ("isolated.py", "the work ran in another process"),
    ],
)
def test_an_example_that_ends(example: str, says: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / example)],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    assert says in done.stdout


@pytest.mark.parametrize(
    ("example", "says"),
    [
        ("lead.py", "polling as"),
        ("lead_async.py", "consuming as"),
        ("periodic.py", "reporting for"),
    ],
)
def test_an_example_that_leads_for_ever(example: str, says: str, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / example)],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert says in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, errors) == (130, "")
    assert left(tmp_path) == [Holding.VACANT]


def left(tmp_path: Path) -> list[Holding]:
    """Return what is left of the elections."""
    store = open_store(environment(tmp_path)["INCUMBENT_STORE"])

    async def look() -> list[Holding]:
        await store.open(create=False)
        try:
            return [election.holding for election in await store.elections()]
        finally:
            await store.close()

    return asyncio.run(look())


def test_the_example_of_many_elections(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "spread.py")],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        begun = {process.stdout.readline() for _ in range(30)}
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
        process.communicate()
    assert {line.split()[0] for line in begun} == {"begins"}
    assert (process.returncode, errors) == (0, "")
    assert said.count("ends") == 30
    assert left(tmp_path) == [Holding.VACANT] * 30


def test_the_readme_shows_the_examples_word_for_word() -> None:
    shown = dict(
        re.findall(
            r"\n\*\*\d\.[^\n]*\]\((examples/\w+\.py)\)(?:(?!```).)*?```python\n(.*?)```",
            README,
            re.DOTALL,
        )
    )
    assert len(shown) == README.count("```python") == 4
    for name, text in shown.items():
        assert text == (ROOT / name).read_text(), name


def test_the_readmes_command_needs_no_root(tmp_path: Path) -> None:
    """It is typed as it stands there, by somebody who may write at home and nowhere else."""
    (command,) = re.findall(r"^    (incumbent run .*)$", README, re.MULTILINE)
    paths = re.findall(r"sqlite://(\S+)", command)
    assert paths == ["$HOME/incumbent.db"]
    (tmp_path / "reports.py").write_text("import os; print('token', os.environ['INCUMBENT_TOKEN'])")
    words = shlex.split(command.replace("$HOME", str(tmp_path)))
    scripts = sysconfig.get_path("scripts")
    done = subprocess.run(
        words,
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    assert done.stdout.startswith("token ")
    assert (tmp_path / "incumbent.db").exists()
