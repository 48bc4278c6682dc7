"""The process between one that must survive and work that must not outlive its term.

    the user's process  --socket-->  guard (armed)  -->  init of a process tree  -->  the work

The kernel's timer can only end the process that made it. So a web worker that wants to live on
puts this small process in between: it holds the timer, and the tree dies with it. Every renewal is
told to it over the socket and re-arms the timer; if the user's process is stopped, the telling
stops too, and the guard dies in time, and with it the work. The end of the socket means that the
user's process is gone: the tree is killed at once.

Messages are JSON, one per packet; file descriptors travel with `start`, and with `ready` those by
which the user's process sees the end of the tree should this process be killed.

Rule: `gone`, and the exit code 0, are said only when the end of the whole tree is confirmed. Where
it cannot be, this process says so on stderr and ends with another code.
"""

from __future__ import annotations

import json
import math
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

from incumbent.errors import WorkStuck
from incumbent.runtime.contain import Tree
from incumbent.runtime.deadman import DeadMan

__all__ = ["MAX_MESSAGE", "serve"]

MAX_MESSAGE = 1 << 16
MAX_FDS = 32


class _Guard:
    def __init__(self, control: socket.socket, contain: str) -> None:
        self._control = control
        self._control.setblocking(False)
        self._deadman = DeadMan()
        self._tree = Tree.prepare(contain)
        self._started = False
        self._told = False

    def serve(self) -> int:
        """Obey until the other end is closed, then leave nothing behind."""
        containment = self._tree.containment
        self._tell_with(
            self._tree.witness_fds, guarantee=containment.guarantee, strong=containment.strong
        )
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._tree.fileno(), select.POLLIN)
        while True:
            poll.poll()
            status = self._tree.poll()
            if self._started and self._tree.gone and not self._told:
                self._told = True
                self._tree.wait_gone()
                poll.unregister(self._tree.fileno())
                self._tell(gone=137 if status is None else status)
            if not self._obey():
                self._tree.close()
                self._deadman.close()
                return 0

    def _obey(self) -> bool:
        while True:
            try:
                # Not by a flag: `recv_fds` of Python 3.11 drops it.
                data, fds, _, _ = socket.recv_fds(self._control, MAX_MESSAGE, MAX_FDS)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not data:
                return False
            self._do(json.loads(data), fds)

    def _do(self, message: dict[str, Any], fds: list[int]) -> None:
        if "arm" in message:
            self._deadman.arm(message["arm"], message["message"])
            self._tree.extend(message["arm"])
        elif "disarm" in message:
            self._deadman.disarm()
            self._tree.extend(math.inf)
        elif "start" in message:
            self._started = True
            argv = [text.replace("{fds}", ",".join(map(str, fds))) for text in message["start"]]
            self._tree.start(argv, pass_fds=fds)
            for fd in fds:
                os.close(fd)
        elif "stop" in message:
            self._tree.request_stop(message["stop"])

    def _tell(self, **message: Any) -> None:
        self._tell_with((), **message)

    def _tell_with(self, fds: Sequence[int], **message: Any) -> None:
        socket.send_fds(self._control, [json.dumps(message).encode()], fds)


def serve(fd: int, contain: str) -> int:
    """Be the guard at the other end of the socket `fd`; return the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Sent to everything in the container or group: the one that we guard decides. These are
        # handlers and not SIG_IGN, which the work would inherit.
        signal.signal(number, lambda *_: None)
    try:
        return _Guard(socket.socket(fileno=fd), contain).serve()
    except WorkStuck as error:
        sys.stderr.write(f"incumbent: isolated work: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(serve(int(sys.argv[1]), sys.argv[2]))
