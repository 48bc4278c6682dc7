"""The examples of whole applications run, each in a real server with two workers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.apps.serving import LIMIT_S, Web, until
from tests.examples.test_examples import EXAMPLES, environment

PROJECT = EXAMPLES / "django_project"
SERVED = {
    "fastapi_app.py": ("uvicorn", "fastapi_app:app", EXAMPLES),
    "django_project": ("gunicorn", "shop.wsgi", PROJECT),
}


@pytest.mark.parametrize("example", SERVED)
def test_an_application_answers_and_one_worker_counts(example: str, tmp_path: Path) -> None:
    server, app, folder = SERVED[example]
    with Web(
        server,
        app,
        tmp_path,
        {**environment(tmp_path), "PYTHONPATH": str(folder)},
        *("--workers", "2"),
    ) as web:
        until(lambda: "counting for" in web.log_tail(), bool)
        told: Any = web.get("/incumbent/")[1]
        assert [work["name"] for work in told["work"]] == ["count"]
        assert web.get("/alive/") == (200, {"alive": True})


def test_the_project_has_the_command(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "manage.py", "incumbent_work"],
        cwd=PROJECT,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "count: a candidate\n"
        assert process.stdout.readline().startswith("counting for")
        process.terminate()
        assert process.wait(LIMIT_S) == 0
