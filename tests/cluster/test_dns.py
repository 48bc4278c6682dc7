"""The question that is asked of DNS, and the answers that are understood."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.cluster.dns import address_of

NAME = "my-singleton.default.svc.cluster.local"
ENCODED = b"\x0cmy-singleton\x07default\x03svc\x07cluster\x05local\x00"


def _record(name: bytes, address: str, kind: int = 1) -> bytes:
    return name + struct.pack(">2HIH", kind, 1, 0, 4) + socket.inet_aton(address)


@pytest.fixture
def answering() -> Iterator[Callable[[int, list[bytes]], int]]:
    """Start a server that answers one question, with a code and records, and return its port."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))

    def serve(code: int, records: list[bytes]) -> None:
        question, client = server.recvfrom(4096)
        assert question[12:] == ENCODED + b"\0\1\0\1"
        head = question[:2] + struct.pack(">5H", 0x8400 | code, 1, len(records), 0, 0)
        server.sendto(head + question[12:] + b"".join(records), client)

    def start(code: int, records: list[bytes]) -> int:
        threading.Thread(target=serve, args=(code, records), daemon=True).start()
        port: int = server.getsockname()[1]
        return port

    yield start
    server.close()


@pytest.mark.parametrize(
    ("code", "records", "understood"),
    [
        (0, [_record(b"\xc0\x0c", "10.244.1.3")], "10.244.1.3"),
        (0, [_record(ENCODED, "10.244.1.3")], "10.244.1.3"),
        (
            0,
            [_record(b"\xc0\x0c", "10.244.2.9"), _record(b"\xc0\x0c", "10.244.1.3")],
            "10.244.1.3, 10.244.2.9",
        ),
        (0, [_record(b"\x01a\xc0\x0c", "1.2.3.4", kind=99)], "no address"),
        (3, [], "NXDOMAIN"),
        (2, [], "SERVFAIL"),
        (9, [], "code 9"),
    ],
)
def test_answers(
    answering: Callable[[int, list[bytes]], int], code: int, records: list[bytes], understood: str
) -> None:
    port = answering(code, records)
    assert address_of(NAME, "127.0.0.1", port) == understood


def test_silence_is_no_address() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        assert "no answer" in address_of(NAME, "127.0.0.1", silent.getsockname()[1])
