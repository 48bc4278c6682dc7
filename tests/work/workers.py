"""One decorated function in a web server of four workers: one run per tick, through a kill.

    python -m tests.work.workers [--seconds 60] [--server gunicorn]

starts `uvicorn --workers 4`, kills the worker that holds in the middle, and judges the lines that
the runs have written.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from tests.apps.serving import Web
from tests.work.judging import judge, lines

WORKERS = 4
BETWEEN_TICKS_S = 0.5


def play(seconds: float, server: str, folder: Path) -> int:
    runs = folder / "runs"
    environment = {"INCUMBENT_STORE": f"sqlite://{folder}/incumbent.db", "RUNS": str(runs)}
    words = ["--workers", str(WORKERS)]
    if server == "gunicorn":
        words += ["--worker-class", "asgi"]
    with Web(server, "tests.work.decorated:app", folder, environment, *words):
        began = time.monotonic()
        _until(began + seconds / 2)
        while not (before := lines(runs)):
            _until(time.monotonic() + 0.1)
        while len(now := lines(runs)) == len(before):
            time.sleep(0.01)  # sleep: the runs are another process's, and leave a file alone
        _until(time.monotonic() + BETWEEN_TICKS_S)
        victim = int(now[-1].where)
        os.kill(victim, signal.SIGKILL)
        print(f"killed worker {victim}, which had run {len(now)} ticks", flush=True)
        _until(began + seconds)
    verdict = judge(lines(runs), timedelta(seconds=1))
    print(f"{server} --workers {WORKERS}, {seconds:g} s: {verdict}")
    through = len({line.where for line in lines(runs)}) > 1
    if not through:
        print("BAD: no other worker followed")
    return 0 if verdict.good and through else 1


def _until(at_s: float) -> None:
    time.sleep(max(0.0, at_s - time.monotonic()))  # sleep: the show lasts as long as was asked for


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.work.workers", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--server", choices=["uvicorn", "gunicorn"], default="uvicorn")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="incumbent-workers-") as folder:
        return play(options.seconds, options.server, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
