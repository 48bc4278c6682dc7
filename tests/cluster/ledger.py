"""What every writer of a cluster reaches, also one that the API server gave up: a ledger.

    python ledger.py FILE ADDRESS PORT

It takes POST requests and writes a line for each into an SQLite database: at `/fenced/NAME` under a
fencing token, through the middleware and the fence that users have, at `/plain/NAME` without. The
order of the lines is the order of the effects. What was refused is noted in a table of its own.
"""

from __future__ import annotations

import http.client
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from incumbent.fencing.http.wsgi import FencingMiddleware
from incumbent.fencing.sql import TABLE

__all__ = ["Entry", "entries", "refusals", "stale", "write"]

RESOURCE = "ledger"
_TABLES = (
    TABLE,
    *(
        f"CREATE TABLE IF NOT EXISTS {name} (n INTEGER PRIMARY KEY, application TEXT NOT NULL,"
        " writer TEXT NOT NULL, token INTEGER NOT NULL, at_ns INTEGER NOT NULL)"
        for name in ("entry", "refusal")
    ),
)
_LIMIT_S = 5.0

Environ = dict[str, Any]
Start = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the ledger, or a refusal."""

    n: int
    application: str
    writer: str
    token: int
    at_ns: int


def entries(file: Path, application: str, since_ns: int = 0) -> list[Entry]:
    """Return what was written, in the order of the effects."""
    return _lines(file, "entry", application, since_ns)


def refusals(file: Path, application: str, since_ns: int = 0) -> list[Entry]:
    """Return what was not."""
    return _lines(file, "refusal", application, since_ns)


def stale(found: Iterable[Entry]) -> list[Entry]:
    """Return the lines that were written under an older token than a line before them."""
    highest = 0
    old = []
    for entry in found:
        if entry.token < highest:
            old.append(entry)
        highest = max(highest, entry.token)
    return old


def write(url: str, token: int) -> int:
    """Ask a ledger to write something under a token, and return the status of its answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=_LIMIT_S)
    try:
        headers = {"Fencing-Token": str(token), "Fencing-Resource": RESOURCE, "Writer": "late"}
        connection.request("POST", parts.path, b"", headers)
        return connection.getresponse().status
    finally:
        connection.close()


def _lines(file: Path, table: str, application: str, since_ns: int) -> list[Entry]:
    with closing(sqlite3.connect(file)) as connection:
        rows = connection.execute(
            f"SELECT n, application, writer, token, at_ns FROM {table}"
            " WHERE application = ? AND at_ns >= ? ORDER BY n",
            (application, since_ns),
        )
        return [Entry(*row) for row in rows]


class _Ledger:
    """The service; one connection a request, since each is a thread's own."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._fenced = FencingMiddleware(self._write, resource=RESOURCE)
        with closing(self._connect()) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            for statement in _TABLES:
                connection.execute(statement)

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        door, _, name = environ["PATH_INFO"].strip("/").partition("/")
        environ["ledger.application"] = name
        if door == "plain":
            return self._write(environ, start)

        def noting(status: str, headers: Any, *rest: Any) -> Any:
            if status.startswith("412"):
                with closing(self._connect()) as connection, connection:
                    self._note(connection, "refusal", environ)
            return start(status, headers, *rest)

        return self._fenced(environ, noting)

    def _write(self, environ: Environ, start: Start) -> Iterable[bytes]:
        with closing(self._connect()) as connection, connection:
            fence = environ.get("incumbent.fence")
            if fence is not None:
                fence.sql(connection)
            self._note(connection, "entry", environ)
        start("204 No Content", [])
        return [b""]

    def _note(self, connection: sqlite3.Connection, table: str, environ: Environ) -> None:
        connection.execute(
            f"INSERT INTO {table} (application, writer, token, at_ns) VALUES (?, ?, ?, ?)",
            (
                environ["ledger.application"],
                environ.get("HTTP_WRITER", "-"),
                int(environ.get("HTTP_FENCING_TOKEN", "0")),
                time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            ),
        )

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._file, timeout=_LIMIT_S)


class _Server(ThreadingMixIn, WSGIServer):
    """A request that was cut off half way must not keep the others waiting."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    timeout = _LIMIT_S

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def main(file: str, address: str, port: str) -> None:
    server = make_server(address, int(port), _Ledger(file), _Server, _Quiet)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
