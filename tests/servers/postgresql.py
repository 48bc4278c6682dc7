"""PostgreSQL of Debian, and PgBouncer in front of it.

The server asks for a password (SCRAM) over TCP, offers TLS, and has a database and a user of the
name `tests`. It does not sync its writes to disk: the tests kill processes, not machines, and what
a killed process gave to the kernel is not lost.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

from tests.servers.ports import claim_port
from tests.servers.process import ServerError
from tests.servers.tls import Certificate, certify_server
from tests.servers.unprivileged import PASSWORD, Unprivileged

BINARIES = Path("/usr/lib/postgresql/15/bin")
_USER = "tests"
_READY_S = 2
_END_S = 10.0


class Postgres(Unprivileged):
    """A PostgreSQL server with data of its own; `url` leads to it."""

    for_share = "FOR SHARE"

    def __init__(self, settings: Sequence[str] = ()) -> None:
        self.host = "127.0.0.1"
        self.port = claim_port()
        self.certificate: Certificate | None = None
        options = [
            f"port={self.port}",
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
            "full_page_writes=off",
            "max_connections=200",
            "shared_buffers=16MB",
            "ssl=on",
            *settings,
        ]
        flags = [word for option in options for word in ("-c", option)]

        def command(folder: Path) -> list[str | os.PathLike[str]]:
            return [BINARIES / "postgres", "-D", folder / "data", *flags]

        super().__init__("postgresql", "postgres", command, ready=self._is_ready)

    def start(self) -> None:
        """Start the server, making its data first."""
        if not (self.folder / "data").exists():
            self._prepare()
        super().start()

    def terminate(self) -> None:
        """Ask it to end now: of a SIGTERM it would wait for its clients to leave."""
        self.signal_first(signal.SIGINT)

    def _prepare(self) -> None:
        word = self.folder / "password"
        word.write_text(PASSWORD, encoding="ascii")
        self.certificate = certify_server(self.folder)
        self.give(self.folder, word)
        self._run(
            BINARIES / "initdb",
            *("--pgdata", self.folder / "data", "--username", _USER, "--pwfile", word),
            *("--auth", "scram-sha-256", "--locale", "C", "--encoding", "UTF8", "--no-sync"),
        )
        for name in ("server.crt", "server.key"):
            (self.folder / name).rename(self.folder / "data" / name)
            self.give(self.folder / "data" / name)
        subprocess.run(
            self.as_user(BINARIES / "postgres", "--single", "-D", self.folder / "data", "postgres"),
            input=f"CREATE DATABASE {_USER}\n".encode(),
            check=True,
            capture_output=True,
        )

    def _run(self, *words: str | os.PathLike[str]) -> None:
        done = subprocess.run(self.as_user(*words), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ServerError(f"{words[0]}: {done.stdout}{done.stderr}")

    def url(self, *, address: str = "", user: str = _USER, password: str = PASSWORD) -> str:
        """Return where a store finds it; `address` is that of a proxy or pooler before it."""
        where = address or f"{self.host}:{self.port}"
        return f"postgresql://{user}:{quote(password, safe='')}@{where}/{_USER}"

    def execute(self, statement: str, values: Sequence[object] = (), **other: str) -> list[Any]:
        """Do something behind everybody's back."""
        with psycopg.connect(self.url(**other), autocommit=True) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def transaction(self) -> Iterator[psycopg.Connection[Any]]:
        """Return a connection in which everything is one transaction until it is committed."""
        with psycopg.connect(self.url()) as connection:
            yield connection

    def waiting(self) -> list[Any]:
        """Return the clients that wait for a lock."""
        return self.execute("SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'")

    def end_connections(self, ports: Collection[int] | None = None) -> list[Any]:
        """End the back ends of all clients, or of those that call from these ports."""
        ended = self.execute(
            "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND (%s::int[] IS NULL OR client_port = ANY(%s))",
            (ports if ports is None else list(ports),) * 2,
        )
        # They are only told to: one that is slow to end would fail its client's next request.
        left, deadline_s = ended, time.monotonic() + _END_S
        while left and time.monotonic() < deadline_s:
            time.sleep(0.01)  # sleep: the end of a back end can only be polled
            pids = [pid for pid, _ in ended]
            left = self.execute("SELECT 1 FROM pg_stat_activity WHERE pid = ANY(%s)", (pids,))
        return ended

    def _is_ready(self) -> bool:
        try:
            with psycopg.connect(self.url(), connect_timeout=_READY_S) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


class Standby(Postgres):
    """A copy of a server that follows it until it is promoted.

    `link` is where it finds the other one: a proxy in front of that, to be cut. What is confirmed
    there does not wait for it.
    """

    def __init__(self, primary: Postgres, link: str) -> None:
        super().__init__()
        self._primary = primary
        self._link = link

    def _prepare(self) -> None:
        self.give(self.folder)
        url = self._primary.url(address=self._link)
        self._run(
            BINARIES / "pg_basebackup",
            *("--pgdata", self.folder / "data", "--dbname", url, "--write-recovery-conf"),
            *("--checkpoint", "fast", "--no-sync"),
        )

    def in_step(self) -> bool:
        """Tell whether it has got everything that the other one has written."""
        ((there,),) = self._primary.execute("SELECT pg_current_wal_lsn()::text")
        ((here,),) = self.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (there,))
        return bool(here)

    def promote(self) -> None:
        """Make it a server that takes writes, whatever it has missed."""
        self.execute("SELECT pg_promote()")


class PgBouncer(Unprivileged):
    """A pooler in transaction mode in front of a server."""

    def __init__(self, server: Postgres) -> None:
        self.host = "127.0.0.1"
        self.port = claim_port()
        self._server = server

        def command(folder: Path) -> list[str | os.PathLike[str]]:
            return ["/usr/sbin/pgbouncer", folder / "pgbouncer.ini"]

        super().__init__("pgbouncer", "postgres", command, ready=self._is_ready)
        users = self.folder / "users.txt"
        users.write_text(f'"{_USER}" "{PASSWORD}"\n', encoding="ascii")
        settings = self.folder / "pgbouncer.ini"
        settings.write_text(
            "[databases]\n"
            f"* = host={server.host} port={server.port}\n"
            "[pgbouncer]\n"
            f"listen_addr = {self.host}\n"
            f"listen_port = {self.port}\n"
            "unix_socket_dir =\n"
            "pool_mode = transaction\n"
            "auth_type = scram-sha-256\n"
            f"auth_file = {users}\n"
            "max_client_conn = 500\n"
            "default_pool_size = 5\n",
            encoding="ascii",
        )
        self.give(self.folder, users, settings)

    @property
    def url(self) -> str:
        """Where a store finds it."""
        return self._server.url(address=f"{self.host}:{self.port}")

    def _is_ready(self) -> bool:
        try:
            with psycopg.connect(self.url, connect_timeout=_READY_S) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True
