"""The network between the members of a cluster, to be cut between any two of them.

Each member listens for its peers behind a relay of ours, whose port is the one that it advertises.
A relay knows who is calling: the processes are ours, so the socket at the other end is found among
their open files. That is what a plain proxy cannot tell, and what one needs to cut one member off
while the others go on talking to one another.

Members that are kept apart call again as soon as a call ends, many times a second, and to find out
who is calling costs milliseconds. So a call that is not let through is left unanswered for a moment
before it is ended.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from tests.servers.ports import claim_port, release_port
from tests.servers.relay import copy, shut

_ESTABLISHED = "01"
_UNANSWERED_S = 0.2


class Links:
    """The relays of a cluster. `pid_of` returns the process of a member, 0 while there is none."""

    def __init__(self, members: int, pid_of: Callable[[int], int]) -> None:
        self._pid_of = pid_of
        self._members = range(members)
        self._lock = threading.Lock()
        self._cut_off: set[int] = set()
        self._whole = threading.Event()
        self._whole.set()
        self._connections: dict[tuple[int, int], set[socket.socket]] = {}
        self._ports = [claim_port() for _ in self._members]
        self._targets = [claim_port() for _ in self._members]
        self._listeners = [socket.create_server(("127.0.0.1", port)) for port in self._ports]
        for member in self._members:
            threading.Thread(
                target=self._serve, args=(member,), name=f"links to {member}", daemon=True
            ).start()

    def advertised(self, member: int) -> str:
        """Where its peers find a member."""
        return f"http://127.0.0.1:{self._ports[member]}"

    def listened(self, member: int) -> str:
        """Where a member listens for its peers."""
        return f"http://127.0.0.1:{self._targets[member]}"

    def cut_off(self, *members: int) -> None:
        """Let nothing pass any more between these members and any other one."""
        with self._lock:
            self._cut_off |= set(members)
            self._whole.clear()
            broken = [
                s for pair, open_ in self._connections.items() if self._cut(pair) for s in open_
            ]
        for end in broken:
            shut(end)

    def heal(self) -> None:
        """Let everything pass."""
        with self._lock:
            self._cut_off.clear()
            self._whole.set()

    def close(self) -> None:
        """Close every relay."""
        for listener in self._listeners:
            shut(listener)
        with self._lock:
            self._whole.set()
            ends = [end for open_ in self._connections.values() for end in open_]
        for end in ends:
            shut(end)
        for port in (*self._ports, *self._targets):
            release_port(port)

    def _cut(self, pair: tuple[int, int]) -> bool:
        return bool(self._cut_off & set(pair))

    def _serve(self, target: int) -> None:
        while True:
            try:
                client, address = self._listeners[target].accept()
            except OSError:
                return
            threading.Thread(
                target=self._relay, args=(client, address[1], target), daemon=True
            ).start()

    def _relay(self, client: socket.socket, port: int, target: int) -> None:
        source = self._caller(port)
        if source is None:
            shut(client)
            return
        if self._cut((source, target)):
            self._whole.wait(_UNANSWERED_S)
            shut(client)
            return
        try:
            server = socket.create_connection(("127.0.0.1", self._targets[target]))
        except OSError:
            shut(client)
            return
        pair = (source, target)
        ends = {client, server}
        with self._lock:
            refused = self._cut(pair)
            if not refused:
                self._connections.setdefault(pair, set()).update(ends)
        if refused:
            shut(client)
            shut(server)
            return
        back = threading.Thread(target=copy, args=(server, client), daemon=True)
        back.start()
        copy(client, server)
        back.join()
        with self._lock:
            self._connections[pair] -= ends

    def _caller(self, port: int) -> int | None:
        """Return the member whose process has the socket of this local port."""
        inode = _inode_of(port)
        for member in self._members:
            pid = self._pid_of(member)
            if pid and inode and f"socket:[{inode}]" in _open_files(pid):
                return member
        return None


def _inode_of(port: int) -> str:
    wanted = f":{port:04X}"
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        words = line.split()
        if words[1].endswith(wanted) and words[3] == _ESTABLISHED:
            return words[9]
    return ""


def _open_files(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(os.readlink(entry))
    return found
