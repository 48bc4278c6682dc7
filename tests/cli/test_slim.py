"""`incumbent run` carries OpenSSL only where somebody may speak TLS."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from incumbent.cli.slim import needs_no_tls

SQLITE, CLUSTER = "sqlite:///var/lib/x.db", "kubernetes://ns"


@pytest.mark.parametrize(
    "line",
    [
        "e -- true",
        f"--store={SQLITE} e -- true",
        f"--store {SQLITE} e -- true",
        "--store file:///var/lib/x e -- true",
        f"e --store={SQLITE} -- curl https://example.org {CLUSTER}",
    ],
)
def test_a_store_on_a_local_disk_needs_no_tls(line: str) -> None:
    assert needs_no_tls(line.split(), {})
    assert needs_no_tls(line.split(), {"INCUMBENT_STORE": SQLITE})
    assert needs_no_tls(line.split(), {"INCUMBENT_STORE": ""})


@pytest.mark.parametrize(
    "line",
    [
        f"--store={CLUSTER} e -- true",
        f"--store {CLUSTER} e -- true",
        f"--store={SQLITE} --store={CLUSTER} e -- true",
        f"e --store={CLUSTER} true",
        "--store=SQLITE:///x.db e -- true",
        f"--store={SQLITE} e --hand-over-on eviction -- true",
        f"--store={SQLITE} e --hand-over-on=cordon -- true",
        f"e curl https://example.org --store={SQLITE}",
    ],
)
def test_whatever_else_is_named_keeps_tls(line: str) -> None:
    assert not needs_no_tls(line.split(), {})
    assert not needs_no_tls(line.split(), {"INCUMBENT_STORE": SQLITE})


def test_a_store_in_the_environment_keeps_tls() -> None:
    assert not needs_no_tls(["e", "--", "true"], {"INCUMBENT_STORE": CLUSTER})


@pytest.mark.parametrize("separator", [["--"], []])
def test_run_has_tls_only_where_somebody_may_speak_it(separator: list[str], tmp_path: Path) -> None:
    """Without `--` the command's last word might as well be a store."""
    work = tmp_path / "work"
    work.write_text("#!/bin/sh\nexit 7\n")
    work.chmod(0o700)
    program = (
        "import sys\n"
        "from incumbent.cli.__main__ import main\n"
        "code = main(sys.argv[1:])\n"
        "import asyncio.base_events, ssl\n"  # Whoever wants TLS for himself has it.
        "print(code, asyncio.base_events.ssl is ssl)\n"
    )
    line = ["run", f"--store=sqlite://{tmp_path / 'x.db'}", "e", *separator, str(work), CLUSTER]
    done = subprocess.run(
        [sys.executable, "-c", program, *line],
        env={**os.environ, "INCUMBENT_STORE": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["7", str(not separator)]
