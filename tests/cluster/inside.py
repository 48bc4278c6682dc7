"""What this process does in the cluster's network: calls, and a relay to its API server.

A namespace is entered by one thread, whose sockets stay in it. A socket keeps the namespace that it
was made in: so a relay that listens outside and connects inside is one thread that listens first.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from tests.servers.ports import claim_port, release_port
from tests.servers.relay import copy, shut

__all__ = ["Relay", "inside"]

_Result = TypeVar("_Result")

_CLONE_NEWNET = 0x40000000


def inside(pid: int, call: Callable[[], _Result]) -> _Result:
    """Return what `call` returns in the network of a process, on a thread of its own."""
    outcome: Future[_Result] = Future()

    def work() -> None:
        try:
            _enter(pid)
            outcome.set_result(call())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return outcome.result()


class Relay:
    """Listens on a loopback port of the machine, and connects in the network of a process."""

    def __init__(self, pid: int, address: str, port: int) -> None:
        self.port = claim_port()
        self._target = (address, port)
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._open: set[socket.socket] = set()
        self._closed = False
        threading.Thread(target=self._serve, args=(pid,), name="relay", daemon=True).start()

    def close(self) -> None:
        """Stop listening, and end every connection."""
        self._closed = True
        for end in (self._listener, *list(self._open)):
            shut(end)
        release_port(self.port)

    def _serve(self, pid: int) -> None:
        _enter(pid)
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target)
        except OSError:
            shut(client)
            return
        self._open |= {client, server}
        back = threading.Thread(target=copy, args=(server, client), daemon=True)
        back.start()
        copy(client, server)
        back.join()
        self._open -= {client, server}


def _enter(pid: int) -> None:
    """Move this thread, and those that it starts, to the network of a process."""
    libc = ctypes.CDLL(None, use_errno=True)
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(namespace, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(namespace)
