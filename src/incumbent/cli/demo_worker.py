"""One replica of the demo: a poller of the kind that people run one of, and fear to run two of.

It watches a folder for numbered files and does each job that it has not done. Alone it would do all
of them, and so would each of its neighbours: nothing but the election keeps them from it. What it
does is written to the log that `demo_log` judges.

How to take over without doing a job twice: the log is the protected resource here, so a new holder
first *seals* it (the `begin` line has its fencing token), and then reads what was done. And just
before each effect it asks `term.check()`.

Started by the demo as `python -m incumbent.cli.demo_worker REPLICA FOLDER TTL`. It tells what it
hears of the election on its standard output, a JSON object a line.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from incumbent.cli.demo_log import BEGIN, END, JOB, LIVE, Line, parse
from incumbent.clock import boottime
from incumbent.runtime.candidacy import Sighting
from incumbent.runtime.term import Term
from incumbent.sync import Election

__all__ = ["ELECTION", "job_path", "log_path", "main", "store_url"]

ELECTION = "demo"
EVERY_S = 0.005
_PR_SET_PDEATHSIG = 1


def store_url(folder: Path) -> str:
    """Return the URL of the demo's store."""
    return f"sqlite://{folder}/incumbent.db"


def log_path(folder: Path) -> Path:
    """Return the log that every worker appends to."""
    return folder / "work.log"


def job_path(folder: Path, number: int) -> Path:
    """Return the file of a job."""
    return folder / "inbox" / f"{number:06}.job"


class Poller:
    """The work: what would be wrong to do twice."""

    def __init__(self, replica: str, folder: Path) -> None:
        self._replica = replica
        self._folder = folder
        self._log = os.open(log_path(folder), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def work(self, term: Term) -> None:
        """Do what there is to do until the term is to end."""
        self._write(term, BEGIN)
        job = self.first_open_job()
        while not term.lost.is_set():
            path = job_path(self._folder, job)
            if path.exists():
                text = path.read_text()
                if int(text) != job:
                    raise ValueError(f"{path} has {text!r}")
                self._write(term, JOB, job)
                job += 1
            else:
                self._write(term, LIVE)
                term.lost.wait(EVERY_S)
        self._write(term, END)

    def first_open_job(self) -> int:
        """Return the first job that the log does not have; ask only after sealing it."""
        lines, _ = parse(log_path(self._folder).read_text())
        return 1 + max((line.job for line in lines), default=0)

    def _write(self, term: Term, what: str, job: int = 0) -> None:
        term.check()
        line = Line(what, boottime(), term.token or 0, os.getpid(), self._replica, job)
        os.write(self._log, line.encode())


def say(sighting: Sighting) -> None:
    """Tell the demo."""
    event: dict[str, Any] = {
        "event": sighting.event,
        "identity": sighting.identity,
        "token": sighting.token,
        "text": sighting.text,
    }
    os.write(1, json.dumps(event).encode() + b"\n")


def main(replica: str, folder: Path, ttl_s: float) -> None:
    """Take part in the election until somebody ends this process."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    election = Election(ELECTION, store=store_url(folder), ttl_s=ttl_s, as_=replica, observer=say)
    election.lead(Poller(replica, folder).work)


def _leave(_: int, __: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
