"""Redis for the fault suite.

The server comes back from a crash with all of its data one time, and with none the next; from that
the promise does not suffer. What a replica's promotion does is measured by `losses`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from tests.faults.adapter import OneServer
from tests.servers.redis import Redis

__all__ = ["RedisAdapter", "RedisPy"]


class RedisAdapter(OneServer):
    """One server without replicas."""

    scheme = "redis"
    least_ttl_s = 1.5

    def __init__(self, base_dir: Path) -> None:
        self._redis = Redis(base_dir)
        super().__init__(self._redis, self._redis.host, self._redis.port)
        self._losing = itertools.cycle((False, True))

    def _url(self, lane: int, addresses: Sequence[str]) -> str:
        return self._redis.url(address=addresses[0])

    def end_connections(self, lane: int, seat: int) -> None:
        self._redis.end_connections(self._ports(lane, seat))

    def restart(self) -> None:
        if next(self._losing):
            self._redis.remove_data()
        super().restart()


class RedisPy(RedisAdapter):
    """The same, under the lock of redis-py."""

    def _url(self, lane: int, addresses: Sequence[str]) -> str:
        return f"{super()._url(lane, addresses)}?recipe=redis-py"
