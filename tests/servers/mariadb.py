"""MariaDB of Debian, for the store of MySQL and MariaDB.

The server asks for a password, offers TLS, and has a database and a user of the name `tests`. It
writes its log to the kernel at each commit and does not sync it: the tests kill processes, and not
machines.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymysql

from tests.servers.ports import claim_port
from tests.servers.process import ServerError
from tests.servers.tls import Certificate, certify_server
from tests.servers.unprivileged import PASSWORD, Unprivileged

_USER = "tests"
_READY_S = 2


class MariaDb(Unprivileged):
    """A MariaDB server with data of its own; `url` leads to it."""

    for_share = "LOCK IN SHARE MODE"

    def __init__(self, settings: Sequence[str] = ()) -> None:
        self.host = "127.0.0.1"
        self.port = claim_port()
        self.certificate: Certificate | None = None

        def command(folder: Path) -> list[str | os.PathLike[str]]:
            options = {
                "datadir": folder / "data",
                "socket": folder / "socket",
                "pid-file": folder / "pid",
                "init-file": folder / "users.sql",
                "port": self.port,
                "bind-address": self.host,
                "ssl-ca": folder / "ca.crt",
                "ssl-cert": folder / "server.crt",
                "ssl-key": folder / "server.key",
                "innodb-flush-log-at-trx-commit": 2,
                "innodb-buffer-pool-size": "16M",
                "innodb-log-file-size": "8M",
                "aria-log-file-size": "8M",
                "max-connections": 200,
            }
            words = [f"--{name}={value}" for name, value in options.items()]
            return ["/usr/sbin/mariadbd", "--no-defaults", "--skip-name-resolve", *words, *settings]

        super().__init__("mariadb", "mysql", command, ready=self._is_ready)

    def start(self) -> None:
        """Start the server, making its data first."""
        if not (self.folder / "data").exists():
            self._prepare()
        super().start()

    def _prepare(self) -> None:
        self.certificate = certify_server(self.folder)
        users = self.folder / "users.sql"
        users.write_text(
            f"CREATE DATABASE IF NOT EXISTS {_USER};\n"
            f"CREATE USER IF NOT EXISTS {_USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n"
            f"GRANT ALL ON *.* TO {_USER}@'127.0.0.1' WITH GRANT OPTION;\n",
            encoding="ascii",
        )
        self.give(self.folder, users, *self.folder.glob("*.crt"), *self.folder.glob("*.key"))
        words = self.as_user(
            "/usr/bin/mariadb-install-db",
            *("--no-defaults", f"--datadir={self.folder / 'data'}", "--skip-test-db"),
            "--auth-root-authentication-method=normal",
        )
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ServerError(f"mariadb-install-db: {done.stdout}{done.stderr}")

    def url(self, *, address: str = "", user: str = _USER, password: str = PASSWORD) -> str:
        """Return where a store finds it; `address` is that of a proxy before it."""
        where = address or f"{self.host}:{self.port}"
        return f"mysql://{user}:{quote(password, safe='')}@{where}/{_USER}"

    def execute(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        """Do something behind everybody's back."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())

    @contextmanager
    def transaction(self) -> Iterator[pymysql.connections.Connection[Any]]:
        """Return a connection in which everything is one transaction until it is committed."""
        with self.connect(autocommit=False) as connection:
            yield connection

    def waiting(self) -> list[Any]:
        """Return the clients that wait for a lock."""
        time.sleep(0.12)  # sleep: the view is made anew only if nobody has read it for 0.1 s
        question = "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx "
        return self.execute(question + "WHERE trx_state = 'LOCK WAIT'")

    def end_connections(self, ports: Collection[int] | None = None) -> list[Any]:
        """End the connections of all clients, or of those that call from these ports."""
        others = "SELECT id, host FROM information_schema.processlist WHERE user = %s"
        ended = []
        for number, caller in self.execute(f"{others} AND id <> CONNECTION_ID()", (_USER,)):
            if ports is None or int(caller.rpartition(":")[2]) in ports:
                with suppress(pymysql.OperationalError):
                    self.execute(f"KILL {number}")
                    ended.append(number)
        return ended

    def connect(self, *, autocommit: bool = True) -> pymysql.connections.Connection[Any]:
        """Return a connection."""
        return pymysql.connect(
            host=self.host,
            port=self.port,
            user=_USER,
            password=PASSWORD,
            database=_USER,
            autocommit=autocommit,
            connect_timeout=_READY_S,
        )

    def _is_ready(self) -> bool:
        try:
            self.execute("SELECT 1")
        except pymysql.OperationalError:
            return False
        return True
