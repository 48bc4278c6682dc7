"""A Django project under gunicorn and uvicorn, and its command: one process does the work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.apps.serving import LIMIT_S, ROOT, Web, judge, rows, until
from tests.faces.programs import Program
from tests.processes import descendants

WSGI = "tests.apps.project.wsgi:application"
SERVERS = {
    "gunicorn": ("gunicorn", WSGI, "--workers", "2"),
    "gunicorn, preloaded": ("gunicorn", WSGI, "--workers", "2", "--preload"),
    "uvicorn": ("uvicorn", "tests.apps.project.wsgi:asgi", "--workers", "2"),
}


def settings(tmp_path: Path, ledger: Path, **more: str) -> dict[str, str]:
    return {
        "LEDGER": str(ledger),
        "INCUMBENT_STORE": f"sqlite://{tmp_path}/store.db",
        "PYTHONPATH": str(ROOT),
        **more,
    }


@pytest.mark.parametrize("server", SERVERS)
def test_one_worker_does_the_work_and_another_goes_on_when_it_is_killed(
    server: str, tmp_path: Path, ledger: Path
) -> None:
    kind, app, *words = SERVERS[server]
    web = Web(kind, app, tmp_path, settings(tmp_path, ledger, BACKGROUND="yes"), *words)
    try:
        web.start()
        first = until(lambda: rows(ledger), lambda done: len(done) >= 2)[-1][3]
        assert first != web.pid, "who only forks does no work"
        assert first in descendants(web.pid)
        os.kill(first, signal.SIGKILL)
        done = until(lambda: rows(ledger), lambda done: done[-1][3] != first)
        assert done[-1][3] in descendants(web.pid)
        judge(done, killed=True)
        status, told = web.get("/incumbent/")
        assert status == 200
        assert [work["name"] for work in told["work"]] == ["count"]
        assert web.get("/incumbent/", "POST")[0] == 405
        assert web.get("/alive/") == (200, {"alive": True})
    finally:
        workers = descendants(web.pid) if web.running else []
        web.kill()
        for worker in workers:
            until(lambda: _alive(worker), lambda alive: not alive)  # noqa: B023  called here


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def manage(*words: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.apps.project.manage", *words],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def test_the_command_does_it_until_it_is_told_to_end(tmp_path: Path, ledger: Path) -> None:
    argv = [sys.executable, "-m", "tests.apps.project.manage", "incumbent_work", "count"]
    program = Program(argv, settings(tmp_path, ledger))
    try:
        assert program.line() == "count: a candidate"
        until(lambda: rows(ledger), lambda done: len(done) >= 2)
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(LIMIT_S) == 0
    finally:
        program.close()
    judge(rows(ledger))


@pytest.mark.parametrize(
    ("words", "more", "says"),
    [
        (["check"], {"WORK": "tests.apps.project.jobs.no_work"}, "is no work for threads"),
        (["check"], {"WORK": "tests.apps.project.jobs.nosuch"}, "cannot be imported"),
        (["incumbent_work", "nosuch"], {}, "no work is called 'nosuch'; there is: count"),
        (["incumbent_work"], {"WORK": ""}, "there is no work: list it in INCUMBENT_WORK"),
    ],
)
def test_what_cannot_work_is_said_in_a_line(
    words: list[str], more: dict[str, str], says: str, tmp_path: Path, ledger: Path
) -> None:
    done = manage(*words, environment=settings(tmp_path, ledger, **more))
    assert done.returncode != 0
    assert says in done.stderr


def test_other_commands_begin_no_work(tmp_path: Path, ledger: Path) -> None:
    done = manage("check", environment=settings(tmp_path, ledger, BACKGROUND="yes"))
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "store.db").exists()
