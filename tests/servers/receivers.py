"""The servers that run a Python application in several worker processes: uvicorn and gunicorn.

Which worker answers is the kernel's choice, and an idle machine may choose the same one for ever.
So whoever has to hear of each stops those that have answered, and asks again (`by_each`).
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.processes import descendants, stat
from tests.servers.ports import claim_port
from tests.servers.process import ServerError, ServerProcess

ROOT = Path(__file__).parents[2]
WORKERS = 4
_PATIENCE_S = "600"
_ATTEMPTS = 20 * WORKERS
_LIMIT_S = 120


@dataclass(frozen=True)
class Answer:
    """What a worker answered."""

    status: int
    worker: int
    body: bytes


class Receiver(ServerProcess):
    """A server with four workers of the application `app`, "module:name".

    It is ready when the application answers a GET of `ready`.
    """

    def __init__(
        self, kind: str, app: str, folder: Path, *, ready: str, environment: Mapping[str, str]
    ) -> None:
        self.port = claim_port()
        words = [app, "--workers", str(WORKERS)]
        # A worker that a test has stopped does not answer its server either, which would replace
        # it. Workers of gunicorn are forked, and need not import anew what it has.
        words += {
            "uvicorn": [
                *("--host", "127.0.0.1", "--port", str(self.port)),
                *("--timeout-worker-healthcheck", _PATIENCE_S),
            ],
            "gunicorn": [
                *("--bind", f"127.0.0.1:{self.port}", "--timeout", _PATIENCE_S),
                *("--preload", "--no-control-socket"),
            ],
        }[kind]
        super().__init__(
            kind,
            [sys.executable, "-m", kind, *words],
            log_path=folder / f"{kind}.log",
            ready=lambda: self.request("GET", ready).status == 200,
            environment={"PYTHONPATH": str(ROOT), **environment},
            working_dir=ROOT,
            start_timeout_s=_LIMIT_S,
        )

    def request(self, method: str, path: str, headers: Iterable[tuple[str, str]] = ()) -> Answer:
        """Send one request, on a connection of its own; a field may be there twice."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_LIMIT_S)
        with contextlib.closing(connection):
            connection.putrequest(method, path)
            for field in (("Connection", "close"), ("Content-Length", "0"), *headers):
                connection.putheader(*field)
            connection.endheaders()
            response = connection.getresponse()
            worker = int(response.headers["worker"])
            return Answer(response.status, worker, response.read())

    def by_each(
        self, method: str, path: str, headers: Sequence[tuple[str, str]]
    ) -> dict[int, Answer]:
        """Send requests until every worker has answered one; return the first answer of each."""
        answers: dict[int, Answer] = {}
        try:
            for _ in range(_ATTEMPTS):
                answer = self.request(method, path, headers)
                if answer.worker not in answers:
                    answers[answer.worker] = answer
                    if len(answers) == WORKERS:
                        return answers
                    _stop(answer.worker)
            raise ServerError(f"only {sorted(answers)} of {WORKERS} workers of {self.name} answer")
        finally:
            for pid in answers:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def kill(self) -> None:
        """End the server and its workers, each as it stands."""
        workers = descendants(self.pid) if self.running else []
        super().kill()
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        deadline_s = time.monotonic() + _LIMIT_S
        while any(stat(pid, 0) not in ("", "Z") for pid in workers):
            if time.monotonic() > deadline_s:
                raise ServerError(f"workers of {self.name} do not end")
            time.sleep(0.01)  # sleep: the end of another's child can only be polled


def _stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    deadline_s = time.monotonic() + _LIMIT_S
    while stat(pid, 0) != "T":
        if time.monotonic() > deadline_s:
            raise ServerError(f"process {pid} does not stop")
        time.sleep(0.005)  # sleep: another's child stops without telling us
