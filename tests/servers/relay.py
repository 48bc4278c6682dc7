"""What passes between two sockets, in one direction, until one of them ends."""

from __future__ import annotations

import contextlib
import socket

__all__ = ["copy", "shut"]

_CHUNK_BYTES = 64 * 1024


def copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK_BYTES):
            sink.sendall(data)
    shut(source)
    shut(sink)


def shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
