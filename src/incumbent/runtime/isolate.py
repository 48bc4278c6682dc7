"""Work in a child process, so that this process survives work that will not stop.

What the work sees is an ordinary `Term`. How long it is trusted lies in a page of memory that both
processes have mapped: here it is written at each renewal, there `check()` reads it. The page only
ever says less than what is true here: it is written after the renewal was confirmed.

The end of the work is confirmed by the guard, which has the tree: it says `gone`, or, when it is
told to end, it ends with 0. A guard that was killed, by its own timer say, confirms nothing. Then
the kernel is asked about the tree's init, and a subreaper also for its last word. Work whose end
stays unconfirmed is `WorkStuck`; whoever called `Isolation.run` must not say that it has ended.

The work function and its result travel by pickle, as with `multiprocessing`'s "spawn": it must be
importable by name, and a script needs its `if __name__ == "__main__":`.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable
from multiprocessing import spawn
from typing import Any

from incumbent.core.fence import Trust
from incumbent.errors import ConfigError, IncumbentError, LeadershipLost, WorkStuck
from incumbent.runtime.contain import says_empty
from incumbent.runtime.guard import MAX_FDS, MAX_MESSAGE
from incumbent.runtime.term import Term

__all__ = ["Isolation", "SharedTrust", "refuse_immovable", "refuse_while_loading"]

_PAGE_BYTES = 8
_READY_S = 30.0
_STOP = "the term is to end"

loading = False
"""Whether this is the work's process, and the user's main module is being imported there."""


def refuse_while_loading() -> None:
    """Refuse a candidate in a main module that is imported only for a function in it.

    It would wait for the very term whose work it keeps from beginning.

    Raises:
        ConfigError: that is so.
    """
    if loading:
        raise ConfigError(
            "the script that leads with isolate=True is imported again by the process of its work, "
            'and would lead there, too: put what starts it under `if __name__ == "__main__":`'
        )


def refuse_immovable(work: Callable[..., Any]) -> None:
    """Refuse work that cannot travel to another process, before anybody is elected for it.

    Raises:
        ConfigError: it cannot be pickled.
    """
    try:
        pickle.dumps(work)
    except Exception as error:
        raise ConfigError(
            f"isolated work must be a function that can be imported by name, or an object that can "
            f"be pickled: {error}. Define it at the top level of a module"
        ) from error


class SharedTrust(Trust):
    """A trust that is kept in a shared page: written in one process, read in another."""

    __slots__ = ("_map", "_view")

    def __init__(self, fd: int, *, writable: bool) -> None:
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self._map = mmap.mmap(fd, _PAGE_BYTES, mmap.MAP_SHARED, protection)
        self._view = memoryview(self._map).cast("d")

    @property
    def valid_until(self) -> float:  # type: ignore[override]
        """The instant up to which the term is trusted."""
        return self._view[0]

    def write(self, valid_until: float) -> None:
        """Set the instant."""
        self._view[0] = valid_until


class Isolation:
    """The isolated work of one candidate, term after term. It is the watchdog's timer for it.

    Attributes:
        unconfirmed: whether work was begun whose end is not confirmed.
    """

    def __init__(self, contain: str = "auto") -> None:
        self._contain = contain
        self._lock = threading.Lock()
        self._closed = False
        self.unconfirmed = False
        self._round = _Round(contain)

    @property
    def guarantee(self) -> str:
        """What holds the work's process tree together, for people."""
        return self._round.guarantee

    def arm(self, deadline: float, message: str) -> None:
        """Set the deadline (`runtime.watchdog.Timer`)."""
        self._round.arm(deadline, message)

    def disarm(self) -> None:
        """Have no deadline (`runtime.watchdog.Timer`)."""
        self._round.disarm()

    def term(self, **values: Any) -> Term:
        """Make the term handle of the next round (`runtime.driver.TermFactory`)."""
        return _IsolatedTerm(self._round, **values)

    def run(self, term: Term, work: Callable[[Any], Any]) -> Any:
        """Run `work` in a process tree of its own; return its result when all of it has ended.

        Raises:
            LeadershipLost: the work was ended because of its term.
            IncumbentError: it ended without a result; a process was killed, say.
            WorkStuck: it cannot be confirmed that all of it has ended.
            Exception: whatever the work raised.
        """
        # Whatever interrupts this thread, in the last step too, leaves it unconfirmed.
        self.unconfirmed = True
        try:
            return self._round.run(term, work)
        finally:
            self._round.close()
            self.unconfirmed = False

    def renew(self) -> None:
        """Prepare for the next term, before the end of the last one's work is reported."""
        with self._lock:
            if not self._closed:
                self._round = _Round(self._contain)

    def request_stop(self, grace_s: float) -> None:
        """TERM the work, and KILL its tree after `grace_s`."""
        self._round.request_stop(grace_s)

    def close(self) -> None:
        """End the guard and whatever it holds; return when it is gone.

        Raises:
            WorkStuck: it cannot be confirmed that all of the work has ended.
        """
        with self._lock:
            self._closed = True
            self._round.close()
            self.unconfirmed = False


class _IsolatedTerm(Term):
    """The term as this process sees it; what it learns, the work learns."""

    __slots__ = ("_round",)

    def __init__(self, round_: _Round, **values: Any) -> None:
        super().__init__(**values)
        self._round = round_

    def void(self, cause: str = "") -> None:
        """End the trust here and in the work."""
        super().void(cause)
        self._round.void()


class _Round:
    """A guard with one process tree, for one term."""

    def __init__(self, contain: str = "auto") -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        self._over = False
        self._page = os.memfd_create("incumbent-trust")
        os.ftruncate(self._page, _PAGE_BYTES)
        self._trust = SharedTrust(self._page, writable=True)
        self._trust.write(-math.inf)
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "incumbent.runtime.guard",
                    str(theirs.fileno()),
                    contain,
                ],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                # What a terminal sends is for this process, which then stops the work.
                start_new_session=True,
            )
        self._begun = False
        self._confirmed = False
        self._witness: list[int] = []
        self._strong = False
        self._control.settimeout(_READY_S)
        ready = self._hear()
        self._control.settimeout(None)
        if ready is None:
            self.close()
            raise IncumbentError("the guard of the isolated work did not come up; see stderr")
        self.guarantee: str = ready["guarantee"]
        self._strong = ready["strong"]

    # -- on the keeper's thread -------------------------------------------------------------------

    def arm(self, deadline: float, message: str) -> None:
        """Tell the guard, and the work, how long the term is trusted now."""
        self._tell(arm=deadline, message=message)
        with self._lock:
            if not self._over:
                self._trust.write(deadline)

    def disarm(self) -> None:
        """Tell the guard that there is no deadline: the work has ended."""
        self._tell(disarm=True)

    def void(self) -> None:
        """Tell the work that its term is over now."""
        with self._lock:
            self._over = True
            self._trust.write(-math.inf)

    # -- in the thread that waits for the work ----------------------------------------------------

    def run(self, term: Term, work: Callable[[Any], Any]) -> Any:
        """See `Isolation.run`."""
        preparation = spawn.get_preparation_data("incumbent-work")
        preparation.pop("authkey", None)
        words = (term.name, term.identity, term.token, term.id)
        payload = os.memfd_create("incumbent-work")
        with os.fdopen(payload, "wb", closefd=False) as file:
            pickle.dump(preparation, file)
            pickle.dump((words, work), file)
        os.lseek(payload, 0, os.SEEK_SET)
        result_read, result_write = os.pipe()
        fds = [payload, self._page, result_write, *term.pass_fds]
        argv = [sys.executable, "-m", "incumbent.runtime.isolate", "{fds}"]
        self._begun = True
        try:
            self._tell_with(fds, start=argv)
        finally:
            os.close(payload)
            os.close(result_write)
        try:
            data = self._read(result_read)
        finally:
            os.close(result_read)
        said = self._hear()
        if not data:
            # A guard that its timer has killed may be seen here before the keeper has noticed.
            if term.ended or not term.remaining():
                raise LeadershipLost(f"the work of {term.name!r} was ended: {term.cause}")
            status = said["gone"] if said else 137
            raise IncumbentError(f"the isolated work ended with status {status}, without a result")
        good, value = pickle.loads(data)
        if good:
            return value
        raise value

    def _read(self, results: int) -> bytes:
        """Return the result when the guard has something to say, which is its last word.

        Not at the end of the pipe: what escaped may hold that open for ever.
        """
        data = bytearray()
        poll = select.poll()
        poll.register(results, select.POLLIN)
        poll.register(self._control, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if results not in ready:
                return bytes(data)
            chunk = os.read(results, 1 << 16)
            data += chunk
            if not chunk:
                poll.unregister(results)

    def request_stop(self, grace_s: float) -> None:
        """TERM the work, and KILL its tree after `grace_s`."""
        self._tell(stop=max(0.0, grace_s))

    def close(self) -> None:
        """End the guard and whatever it holds; return when it is gone. May be called twice.

        Raises:
            WorkStuck: it cannot be confirmed that all of the work has ended.
        """
        if self._page >= 0:
            self._control.close()
            confirmed = self._process.wait() == 0 or not self._begun or self._seen_to_end()
            self._confirmed = confirmed
            for fd in (self._page, *self._witness):
                os.close(fd)
            self._page = -1
        if not self._confirmed:
            raise WorkStuck(
                "the subreaper of the isolated work was killed, so it cannot be confirmed that all "
                "of the work has ended; its lease is not released"
            )

    def _seen_to_end(self) -> bool:
        """Wait for the end of a tree whose guard did not confirm it, and tell whether it is sure.

        The end of a namespace's init is the end of the namespace. A subreaper's is so only if it
        has said that nothing was left.
        """
        if not self._witness:
            return False
        init, page = self._witness
        poll = select.poll()
        poll.register(init, select.POLLIN)
        poll.poll()
        return self._strong or says_empty(page)

    # -- messages ---------------------------------------------------------------------------------

    def _tell(self, **message: Any) -> None:
        self._tell_with((), **message)

    def _tell_with(self, fds: Sequence[int], **message: Any) -> None:
        try:
            socket.send_fds(self._control, [json.dumps(message).encode()], fds)
        except OSError:
            pass  # The guard is gone, and the tree with it: `run` finds out.

    def _hear(self) -> dict[str, Any] | None:
        try:
            data, fds, _, _ = socket.recv_fds(self._control, MAX_MESSAGE, MAX_FDS)
        except OSError:
            return None
        self._witness += fds
        message: dict[str, Any] | None = json.loads(data) if data else None
        return message


def _load(payload: int) -> tuple[tuple[Any, ...], Callable[[Any], Any]]:
    """Import the main module as another one, and unpack the term's words and the work.

    Raises:
        ConfigError: that failed.
    """
    global loading
    loading = True
    try:
        with os.fdopen(payload, "rb") as file:
            spawn.prepare(pickle.load(file))
            words, work = pickle.load(file)
    except Exception as error:
        raise ConfigError(
            f"isolated work could not be loaded in its own process: {error}"
        ) from error
    finally:
        loading = False
    return words, work


def _work(fds: list[int]) -> None:
    payload, page, result = fds[:3]
    try:
        words, work = _load(payload)
        outcome = _run(words, work, page, fds[3:])
    except Exception as error:
        outcome = (False, error)
    with os.fdopen(result, "wb") as file:
        file.write(_packed(outcome))


def _run(
    words: tuple[Any, ...], work: Callable[[Any], Any], page: int, inherited_fds: Sequence[int]
) -> tuple[bool, Any]:
    name, identity, token, term_id = words
    term = Term(
        name=name,
        identity=identity,
        token=token,
        term=term_id,
        trust=SharedTrust(page, writable=False),
        inherited_fds=inherited_fds,
    )
    signal.signal(signal.SIGTERM, lambda *_: term.end(_STOP))
    value = work(term)
    if isawaitable(value):
        value = _wait_for(value, term)
    return True, value


def _packed(outcome: tuple[bool, Any]) -> bytes:
    """Pickle the outcome, or if the other side could not read it, an error that says so."""
    try:
        data = pickle.dumps(outcome)
        if not outcome[0]:
            pickle.loads(data)  # An exception may be packed and still not be made again.
    except Exception as error:
        data = pickle.dumps((False, IncumbentError(f"{outcome[1]!r}: {error}")))
    return data


def _wait_for(value: Awaitable[Any], term: Term) -> Any:
    import asyncio

    async def main() -> Any:
        task = asyncio.ensure_future(value)

        def stop() -> None:
            term.end(_STOP)
            task.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
        if term.ended:
            task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            if not term.ended:
                raise
            raise LeadershipLost(f"the work of {term.name!r} was cancelled: {_STOP}") from None

    return asyncio.run(main())


if __name__ == "__main__":
    # Not from here: this module is about to give its name to the user's.
    from incumbent.runtime import isolate  # noqa: PLW0406  the other copy of it

    isolate._work([int(text) for text in sys.argv[1].split(",")])
