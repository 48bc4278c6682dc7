"""One Redis server, of the distribution's own package, with its data below a folder of the test's.

It keeps its data as safely as it can (a log that is synced before each answer), so that a test that
wants them lost has to lose them.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from redis import Redis as Client
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

from tests.servers.faketime import Clock
from tests.servers.ports import claim_port
from tests.servers.process import STOP_TIMEOUT_S, ServerError, ServerProcess

__all__ = ["Redis", "certificate"]

_ANSWER_S = 5.0


def certificate(folder: Path) -> Path:
    """Make `server.crt` and `server.key` for 127.0.0.1; the certificate is its own authority."""
    folder.mkdir()
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    words += ["-days", "2", "-subj", "/CN=redis-of-tests", "-addext", "subjectAltName=IP:127.0.0.1"]
    words += ["-keyout", str(folder / "server.key"), "-out", str(folder / "server.crt")]
    subprocess.run([_program("openssl"), *words], check=True, capture_output=True)
    return folder


class Redis(ServerProcess):
    """A Redis server.

    Args:
        base_dir: for its data, settings and log.
        settings: lines of its configuration, which are read last.
        certificates: a folder made by `certificate`; then there is a `tls_port`, too.
        clock: the wall clock of the server, for a test that sets it.
    """

    def __init__(
        self,
        base_dir: Path,
        *,
        settings: Sequence[str] = (),
        certificates: Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.host, self.port = "127.0.0.1", claim_port()
        self.tls_port = 0
        self.data_dir = base_dir / "data"
        self._saved = base_dir / "saved"
        self.data_dir.mkdir(parents=True)
        lines = [
            f"bind {self.host}",
            f"port {self.port}",
            f"dir {self.data_dir}",
            "daemonize no",
            'save ""',
            "appendonly yes",
            "appendfsync always",
            "repl-diskless-sync-delay 0",
        ]
        if "cluster-enabled yes" in settings:
            # By itself it takes the port that is 10,000 above, which nobody has claimed.
            lines.append(f"cluster-port {claim_port()}")
        if certificates is not None:
            self.tls_port = claim_port()
            lines += [
                f"tls-port {self.tls_port}",
                f"tls-cert-file {certificates / 'server.crt'}",
                f"tls-key-file {certificates / 'server.key'}",
                f"tls-ca-cert-file {certificates / 'server.crt'}",
                "tls-auth-clients no",
            ]
        path = base_dir / "redis.conf"
        path.write_text("\n".join([*lines, *settings, ""]), encoding="utf-8")
        super().__init__(
            "redis",
            [_program("redis-server"), path],
            log_path=base_dir / "redis.log",
            ready=self._is_ready,
            environment=None if clock is None else clock.environment,
        )

    def url(self, options: str = "", *, address: str = "", database: int = 0) -> str:
        """Return the URL of a store, on this server or behind another address."""
        where = address or f"{self.host}:{self.port}"
        return f"redis://{where}/{database}" + (f"?{options}" if options else "")

    def client(self, **options: Any) -> Client:
        """Return an administrator, who repeats nothing."""
        settings: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "socket_timeout": _ANSWER_S}
        settings |= {"host": self.host, "port": self.port, "protocol": 2, **options}
        return Client(**settings)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End it at once: it may refuse to end in order, and what it answered is on its disk."""
        self.kill()

    def end_connections(self, ports: Collection[int]) -> None:
        """End the connections of the clients that call from these ports."""
        with contextlib.closing(self.client()) as client:
            for port in ports:
                with contextlib.suppress(ResponseError):  # It has left by itself.
                    client.client_kill(f"{self.host}:{port}")

    def save_data(self) -> None:
        """Keep a copy of what is on its disk; nothing may be written meanwhile."""
        shutil.copytree(self.data_dir, self._saved)

    def restore_data(self) -> None:
        """Put the copy in the place of what a server that ended has kept."""
        self.remove_data()
        shutil.copytree(self._saved, self.data_dir, dirs_exist_ok=True)

    def remove_data(self) -> None:
        """Delete what a server that ended has kept."""
        if self.running:
            raise ServerError("redis still uses its data")
        shutil.rmtree(self.data_dir)
        self.data_dir.mkdir()

    def _is_ready(self) -> bool:
        with socket.create_connection((self.host, self.port), _ANSWER_S) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH", b"-NOPERM"))


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise ServerError(f"{name} is not installed: see APT_PACKAGES in the Makefile")
    return path
