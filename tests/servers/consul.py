"""Consul servers: one for itself, or three that elect a leader among them.

Each listens on 127.0.0.1 alone, with HTTP and HTTPS side by side, and refuses whoever has no token
(`default_policy` deny). The certificates come from Consul's own `consul tls`. `raft_multiplier` 1
makes a lone server the leader within a second of its start; a test that wants to meet a leader that
does not know yet that it is none takes a greater one.
"""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from tests.servers import build
from tests.servers.ports import claim_port
from tests.servers.process import ServerError, ServerProcess

_REQUEST_TIMEOUT_S = 10.0
_READY_TIMEOUT_S = 1.0
_START_TIMEOUT_S = 120.0
_POLL_INTERVAL_S = 0.02
_HOLD = "1s"
"""How long a server without a leader keeps a request, in the hope for one."""


class ConsulError(RuntimeError):
    """Consul answered with an error."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


class ConsulTLS:
    """An authority of the test's own, with certificates for servers and clients."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        consul = build.ensure("consul")
        for kind, options in (("ca", []), ("cert", ["-server"]), ("cert", ["-client"])):
            command = [str(consul), "tls", kind, "create", *options]
            subprocess.run(command, check=True, cwd=folder, capture_output=True)
        self.ca_file = folder / "consul-agent-ca.pem"
        self.server_files = (
            folder / "dc1-server-consul-0.pem",
            folder / "dc1-server-consul-0-key.pem",
        )
        self.client_files = (
            folder / "dc1-client-consul-0.pem",
            folder / "dc1-client-consul-0-key.pem",
        )


class Consul(ServerProcess):
    """One server with data below `base_dir`. `token` may do everything.

    `peers` are the Serf ports of all servers of the cluster, if there are several, with our own
    first; `settings` is merged into the configuration.
    """

    def __init__(
        self,
        base_dir: Path,
        *,
        tls: ConsulTLS | None = None,
        token: str = "",
        peers: Sequence[int] = (),
        raft_multiplier: int = 1,
        settings: dict[str, Any] | None = None,
    ) -> None:
        base_dir.mkdir(parents=True, exist_ok=True)
        self._base_dir = base_dir
        self.tls = tls or ConsulTLS(base_dir / "tls")
        self.token = token or secrets.token_hex(16)
        self.host = "127.0.0.1"
        self.port = claim_port()
        self.tls_port = claim_port()
        serf_port, *others = peers or (claim_port(),)
        certificate, key = self.tls.server_files
        configuration = {
            "server": True,
            "bootstrap_expect": max(1, len(peers)),
            "retry_join": [f"127.0.0.1:{port}" for port in others],
            "retry_interval": "1s",
            "node_name": base_dir.name,
            "data_dir": str(base_dir / "data"),
            "bind_addr": self.host,
            "client_addr": self.host,
            "ports": {
                "http": self.port,
                "https": self.tls_port,
                "server": claim_port(),
                "serf_lan": serf_port,
                "serf_wan": -1,
                "grpc": -1,
                "dns": -1,
            },
            "performance": {
                "raft_multiplier": raft_multiplier,
                "leave_drain_time": "0s",
                "rpc_hold_timeout": _HOLD,
            },
            "leave_on_terminate": False,
            "disable_update_check": True,
            "disable_host_node_id": True,
            "acl": {
                "enabled": True,
                "default_policy": "deny",
                "tokens": {"master": self.token, "agent": self.token},
            },
            "cert_file": str(certificate),
            "key_file": str(key),
            "ca_file": str(self.tls.ca_file),
            "log_level": "info",
            **(settings or {}),
        }
        path = base_dir / "consul.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(configuration, indent=1), encoding="utf-8")
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        super().__init__(
            f"consul {base_dir.name}",
            [build.ensure("consul"), "agent", f"-config-file={path}"],
            log_path=base_dir / "consul.log",
            ready=self._is_ready,
            start_timeout_s=_START_TIMEOUT_S,
        )

    @property
    def address(self) -> str:
        """Host and port of plain HTTP."""
        return f"{self.host}:{self.port}"

    def url(self, prefix: str = "", *, address: str = "", token: str = "") -> str:
        """Return a store URL; `address` is that of a proxy in front."""
        return f"consul://{token or self.token}@{address or self.address}/{prefix}"

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str = "",
        timeout_s: float = _REQUEST_TIMEOUT_S,
    ) -> Any:
        """Send one request, by default with all rights; an error raises `ConsulError`."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://{self.address}{path}",
            method=method,
            data=data,
            headers={"X-Consul-Token": token or self.token},
        )
        try:
            with self._opener.open(request, timeout=timeout_s) as response:
                content = response.read()
        except urllib.error.HTTPError as error:
            with error:
                raise ConsulError(error.code, error.read().decode("utf-8", "replace")) from None
        try:
            return json.loads(content)
        except ValueError:
            return content

    def put(self, key: str, value: bytes) -> None:
        """Write a key, whatever it was."""
        self.request("PUT", f"/v1/kv/{quote(key)}", value)

    def get(self, key: str) -> dict[str, Any] | None:
        """Return a key with its indices, its value decoded; None if there is none."""
        try:
            (found,) = self.request("GET", f"/v1/kv/{quote(key)}?consistent")
        except ConsulError as error:
            if error.status == 404:
                return None
            raise
        return {**found, "Value": base64.b64decode(found["Value"] or "")}

    def delete(self, key: str, *, recurse: bool = False) -> None:
        """Delete a key, or all that begin like it."""
        self.request("DELETE", f"/v1/kv/{quote(key)}{'?recurse' if recurse else ''}")

    def grant(self, rules: str) -> str:
        """Return a new token with these rules and no others."""
        name = f"test-{secrets.token_hex(4)}"
        self.request("PUT", "/v1/acl/policy", {"Name": name, "Rules": rules})
        made = self.request("PUT", "/v1/acl/token", {"Policies": [{"Name": name}]})
        return str(made["SecretID"])

    def revoke(self, token: str) -> None:
        """Delete a token."""
        accessor = self.request("GET", "/v1/acl/token/self", token=token)["AccessorID"]
        self.request("DELETE", f"/v1/acl/token/{accessor}")

    def leads(self) -> bool:
        """Tell whether this server takes itself for the leader."""
        with contextlib.suppress(OSError, ConsulError):
            told = self.request("GET", "/v1/agent/self", timeout_s=_READY_TIMEOUT_S)
            return bool(told["Stats"]["consul"]["leader"] == "true")
        return False

    def wait_leaderless(self) -> None:
        """Wait until this server knows of no leader."""
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while self.request("GET", "/v1/status/leader") != "":
            if time.monotonic() > deadline_s:
                raise ServerError(f"{self.name} still has a leader")
            time.sleep(_POLL_INTERVAL_S)  # sleep: the loss of a leader can only be polled

    def _is_ready(self) -> bool:
        """Tell whether a write would succeed: there is a leader, and it knows our token."""
        try:
            self.request("GET", "/v1/kv/ready?consistent", timeout_s=_READY_TIMEOUT_S)
        except ConsulError as error:
            return error.status == 404
        return True


class ConsulCluster:
    """Three servers that know one another, with one token for all."""

    def __init__(self, base_dir: Path, *, raft_multiplier: int = 1) -> None:
        base_dir.mkdir(parents=True)
        tls, token = ConsulTLS(base_dir / "tls"), secrets.token_hex(16)
        ports = [claim_port() for _ in range(3)]
        self.servers = [
            Consul(
                base_dir / f"server-{number}",
                tls=tls,
                token=token,
                peers=ports[number:] + ports[:number],
                raft_multiplier=raft_multiplier,
            )
            for number in range(3)
        ]

    def leader(self, among: Sequence[Consul] = ()) -> Consul:
        """Return the leader, waiting until there is one."""
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            for server in among or self.servers:
                if server.leads():
                    return server
            time.sleep(_POLL_INTERVAL_S)  # sleep: an election among servers can only be polled
        raise ServerError("no server leads")

    def __enter__(self) -> Self:
        try:
            for server in self.servers:
                server.spawn()
            for server in self.servers:
                server.wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()

    def kill(self) -> None:
        """End all at once; their data is temporary."""
        for server in self.servers:
            server.kill()
