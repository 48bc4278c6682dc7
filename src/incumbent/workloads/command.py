"""A command as the work of one run: its whole process tree, ended and confirmed.

It is called in the thread that leads, since the kernel ties a tree to the thread that made it.

What it promises is what `incumbent run` does, for each run:

1. The tree is started only while the term is trusted.
2. When the term is to end, or the run has had its time, the whole tree gets TERM, then KILL after
   the grace. The run returns when its end is confirmed, and so before the lease is given up.
3. If this process dies, the tree dies with it; if it is frozen alone, the tree's init ends it at
   the deadline that it was told last. That is never later than the term was trusted.
4. A tree whose end cannot be confirmed ends this process, without a word to the store: then the
   lease is waited out by everybody.
"""

from __future__ import annotations

import logging
import os
import selectors
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress

from incumbent.clock import boottime
from incumbent.errors import LeadershipLost, WorkStuck
from incumbent.runtime.contain import Tree
from incumbent.runtime.term import Term

__all__ = ["Command", "CommandFailed"]

_LOOK_EVERY_S = 0.25
_KILL_S = 0.5
STUCK = 70
"""The exit code of a process whose command cannot be ended."""

log = logging.getLogger("incumbent")


class CommandFailed(Exception):
    """The command ended with something else than 0, or could not be run."""


class Command:
    """A command that is run again and again, each time in a tree of its own.

    Attributes:
        argv: the command and its arguments.
        grace_s: from TERM to KILL.
        contain: what holds the tree together: see `Tree.prepare`.
    """

    def __init__(self, argv: Sequence[str], *, grace_s: float, contain: str = "auto") -> None:
        self.argv = tuple(argv)
        self.grace_s = grace_s
        self.contain = contain
        self._hurry = threading.Event()

    def hurry(self) -> None:
        """Kill what runs at once, without the rest of its grace."""
        self._hurry.set()

    def run(
        self, term: Term, environment: Mapping[str, str], timeout_s: float | None = None
    ) -> None:
        """Run it, and return when nothing of it is left.

        Raises:
            CommandFailed: it has not ended with 0.
            TimeoutError: it was ended because it had had its time.
            LeadershipLost: it was ended with the term.
        """
        until_s = float("inf") if timeout_s is None else boottime() + timeout_s
        tree = Tree.prepare(self.contain)
        bell = _Bell(term)
        try:
            tree.extend(term.valid_until)
            term.check()
            tree.start(
                self.argv,
                env={**os.environ, **_identity(term), **environment},
                pass_fds=term.pass_fds,
            )
            timed_out = self._watch(tree, term, bell, until_s)
            _confirm(tree)
            status, error = tree.poll(), tree.error
        finally:
            bell.close()
            tree.close()
        if error:
            raise CommandFailed(error)
        if status == 0:
            return
        if timed_out and timeout_s is not None:
            raise TimeoutError(f"it was ended after {round(timeout_s, 1):g} s")
        if term.ended:
            raise LeadershipLost(f"the command was ended with its term: {term.cause}")
        raise CommandFailed(f"the command ended with {status}")

    def _watch(self, tree: Tree, term: Term, bell: _Bell, until_s: float) -> bool:
        """Wait for the end of the tree, or bring it about; tell whether it had had its time."""
        stopping = timed_out = killed = False
        with selectors.DefaultSelector() as selector:
            selector.register(tree.fileno(), selectors.EVENT_READ)
            selector.register(bell.fileno(), selectors.EVENT_READ)
            while not tree.gone:
                selector.select(max(0.0, min(_LOOK_EVERY_S, until_s - boottime())))
                tree.poll()
                tree.extend(term.valid_until)
                bell.clear()
                if not stopping and (term.ended or boottime() >= until_s):
                    stopping, timed_out = True, not term.ended
                    until_s = float("inf")
                    tree.request_stop(max(0.0, min(self.grace_s, term.remaining() - _KILL_S)))
                if stopping and not killed and self._hurry.is_set():
                    killed = True
                    tree.kill()
        return timed_out


def _confirm(tree: Tree) -> None:
    try:
        tree.wait_gone()
    except WorkStuck as error:
        log.critical("%s: this process ends, and gives nothing back", error)
        os._exit(STUCK)


def _identity(term: Term) -> dict[str, str]:
    return {
        "INCUMBENT_ELECTION": term.name,
        "INCUMBENT_IDENTITY": term.identity,
        "INCUMBENT_TERM": term.id,
        "INCUMBENT_TOKEN": "" if term.token is None else str(term.token),
    }


class _Bell:
    """Wakes whoever waits for files when the term is to end. It may ring after it was closed."""

    def __init__(self, term: Term) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._open = True
        term.on_lost(lambda _: self._ring())

    def fileno(self) -> int:
        """Return what becomes readable."""
        return self._read

    def clear(self) -> None:
        """Be quiet again."""
        with suppress(BlockingIOError):
            os.read(self._read, 64)

    def close(self) -> None:
        """Give the descriptors back."""
        with self._lock:
            self._open = False
            os.close(self._read)
            os.close(self._write)

    def _ring(self) -> None:
        with self._lock:
            if self._open:
                os.write(self._write, b"!")
