"""Runs a workload for ordinary threads.

The workload runs on an event loop in a thread of its own, for this run alone. What it calls is put
into a box, from which the thread that leads takes it: so the user's functions run in that thread,
one after the other, as if it were a loop that they had written themselves. `threads` more of them
may be had.

The end
-------
- The term is to end: the workload is cancelled. What runs in a thread cannot be; its function sees
  `term.lost`, and if it goes on for too long the kernel ends the process. The run has ended when
  the workload has and every thread is back.
- An interrupt (KeyboardInterrupt, SystemExit by a signal handler) in the thread that leads: the
  same, and then it is raised on.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from queue import SimpleQueue
from typing import Any

from incumbent.errors import LeadershipLost
from incumbent.runtime.checkpoints import Archive
from incumbent.runtime.face import refuse_coroutine
from incumbent.runtime.term import Term
from incumbent.workloads.cancelled import in_a_thread
from incumbent.workloads.env import Clock, Env, Workload

__all__ = ["Around", "run"]

Around = Callable[[], AbstractContextManager[Any]]
"""What makes a context manager to be entered around each call, in its thread."""

_Box = SimpleQueue["_Call | None"]


def run(
    workload: Workload,
    term: Term,
    archive: Archive | None,
    threads: int = 1,
    clock: Clock | None = None,
    around: Around = nullcontext,
) -> Any:
    """Run `workload` under `term`, and its calls in this thread; return its result.

    Raises:
        LeadershipLost: the term ended first.
        Exception: whatever the workload raised.
    """
    return _Run(workload, term, archive, threads, clock, around).run()


class _Call:
    """A function to be called, and the future that waits for it."""

    def __init__(self, term: Term, func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._term, self._func, self._args = term, func, args
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[Any] = self._loop.create_future()

    def make(self, around: Around) -> None:
        """Call it; whatever it raises that no `except Exception` would catch, is raised on."""
        if self.done.cancelled():
            return
        try:
            self._term.check()
            with around():
                result = in_a_thread(self._func, *self._args)
            refuse_coroutine(result, self._func, "incumbent's work for threads")
        except BaseException as error:
            self._tell(self.done.set_exception, _for_a_future(error))
            if not isinstance(error, Exception):
                raise
        else:
            self._tell(self.done.set_result, result)

    def _tell(self, settle: Callable[[Any], None], value: Any) -> None:
        def on_loop() -> None:
            if not self.done.done():
                settle(value)

        with suppress(RuntimeError):  # Cancelled, and the loop has been closed since.
            self._loop.call_soon_threadsafe(on_loop)


def _for_a_future(error: BaseException) -> BaseException:
    """Return what a future takes: a StopIteration is none, as it would end who waits for it."""
    if not isinstance(error, StopIteration):
        return error
    instead = RuntimeError("StopIteration was raised, outside of an iterator")
    instead.__cause__ = error
    return instead


class _Run:
    def __init__(
        self,
        workload: Workload,
        term: Term,
        archive: Archive | None,
        threads: int,
        clock: Clock | None,
        around: Around,
    ) -> None:
        self._workload = workload
        self._term = term
        self._archive = archive
        self._threads = threads
        self._clock = clock
        self._around = around
        self._box: _Box = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._stopped = False
        self._broken: BaseException | None = None
        self._outcome: tuple[Any, BaseException | None] = (None, None)

    def run(self) -> Any:
        machine = threading.Thread(target=self._serve, name="incumbent-work", daemon=True)
        machine.start()
        helpers = [
            threading.Thread(target=self._help, name=f"incumbent-work-{n}", daemon=True)
            for n in range(1, self._threads)
        ]
        for helper in helpers:
            helper.start()
        self._term.on_lost(lambda _: self._stop())
        try:
            self._make_calls()
        except BaseException:
            self._stop()
            raise
        finally:
            for thread in (machine, *helpers):
                thread.join()
        result, error = self._outcome
        if self._broken is not None:
            raise self._broken
        if isinstance(error, asyncio.CancelledError):
            raise LeadershipLost(f"the term of {self._term.name!r} ended: {self._term.cause}")
        if error is not None:
            raise error
        return result

    # -- in the threads that the user has given ---------------------------------------------------

    def _make_calls(self) -> None:
        while (call := self._box.get()) is not None:
            call.make(self._around)
        self._box.put(None)  # For the next thread.

    def _help(self) -> None:
        try:
            self._make_calls()
        except BaseException as error:
            self._broken = error
            self._stop()

    # -- in the machine's thread ------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            self._outcome = (asyncio.run(self._main()), None)
        except BaseException as error:
            self._outcome = (None, error)
        finally:
            self._box.put(None)

    async def _main(self) -> Any:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        if self._stopped:
            raise asyncio.CancelledError
        env = Env(self._term, self._call, self._archive, self._clock)
        if self._archive is None:
            return await self._workload.run(env)
        async with self._archive:
            return await self._workload.run(env)

    async def _call(self, func: Callable[..., Any], *args: Any) -> Any:
        call = _Call(self._term, func, args)
        self._box.put(call)
        return await call.done

    # -- from any thread --------------------------------------------------------------------------

    def _stop(self) -> None:
        """Cancel the workload; once, or what it does on being cancelled would be cancelled, too."""
        if self._stopped:
            return
        self._stopped = True
        if self._loop is not None and self._task is not None:
            with suppress(RuntimeError):  # It has ended, and the loop is closed.
                self._loop.call_soon_threadsafe(self._task.cancel)
