"""Where `incumbent run` answers whether it is alive: a Unix socket, asked by `incumbent probe`.

What an answer proves
---------------------
A connection is taken by the main thread, handed to the keeper's loop, and answered by the main
thread when it comes back. So whoever is answered knows that both turn: the loop that renews, and
the one that starts and stops the command. Nothing asks the store, nor who leads: a store that does
not answer, or a leader elsewhere, is no reason to restart a replica. What the command does, nobody
here can judge; the answer says whether it runs, so that somebody may ask it.

A stopped process lets connections be made and never answers: silence is the answer of the dead.

Rules
-----
1. Nothing is read from a connection, so there is nothing to be said wrongly. One answer, and it is
   closed.
2. Whoever does not wait for the answer costs a descriptor until then, and only so many may.
3. The socket is for this user (mode 0600). What a dead process has left under the path is taken
   away; where somebody listens, this one refuses to be asked in its place.
4. **Who is refused by a socket may have met one that does not listen yet**, and not one of the
   dead. So the look at what is there, its removal, `bind` and `listen` are one step, under a lock
   on the folder: of two that begin at once, the second one meets a socket that listens. The kernel
   gives the lock back whatever becomes of its owner, and nothing is left in the folder.
5. It takes its own file away before it stops to listen, and not after that: by then the file can be
   that of the next one. As long as its socket is open, nobody else's has its inode.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from incumbent.errors import ConfigError

__all__ = ["Answers", "Reply"]

Reply = Callable[[bytes], None]
"""Sends the answer to one who asked, and is called once."""

LIMIT_S = 5.0
"""How long the lock is waited for. Who has it needs a millisecond, unless it was stopped."""
_WAITING = 16
_POLL_S = 0.01


class Answers:
    """The listening socket; its owner watches `fileno` and calls `take` when it can be read."""

    def __init__(self, path: str) -> None:
        """Listen at `path`.

        Raises:
            ConfigError: it cannot be, or somebody else listens there.
        """
        if not path:
            raise ConfigError("--probe: no path: name a file below a folder of this container")
        self._path = path
        self._open: set[socket.socket] = set()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.setblocking(False)
            with _alone(path):
                _make_way(path)
                self._socket.bind(path)
                os.chmod(path, 0o600)
                self._inode = os.stat(path).st_ino
                self._socket.listen(_WAITING)
        except OSError as error:
            self._socket.close()
            why = error.strerror or str(error)
            raise ConfigError(f"--probe {path}: cannot listen there: {why}") from None
        except ConfigError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return what becomes readable when somebody asks."""
        return self._socket.fileno()

    def take(self) -> list[Reply]:
        """Return how to answer those who have come to ask."""
        found: list[Reply] = []
        while True:
            try:
                asked, _ = self._socket.accept()
            except OSError:  # Nobody more, or nobody who still waits.
                return found
            if len(self._open) >= _WAITING:
                asked.close()
                continue
            asked.setblocking(False)
            self._open.add(asked)
            found.append(self._reply(asked))

    def _reply(self, asked: socket.socket) -> Reply:
        def reply(text: bytes) -> None:
            if asked in self._open:
                self._open.discard(asked)
                with asked, suppress(OSError):  # It has gone, and is not told.
                    asked.send(text)

        return reply

    def close(self) -> None:
        """Answer nobody any more, and take the socket away unless it is somebody else's by now."""
        while self._open:
            self._open.pop().close()
        with suppress(OSError):
            if os.stat(self._path).st_ino == self._inode:
                os.unlink(self._path)
        self._socket.close()


@contextmanager
def _alone(path: str) -> Iterator[None]:
    """Keep everybody else from beginning to listen in that folder.

    Raises:
        ConfigError: somebody has its lock, and keeps it.
        OSError: there is no such folder, or it cannot be locked.
    """
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        until_s = time.monotonic() + LIMIT_S
        while not _locked(folder):
            if time.monotonic() > until_s:
                raise ConfigError(
                    f"--probe {path}: its folder has been locked by another process for "
                    f"{LIMIT_S:g} s: name a file below a folder that nobody else locks"
                )
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(folder)


def _locked(folder: int) -> bool:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _make_way(path: str) -> None:
    """Take away the socket of a process that is dead: a folder may outlive the container."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.setblocking(False)
        try:
            other.connect(path)
        except FileNotFoundError:
            return
        except BlockingIOError:  # So many wait there that it must be somebody's.
            pass
        except ConnectionRefusedError:
            # A file that is none is refused in the same way.
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                os.unlink(path)
            return
    raise ConfigError(
        f"--probe {path}: another `incumbent run` answers there: give each a path of its own"
    )
