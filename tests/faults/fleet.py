"""The workers: started, looked at from outside, tormented, and taken down again.

Who holds is read from the marks. Nothing here asks the library, and signals go only to processes
that we started, or that a process of ours started.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.faults.checker import Mark, Report, parse
from tests.faults.mark import MARK_BYTES
from tests.processes import CONTAINER, children, descendants, parent_of, stat
from tests.servers.process import ChildProcess

T = TypeVar("T")

PROJECT = Path(__file__).resolve().parents[2]
_MARKING = ["-I", "-S", str(Path(__file__).with_name("mark.py"))]
LOOK_EVERY_S = 0.003


class Stopped(Exception):
    """The run is to end."""


class Late(RuntimeError):
    """Something did not happen by its deadline."""


class Watch:
    """Waits until something can be seen, by looking again and again, with a deadline.

    Neither the growth of a file nor a state of another process has an event that can be waited for
    together with the end of the run.
    """

    def __init__(self, stop: threading.Event, every_s: float = LOOK_EVERY_S) -> None:
        self._stop = stop
        self._every_s = every_s

    def until(self, what: str, limit_s: float, look: Callable[[], T | None]) -> T:
        """Return the first answer of `look` that is not None."""
        deadline_s = time.monotonic() + limit_s
        while True:
            found = look()
            if found is not None:
                return found
            if time.monotonic() > deadline_s:
                raise Late(f"{what}: not within {limit_s:g} s")
            self.rest(self._every_s)

    def rest(self, seconds: float) -> None:
        """Let time pass, unless the run is to end."""
        if self._stop.wait(seconds):
            raise Stopped


class Tail:
    """The end of one election's log."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def last(self) -> Mark | None:
        """Return the last whole mark."""
        size = os.fstat(self._file).st_size
        data = os.pread(self._file, 3 * MARK_BYTES, max(0, size - 3 * MARK_BYTES))
        marks = list(parse(data, self.path.name, Report()))
        return marks[-1] if marks else None

    def close(self) -> None:
        os.close(self._file)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a worker is to be: decided by the seed."""

    mode: str
    stubborn: bool = False
    detached: bool = False
    deaf: bool = False


class Worker:
    """One candidate and all that it starts, from the process that we started."""

    def __init__(
        self,
        number: int,
        seat: int,
        plan: Plan,
        *,
        election: str,
        url: str,
        ttl_s: float,
        log: Path,
        output_dir: Path,
    ) -> None:
        self.number = number
        self.seat = seat
        self.plan = plan
        self.url = url
        self.output = output_dir / f"{election}-{number}.txt"
        self.process = ChildProcess(
            f"worker {number} of {election}",
            _command(plan, election, log, number),
            log_path=self.output,
            environment={
                "PYTHONPATH": str(PROJECT),
                "INCUMBENT_STORE": url,
                "INCUMBENT_TTL": f"{ttl_s:g}",
                "INCUMBENT_IDENTITY": f"worker-{number}",
            },
            working_dir=PROJECT,
        )
        self.process.spawn()

    @property
    def ready(self) -> bool:
        """Tell whether it contends: it has said what it sees."""
        with contextlib.suppress(FileNotFoundError):
            text = self.output.read_text(encoding="utf-8", errors="replace")
            return "standby" in text or "elected" in text
        return False

    def tree(self) -> list[Process]:
        """Return all processes of this worker, parents first."""
        if not self.process.running:
            return []
        root = Process(self.process.pid)
        return [root, *root.descendants()]

    def part(self, name: str) -> Process | None:
        """Return one process of the tree.

        `wrapper` is the candidate's process: `incumbent run`, or a user's own. `work` is the
        command, `init` what the command is a child of, `guard` what an isolated work dies with,
        `pid1` the first process of the namespace that plays the container.
        """
        tree = self.tree()
        if not tree:
            return None
        if name in ("pid1", "guard", "wrapper"):
            place = 1 if name != "wrapper" else 2 if self.plan.mode == "pid1" else 0
            return tree[place] if len(tree) > place else None
        marking = {process.pid for process in tree if process.command()[1:4] == _MARKING}
        for parent in tree:
            for process in tree:
                if process.pid in marking and process.parent() == parent.pid not in marking:
                    return process if name == "work" else parent
        return None

    def end(self) -> None:
        """Kill it, and all that is left of it."""
        tree = self.tree()
        self.process.kill()
        for process in tree[1:]:
            process.signal(signal.SIGKILL)


def _command(plan: Plan, election: str, log: Path, number: int) -> list[str]:
    flags = [
        f"--{flag}"
        for flag, given in (
            ("stubborn", plan.stubborn),
            ("detached", plan.detached),
            ("deaf", plan.deaf),
        )
        if given
    ]
    if plan.mode in ("library", "isolate"):
        module = [sys.executable, "-m", "tests.faults.worker"]
        flags += ["--isolate"] * (plan.mode == "isolate")
        return [*module, election, str(log), str(number), *flags]
    work = [sys.executable, *_MARKING, str(log), str(number), *flags]
    run = [sys.executable, "-m", "incumbent.cli", "run", election, "--", *work]
    if plan.mode == "pid1":
        # The path in full, since it is started by a shim that does not search.
        return [shutil.which(CONTAINER[0]) or CONTAINER[0], *CONTAINER[1:], *run]
    return run


class Process:
    """A process that need not be our child. A signal never reaches a later one of the same id."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._started = stat(self.pid, 19)

    def descendants(self) -> list[Process]:
        """Return children, their children, and so on; each after its parent."""
        return [Process(pid) for pid in descendants(self.pid)]

    def parent(self) -> int:
        """Return the id of the parent, or 0."""
        return parent_of(self.pid)

    def state(self) -> str:
        """Return one letter; "" if it is gone."""
        return stat(self.pid, 0) if stat(self.pid, 19) == self._started else ""

    def command(self) -> list[str]:
        """Return the words of the command line."""
        try:
            data = Path(f"/proc/{self.pid}/cmdline").read_bytes()
        except OSError:
            return []
        return data.decode("utf-8", errors="replace").split("\0")

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal, and tell whether there was somebody to get it."""
        try:
            pidfd = os.pidfd_open(self.pid)
        except OSError:
            return False
        try:
            if not self.state():
                return False
            signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(pidfd)
        return True

    def __str__(self) -> str:
        return f"process {self.pid}, child of {self.parent()}, {self.state()}: {self.command()}"


def orphans(known: set[int]) -> list[Process]:
    """Return what workers have left behind: living children of ours that we did not start.

    For this the run is a subreaper, so that whatever loses its parent becomes a child of ours. The
    dead among them are taken away: thousands of rounds would fill the table of processes.
    """
    found = [Process(pid) for pid in children(os.getpid()) if pid not in known]
    for process in found:
        if process.state() == "Z":
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process.pid, os.WNOHANG)
    return [process for process in found if process.state() not in ("", "Z", "X")]
