"""One RabbitMQ server, of Debian's packages, which are unpacked and not installed.

Erlang is started by its own loader and without RabbitMQ's scripts: those of the package change the
user, and Erlang's have the place into which it would be installed. So the first process is the
server itself, and a signal reaches it. Everything listens on loopback addresses only: the server,
the port on which Erlang's nodes speak to one another, and `epmd`, which tells them where.

The user is `guest`, who may do everything. Statistics and management are not loaded.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

from tests.servers import build
from tests.servers.ports import claim_port
from tests.servers.process import STOP_TIMEOUT_S, ChildProcess, ServerError, ServerProcess
from tests.servers.tls import certify_server

__all__ = ["RabbitMq"]

_ANSWER_S = 5.0
_START_S = 100.0
_PREAMBLE = b"AMQP\x00\x00\x09\x01"


class RabbitMq(ServerProcess):
    """A RabbitMQ server with data below `base_dir`; `settings` are lines of `rabbitmq.conf`.

    It speaks TLS, too, on a port of its own.
    """

    def __init__(self, base_dir: Path, *, settings: Sequence[str] = ()) -> None:
        self.host, self.port, self.tls_port = "127.0.0.1", claim_port(), claim_port()
        self._base_dir = base_dir
        erlang, server = _places()
        home = base_dir / "home"
        home.mkdir(parents=True)
        config = base_dir / "rabbitmq.conf"
        self.certificate = certify_server(home)
        tls = (
            f"listeners.ssl.1 = {self.host}:{self.tls_port}",
            f"ssl_options.cacertfile = {self.certificate.authority}",
            f"ssl_options.certfile = {self.certificate.certificate}",
            f"ssl_options.keyfile = {self.certificate.key}",
            "ssl_options.verify = verify_none",
            "ssl_options.fail_if_no_peer_cert = false",
        )
        config.write_text("\n".join([*tls, *settings, ""]), encoding="utf-8")
        epmd_port, node_port = claim_port(), claim_port()
        (loader,) = erlang.glob("erts-*/bin")
        epmd: list[str | os.PathLike[str]] = [loader / "epmd", "-port", str(epmd_port)]
        environment = {
            "ROOTDIR": str(erlang),
            "BINDIR": str(loader),
            "EMU": "beam",
            "PROGNAME": "erl",
            "PATH": f"{loader}:{os.environ.get('PATH', '')}",
            "HOME": str(home),
            "ERL_LIBS": str(server / "plugins"),
            "ERL_CRASH_DUMP": str(base_dir / "crash.dump"),
            "ERL_EPMD_ADDRESS": self.host,
            "ERL_EPMD_PORT": str(epmd_port),
            "RABBITMQ_HOME": str(server),
            "RABBITMQ_PLUGINS_DIR": str(server / "plugins"),
            "RABBITMQ_NODENAME": f"tests{node_port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": self.host,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(node_port),
            "RABBITMQ_MNESIA_BASE": str(base_dir / "data"),
            "RABBITMQ_LOG_BASE": str(base_dir / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(base_dir / "pid"),
            "RABBITMQ_CONFIG_FILE": str(config),
            # Files that are not there, so that no file of the machine is read in their place.
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(base_dir / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(base_dir / "environment"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(base_dir / "plugins"),
        }
        words: list[str | os.PathLike[str]] = [
            loader / "erlexec",
            "-noinput",
            *("-s", "rabbit", "boot", "-boot", "start_sasl"),
            # One scheduler that goes to sleep when it has nothing to do: others measure here.
            *("+W", "w", "+S", "1:1", "+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"),
            *("-kernel", "inet_dist_use_interface", "{127,0,0,1}"),
            *("-kernel", "prevent_overlapping_partitions", "false"),
            *("-syslog", "logger", "[]", "-syslog", "syslog_error_logger", "false"),
        ]
        self._names = ChildProcess(
            "epmd",
            [*epmd, "-address", self.host],
            log_path=base_dir / "epmd.log",
        )
        super().__init__(
            "rabbitmq",
            words,
            log_path=base_dir / "rabbitmq.log",
            ready=self._is_ready,
            environment=environment,
            start_timeout_s=_START_S,
        )

    def url(self, *, address: str = "") -> str:
        """Return where a client finds it; `address` is that of a proxy before it."""
        return f"amqp://guest:guest@{address or f'{self.host}:{self.port}'}/"

    def spawn(self) -> None:
        """Start it, and the server of names that it asks for itself."""
        if not self._names.running:
            self._names.spawn()
        super().spawn()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End it at once, and the server of names: what it confirmed is with the kernel."""
        self.kill()
        self._names.kill()

    def remove_data(self) -> None:
        """Delete what a server that ended has kept."""
        if self.running:
            raise ServerError("rabbitmq still uses its data")
        shutil.rmtree(self._base_dir / "data")

    def _is_ready(self) -> bool:
        with socket.create_connection((self.host, self.port), _ANSWER_S) as connection:
            connection.settimeout(_ANSWER_S)
            connection.sendall(_PREAMBLE)
            with contextlib.suppress(TimeoutError):
                return connection.recv(1) == b"\x01"
        return False


def _places() -> tuple[Path, Path]:
    """Return where Erlang is, and where the server is."""
    libraries = build.ensure("rabbitmq") / "usr/lib"
    (server,) = libraries.glob("rabbitmq/lib/rabbitmq_server-*")
    return libraries / "erlang", server
