"""ZooKeeper for the fault suite.

One server, since what is tried here is what candidates do when it dies, stands still or cannot be
reached; what an ensemble does when it is parted is tried in `tests/stores/test_zookeeper.py`.
"""

from __future__ import annotations

from pathlib import Path

from tests.faults.adapter import OneServer
from tests.servers.zookeeper import HOST, ZooKeeperServer

__all__ = ["ZooKeeper"]


class ZooKeeper(OneServer):
    """See `adapter.Adapter`."""

    scheme = "zookeeper"
    least_ttl_s = 1.5

    def __init__(self, base_dir: Path) -> None:
        server = ZooKeeperServer(base_dir)
        super().__init__(server, HOST, server.port)
