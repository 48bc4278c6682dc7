"""Holders of one folder that stop before a certain step: to die there, or to be overtaken.

A step is a call by which something changes: of the operating system, or of the handler.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any
from unittest import mock

from incumbent import testing
from incumbent.errors import IncumbentError
from incumbent.runtime.term import Term
from incumbent.workloads import tasks
from incumbent.workloads.env import Clock
from incumbent.workloads.polling import claims
from incumbent.workloads.polling.directory import File, Filing
from incumbent.workloads.polling.pace import Pace

__all__ = [
    "CHANGING",
    "RETRIES",
    "Log",
    "Steps",
    "crashed_before",
    "hold",
    "killed_before",
    "pending",
    "tree",
]

CHANGING = ("makedirs", "mkdir", "rename", "rmdir", "unlink")
IDLE_S = 60.0
RETRIES = 2


class Steps:
    """The module `os`, as `claims` sees it, with a call before each step of one thread."""

    def __init__(self, before: Callable[[int], None]) -> None:
        self._before = before
        self.taken = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(os, name)
        if name not in CHANGING:
            return found

        def counted(*args: Any, **more: Any) -> Any:
            self.step()
            return found(*args, **more)

        return counted

    def step(self) -> None:
        """Count one."""
        self.taken += 1
        self._before(self.taken)


class Log:
    """What handlers have done: a line for each file and attempt, also of those that died."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, file: File) -> None:
        """Note the handling of a file."""
        with self._path.open("a") as log:
            log.write(f"{file.name} {file.attempt} {file.token}\n")

    def lines(self) -> list[tuple[str, int, int]]:
        """Return name, attempt and token of each."""
        if not self._path.exists():
            return []
        fields = (line.split() for line in self._path.read_text().splitlines())
        return [(name, int(attempt), int(token)) for name, attempt, token in fields]


class _UntilIdle(Clock):
    """Ends the run as soon as there is nothing more to do."""

    async def sleep(self, delay_s: float) -> None:
        if delay_s > IDLE_S / 2:
            self.task.cancel()
        await asyncio.sleep(delay_s)  # sleep: it is the clock of the workload, and mostly waits 0

    task: asyncio.Task[Any]


def hold(
    inbox: Path, log: Log, token: int, steps: Steps | None = None, **settings: Any
) -> BaseException | None:
    """Hold under a term with this token until nothing is left; return what ended it before."""

    async def handler(file: File) -> None:
        if steps is not None:
            steps.step()
        log.add(file)
        if "poison" in file.name:
            raise ValueError(f"{file.name} is poison")

    term: Term = testing.elected_term("files", token=token)
    work = Filing(
        inbox,
        handler,
        Pace(IDLE_S, jitter=0),
        awaits=True,
        **{"settle": 0, "retries": RETRIES, "backoff": 0, "durable": False, **settings},
    )

    async def main() -> None:
        clock = _UntilIdle()
        clock.task = asyncio.ensure_future(tasks.run(work, term, None, clock))
        with suppress(asyncio.CancelledError):
            await clock.task

    patched = mock.patch.object(claims, "os", steps) if steps else nullcontext()
    try:
        with patched:
            asyncio.run(main())
    except IncumbentError as error:
        return error
    return None


class _Crash(BaseException):
    """What nothing catches: no line of the holder runs after it, but for `finally`."""


def crashed_before(step: int, inbox: Path, log: Log, token: int) -> bool:
    """Hold here until a step is to be taken; return whether it came to that."""

    def crash(taken: int) -> None:
        if taken == step:
            raise _Crash

    try:
        hold(inbox, log, token, Steps(crash))
    except _Crash:
        return True
    return False


def killed_before(step: int, inbox: Path, log: Log, token: int) -> bool:
    """Hold in a child that dies before a step; return whether it came to that."""

    def die(taken: int) -> None:
        if taken == step:
            os.kill(os.getpid(), signal.SIGKILL)

    if threading.active_count() > 1:
        raise AssertionError("a fork beside other threads: run this in a program of its own")
    pid = os.fork()
    if pid == 0:
        try:
            hold(inbox, log, token, Steps(die))
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def tree(inbox: Path) -> dict[str, str]:
    """Return the files below a folder, hidden ones too, with what is in them."""
    return {
        str(path.relative_to(inbox)): path.read_text()
        for path in sorted(inbox.rglob("*"))
        if path.is_file()
    }


def pending(inbox: Path) -> list[str]:
    """Return the files that are neither done nor failed."""
    return [name for name in tree(inbox) if not name.startswith(("done/", "failed/"))]
