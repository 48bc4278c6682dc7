"""One Kafka server, of the jars that Maven has: broker and controller in one process (KRaft).

Small and quick to start: one partition for each of its own topics, one replica, a heap of 256 MB,
no wait for more members of a group. Transactions work. Sessions of groups may be as short as a
test wants them.

A client of Kafka is told by the server where to find it, so that a proxy before the one listener
would be passed by. `doors` are proxies, each before a listener of its own which names the proxy to
whoever came through it: a client that begins at a door stays behind it.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.servers import java
from tests.servers.ports import claim_port
from tests.servers.process import STOP_TIMEOUT_S, ServerError, ServerProcess
from tests.servers.proxy import Proxy

__all__ = ["Kafka"]

_ANSWER_S = 1.0
_START_S = 100.0
_FLAGS = (
    "-Xms64m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
)
_CLUSTER = "incumbent-of-the-tests"
"""Sixteen bytes, as base64 writes them."""


class Kafka(ServerProcess):
    """A Kafka server with data below `base_dir`; `settings` are read last."""

    def __init__(self, base_dir: Path, *, doors: int = 0, settings: Sequence[str] = ()) -> None:
        program = shutil.which("java")
        if program is None:
            raise ServerError("Kafka needs java: see APT_PACKAGES in the Makefile")
        self.host, self.port = "127.0.0.1", claim_port()
        base_dir.mkdir(parents=True, exist_ok=True)
        self._data_dir = base_dir / "data"
        controller_port = claim_port()
        inner_ports = [claim_port() for _ in range(doors)]
        self.doors = [Proxy(self.host, port) for port in inner_ports]
        listeners = {"DIRECT": self.port, "CONTROLLER": controller_port}
        listeners |= {f"DOOR{number}": port for number, port in enumerate(inner_ports)}
        advertised = {**listeners}
        advertised |= {f"DOOR{number}": door.port for number, door in enumerate(self.doors)}
        lines = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{self.host}:{controller_port}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "DIRECT",
            "listeners": self._written(listeners),
            "advertised.listeners": self._written(advertised),
            "listener.security.protocol.map": ",".join(f"{name}:PLAINTEXT" for name in listeners),
            "log.dirs": self._data_dir,
            "auto.create.topics.enable": "false",
            "num.partitions": 1,
            "offsets.topic.num.partitions": 1,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.num.partitions": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.num.partitions": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 500,
            # One that was killed is not let in again before its session is over.
            "broker.heartbeat.interval.ms": 200,
            "broker.session.timeout.ms": 1000,
            "log.cleaner.dedupe.buffer.size": 2_097_152,
            "num.network.threads": 1,
            "num.io.threads": 2,
        }
        self._config = base_dir / "server.properties"
        written = [f"{name}={value}" for name, value in lines.items()]
        self._config.write_text("\n".join([*written, *settings, ""]), encoding="utf-8")
        self._java = [program, *_FLAGS, "-cp", f"{java.jars('kafka')}/*"]
        super().__init__(
            "kafka",
            [*self._java, "kafka.Kafka", self._config],
            log_path=base_dir / "kafka.log",
            ready=self._is_ready,
            start_timeout_s=_START_S,
        )

    def _written(self, ports: dict[str, int]) -> str:
        return ",".join(f"{name}://{self.host}:{port}" for name, port in ports.items())

    @property
    def address(self) -> str:
        """Host and port for clients that come without a proxy."""
        return f"{self.host}:{self.port}"

    def log_of(self, topic: str, partition: int) -> Path:
        """Return the folder in which a partition is kept."""
        return self._data_dir / f"{topic}-{partition}"

    def start(self) -> None:
        """Start the server, making its data first."""
        if not self._data_dir.exists():
            self._format()
        super().start()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End it at once: what it has answered is with the kernel."""
        self.kill()

    def close(self) -> None:
        """End it, and the doors before it."""
        self.kill()
        for door in self.doors:
            door.close()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _format(self) -> None:
        words = ["kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(self._config)]
        done = subprocess.run([*self._java, *words], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ServerError(f"kafka: {done.stdout}{done.stderr}")

    def _is_ready(self) -> bool:
        """Tell whether it names itself as a broker: it listens before it does."""
        # Metadata, version 9, of no topic: what is asked, a number, a name, and nothing.
        question = b"\0\3" + b"\0\x09" + b"\0\0\0\1" + b"\0\5ready" + b"\0" + b"\1\0\0\0\0"
        with socket.create_connection((self.host, self.port), _ANSWER_S) as connection:
            connection.settimeout(_ANSWER_S)
            connection.sendall(len(question).to_bytes(4, "big") + question)
            answer = b""
            while len(answer) < 4 or len(answer) < 4 + int.from_bytes(answer[:4], "big"):
                chunk = connection.recv(4096)
                if not chunk:
                    return False
                answer += chunk
        return str(self.host).encode() in answer
