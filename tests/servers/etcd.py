"""One etcd member, for the API server to stand on or as a server in its own right, or a cluster.

It does not sync its writes to disk: the tests kill processes, not machines, and a killed process
loses nothing that it gave to the kernel. The election timeout is short because a lone member waits
one out at every start, and has nobody to disagree with.
"""

from __future__ import annotations

import base64
import json
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from tests.servers import build
from tests.servers.links import Links
from tests.servers.ports import claim_port
from tests.servers.process import ServerError, ServerProcess

ROOT = "root"

_READY_TIMEOUT_S = 1.0
_REQUEST_TIMEOUT_S = 10.0
_HEARTBEAT_INTERVAL_MS = 20
_ELECTION_TIMEOUT_MS = 100


class EtcdError(RuntimeError):
    """etcd answered with an error."""


class Etcd(ServerProcess):
    """An etcd server with data below `base_dir`; `url` is its client endpoint.

    With `certificates`, a folder made by `certify`, it speaks TLS as `etcd` and wants a certificate
    of each client; otherwise plain HTTP.
    """

    def __init__(
        self,
        base_dir: Path,
        *,
        certificates: Path | None = None,
        name: str = "default",
        peers: dict[str, str] | None = None,
        peer_listener: str = "",
        arguments: Sequence[str] = (),
    ) -> None:
        self.port = claim_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"{'http' if certificates is None else 'https'}://{self.address}"
        peers = peers or {name: f"http://127.0.0.1:{claim_port()}"}
        self._data_dir = base_dir / "data"
        self._tokens: dict[str, str] = {}
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        flags = [
            f"--name={name}",
            f"--data-dir={self._data_dir}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={peer_listener or peers[name]}",
            f"--initial-advertise-peer-urls={peers[name]}",
            f"--initial-cluster={','.join(f'{one}={url}' for one, url in peers.items())}",
            f"--heartbeat-interval={_HEARTBEAT_INTERVAL_MS}",
            f"--election-timeout={_ELECTION_TIMEOUT_MS}",
            "--unsafe-no-fsync",
            "--bcrypt-cost=4",
            "--log-level=warn",
        ]
        if certificates is not None:
            context = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
            context.load_cert_chain(certificates / "etcd.crt", certificates / "etcd.key")
            handlers.append(urllib.request.HTTPSHandler(context=context))
            flags += [
                f"--cert-file={certificates / 'etcd.crt'}",
                f"--key-file={certificates / 'etcd.key'}",
                f"--trusted-ca-file={certificates / 'ca.crt'}",
                "--client-cert-auth",
            ]
        self._opener = urllib.request.build_opener(*handlers)
        super().__init__(
            f"etcd {name}",
            [build.ensure("etcd"), *flags, *arguments],
            log_path=base_dir / "etcd.log",
            ready=self._is_ready,
        )

    def remove_data(self) -> None:
        """Delete the data of a server that ended: over 100 MB, because the log is preallocated."""
        if self.running:
            raise ServerError("etcd still uses its data")
        shutil.rmtree(self._data_dir, ignore_errors=True)

    def request(
        self,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        token: str = "",
        timeout_s: float = _REQUEST_TIMEOUT_S,
    ) -> dict[str, Any]:
        """Ask the JSON gateway."""
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if token:
            headers["Authorization"] = token
        data = json.dumps(body or {}).encode()
        request = urllib.request.Request(f"{self.url}{path}", data=data, headers=headers)
        try:
            with self._opener.open(request, timeout=timeout_s) as response:
                answer: dict[str, Any] = json.loads(response.readline())
                return answer
        except urllib.error.HTTPError as error:
            text = error.read().decode("utf-8", errors="replace")
            if text.startswith('{"error":{'):
                # What a stream begins with, if it begins with an error.
                refusal: dict[str, Any] = json.loads(text)
                return refusal
            raise EtcdError(text) from None

    def put(self, key: str, value: bytes, token: str = "") -> None:
        """Write a key behind everybody's back."""
        self.request("/v3/kv/put", {"key": b64(key), "value": b64(value)}, token=token)

    def get(self, key: str, token: str = "") -> bytes | None:
        """Read a key."""
        answer = self.request("/v3/kv/range", {"key": b64(key)}, token=token)
        kvs = answer.get("kvs", ())
        return base64.b64decode(kvs[0].get("value", "")) if kvs else None

    def delete(self, key: str, token: str = "") -> None:
        """Delete a key behind everybody's back."""
        self.request("/v3/kv/deleterange", {"key": b64(key)}, token=token)

    def compact(self) -> int:
        """Have all history forgotten; return the revision that is the oldest now."""
        revision = int(self.request("/v3/kv/range", {"key": b64("-")})["header"]["revision"])
        self.request("/v3/kv/compaction", {"revision": str(revision), "physical": True})
        return revision

    def add_user(self, name: str, password: str, prefixes: dict[str, str]) -> None:
        """Add a user with a role of the same name; `prefixes` says READ, WRITE or READWRITE."""
        self.request("/v3/auth/user/add", {"name": name, "password": password})
        self.request("/v3/auth/role/add", {"name": name})
        for prefix, kind in prefixes.items():
            end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
            right = {"permType": kind, "key": b64(prefix), "range_end": b64(end)}
            self.request("/v3/auth/role/grant", {"name": name, "perm": right})
        self.request("/v3/auth/user/grant", {"user": name, "role": name})

    def enable_auth(self, password: str) -> None:
        """Ask everybody who he is, from now on; `ROOT` gets this password."""
        self.request("/v3/auth/user/add", {"name": ROOT, "password": password})
        self.request("/v3/auth/role/add", {"name": ROOT})
        self.request("/v3/auth/user/grant", {"user": ROOT, "role": ROOT})
        self.request("/v3/auth/enable")

    def token(self, name: str, password: str) -> str:
        """Log in."""
        answer = self.request("/v3/auth/authenticate", {"name": name, "password": password})
        return str(answer["token"])

    def _is_ready(self) -> bool:
        try:
            with self._opener.open(f"{self.url}/readyz", timeout=_READY_TIMEOUT_S) as response:
                return bool(response.status == 200)
        except urllib.error.HTTPError:
            # Where it asks everybody who he is, it asks itself, and is never ready in these terms.
            status = self.request("/v3/maintenance/status", timeout_s=_READY_TIMEOUT_S)
            return "leader" in status and "errors" not in status


class Cluster:
    """Several members; `links` is the network between them."""

    def __init__(self, base_dir: Path, members: int = 3, election_ms: int = 1000) -> None:
        self.links = Links(members, self._pid_of)
        peers = {f"m{number}": self.links.advertised(number) for number in range(members)}
        self.members = [
            Etcd(
                base_dir / f"m{number}",
                name=f"m{number}",
                peers=peers,
                peer_listener=self.links.listened(number),
                arguments=(
                    f"--heartbeat-interval={election_ms // 10}",
                    f"--election-timeout={election_ms}",
                ),
            )
            for number in range(members)
        ]

    def start(self) -> None:
        """Start all that do not run, and wait until every one of them is ready."""
        absent = [member for member in self.members if not member.running]
        for member in absent:
            member.spawn()
        for member in absent:
            member.wait_ready()

    def kill(self) -> None:
        """Kill every member."""
        for member in self.members:
            member.kill()

    def close(self) -> None:
        """Kill every member, and take the network and the data away."""
        self.kill()
        self.links.close()
        for member in self.members:
            member.remove_data()

    def leader(self) -> int:
        """Return the number of the member that a majority takes for the leader."""
        found: dict[str, int] = {}
        votes: list[str] = []
        for number, member in enumerate(self.members):
            if member.running and not member.paused:
                try:
                    status = member.request("/v3/maintenance/status", timeout_s=1.0)
                except (OSError, EtcdError):
                    continue
                found[status["header"]["member_id"]] = number
                votes.append(status.get("leader", ""))
        for vote in set(votes):
            if 2 * votes.count(vote) > len(self.members) and vote in found:
                return found[vote]
        raise ServerError(f"no majority has a leader: {votes}")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _pid_of(self, number: int) -> int:
        try:
            return self.members[number].pid
        except ServerError:
            return 0


def b64(text: str | bytes) -> str:
    """Return a key or a value as the gateway wants it."""
    data = text.encode() if isinstance(text, str) else text
    return base64.b64encode(data).decode("ascii")
