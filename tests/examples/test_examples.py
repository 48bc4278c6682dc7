"""The README's examples run, as they stand in `examples/`, and are the ones that it shows."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from incumbent.core.records import Holding
from incumbent.stores import open_store

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
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
    store = open_store(environment(tmp_path)["INCUMBENT_STORE"])

    async def left() -> list[Holding]:
        await store.open(create=False)
        try:
            return [election.holding for election in await store.elections()]
        finally:
            await store.close()

    assert asyncio.run(left()) == [Holding.VACANT]


def test_the_readme_shows_what_the_examples_do() -> None:
    readme = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    code = "\n".join(path.read_text() for path in EXAMPLES.glob("*.py"))
    shown = {line.strip() for block in blocks for line in block.splitlines() if line.strip()}
    assert len(shown) > 20
    different = {line for line in shown if line not in code and "ledger.db" not in line}
    assert different == set()
