"""One thread that calls what blocks, and that nobody ends but its owner.

Not an executor of `concurrent.futures`: those refuse all work from the moment at which the *main*
thread has ended, while other threads may lead for a long time yet, and they hold up the exit of
the interpreter. This thread is a daemon and knows nothing of either.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

from incumbent.threads import KeepersThread

__all__ = ["Worker"]

T = TypeVar("T")

_Jobs = SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None]


class Worker:
    """A thread with a queue. What was submitted before `close` is still done."""

    def __init__(self, name: str) -> None:
        self._jobs: _Jobs = SimpleQueue()
        KeepersThread(partial(_serve, self._jobs), name).start()

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Call `job` after everything that was submitted before."""
        future: Future[T] = Future()
        self._jobs.put((job, future))
        return future

    def close(self) -> None:
        """End the thread when its queue is empty."""
        self._jobs.put(None)


def _serve(jobs: _Jobs) -> None:
    while (entry := jobs.get()) is not None:
        job, future = entry
        if not future.set_running_or_notify_cancel():
            continue
        try:
            result = job()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)
        # An idle thread must not keep alive what the last job knew.
        del entry, job, future
