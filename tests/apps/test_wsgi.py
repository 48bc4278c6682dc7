"""Flask under gunicorn: one decorator, and a worker that outlives work which will not stop."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from incumbent.core.records import StepDownRequest
from incumbent.stores import open_store
from tests.apps.serving import Web, rows, until
from tests.processes import descendants

APP = "tests.apps.programs.stubborn:app"


async def ask_to_step_down(url: str) -> None:
    """Leave a request in the record, as `incumbent step-down` does."""
    store = open_store(url)
    await store.open(create=False)
    try:
        held = await store.read("count")
        await store.ask("count", StepDownRequest(held.term))
    finally:
        await store.close()


def test_the_worker_outlives_work_that_will_not_stop(tmp_path: Path, ledger: Path) -> None:
    url = f"sqlite://{tmp_path}/store.db"
    environment = {"LEDGER": str(ledger), "INCUMBENT_STORE": url}
    web = Web("gunicorn", APP, tmp_path, environment, "--preload", "--workers", "1")
    try:
        web.start()
        worker = web.get("/orders")[1]["worker"]
        first = until(lambda: rows(ledger), bool)[-1]
        assert web.roles() == {"count": "leader"}
        asyncio.run(ask_to_step_down(url))
        # A later term began, so the work of this one has ended, confirmed.
        until(lambda: rows(ledger)[-1][2], lambda token: token > first[2])
        assert web.get("/orders")[1]["worker"] == worker
        assert web.get("/work/", "POST") == (405, {"error": "use GET"})
    finally:
        workers = descendants(web.pid) if web.running else []
        web.kill()
        for pid in workers:
            until(lambda: _gone(pid), bool)  # noqa: B023  called here


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return True
    return False
