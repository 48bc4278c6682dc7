"""One etcd member, for the API server to stand on or as a server in its own right.

It does not sync its writes to disk: the tests kill processes, not machines, and a killed process
loses nothing that it gave to the kernel. The election timeout is short because a lone member waits
one out at every start, and has nobody to disagree with.
"""

from __future__ import annotations

import shutil
import urllib.request
from pathlib import Path

from tests.servers import build
from tests.servers.ports import claim_port
from tests.servers.process import ServerError, ServerProcess

_READY_TIMEOUT_S = 1.0
_HEARTBEAT_INTERVAL_MS = 20
_ELECTION_TIMEOUT_MS = 100


class Etcd(ServerProcess):
    """An etcd server with data below `base_dir`; `url` is its client endpoint, plain HTTP."""

    def __init__(self, base_dir: Path) -> None:
        self.url = f"http://127.0.0.1:{claim_port()}"
        peer_url = f"http://127.0.0.1:{claim_port()}"
        self._data_dir = base_dir / "data"
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        super().__init__(
            "etcd",
            [
                build.ensure("etcd"),
                f"--data-dir={self._data_dir}",
                f"--listen-client-urls={self.url}",
                f"--advertise-client-urls={self.url}",
                f"--listen-peer-urls={peer_url}",
                f"--initial-advertise-peer-urls={peer_url}",
                f"--initial-cluster=default={peer_url}",
                f"--heartbeat-interval={_HEARTBEAT_INTERVAL_MS}",
                f"--election-timeout={_ELECTION_TIMEOUT_MS}",
                "--unsafe-no-fsync",
                "--log-level=warn",
            ],
            log_path=base_dir / "etcd.log",
            ready=self._is_ready,
        )

    def remove_data(self) -> None:
        """Delete the data of a server that ended: over 100 MB, because the log is preallocated."""
        if self.running:
            raise ServerError("etcd still uses its data")
        shutil.rmtree(self._data_dir, ignore_errors=True)

    def _is_ready(self) -> bool:
        with self._opener.open(f"{self.url}/readyz", timeout=_READY_TIMEOUT_S) as response:
            return bool(response.status == 200)
