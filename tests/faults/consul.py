"""Consul for the fault suite.

Three servers that are parted are tried in `tests/stores/test_consul_cluster.py`: what they tell one
another goes by ways that nothing of ours can cut one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.faults.adapter import OneServer
from tests.servers.consul import Consul

__all__ = ["ConsulAdapter"]


class ConsulAdapter(OneServer):
    """One server that is alone."""

    scheme = "consul"

    def __init__(self, base_dir: Path) -> None:
        # All workers have one address here, and an agent takes 200 connections from one.
        settings = {"limits": {"http_max_conns_per_client": 10_000}}
        self._consul = Consul(base_dir / "server", settings=settings)
        super().__init__(self._consul, self._consul.host, self._consul.port)

    def _url(self, lane: int, addresses: Sequence[str]) -> str:
        return self._consul.url(address=addresses[0])
