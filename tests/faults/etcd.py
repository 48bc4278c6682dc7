"""etcd for the fault suite: a cluster of three.

What is paused is drawn: two members or all three, so that no majority is left. A crash is that of
all three.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.faults.adapter import Members
from tests.servers.etcd import Cluster

__all__ = ["EtcdCluster"]


class EtcdCluster(Members):
    """See `adapter.Adapter`."""

    scheme = "etcd"

    def __init__(self, base_dir: Path) -> None:
        self._cluster = Cluster(base_dir)
        members = self._cluster.members
        super().__init__(self._cluster, members, [("127.0.0.1", member.port) for member in members])

    def stop(self) -> None:
        super().stop()
        self._cluster.close()

    def _url(self, lane: int, addresses: Sequence[str]) -> str:
        return f"etcd://{','.join(addresses)}/lane-{lane}?tls=0"

    def isolate(self, seat: int) -> None:
        self._cluster.links.cut_off(seat)

    def _join(self) -> None:
        self._cluster.links.heal()
