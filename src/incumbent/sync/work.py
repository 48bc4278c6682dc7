"""Runs a workload in threads, whenever this process is elected: what every kind of work has."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Collection
from contextlib import nullcontext
from types import TracebackType
from typing import Any, ClassVar, TypeVar

from incumbent.clock import boottime
from incumbent.errors import IncumbentError, Withdrawn
from incumbent.runtime.flag import Flag
from incumbent.runtime.health import Health
from incumbent.runtime.term import Term
from incumbent.stores.api import Store
from incumbent.sync.election import Election
from incumbent.workloads import threads as runner
from incumbent.workloads.env import Workload
from incumbent.workloads.settings import Plan, refuse_unknown
from incumbent.workloads.sigterm import heeded
from incumbent.workloads.standing import Pauses, Standing, interpreter_ends
from incumbent.workloads.threads import Around

__all__ = ["Work"]

W = TypeVar("W", bound="Work")


class Work:
    """Work that one process does at a time. Kinds of it are subclasses.

    Either `run` it, which returns if the work ends by itself, or is stopped. Or `start` it in a
    thread, and `stop` it; as a context manager it does both.

    Attributes:
        election: under which it runs.
        around: makes a context manager that is entered around each call of a function of yours, in
            its thread; for frameworks that give back connections.
    """

    _called: ClassVar[str] = ""
    _more: ClassVar[Collection[str]] = ()

    def __init__(
        self,
        name: str,
        workload: Workload,
        *,
        state: str | Store | None = None,
        threads: int = 1,
        isolate: bool = False,
        deadman: bool = True,
        health: Health | None = None,
        **election: Any,
    ) -> None:
        """Check the settings; nothing is touched yet.

        Args:
            name: of the election.
            workload: what runs.
            state: where it keeps how far it has come, if not beside the election: a store's URL.
            threads: how many of its calls may run at a time, at most.
            isolate: run it in a child process, which the kernel ends; this one survives.
            deadman: have the kernel end this process if the work outlives its term.
            health: how the work is known to be well; if it is not, the term is handed over.
            **election: what `Election` takes, besides.

        Raises:
            ConfigError: some setting cannot work; the message says what to change.
            TypeError: there is no such option.
        """
        where = self._called or f"incumbent.{type(self).__name__}()"
        refuse_unknown(type(self), where, election, self._more)
        self._plan = Plan(name, workload, election, state)
        self._plan.check()
        self._threads = threads
        self._how: dict[str, Any] = {"isolate": isolate, "deadman": deadman, "health": health}
        self.election = Election(name, **election)
        self.around: Around = nullcontext
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._ended_by: BaseException | None = None
        self._stopping = Flag()
        self._here: list[_Here] = []

    def run(self, *, timeout_s: float | None = None) -> Any:
        """Do the work whenever elected, in this thread, until it ends by itself; for ever, mostly.

        On the main thread SIGTERM stops it in order, unless somebody handles that signal already:
        see `workloads.sigterm`.

        Args:
            timeout_s: how long to wait each time to be elected; None for ever, 0 to try once.

        Returns:
            The result of the work; None after `stop`.

        Raises:
            NotElected, StoreError, WorkStuck, Withdrawn: see `Election.lead`.
            SystemExit: SIGTERM came, and nothing of the work is left.
        """
        self._plan.check(begins=True)
        here = _Here(self.election)
        self._here.append(here)
        try:
            with heeded(here.stop):
                try:
                    return self._lead(timeout_s)
                except Withdrawn:
                    if not here.asked:
                        raise
                    return None
        finally:
            here.over.set()
            self._here.remove(here)

    def _lead(self, timeout_s: float | None = None) -> Any:
        return self.election.lead(
            _Running(self._plan, self._threads, self.around), timeout_s=timeout_s, **self._how
        )

    def start(self) -> None:
        """Do the same in a thread of its own, for ever, and return; see `workloads.standing`.

        Raises:
            IncumbentError: it is running already.
            ConfigError: no store was named.
        """
        self._plan.check(begins=True)
        if self.running:
            raise IncumbentError(f"{self._plan.name!r} is running already")
        self._stopping = Flag()
        self._failure = self._ended_by = None
        self._thread = threading.Thread(
            target=self._in_thread, name=f"incumbent-{self._plan.name}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop the work and hand over. May be called from any thread, and from a signal handler.

        A `run` returns then, which is not waited for: it may be that of this very thread. What was
        begun by `start` is waited for, and when this returns nothing of it is left.

        Raises:
            Exception: what has ended the work before, if anything has for good.
        """
        for here in list(self._here):
            here.stop()
        thread = self._thread
        if thread is threading.current_thread():
            self._stopping.set()
            self.election.withdraw()
            return
        self._thread = None
        if thread is None:
            return
        self._stopping.set()
        while thread.is_alive():
            self.election.withdraw()
            thread.join(0.05)
        if self._ended_by is not None:
            raise self._ended_by

    def forked(self) -> None:
        """In a forked child: forget the thread, which is the parent's."""
        self._thread = None
        self._failure = self._ended_by = None
        self._here.clear()

    @property
    def grace_s(self) -> float:
        """How long the work may take to stop, in seconds.

        Raises:
            ConfigError: the environment has changed, and some setting cannot work any more.
        """
        return self._plan.grace_s

    @property
    def running(self) -> bool:
        """Whether it is at work in the background, or waits to be."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def name(self) -> str:
        """The name of its election."""
        return self._plan.name

    @property
    def standing(self) -> Standing:
        """What the work is doing in the background."""
        begun = self._thread is not None
        return Standing.of(self.election, begun=begun, failure=self._failure)

    def _in_thread(self) -> None:
        pauses = Pauses(self._plan.name, boottime)
        while not self._stopping.is_set():
            try:
                self._lead()
                return
            except Withdrawn:
                return
            except BaseException as error:
                if interpreter_ends(error):
                    return
                self._failure = error
                pause_s = pauses.after(error)
                if pause_s is None:
                    self._ended_by = error
                    return
                self._stopping.wait(pause_s)
                if not self._stopping.is_set():
                    self._failure = None

    def __enter__(self: W) -> W:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop it."""
        self.stop()


class _Here:
    """One `run`, which is told to return."""

    def __init__(self, election: Election) -> None:
        self._election = election
        self.asked = False
        self.over = Flag()

    def stop(self) -> None:
        """Have it return; do not wait, nor take a lock: see `workloads.sigterm`."""
        if self.asked:
            return
        self.asked = True
        try:
            _thread.start_new_thread(self._withdraw, ())
        except RuntimeError:  # There is no thread to be had.
            self._election.withdraw()

    def _withdraw(self) -> None:
        """Withdraw until it is over: it may only just be about to become a candidate."""
        while not self.over.is_set():
            self._election.withdraw()
            self.over.wait(0.05)


class _Running:
    """What is led; it travels to another process if the work is isolated."""

    def __init__(self, plan: Plan, threads: int, around: Around) -> None:
        self._plan = plan
        self._threads = threads
        self._around = around

    def __call__(self, term: Term) -> Any:
        archive = self._plan.archive()
        return runner.run(self._plan.workload, term, archive, self._threads, around=self._around)
