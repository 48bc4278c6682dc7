"""One question of DNS, as a client of a headless Service asks it: which address has this name?"""

from __future__ import annotations

import secrets
import socket
import struct

from tests.cluster.network import CONTROL

__all__ = ["address_of"]

_LIMIT_S = 1.0
_ANSWERS = {0: "no address", 2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}
_A, _IN = 1, 1


def address_of(name: str, server: str = CONTROL, port: int = 53) -> str:
    """Return the A records of a name, or in words why there is none."""
    number = secrets.randbelow(1 << 16)
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    question = struct.pack(">6H", number, 0, 1, 0, 0, 0) + labels + struct.pack(">B2H", 0, _A, _IN)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(_LIMIT_S)
        try:
            client.sendto(question, (server, port))
            answer = client.recv(4096)
        except OSError as error:
            return f"no answer ({error})"
    flags, _, count = struct.unpack(">3H", answer[2:8])
    found = sorted(_addresses(answer, len(question), count))
    return ", ".join(found) or _ANSWERS.get(flags & 0xF, f"code {flags & 0xF}")


def _addresses(answer: bytes, at: int, count: int) -> list[str]:
    found = []
    for _ in range(count):
        at = _after_name(answer, at)
        kind, _, _, length = struct.unpack(">2HIH", answer[at : at + 10])
        data = answer[at + 10 : at + 10 + length]
        if kind == _A:
            found.append(socket.inet_ntoa(data))
        at += 10 + length
    return found


def _after_name(answer: bytes, at: int) -> int:
    """A name is labels up to an empty one, or up to a pointer to where it stands already."""
    while answer[at] != 0:
        if answer[at] >= 0xC0:
            return at + 2
        at += 1 + answer[at]
    return at + 1
