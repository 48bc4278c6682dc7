"""Consul for the fault suite."""

from __future__ import annotations

from pathlib import Path

from tests.faults.adapter import OneServer
from tests.servers.consul import Consul

__all__ = ["ConsulAdapter"]


class ConsulAdapter(OneServer):
    """One server that is alone."""

    scheme = "consul"

    def __init__(self, base_dir: Path) -> None:
        self._consul = Consul(base_dir / "server")
        super().__init__(self._consul, self._consul.host, self._consul.port)

    def _url(self, address: str) -> str:
        return self._consul.url(address=address)
