"""Several singletons, spread over the replicas, for threads: a thread for each that is held here.

    def work(term: Term) -> None:
        while not term.lost.wait(1.0):
            term.check()
            settle(term.name, fencing_token=term.token)

    Spread("shards", [f"shard-{number}" for number in range(30)], work).run()

The thread that calls `run` starts the others and waits for them: no user's code, and no start of a
thread, is on the one that keeps the leases.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread

from incumbent.errors import IncumbentError
from incumbent.runtime.face import refuse_async, refuse_coroutine
from incumbent.runtime.term import Term
from incumbent.threads import on_keepers_thread
from incumbent.workloads.sigterm import heeded
from incumbent.workloads.spread.group import Group
from incumbent.workloads.spread.member import Misuse, Seat

__all__ = ["Spread"]

Work = Callable[[Term], object]


class Spread(Group[Work]):
    """Elections of which this process holds its share, each with a thread that does its work."""

    def run(self, *, deadman: bool = True) -> None:
        """Hold what is our share, until `stop`, or until the work of all has returned by itself.

        If a term ends first, its `term.lost` is set: the work should return, or let `term.check()`
        raise `LeadershipLost`. A work that raises anything else loses its term to others, and is
        run here again after a pause. On the main thread SIGTERM does what `stop` does, unless
        somebody handles that signal already: see `workloads.sigterm`.

        Args:
            deadman: have the kernel end this process if some work outlives its term.

        Raises:
            ConfigError: this object runs already, or some setting cannot work.
            StoreError: the store cannot be opened.
            TypeError: the work is a coroutine function or a generator function.
            SystemExit: SIGTERM came, and all has ended.
            BaseException: what some work raised that is no `Exception`, when all has ended.
        """
        refuse_async(self.work, "Spread.run()")
        if on_keepers_thread():
            raise IncumbentError(
                f"{self.group!r}: a callback or an observer cannot run a spread; it runs on the "
                "thread that keeps all leases. Do it in a thread of your own"
            )
        threads = _Threads(self.work)
        member = self._enter(threads, Term, deadman=deadman)
        try:
            with heeded(member.leave):
                member.start()
                threads.serve(member.leave)
        finally:
            self._member = None


class _Threads:
    """Runs the work of each term in a thread of its own."""

    def __init__(self, work: Work) -> None:
        self._work = work
        # A box, and no lock of Python's own: see `runtime.flag`.
        self._inbox: SimpleQueue[tuple[Seat, Term] | _Gone] = SimpleQueue()

    def begin(self, seat: Seat, term: Term) -> None:
        """Have the thread that runs the spread start another."""
        self._inbox.put((seat, term))

    def stop(self, seat: Seat, term: Term) -> None:
        """Leave it to the work, which is told by `term.lost`."""

    def gone(self, error: BaseException | None) -> None:
        """Let the thread that runs the spread go."""
        self._inbox.put(_Gone(error))

    def serve(self, leave: Callable[[BaseException], None]) -> None:
        """Start a thread for each term, until all is over.

        Whoever is interrupted leaves first and is over then; and at once, if that comes twice.
        """
        threads: list[Thread] = []
        interrupted = False
        while True:
            try:
                news = self._inbox.get()
            except BaseException as error:
                if interrupted:
                    raise
                interrupted = True
                leave(error)
                continue
            if isinstance(news, _Gone):
                break
            threads = [thread for thread in threads if thread.is_alive()]
            with suppress(_NotStarted):
                threads.append(self._started(*news))
        for thread in threads:
            thread.join()
        if news.error is not None:
            raise news.error

    def _started(self, seat: Seat, term: Term) -> Thread:
        # A daemon: whoever interrupts twice shall not wait for it at the interpreter's exit.
        name = f"incumbent-{term.name}"
        thread = Thread(target=self._serve, args=(seat, term), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            seat.ended(term, error)
            raise _NotStarted from error
        return thread

    def _serve(self, seat: Seat, term: Term) -> None:
        error: BaseException | None = None
        try:
            result = self._work(term)
        except BaseException as raised:
            error = raised
        else:
            error = _misuse(result, self._work)
        seat.ended(term, error)


def _misuse(result: object, work: Work) -> Misuse | None:
    try:
        refuse_coroutine(result, work, "Spread.run()")
    except TypeError as error:
        return Misuse(str(error))
    return None


class _Gone:
    """All is over."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class _NotStarted(Exception):
    """There was no thread to be had."""
