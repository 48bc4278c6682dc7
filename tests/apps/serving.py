"""Web servers of one worker or several, as replicas of an application; driven over HTTP."""

from __future__ import annotations

import http.client
import json
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from tests.servers.ports import claim_port
from tests.servers.process import ServerProcess

__all__ = ["LIMIT_S", "ROOT", "Row", "Web", "judge", "rows", "until"]

Row = tuple[str, str, int, int]
"""Which work, which tick, under which token, in which process."""

ROOT = Path(__file__).parents[2]
LIMIT_S = 60.0
T = TypeVar("T")


class Web(ServerProcess):
    """One server process of the application `app`, "module:name"; `words` are its own options.

    Its `kind` is a server, or "program" for a module that serves by itself.
    """

    def __init__(
        self,
        kind: str,
        app: str,
        folder: Path,
        environment: Mapping[str, str],
        *words: str,
        ready: str = "/orders",
    ) -> None:
        self.port = claim_port()
        bind = {
            "uvicorn": ["--host", "127.0.0.1", "--port", str(self.port)],
            "gunicorn": ["--bind", f"127.0.0.1:{self.port}", "--no-control-socket"],
            "flask": ["run", "--debug", "--port", str(self.port)],
            "program": [str(self.port)],
        }[kind]
        command = {"flask": ["flask", "--app", app], "program": [app]}.get(kind, [kind, app])
        super().__init__(
            f"{kind}-{self.port}",
            [sys.executable, "-m", *command, *bind, *words],
            log_path=folder / f"{kind}-{self.port}.log",
            ready=lambda: self.get(ready)[0] == 200,
            environment={"PYTHONPATH": str(ROOT), **environment},
            working_dir=ROOT,
            start_timeout_s=LIMIT_S,
        )

    def get(self, path: str, method: str = "GET") -> tuple[int, Any]:
        """Ask once; return the status and what the JSON says."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        with closing(connection):
            connection.request(method, path)
            response = connection.getresponse()
            body = response.read()
            return response.status, json.loads(body) if body else None

    def roles(self, path: str = "/incumbent/") -> dict[str, str]:
        """Return the role of each work in this process, as its endpoint tells it."""
        status, told = self.get(path)
        assert status == 200
        return {work["name"]: work["role"] for work in told["work"]}


def until(ask: Callable[[], T], good: Callable[[T], bool]) -> T:
    """Ask until the answer is good, and return it."""
    deadline_s = time.monotonic() + LIMIT_S
    while not good(answer := ask()):
        assert time.monotonic() < deadline_s, answer
        time.sleep(0.05)  # sleep: what another process does over HTTP has no event here
    return answer


def rows(ledger: Path) -> list[Row]:
    """Return what was done, in the order in which it was committed."""
    with closing(sqlite3.connect(ledger, timeout=30)) as db:
        return db.execute("SELECT kind, tick, token, pid FROM done ORDER BY rowid").fetchall()


def judge(done: list[Row], *, killed: bool = False) -> None:
    """Fail unless each tick of one work was done once, in order, none left out.

    Who was killed may have done what it could not note any more: its successor does that again.
    """
    if killed:
        again = [b for a, b in pairwise(done) if a[1] == b[1] and a[2] < b[2]]
        assert len(again) <= 1
        done = [row for row in done if row not in again]
    ticks = [tick for _, tick, _, _ in done]
    assert sorted(set(ticks)) == ticks, "once each, in order"
    instants = [datetime.fromisoformat(tick).timestamp() for tick in ticks]
    assert {b - a for a, b in pairwise(instants)} <= {1.0}, "none was left out"
    tokens = [token for _, _, token, _ in done]
    assert tokens == sorted(tokens)
