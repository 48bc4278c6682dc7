"""Loopback ports that stay ours while a server is down.

Binding port 0 and reading the number back gives a port of the range that the kernel also hands to
outgoing connections, so any client on the machine may take it before the server binds it, or while
the server restarts. A port below that range is only ever taken by name. Two test runs on one
machine are kept apart by an abstract Unix socket per port: its name is taken atomically, is
visible to every process of the network namespace, and vanishes with the process that holds it.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

_LOWEST = 20_000
_ATTEMPTS = 1_000

_random = random.SystemRandom()
_claims: dict[int, socket.socket] = {}


def claim_port() -> int:
    """Return a free loopback TCP port that no other caller on this machine gets until we end."""
    outgoing = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii")
    highest = int(outgoing.split()[0]) - 1
    for _ in range(_ATTEMPTS):
        port = _random.randint(_LOWEST, highest)
        if _claim(port):
            return port
    raise RuntimeError(f"no free loopback port between {_LOWEST} and {highest}")


def release_port(port: int) -> None:
    """Give a claimed port back, once nothing of ours will listen on it again."""
    claim = _claims.pop(port, None)
    if claim is not None:
        claim.close()


def _claim(port: int) -> bool:
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            claim.bind(f"\0incumbent-test-port-{port}")
            probe.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            return False
    _claims[port] = claim
    return True
