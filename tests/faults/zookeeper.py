"""ZooKeeper for the fault suite: an ensemble of three.

What is paused is drawn: two servers or all three, so that no majority is left. A crash is that of
all three.
"""

from __future__ import annotations

from pathlib import Path

from tests.faults.adapter import Members
from tests.servers.zookeeper import HOST, ZooKeeperEnsemble

__all__ = ["ZooKeeper"]


class ZooKeeper(Members):
    """See `adapter.Adapter`."""

    scheme = "zookeeper"

    def __init__(self, base_dir: Path) -> None:
        # On a busy machine a server is silent for a second or two now and then, and lives.
        self._ensemble = ZooKeeperEnsemble(base_dir, patience_ticks=15)
        servers = self._ensemble.servers
        super().__init__(self._ensemble, servers, [(HOST, server.port) for server in servers])

    def stop(self) -> None:
        super().stop()
        self._ensemble.close()

    def isolate(self, seat: int) -> None:
        self._ensemble.cut_off(self._ensemble.servers[seat])

    def _join(self) -> None:
        self._ensemble.heal()
