"""Sidecars of Dapr before one Redis: the lock store of all of them.

daprd is built of Dapr's own modules, see `modules/daprd/main.go`. Each listens on loopback only,
and has no other Dapr program to talk to: no placement, scheduler, metrics, or name resolution.
"""

from __future__ import annotations

import http.client
import json
import secrets
from pathlib import Path
from typing import Any

from tests.servers import build
from tests.servers.ports import claim_port
from tests.servers.process import ServerProcess

__all__ = ["STORE", "Dapr"]

STORE = "lockstore"
APP_ID = "incumbent-tests"
_ANSWER_S = 20.0

_COMPONENT = """
apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: {store}
spec:
  type: lock.redis
  version: v1
  metadata:
    - name: redisHost
      value: {address}
    - name: redisPassword
      value: ""
"""


class Dapr(ServerProcess):
    """One sidecar.

    Args:
        base_dir: for its component and log.
        redis: host and port of the Redis that keeps the locks.
        token: what it demands of its clients, or "".
    """

    def __init__(self, base_dir: Path, redis: str, *, token: str = "") -> None:
        base_dir.mkdir(parents=True)
        self.host, self.token = "127.0.0.1", token
        self.port, self.grpc_port, inner, public = (claim_port() for _ in range(4))
        resources = base_dir / "resources"
        resources.mkdir()
        text = _COMPONENT.format(store=STORE, address=redis)
        (resources / "lock.yaml").write_text(text, encoding="utf-8")
        command: list[str | Path] = [build.ensure("daprd"), "--app-id", APP_ID]
        command += ["--resources-path", resources]
        command += ["--dapr-http-port", str(self.port), "--dapr-grpc-port", str(self.grpc_port)]
        command += ["--dapr-internal-grpc-port", str(inner), "--dapr-public-port", str(public)]
        command += ["--dapr-listen-addresses", self.host]
        command += ["--dapr-internal-grpc-listen-address", self.host]
        command += ["--dapr-public-listen-address", self.host]
        command += ["--enable-metrics=false", "--dapr-graceful-shutdown-seconds", "1"]
        super().__init__(
            "daprd",
            command,
            log_path=base_dir / "daprd.log",
            ready=self._is_ready,
            # It looks for the host's address by asking for the way to the Internet otherwise.
            environment={"DAPR_HOST_IP": self.host, "DAPR_API_TOKEN": token},
        )

    def url(self, protocol: str = "http", *, address: str = "", lock: str = "") -> str:
        """Return the URL of a store at this sidecar, or behind another address."""
        port = self.grpc_port if protocol == "grpc" else self.port
        where = address or f"{self.host}:{port}"
        return f"dapr://{where}/{STORE}?protocol={protocol}" + (f"&lock={lock}" if lock else "")

    def ask(self, what: str, **body: object) -> dict[str, Any]:
        """Send one request of the lock API, as any client would, and return the answer."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=_ANSWER_S)
        try:
            connection.request(
                "POST",
                f"/v1.0-alpha1/{what}/{STORE}",
                json.dumps(body),
                {"Content-Type": "application/json", "dapr-api-token": self.token},
            )
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
            return answer
        finally:
            connection.close()

    def key(self, resource: str) -> str:
        """Return the key of a lock in Redis."""
        return f"lock||{APP_ID}||{resource}"

    def _is_ready(self) -> bool:
        answer = self.ask("unlock", resourceId="ready", lockOwner=secrets.token_hex(4))
        return answer.get("status") == 1
