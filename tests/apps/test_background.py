"""Work that begins at the import: what becomes of it if its server ends, or only watches files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from incumbent.core.records import Holding
from tests.apps.serving import LIMIT_S, ROOT, Web, rows, until
from tests.faces.ending import holding, outcomes
from tests.processes import descendants

BESIDE = "tests.apps.programs.beside"
WATCHED = "tests.apps.programs.watched"
SUPERVISED = "tests.apps.programs.supervised"
HELPING = "tests.apps.programs.helping"

SERVERS = {
    "uvicorn": ["uvicorn", f"{BESIDE}:app"],
    "uvicorn of several workers": ["uvicorn", f"{BESIDE}:app", "--workers", "2"],
    "uvicorn.run": ["program", BESIDE],
    "gunicorn": ["gunicorn", f"{BESIDE}:app", "--worker-class", "asgi"],
}


@pytest.mark.parametrize("server", SERVERS)
def test_at_sigterm_the_run_ends_and_the_lease_is_given_up(
    server: str, tmp_path: Path, ledger: Path
) -> None:
    kind, app, *words = SERVERS[server]
    url = f"sqlite://{tmp_path}/store.db"
    environment = {"LEDGER": str(ledger), "INCUMBENT_STORE": url}
    web = Web(kind, app, tmp_path, environment, *words, ready="/")
    try:
        web.start()
        assert until(lambda: rows(ledger), bool)[0][0] == "begin"
        os.kill(web.pid, signal.SIGTERM)
        web.wait(LIMIT_S)
    finally:
        web.kill()
    assert [kind for kind, *_ in rows(ledger)][:2] == ["begin", "end"]
    assert holding(url, "linger") is Holding.VACANT
    assert "running" not in outcomes(url, "linger")


@pytest.mark.parametrize("way", ["flask run", "app.run"])
def test_the_process_that_only_watches_files_leaves_the_work_to_the_other(
    way: str, tmp_path: Path, ledger: Path
) -> None:
    words = {"flask run": ("flask", WATCHED), "app.run": ("program", WATCHED)}[way]
    environment = {"LEDGER": str(ledger), "INCUMBENT_STORE": f"sqlite://{tmp_path}/store.db"}
    web = Web(words[0], words[1], tmp_path, environment)
    try:
        web.start()
        worker = until(lambda: web.get("/orders"), bool)[1]["worker"]
        assert worker != web.pid
        until(lambda: rows(ledger)[-1:], lambda last: bool(last) and last[0][3] == worker)
    finally:
        _end(web)


@pytest.mark.parametrize("way", ["workers", "reload"])
def test_uvicorns_supervisor_leaves_the_work_to_those_that_serve(
    way: str, tmp_path: Path, ledger: Path
) -> None:
    url = f"sqlite://{tmp_path}/store.db"
    environment = {"LEDGER": str(ledger), "INCUMBENT_STORE": url}
    web = Web("program", SUPERVISED, tmp_path, environment, way, ready="/")
    try:
        web.start()
        until(lambda: rows(ledger)[-1:], lambda last: bool(last) and last[0][3] != web.pid)
        os.kill(web.pid, signal.SIGTERM)
        web.wait(LIMIT_S)
    finally:
        _end(web)
    assert holding(url, "linger") is Holding.VACANT
    assert "running" not in outcomes(url, "linger")


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_child_that_only_helps_has_none_of_the_work(method: str) -> None:
    command = [sys.executable, "-m", HELPING, method]
    ended = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {
        "script": True,
        "pool": False,
        "pool, by import": False,
        "process": False,
        "process, by import": True,  # Servers of several workers start them so.
    }


def _end(web: Web) -> None:
    family = descendants(web.pid) if web.running else []
    web.kill()
    for pid in family:
        with suppress(ProcessLookupError):  # What only helps the supervisor ends by itself.
            os.kill(pid, signal.SIGKILL)
